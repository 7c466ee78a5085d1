"""ImageSet for a report, each with what stands below it."""

from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from pneumo_keras.arrays import CLASS_NAMES
from pneumo_keras.reporting.explanations import paint_evidence
from pneumo_keras.reporting.numbers import format_number
from pneumo_keras.reporting.report_contents import ReportContents
from pneumo_keras.reporting.report_plots import encode_image
from pneumo_keras.storage.printable import to_printable

MAP_EDGE = 140  # pixels: as large as the page shows it


@dataclass(frozen=True)
class ImagePicture:
    """An image for the page.

    Attributes:
        uri: Of the image, with all its data.
        alt: What it shows, in words.
        caption: What stands below it.
        map_uri: Of the image with its map over it; "" without one.
    """

    uri: str
    alt: str
    caption: str
    map_uri: str = ""


def picture_image(contents: ReportContents, index: int, limit: float) -> ImagePicture:
    """An image with its name, label and score, and with its map where there is one.

    Args:
        contents: Of the report.
        index: Of the image.
        limit: Log odds that get the strongest colour.
    """
    label, score = CLASS_NAMES[contents.images.labels[index]], format_number(contents.scores[index])
    name = name_image(contents, index)
    image, evidence = contents.images.read(slice(index, index + 1))[0], contents.evidence.get(index)
    painted = None if evidence is None else paint_evidence(image, evidence, limit=limit, edge=MAP_EDGE)
    return ImagePicture(
        encode_image(image),
        alt=f"{name}, labelled {label}, score {score}",
        caption=f"{name}: {label}, score {score}",
        map_uri="" if painted is None else encode_image(painted),
    )


def name_image(contents: ReportContents, index: int) -> str:
    """The file of an image, by its name alone where its path leads through this machine, and its patient."""
    files, patients = contents.names.files, contents.names.patients
    if files is None:
        name = f"{'Synthetic image' if contents.card.synthetic else 'Image'} {index}"
    else:
        path = PurePath(files[index])
        name = to_printable(path.name if path.is_absolute() else files[index])
    return f"{name}, patient {to_printable(patients[index])}" if patients and patients[index] else name


def picture_perturbed(contents: ReportContents, index: int) -> ImagePicture:
    """A perturbed image with its name, label and both scores."""
    perturbed: Any = contents.perturbed
    label, plain = CLASS_NAMES[contents.images.labels[index]], format_number(contents.scores[index])
    score, name = format_number(perturbed.scores[index]), name_image(contents, index)
    return ImagePicture(
        encode_image(perturbed.examples[index]),
        alt=f"{name} perturbed, labelled {label}, score {score}, unperturbed {plain}",
        caption=f"{name}: {label}, score {score}, unperturbed {plain}",
    )
