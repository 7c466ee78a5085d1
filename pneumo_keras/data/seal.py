"""A sealed folder: the checksums of its files, so that damage is found before anything there is believed."""

import json
import zlib
from collections.abc import Iterable
from pathlib import Path

SEAL = "seal"


class BrokenSealError(ValueError):
    """A file is not the one that was sealed."""


def write_seal(folder: Path, files: Iterable[Path], *, address: str) -> None:
    """Seals files.

    Args:
        folder: Gets the seal.
        files: Below `folder`.
        address: What the folder is for: it is the seal of no other.
    """
    checksums = {str(file.relative_to(folder)): zlib.crc32(file.read_bytes()) for file in sorted(files)}
    text = json.dumps(checksums)
    (folder / SEAL).write_text(f"{_sum(text, address)}\n{text}", encoding="utf-8")


def check_seal(folder: Path, *, address: str) -> None:
    """Checks that all sealed files are as they were. What else lies in the folder does not matter.

    Raises:
        BrokenSealError: One is not, or the seal itself.
    """
    try:
        own, _, text = _read(folder / SEAL).decode().partition("\n")
        if own != str(_sum(text, address)):
            raise BrokenSealError("its seal is broken")
        for name, checksum in json.loads(text).items():
            if zlib.crc32(_read(folder / name)) != checksum:
                raise BrokenSealError(f"{name} is damaged")
    except (OSError, UnicodeDecodeError) as error:
        raise BrokenSealError(f"a part cannot be read ({error})") from error


def _read(file: Path) -> bytes:
    if not file.is_file():  # a pipe would be waited for
        raise FileNotFoundError(f"no file {file.name}")
    return file.read_bytes()


def _sum(text: str, address: str) -> int:
    return zlib.crc32(f"{address}\n{text}".encode())
