#!/usr/bin/env bash
# OpenVINO 2026.4.1 leaves the main thread of Python with a signal stack in memory that it has freed.
#
# Its CPU plugin gives the thread that compiles the first model an alternate signal stack (for the large registers of
# AVX-512 and AMX) and takes it back in the thread that drops the last openvino.Core. Signal stacks belong to threads:
# where another thread drops it, as a pool of workers does, the main thread keeps the address.
# Input: a convolution, compiled in the main thread; the core is dropped there, or in another thread. Nothing is
# signalled: the script only asks the kernel for the stack.
# Expected: no signal stack remains after the core is gone.
# Seen: dropped in another thread, the stack stays set, in memory that is unmapped. What Python handles afterwards on
# that stack, Ctrl-C for instance, ends the process. Keep one core for the life of the process.
set -euo pipefail
if ! grep -qw avx512f /proc/cpuinfo; then
    echo "needs a CPU with AVX-512"
    exit 0
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet openvino==2026.4.1 numpy==2.2.6
cat >"$work/stack.py" <<'PYTHON'
import ctypes
import gc
import sys
import threading

import numpy as np
import openvino
from openvino import opset13


class Stack(ctypes.Structure):
    _fields_ = [("address", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t)]


def describe():
    stack = Stack()
    ctypes.CDLL(None).sigaltstack(None, ctypes.byref(stack))
    if not stack.address:
        return "none"
    with open("/proc/self/maps") as maps:
        ranges = [[int(end, 16) for end in line.split()[0].split("-")] for line in maps]
    return "mapped" if any(low <= stack.address < high for low, high in ranges) else "unmapped"


def compile_model():
    images = opset13.parameter([1, 3, 16, 16], np.float32)
    kernels = opset13.constant(np.ones((8, 3, 3, 3), np.float32))
    features = opset13.convolution(images, kernels, [1, 1], [0, 0], [0, 0], [1, 1])
    core = openvino.Core()
    return [core.compile_model(openvino.Model([features], [images]), "CPU"), core]


def drop():
    held.clear()
    gc.collect()


held = compile_model()
compiled = describe()
if sys.argv[1] == "main":
    drop()
else:
    thread = threading.Thread(target=drop)
    thread.start()
    thread.join()
print(compiled, describe())
PYTHON
main=$("$work/venv/bin/python" "$work/stack.py" main)
other=$("$work/venv/bin/python" "$work/stack.py" other)
echo "signal stack of the main thread after compiling and after dropping the core"
echo "dropped in the main thread: $main"
echo "dropped in another thread: $other"
[ "$main" = "mapped none" ] && [ "$other" = "mapped unmapped" ]
