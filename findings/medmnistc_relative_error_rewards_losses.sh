#!/usr/bin/env bash
# MedMNIST-C's relative error of PneumoniaMNIST gets better the more a classifier loses to contrast.
#
# Packages: medmnistc 0.1.0 (without its dependencies), scikit-learn 1.9.1, numpy 2.4.6 (Python 3.11)
#
# Expected: of two classifiers that are alike but for two corruptions, under which one of them guesses, that
#     one has the larger (worse) relative error, as it has the larger error.
# Instead: "rbe" divides what a classifier loses under a corruption by what AlexNet lost. AlexNet gained a
#     little under contrast_up and gamma_corr_up (0.0953 and 0.0961 after 0.1009), so there a loss has a
#     negative sign, and 180 to 209 times its size. The mean over corruptions falls below 0, the figure of
#     a classifier that loses nothing. Nothing is raised or warned of.
# Output seen (be: error relative to AlexNet's; rbe: loss relative to AlexNet's; both better when lower):
#     errs on 10 % throughout: be 0.49, rbe 0.00
#     guesses under contrast_up and gamma_corr_up: be 1.13, rbe -11.97
# Why it matters: by its rbe, the mean over 13 corruptions that stands in tables, the classifier that reads
#     chest images of more contrast by chance is by far the more robust one.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-deps medmnistc==0.1.0
"$work/venv/bin/pip" install --quiet scikit-learn==1.9.1 numpy==2.4.6 2>"$work/log" ||
    { cat "$work/log" >&2; exit 1; }

cd "$work"
"$work/venv/bin/python" - <<'PY'
import contextlib
import sys

import numpy as np
from medmnistc.eval import Evaluator
from medmnistc.utils.baselines import BASELINES

corruptions = list(BASELINES["pneumoniamnist"]["raw_scores"])
labels = np.repeat([[0], [1]], 100, axis=0)
one_in = {share: labels ^ (np.arange(200)[:, None] % share == 0) for share in (10, 2)}  # predictions that err


def measure(guessed):
    evaluator = Evaluator("pneumoniamnist", labels, corruptions, ".", "ours", "binary-class")
    evaluator.evaluate_clean(one_in[10])
    for corruption in corruptions:
        predicted = one_in[2 if corruption in guessed else 10]
        evaluator.evaluate(np.tile(predicted, (5, 1)), corruption)  # five severities
    with contextlib.redirect_stdout(None):  # it says where it stored the log
        evaluator.dump_summary()
    found = evaluator.output_log["metrics"]
    return round(float(found["be"]), 2), round(float(found["rbe"]), 2) + 0.0


names = ["contrast_up", "gamma_corr_up"]
steady, guessing = measure([]), measure(names)
print("errs on 10 %% throughout: be %.2f, rbe %.2f" % steady)
print(f"guesses under {' and '.join(names)}: be %.2f, rbe %.2f" % guessing)

if len(corruptions) != 13 or steady[1] != 0 or not steady[0] < guessing[0] or guessing[1] > -10:
    sys.exit("The behaviour has changed: see the lines above and those in the header.")
PY
echo "As described: who loses more has the better relative error."
