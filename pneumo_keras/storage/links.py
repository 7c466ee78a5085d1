"""Links, through which files of others would be replaced."""

from pathlib import Path

from pneumo_keras.errors import RunError


def check_within(folder: Path, path: Path) -> None:
    """Checks that no link leads to elsewhere from a folder, where a file below it is written.

    Args:
        folder: Which may be a link itself.
        path: Of the file, which need not be there.

    Raises:
        RunError: The file, or a folder on the way to it, is a link.
    """
    below = path.relative_to(folder)
    for part in (folder / name for name in [*reversed(below.parents[:-1]), below]):
        # Windows has links that are no symbolic ones.
        if part.is_symlink() or not part.resolve().is_relative_to(folder.resolve()):
            raise RunError(
                f"{part} must lie within {folder}: files are replaced there. Received: a link. Remove it."
            )
