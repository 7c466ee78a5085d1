"""ImageSet looked at before a training."""

from pneumo_keras.arrays import SPLITS
from pneumo_keras.audit.audit import Audit, audit_images
from pneumo_keras.config import Config, resolve_paths
from pneumo_keras.data.images import LabelledImages
from pneumo_keras.recipes.images import open_data


def audit_data(config: Config) -> tuple[str, dict[str, LabelledImages], Audit]:
    """Evaluates the images of every split.

    Returns:
        What they are, the images by split, and what was found.
    """
    data = open_data(resolve_paths(config))
    images = {split: data.open_split(split) for split in SPLITS}
    names = {split: data.name_images(split) for split in SPLITS}
    return data.card.title, images, audit_images(images, names)
