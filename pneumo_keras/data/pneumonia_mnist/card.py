"""What an npz file of MedMNIST's make is: the published one, or somebody's own."""

from collections.abc import Mapping

from pneumo_keras.data.download import Release
from pneumo_keras.data.pneumonia_mnist import catalog
from pneumo_keras.data.pneumonia_mnist.npz_file import NpzFile
from pneumo_keras.data.sources import UNKNOWN_LIMITS, DataCard

ClassCounts = Mapping[str, tuple[int, int]]


def describe_official(npz: NpzFile, release: Release, *, size: int) -> DataCard:
    """The card of the file that is, byte for byte, the published one."""
    fitted = [
        sum(pair) for pair in zip(catalog.CLASS_COUNTS["train"], catalog.CLASS_COUNTS["val"], strict=True)
    ]
    return DataCard(
        title=f"PneumoniaMNIST, {size} px",
        description="Chest images of children, published by MedMNIST.",
        limits=(
            "The images are of children of 1 to 5 years from one hospital. It is not for adults; other "
            "hospitals and machines are untried.",
            "Labels are what physicians read from the images, not proven diagnoses. A third physician "
            "checked those of the test images.",
            f"Normal images are {_to_share(*fitted)} of the official training and validation images, but "
            f"{_to_share(*catalog.CLASS_COUNTS['test'])} of the test images: scores and thresholds do not "
            "carry over unchanged.",
            "Validation images are a random slice of the training images, and easier than the test images.",
        ),
        notice="",
        licence=catalog.load_licence(),
        citation=catalog.CITATION,
        synthetic=False,
        medmnist_name=release.name.removesuffix(".npz"),
        files={npz.path.name: npz.sha256},
    )


def describe_own(npz: NpzFile, release: Release, counts: ClassCounts, *, size: int) -> DataCard:
    """The card of any other file, of which little is known.

    Args:
        npz: The file.
        release: The published one.
        counts: Normal and pneumonia images of its training and validation splits.
        size: Height and width of its images in pixels.
    """
    return DataCard(
        title=f"{npz.path.name}, {size} px",
        description=f"The user's own file {npz.path.name}. What it shows is not known to this program.",
        limits=UNKNOWN_LIMITS,
        notice=to_unofficial_line(npz.path.name, npz, release, counts),
        licence="",
        citation="",
        synthetic=False,
        medmnist_name=None,
        files={npz.path.name: npz.sha256},
    )


def to_unofficial_line(name: str, npz: NpzFile, release: Release, counts: ClassCounts) -> str:
    """What a user must know about results from a file that is not the published one.

    Args:
        name: How to call the file: by its path, or by its name alone where paths are nobody's business.
        npz: The file.
        release: The published one.
        counts: Normal and pneumonia images of its training and validation splits.
    """
    listed = "; ".join(
        f"{split} {normal:,} normal, {ill:,} pneumonia" for split, (normal, ill) in counts.items()
    )
    return (
        f"{name} is not the official {release.title} (its MD5 is {npz.md5}, the official "
        f"one {release.md5}) and is used as it is: {listed}. {_to_comparability(counts)}."
    )


def _to_comparability(counts: ClassCounts) -> str:
    official = {split: catalog.CLASS_COUNTS[split] for split in counts}
    if counts == official:
        return (
            "Those are the class counts of the official file, so it may be a copy in another order, but its "
            "results are not results on the official file"
        )
    if counts.get("train") == catalog.PARTIAL_TRAIN_COUNTS:
        what = "It is the popular partial copy with 3,882 training images (388 normal)"
    else:
        listed = "; ".join(f"{normal:,} normal, {ill:,} pneumonia" for normal, ill in official.values())
        what = f"The class counts of the official file are others ({listed})"
    return f"{what}: results are not comparable with published ones"


def _to_share(normal: int, pneumonia: int) -> str:
    return f"{100 * normal / (normal + pneumonia):.1f} %"
