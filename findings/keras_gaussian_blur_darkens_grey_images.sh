#!/usr/bin/env bash
# Keras' gaussian_blur darkens a grey image to less than half, unless it is told what Keras' default format is.
#
# Packages: keras 3.15.1, jax 0.10.2, numpy 2.4.6 (Python 3.11, CPU only)
#
# Expected: keras.ops.image.gaussian_blur leaves the middle of an even image as it is, and without data_format takes
#     keras.config.image_data_format(), as its documentation says: "channels_last".
# Instead: on JAX it takes such an image as channels first. The rows become channels, and it blurs along the columns
#     and the colours. What lies beyond the first and last colour counts as black. The shape is right, and no error or
#     warning is raised. Within a keras.Model, and with the backend NumPy, it is right.
# Output seen (the middle of an even image of 100; default kernel):
#     jax, 1 channels: by default 45; "channels_last" 100; in a model 100
#     jax, 3 channels: by default 73, 100, 73; "channels_last" 100, 100, 100; in a model 100, 100, 100
#     numpy, 1 channels: by default 100
#     numpy, 3 channels: by default 100, 100, 100
# Why it matters: a chest X-ray blurred before it is scored is also darkened, and by another factor when it is grey
#     than when it has three channels; its rows are not blurred together at all.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet keras==3.15.1 jax==0.10.2 numpy==2.4.6

cat > "$work/blur.py" <<'PY'
import keras
import numpy as np

assert keras.config.image_data_format() == "channels_last"
for channels in (1, 3):
    image = np.full((1, 24, 32, channels), 100, np.float32)
    blurred = [keras.ops.image.gaussian_blur(image)]
    if keras.backend.backend() == "jax":
        inputs = keras.Input(image.shape[1:])
        model = keras.Model(inputs, keras.ops.image.gaussian_blur(inputs))
        blurred += [keras.ops.image.gaussian_blur(image, data_format="channels_last"), model(image)]
    middles = [", ".join(f"{value:.0f}" for value in np.asarray(result)[0, 12, 16]) for result in blurred]
    names = ("by default", '"channels_last"', "in a model") if len(middles) > 1 else ("by default",)
    print(f"{keras.backend.backend()}, {channels} channels: " + "; ".join(map(" ".join, zip(names, middles))))
PY
for backend in jax numpy; do
    KERAS_BACKEND=$backend JAX_PLATFORMS=cpu KERAS_HOME="$work" "$work/venv/bin/python" "$work/blur.py"
done > "$work/seen"
cat "$work/seen"

cat > "$work/expected" <<'TEXT'
jax, 1 channels: by default 45; "channels_last" 100; in a model 100
jax, 3 channels: by default 73, 100, 73; "channels_last" 100, 100, 100; in a model 100, 100, 100
numpy, 1 channels: by default 100
numpy, 3 channels: by default 100, 100, 100
TEXT
if ! cmp -s "$work/seen" "$work/expected"; then
    echo "The behaviour has changed: see the lines above and those in the header." >&2
    exit 1
fi
echo "As described: by default, colours are blurred instead of rows."
