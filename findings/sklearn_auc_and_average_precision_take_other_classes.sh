#!/usr/bin/env bash
# scikit-learn's two usual measures take different classes as the positive one where labels are 1 and 2.
#
# Packages: scikit-learn 1.9.1, numpy 2.4.6 (Python 3.11)
#
# Expected: with labels 1 (normal) and 2 (pneumonia) and scores that rank every 2 above every 1, the area
#     under the ROC curve and the average precision are both 1, or both functions ask which class is meant,
#     as roc_curve and precision_recall_curve do.
# Instead: roc_auc_score takes the greater label as positive, average_precision_score takes label 1, the
#     default of its pos_label. Neither warns: one answer is the best there is, the other the worst.
# Output seen:
#     labels 0 and 1: AUC 1.000, average precision 1.000
#     labels 1 and 2: AUC 1.000, average precision 0.354
#     precision_recall_curve: ValueError: y_true takes value in {1, 2} and pos_label is not specified: ...
# Why it matters: tables of chest images number their classes from 1 too; the two figures of one model, side
#     by side in a report, are then about different diseases.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet scikit-learn==1.9.1 numpy==2.4.6

"$work/venv/bin/python" -W error - <<'PY'
import sys

import numpy as np
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

scores = np.linspace(0.05, 0.95, 10)
sick = np.repeat([0, 1], 5)
found = []
for first in (0, 1):
    labels = sick + first
    found += [roc_auc_score(labels, scores), average_precision_score(labels, scores)]
    print(f"labels {first} and {first + 1}: AUC {found[-2]:.3f}, average precision {found[-1]:.3f}")
try:
    precision_recall_curve(sick + 1, scores)
    asked = False
except ValueError as error:
    asked = "pos_label is not specified" in str(error)
    print("precision_recall_curve: ValueError:", error)

worst = average_precision_score(sick, -scores)
if not np.allclose(found, [1, 1, 1, worst]) or not worst < 0.5 or not asked:
    sys.exit("The behaviour has changed: see the lines above and those in the header.")
PY
echo "As described: the two measures take different classes as positive."
