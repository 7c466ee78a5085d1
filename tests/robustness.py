"""Figures by kind of perturbation, made up."""

from pneumo_keras.evaluation.robustness import ALEXNET_CLEAN, PerturbedFigures, to_kind, to_robustness


def build_robustness():
    """Of two kinds, whose balanced errors rise from 0.1 to 0.5."""
    plain = PerturbedFigures(0.95, 0.9, 0.8, 0.7, ALEXNET_CLEAN / 2, 0.0, 0.0, 0.02)
    states = [PerturbedFigures(0.85, 0.8, 0.7, 0.6, 0.1 * step, 1.0, 0.1, 0.2) for step in range(1, 6)]
    kinds = {name: to_kind(name, [1.0, 2.0, 3.0, 4.0, 5.0], states) for name in ("gamma_corr_up", "rotation")}
    return to_robustness(plain, kinds, seed=0)
