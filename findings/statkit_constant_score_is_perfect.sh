#!/usr/bin/env bash
# statkit gives a classifier that answers 0.5 to every image a sensitivity and a specificity of 1.
#
# Packages: statkit 1.1.0, scikit-learn 1.9.1, scipy 1.17.1, pandas 3.1.1, matplotlib 3.11.2, numpy 2.4.6
#     (Python 3.11)
#
# Expected: a score equal to the threshold is predicted as positive by every measure, or as negative by every
#     one. Where all scores are equal, sensitivity and specificity are 1 and 0, and Youden's J is 0.
# Instead: sensitivity counts it as positive (at least the threshold), specificity as negative (above it), though
#     the documentation says "exceeds threshold" of both. A positive and a negative image with that score are
#     both right. No warning is given.
# Output seen:
#     0.5 throughout: sensitivity 1.00, specificity 1.00, Youden's J 1.00
#     scores in tenths: sensitivity 0.57, specificity 0.71, Youden's J 0.29
#     the same less 1e-9: sensitivity 0.43, specificity 0.71, Youden's J 0.14
#     the same plus 1e-9: sensitivity 0.57, specificity 0.57, Youden's J 0.14
# Why it matters: scores of few levels (votes, rounded probabilities, int8 networks) often meet the threshold. A
#     classifier of chest X-rays that has learned nothing is reported as a perfect one.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet statkit==1.1.0 scikit-learn==1.9.1 scipy==1.17.1 pandas==3.1.1 \
    matplotlib==3.11.2 numpy==2.4.6

"$work/venv/bin/python" - <<'PY'
import sys

import numpy as np
from statkit.metrics import sensitivity, specificity, youden_j

labels = np.repeat([0, 1], 7)
tenths = np.tile(np.arange(1, 8) / 10, 2) + 0.1 * labels  # 0.1 to 0.7 and 0.2 to 0.8
found = []
for name, scores in (
    ("0.5 throughout", np.full(14, 0.5)),
    ("scores in tenths", tenths),
    ("the same less 1e-9", tenths - 1e-9),
    ("the same plus 1e-9", tenths + 1e-9),
):
    figures = [float(measure(labels, scores)) for measure in (sensitivity, specificity)]
    found.append([round(figure, 2) for figure in (*figures, float(youden_j(labels, scores)))])
    print(f"{name}: sensitivity %.2f, specificity %.2f, Youden's J %.2f" % tuple(found[-1]))

if found != [[1, 1, 1], [0.57, 0.71, 0.29], [0.43, 0.71, 0.14], [0.57, 0.57, 0.14]]:
    sys.exit("The behaviour has changed: see the lines above and those in the header.")
PY
echo "As described: scores at the threshold are right in both classes."
