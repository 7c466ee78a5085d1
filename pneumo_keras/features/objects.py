"""Objects at an address: files of a folder that machines share, or of a store such as S3, by fsspec."""

import contextlib
from pathlib import Path
from typing import Any

from pneumo_keras.storage.files import replace_whole


class Objects:
    """Folders of objects below an address. Whatever fsspec and its drivers raise comes through.

    Args:
        address: A path, or an address of fsspec's: `s3://bucket/features`.
    """

    def __init__(self, address: str) -> None:
        import fsspec  # 0.1 s, for those who share

        is_path = "://" not in address
        self._files: Any
        self._files, root = (
            (fsspec.filesystem("file"), address) if is_path else fsspec.core.url_to_fs(address)
        )
        self._root = root.rstrip("/")
        self._is_local = isinstance(self._files, fsspec.filesystem("file").__class__)

    def list_sizes(self, folder: str) -> dict[str, int]:
        """Names of the objects in a folder with their bytes; none where there is no such folder."""
        path = f"{self._root}/{folder}"
        self._files.invalidate_cache(path)  # others write there
        try:
            found = self._files.ls(path, detail=True)
        except FileNotFoundError:
            return {}
        return {one["name"].rpartition("/")[2]: one["size"] for one in found if one["type"] == "file"}

    def read(self, name: str, most: int) -> bytes:
        """An object, as far as this many bytes."""
        return self._files.cat_file(f"{self._root}/{name}", start=0, end=most)  # s3fs orders them otherwise

    def is_there(self) -> bool:
        """Whether the address is a folder; what holds no folders is always there."""
        return not self._is_local or Path(self._root).is_dir()

    def make_folder(self, folder: str) -> None:
        """Makes room for objects where that is needed. A bucket that is not there is not made."""
        if self._is_local:
            Path(self._root, folder).mkdir(parents=True, exist_ok=True)
        else:
            with contextlib.suppress(FileExistsError):
                self._files.mkdir(f"{self._root}/{folder}", create_parents=False)

    def write(self, name: str, content: bytes) -> None:
        """Writes an object, which appears whole or not at all, over what has its name."""
        if self._is_local:
            with replace_whole(Path(self._root, name)) as beside:
                beside.write_bytes(content)
        else:
            self._files.pipe_file(f"{self._root}/{name}", content)
