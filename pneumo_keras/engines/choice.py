"""Which engine runs the backbone: stock Keras, a JAX program or OpenVINO."""

import functools
import importlib
import logging
from typing import TYPE_CHECKING, Any

from pneumo_keras import BACKEND
from pneumo_keras.engines.runner import Runner, run_ahead
from pneumo_keras.engines.table import ENGINES, Precision
from pneumo_keras.errors import SettingsError

if TYPE_CHECKING:  # so that a run whose network is on OpenVINO is used without it
    import keras

log = logging.getLogger("pneumo_keras")


def choose_engine(setting: str, precision: Precision, device: str) -> str:
    """The engine for a setting, "auto" or a name of `ENGINES`, on a device of `describe_device`.

    Raises:
        SettingsError: Engine, precision and backend do not go together.
    """
    name, reason = _choose_fastest(device) if setting == "auto" else (setting, "as set")
    check_engine(name, precision)
    log.info("The frozen network runs on %s (%s), %s, on %s", name, reason, precision, device)
    return name


def _choose_fastest(device: str) -> tuple[str, str]:
    kind = "cpu" if device == "cpu" else "accelerator"
    fitting = [
        (name, engine.reasons[kind])
        for name, engine in ENGINES.items()
        if kind in engine.reasons and engine.backend in (None, BACKEND)
    ]
    return fitting[-1]


def check_engine(name: str, precision: Precision) -> None:
    """Checks that an engine can run here, without loading it; raises as `choose_engine` does."""
    engine = ENGINES[name]
    if precision not in engine.precisions:
        rule = f"compute.precision must be {' or '.join(engine.precisions)} for the engine {name}"
        raise SettingsError(f"{rule}. Received: {precision}")
    if engine.backend not in (None, BACKEND):
        raise SettingsError(
            f"compute.engine={name} needs KERAS_BACKEND={engine.backend}. Received: KERAS_BACKEND={BACKEND}"
        )


def build_runner(backbone: "keras.Model", *, engine: str, precision: Precision) -> Runner:
    """Makes a frozen backbone run on one of `ENGINES` over streams of batches, in their order.

    Raises:
        BackendError: The device lacks the precision.
        ModelError: The engine does not support a layer.
        SettingsError: Engine, precision and backend do not go together.
    """
    check_engine(engine, precision)
    if engine == "keras":
        return functools.partial(run_ahead, backbone.predict_on_batch)
    module: Any = importlib.import_module(f"pneumo_keras.engines.{engine}")
    return module.build_runner(backbone, precision=precision)
