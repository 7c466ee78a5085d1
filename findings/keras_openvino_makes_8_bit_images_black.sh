#!/usr/bin/env bash
# Keras on OpenVINO turns every 8-bit colour image black when it makes it grey.
#
# Packages: keras 3.15.1, openvino 2026.4.1, jax 0.10.2, numpy 2.4.6 (Python 3.11, CPU only)
#
# Expected: keras.ops.image.rgb_to_grayscale of an image of type uint8 is the weighted mean of red, green and
#     blue, on every backend; or the type is refused.
# Instead: on OpenVINO the weights (0.2989, 0.587, 0.114) are given the type of the image, and are 0. The layer
#     RandomGrayscale hands such an image on the same way. Images of floats are right, and so is JAX, but for
#     the last digit (it cuts off instead of rounding). Nothing is raised or warned of.
# Output seen (three equal channels of 0, 100, 200, 255):
#     jax uint8: 0, 99, 199, 254
#     jax float32: 0, 100, 200, 255
#     openvino uint8: 0, 0, 0, 0
#     openvino float32: 0, 100, 200, 255
# Why it matters: chest X-rays saved in three channels are made grey before they are scored. One black image for
#     all gives one score for all.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet keras==3.15.1 openvino==2026.4.1 jax==0.10.2 numpy==2.4.6

cat > "$work/grey.py" <<'PY'
import keras
import numpy as np

for kind in ("uint8", "float32"):
    colour = np.array([0, 100, 200, 255], kind)[None, None, :, None].repeat(3, axis=-1)
    grey = keras.ops.convert_to_numpy(keras.ops.image.rgb_to_grayscale(colour))
    assert grey.dtype == kind and grey.shape == (1, 1, 4, 1)
    print(f"{keras.backend.backend()} {kind}: {', '.join(f'{value:.0f}' for value in grey.ravel())}")
PY
for backend in jax openvino; do
    KERAS_BACKEND=$backend JAX_PLATFORMS=cpu KERAS_HOME="$work" "$work/venv/bin/python" "$work/grey.py"
done > "$work/seen"
cat "$work/seen"

cat > "$work/expected" <<'TEXT'
jax uint8: 0, 99, 199, 254
jax float32: 0, 100, 200, 255
openvino uint8: 0, 0, 0, 0
openvino float32: 0, 100, 200, 255
TEXT
if ! cmp -s "$work/seen" "$work/expected"; then
    echo "The behaviour has changed: see the lines above and those in the header." >&2
    exit 1
fi
echo "As described: 8-bit images become black."
