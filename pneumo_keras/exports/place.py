"""Where an export stands, and what its files are called."""

from dataclasses import dataclass
from pathlib import Path

from pneumo_keras.errors import ExportError
from pneumo_keras.exports.table import FORMS
from pneumo_keras.storage.files import check_new, check_within


@dataclass(frozen=True)
class Place:
    """Files that stand in one folder.

    Attributes:
        folder: Need not be there, but the one above it.
        names: Of the files that the runtime reads, the one that users name first.
        sidecar: Name of the JSON that says how to use them.
    """

    folder: Path
    names: tuple[str, ...]
    sidecar: str


def choose_place(run: Path, form: str, out: Path | None) -> Place:
    """Files of the run, which take the place of an older export, or new ones elsewhere.

    Args:
        run: Its folder.
        form: One of `FORMS`.
        out: The first file; None for `exports/model.<ending>` of the run.

    Raises:
        ExportError: `out` does not end as its form does.
        RunError: One of the files is there, or a link leads from the run to elsewhere.
    """
    endings = FORMS[form].endings
    first = out or run / "exports" / f"model{endings[0]}"
    if first.suffix != endings[0]:
        raise ExportError(f"--out must end in {endings[0]} for the format {form}. Received: {out}")
    names = tuple(f"{first.stem}{ending}" for ending in endings)
    place = Place(first.parent, names, f"{first.stem}.{form}.json")
    for path in (place.folder / name for name in (*names, place.sidecar)):
        if out:
            check_new(path, option="--out")
        else:
            check_within(run, path)
    return place
