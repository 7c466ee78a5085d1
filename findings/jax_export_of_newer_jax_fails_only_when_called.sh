#!/usr/bin/env bash
# A function exported by jax 0.10.2 loads in jax 0.8.1 without complaint, and then cannot be called.
#
# Packages: jax 0.10.2 and jax 0.8.1, with flatbuffers 25.12.19, numpy 2.4.6 (Python 3.11, CPU only)
#     (about 250 MB for each of the two environments)
#
# Expected: jax promises no more than a few weeks of forward compatibility, so an older jax may refuse a
#     newer file; most would expect it to do so in deserialize, naming the version it cannot read.
# Instead: deserialize succeeds, the calling convention version and the shapes are read correctly, but
#     nr_devices is 0 where 1 was exported. The call is refused with a message about devices, which
#     points to the hardware instead of the version of jax.
# Output seen:
#     jax 0.10.2: devices 1, calling convention 10, call gives [3.0, 3.0]
#     jax 0.8.1: devices 0, calling convention 10, call raises ValueError: Function <lambda> was exported
#         for 0 devices and is called in a context with 1 devices, which is not allowed.
# Why it matters: a server that loads an exported image classifier starts without an error, and then fails
#     on every image.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for version in 0.10.2 0.8.1; do
    python3 -m venv "$work/jax-$version"
    "$work/jax-$version/bin/pip" install --quiet \
        jax==$version jaxlib==$version flatbuffers==25.12.19 numpy==2.4.6
done

cd "$work"
export JAX_PLATFORMS=cpu
"$work/jax-0.10.2/bin/python" - <<'PY'
import jax

exported = jax.export.export(jax.jit(lambda x: x * 2 + 1))(jax.ShapeDtypeStruct((2,), "float32"))
with open("function.bin", "wb") as file:
    file.write(exported.serialize())
PY

cat > load.py <<'PY'
import jax
import numpy as np

with open("function.bin", "rb") as file:
    exported = jax.export.deserialize(bytearray(file.read()))
try:
    call = f"gives {exported.call(np.ones(2, 'float32')).tolist()}"
except Exception as error:
    call = f"raises {type(error).__name__}: {error}"
print(f"jax {jax.__version__}: devices {exported.nr_devices},"
      f" calling convention {exported.calling_convention_version}, call {call}")
PY
newer=$("$work/jax-0.10.2/bin/python" load.py)
older=$("$work/jax-0.8.1/bin/python" load.py)
printf '%s\n' "$newer" "$older"

if [[ "$newer" != "jax 0.10.2: devices 1, calling convention 10, call gives [3.0, 3.0]" ||
    "$older" != "jax 0.8.1: devices 0, calling convention 10, call raises ValueError:"*"for 0 devices"* ]]; then
    echo "The behaviour has changed: see the lines above and those in the header." >&2
    exit 1
fi
echo "As described: the older jax loads the file and refuses only the call."
