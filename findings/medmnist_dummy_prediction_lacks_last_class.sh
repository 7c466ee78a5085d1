#!/usr/bin/env bash
# MedMNIST's "dummy prediction of correct shape" has one class too few, and its evaluator takes it.
#
# Packages: medmnist 3.0.2 (without its dependencies), scikit-learn 1.9.1, pandas 3.1.1, numpy 2.4.6
#     (Python 3.11)
#
# Expected: for a set of n classes get_dummy_prediction gives n columns, and evaluate refuses scores of any
#     other number of columns.
# Instead: it takes the highest label for the number of classes. Labels start at 0, so the last class has no
#     column. evaluate averages the areas of the columns that are there, counts every image of the last class
#     as wrong, and says nothing.
# Output seen (perfect scores, then the same without the last column):
#     organamnist: 11 classes, dummy prediction of 10 columns
#     11 columns: AUC 1.000, accuracy 1.000
#     10 columns: AUC 1.000, accuracy 0.909
# Why it matters: the dummy is the pattern that one builds a model's output on; a classifier of several lung
#     diseases that has lost its last class is still given a perfect area under the curve.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-deps medmnist==3.0.2
"$work/venv/bin/pip" install --quiet scikit-learn==1.9.1 pandas==3.1.1 numpy==2.4.6 2>"$work/log" ||
    { cat "$work/log" >&2; exit 1; }

cd "$work"
"$work/venv/bin/python" - <<'PY'
import sys

import numpy as np
from medmnist import INFO  # prints that torch is missing, which the evaluator does without
from medmnist.evaluator import Evaluator

classes = len(INFO["organamnist"]["label"])
labels = np.repeat(np.arange(classes, dtype=np.uint8), 4)[:, None]
np.savez("organamnist.npz", test_labels=labels)
evaluator = Evaluator("organamnist", "test", root=".")

dummy = evaluator.get_dummy_prediction().shape
print(f"organamnist: {classes} classes, dummy prediction of {dummy[1]} columns")
perfect = np.eye(classes)[labels[:, 0]]
found = []
for columns in (classes, classes - 1):
    found.append([round(float(figure), 3) for figure in evaluator.evaluate(perfect[:, :columns])])
    print(f"{columns} columns: AUC {found[-1][0]:.3f}, accuracy {found[-1][1]:.3f}")

if dummy != (len(labels), classes - 1) or found != [[1, 1], [1, 0.909]]:
    sys.exit("The behaviour has changed: see the lines above and those in the header.")
PY
echo "As described: the dummy prediction lacks the last class, and the evaluator accepts that."
