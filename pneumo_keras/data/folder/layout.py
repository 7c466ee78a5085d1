"""Which images there are, of which class and in which split: what folders say of them, and what is drawn.

Folders are `{train,val,test}/{NORMAL,PNEUMONIA}`, or `{NORMAL,PNEUMONIA}` where no splits are stated; val may
be called valid, validation or dev. What lies beside them is named: nothing is left out without a word.
"""

import functools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pneumo_keras.arrays import SPLITS
from pneumo_keras.data.folder.draw import draw_splits
from pneumo_keras.data.folder.image_file import ImageFile, to_labels, to_split
from pneumo_keras.data.folder.walk import is_hidden, walk_images
from pneumo_keras.data.folder.whose import name_patients
from pneumo_keras.data.kinds import is_image_file
from pneumo_keras.errors import DataError

log = logging.getLogger("pneumo_keras")

SHOWN = 5  # names of what lies beside


@dataclass(frozen=True)
class Layout:
    """The images of a folder or of a table.

    Attributes:
        path: Of the folder or the table.
        positive: Name of the class that is pneumonia.
        splits: Those that are stated, or none.
        list_images: The images of a stated split; of "" all images, where no split is stated.
    """

    path: Path
    positive: str
    splits: tuple[str, ...]
    list_images: Callable[[str], list[ImageFile]]

    def choose_images(self, split: str) -> list[ImageFile]:
        """The images of a split, drawn where it is not stated; others are not looked at.

        Raises:
            DataError: There is no such split, or there are too few images to draw it from.
        """
        if not self.splits:
            return self._drawn[split]
        if split != "test" and "val" not in self.splits and "train" in self.splits:
            return self._parted[split]
        if split not in self.splits:
            raise DataError(
                f"{self.path}: there must be a split '{split}'. Received: {', '.join(self.splits)}. "
                "Add it, or state no splits to have them drawn."
            )
        return self.list_images(split)

    @functools.cached_property
    def _drawn(self) -> dict[str, list[ImageFile]]:
        """All splits, where none is stated."""
        drawn = self._draw("", SPLITS)
        log.info(
            "%s states no splits: %s training, %s validation and %s test images were drawn, the same every "
            "time, whatever the seed",
            self.path,
            *(f"{len(drawn[split]):,}" for split in SPLITS),
        )
        return drawn

    @functools.cached_property
    def _parted(self) -> dict[str, list[ImageFile]]:
        """Training images, of which some become validation images."""
        drawn = self._draw("train", ("train", "val"))
        log.info(
            "%s states no validation images: %s were drawn from the training images, of which %s stay, the "
            "same every time, whatever the seed",
            self.path,
            f"{len(drawn['val']):,}",
            f"{len(drawn['train']):,}",
        )
        return drawn

    def _draw(self, stated: str, splits: tuple[str, ...]) -> dict[str, list[ImageFile]]:
        files = self.list_images(stated)
        rows = draw_splits(
            [file.name for file in files],
            to_labels(files, positive=self.positive, place=str(self.path)),
            [file.patient for file in files],
            splits=splits,
            place=str(self.path),
        )
        return {split: [files[row] for row in chosen] for split, chosen in rows.items()}


def scan_folder(path: Path, positive: str, pattern: str) -> Layout:
    """The images of a folder; those of a split are not listed before they are asked for.

    Args:
        path: Of the folder.
        positive: Name of the class that is pneumonia.
        pattern: See `name_patients`.

    Raises:
        OSError: The folder cannot be read.
        DataError: Two folders are called like one split.
    """
    folders = _find_splits(path)
    splits = tuple(split for split in SPLITS if split in folders)
    if splits:
        _warn_of_others(path, [child for child in path.iterdir() if child not in folders.values()])

    @functools.cache
    def list_images(split: str) -> list[ImageFile]:
        place = f"{path}: split '{split}'" if split else str(path)
        return name_patients(_list_classes(folders.get(split, path), path), pattern, place=place)

    return Layout(path, positive, splits, list_images)


def _find_splits(path: Path) -> dict[str, Path]:
    folders: dict[str, Path] = {}
    for child in sorted(path.iterdir()):
        if not (child.is_dir() and (split := to_split(child.name))):
            continue
        if split in folders:
            raise DataError(
                f"{path}: a split must be one folder. Received: {folders[split].name} and {child.name} for "
                f"'{split}'. Rename one of them, or put their images together."
            )
        folders[split] = child
    return folders


def _list_classes(folder: Path, root: Path) -> list[ImageFile]:
    """All files below the folders of the classes, but hidden ones."""
    inside = sorted(child for child in folder.iterdir() if not is_hidden(child.name))
    classes = [child for child in inside if child.is_dir()]
    _warn_of_others(folder, [child for child in inside if child not in classes])
    return [
        ImageFile(path, path.relative_to(root).as_posix(), label=one.name)
        for one in classes
        for path in walk_images(one)
    ]


def _warn_of_others(folder: Path, others: Sequence[Path]) -> None:
    """Names the folders and images that nobody looks at."""
    names = sorted(
        f"{child.name}/" if child.is_dir() else child.name
        for child in others
        if not is_hidden(child.name) and (child.is_dir() or is_image_file(child))
    )
    if names:
        more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
        log.warning(
            "%s: what lies beside the folders of the splits or classes is not looked at: %s%s",
            folder,
            ", ".join(names[:SHOWN]),
            more,
        )
