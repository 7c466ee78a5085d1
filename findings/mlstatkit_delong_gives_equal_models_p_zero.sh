#!/usr/bin/env bash
# MLstatkit's DeLong test gives two models with the same scores a p-value of 0.
#
# Packages: MLstatkit 0.1.91, scikit-learn 1.9.1, scipy 1.17.1, numpy 2.4.6 (Python 3.11)
#
# Expected: scores compared with themselves, or with another form of themselves that has the same order, have
#     the same area under the curve, so p is 1, or undefined (NaN).
# Instead: the variance of the difference is 0, and the test goes over to bootstrapping. Every difference is 0,
#     and p is taken as twice the smaller of the shares "at most 0" and "above 0": twice 0. z is 0, as it should
#     be, and nothing is raised or warned of. With ten of 400 scores changed, p is as it should be, too.
# Output seen:
#     the same scores: difference of the areas 0.0000, z 0.00, p 0.000
#     log-odds and probabilities: difference of the areas 0.0000, z 0.00, p 0.000
#     ten scores changed: difference of the areas -0.0055, z -1.45, p 0.147
# Why it matters: temperature scaling leaves the order of scores as it is. A chest X-ray classifier compared with its
#     calibrated form is reported as different with p < 0.001.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet MLstatkit==0.1.91 scikit-learn==1.9.1 scipy==1.17.1 numpy==2.4.6

"$work/venv/bin/python" -W error - <<'PY'
import sys

import numpy as np
from MLstatkit import Delong_test

rng = np.random.default_rng(0)
labels = np.repeat([0, 1], 200)
log_odds = rng.normal(2 * labels - 1, 1.5)
some_changed = log_odds.copy()
some_changed[rng.choice(400, 10, replace=False)] = 0

found = {}
for name, other in (
    ("the same scores", log_odds),
    ("log-odds and probabilities", 1 / (1 + np.exp(-log_odds))),
    ("ten scores changed", some_changed),
):
    z, p, _, _, first, second, _ = Delong_test(labels, log_odds, other, random_state=0)
    found[name] = (second - first, z, p)
    print(f"{name}: difference of the areas {second - first:.4f}, z {z:.2f}, p {p:.3f}")

*equal, changed = found.values()
if equal != [(0, 0, 0)] * 2 or not 0.001 < changed[2] < 1:
    sys.exit("The behaviour has changed: see the lines above and those in the header.")
PY
echo "As described: models that are alike differ with p = 0."
