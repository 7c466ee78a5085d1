#!/usr/bin/env bash
# scikit-learn 1.7.2: StratifiedGroupKFold(shuffle=True) gives uneven classes, and better ones without shuffling.
#
# Input: 300 patients of two images each, a quarter of them positive; five folds.
# Expected: every fold has about a quarter of positives, whatever is shuffled; that is what the class is for.
# Seen: with shuffle=True groups are shuffled apart from their class counts, so that the shares of folds spread; from
# 1.8 on they do not.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat >"$work/split.py" <<'PYTHON'
import numpy as np
import sklearn
from sklearn.model_selection import StratifiedGroupKFold

groups = np.repeat(np.arange(300), 2)
labels = np.repeat((np.arange(300) % 4 == 0).astype(int), 2)
spread = {}
for shuffle in (False, True):
    shares = []
    for seed in range(10):
        folds = StratifiedGroupKFold(5, shuffle=shuffle, random_state=seed if shuffle else None)
        shares += [labels[test].mean() for _, test in folds.split(labels, labels, groups)]
    spread[shuffle] = max(shares) - min(shares)
print(f"{sklearn.__version__} {spread[False]:.4f} {spread[True]:.4f}")
PYTHON
for version in 1.7.2 1.8.0; do
    python3 -m venv "$work/$version"
    "$work/$version/bin/pip" install --quiet "scikit-learn==$version" numpy==2.2.6
    "$work/$version/bin/python" "$work/split.py"
done >"$work/spread"
echo "version, largest difference of folds' shares without and with shuffling:"
cat "$work/spread"
awk '$1 == "1.7.2" { old = $3 } $1 == "1.8.0" { new = $3 } END { exit !(old > 0.05 && new < 0.01) }' "$work/spread"
