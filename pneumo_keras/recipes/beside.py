"""What every process but the first does of a training that several share: its part of the steps."""

from collections.abc import Mapping
from typing import Any

from pneumo_keras.config import Config, resolve_paths
from pneumo_keras.distributed.process_group import Company
from pneumo_keras.errors import TrainingError
from pneumo_keras.recipes.heads import build_heads, fit_online, hear_moments, list_member_seeds, weigh_classes
from pneumo_keras.recipes.images import open_data, open_splits
from pneumo_keras.recipes.network import build_extractor, build_frozen
from pneumo_keras.recipes.train import describe_run, to_identity


def train_beside(config: Config, company: Company) -> None:
    """Fits together with the first process, and leaves the rest to it: no run is read or written here.

    Args:
        config: The settings, the same as there.
        company: To which this process belongs.

    Raises:
        TrainingError: ImageSet, network or settings are not those of the first process, or it came to an end.
        Stopped: Somebody asked for it, here or there.
    """
    task = company.hear_task()
    if task is None:
        return
    config = resolve_paths(config)
    data = open_data(config)
    splits = open_splits(data, ("train", "val"))
    class_weights = weigh_classes(splits["train"])
    frozen = build_frozen(config)
    about = describe_run(data, splits, build_extractor(config, frozen), class_weights)
    check_identity(to_identity(about, config), task, company.rank)
    d: int = frozen.backbone.output_shape[-1]
    head = build_heads(config, d, hear_moments(company, d), list_member_seeds(config))
    fit_online(config, frozen, head, splits, class_weights, None, company)


def check_identity(mine: Mapping[str, Any], first: Mapping[str, Any], rank: int) -> None:
    """Checks that this process trains what the first one does.

    Args:
        mine: What the fit depends on, here.
        first: The same in the first process.
        rank: Of this one.

    Raises:
        TrainingError: It differs.
    """
    for name, value in first.items():
        if mine.get(name) != value:
            raise TrainingError(
                f"All processes of a training must have the same {name}. Received: "
                f"{str(mine.get(name))[:100]} in process {rank}, {str(value)[:100]} in the first. Start all "
                "with the same command"
            )
