"""The folder of a run: one writer, files written atomically, and a manifest of their checksums.

The manifest is extended when all files of a training or an evaluation are written, and whatever is read is
compared with it.
"""

import hashlib
import json
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from pneumo_keras.config import Config, find_changes, format_config, list_paths, load_config, parse_config
from pneumo_keras.errors import PneumoError, RunError, SettingsError
from pneumo_keras.evaluation.report_card import Evaluation, Metrics
from pneumo_keras.runtime.invocation import to_command
from pneumo_keras.storage.bounded_reading import read_text
from pneumo_keras.storage.documents import parse_document, to_document
from pneumo_keras.storage.files import (
    check_free,
    claim_folder,
    format_csv,
    is_claimed,
    replace_atomically,
    wait_for_lock,
    write_atomically,
)
from pneumo_keras.storage.printable import PrintableFormatter

log = logging.getLogger("pneumo_keras")

SETTINGS, MODEL, LOG, UNFINISHED = "config.toml", "model.keras", "train.log", "unfinished.json"
OOD_DETECTOR = "ood_detector.npz"
NETWORK, HEAD = "network.onnx", "head.npz"  # of the model, for scoring without Keras
NORMAL_IMAGES = "normal_images.npz"  # that others are compared with to be explained
SEEN_IMAGES = "seen_images.npy"  # hashes of the training and validation images
OTHER_IMAGES = "data"  # folder within that of a run for evaluations on other images
FILES_BY_CONTENT = ("data.path", "model.weights")  # settings of files that may have moved meanwhile
MANIFEST, MANIFEST_LOCK = "manifest.sha256", ".manifest.lock"
MANIFEST_LINE = re.compile(r"([0-9a-f]{64})  (\S.*)")  # as `sha256sum -c` reads it
RETRAIN_ADVICE = "Train or evaluate again."

Kind = TypeVar("Kind")


@dataclass(frozen=True)
class UnfinishedRun:
    """`unfinished.json`: what a training that was stopped continues with.

    Attributes:
        settings: The settings as TOML.
        paths: Paths of the files that they name, by dotted key.
    """

    settings: str
    paths: dict[str, str]


@dataclass(frozen=True)
class RunFolder:
    """A run on disk, or its evaluation on other images.

    Whatever is read or checked raises RunError with the file, the rule and what to do.
    """

    path: Path
    _written: list[Path] = field(default_factory=list, init=False, repr=False, compare=False)

    @property
    def checkpoint_file(self) -> Path:
        """The checkpoint of the fit of the head, until the run is finished."""
        return self.path / "checkpoint"

    @property
    def tuning_checkpoint_file(self) -> Path:
        """The checkpoint of the fit of unfrozen blocks, which follows that of the head."""
        return self.path / "checkpoint_tuning"

    def to_evaluation(self, name: str) -> "RunFolder":
        """The folder for an evaluation of the run on other images."""
        return RunFolder(self.path / OTHER_IMAGES / name)

    def holds(self, name: str) -> bool:
        """Whether a finished training or evaluation left a file of that name."""
        return name in load_manifest(self.path)

    def is_finished(self) -> bool:
        """Whether it has all files of a training."""
        return self.holds(MODEL)

    def is_begun(self) -> bool:
        """Whether a training was begun here and is not finished."""
        return (self.path / UNFINISHED).is_file() and not self.is_finished()

    def verify(self, name: str) -> Path:
        """The path of a file of the run, once its checksum is that of the manifest."""
        path, expected = self.path / name, load_manifest(self.path).get(name)
        if expected is None:
            raise RunError(f"{path} is missing, or what should have written it was stopped. {RETRAIN_ADVICE}")
        try:
            found = _hash_file(path)
        except OSError as error:
            raise RunError(f"{path} cannot be read: {error.strerror or error}. {RETRAIN_ADVICE}") from error
        if found != expected:
            raise RunError(
                f"{path} is damaged or was changed: it must have the checksum in {MANIFEST}. Received: "
                f"SHA-256 {found[:12]}..., not {expected[:12]}.... {RETRAIN_ADVICE}"
            )
        return path

    def verify_all(self, *, may_lack: bool = False) -> None:
        """Verifies every file that the manifest names, except those that may have been deleted."""
        for name in load_manifest(self.path):
            if not may_lack or (self.path / name).exists():
                self.verify(name)

    def check_finished(self) -> None:
        """Checks that it has all files of a training."""
        self.check_evaluated()
        if self.is_finished():
            return
        run = self.path.resolve().parent.parent
        if self.path.resolve().parent.name == OTHER_IMAGES and RunFolder(run).is_finished():
            raise RunError(
                f"RUN must be the folder of a run. {self.path} holds the evaluation of {run} on other "
                "images: name that one."
            )
        raise RunError(
            f"{self.path} is not a finished run: it must have a {MANIFEST} that names {MODEL}. It may be of "
            "an earlier version, or only a part of a run. Train into another folder."
        )

    def check_evaluated(self) -> None:
        """Checks that it has a run that was not stopped, or an evaluation on other images."""
        if not (self.path / SETTINGS).is_file():
            raise RunError(
                f"RUN must be the folder of a run, with a {SETTINGS}. {self.path} is none: train one with "
                f"{to_command('train', '--run', self.path)}"
            )
        self._check_not_begun()

    def check_free(self) -> None:
        """Checks that a new run may be written here."""
        self._check_not_begun()
        check_free(self.path, option="--run")

    def _check_not_begun(self) -> None:
        if not self.is_begun():
            return
        if is_claimed(self.path):
            raise RunError(f"{self.path} holds a run that is being trained: wait until it is finished.")
        raise RunError(
            f"{self.path} holds a run that was not finished. Continue it: "
            f"{to_command('train', '--run', self.path, '--resume')}, or delete it."
        )

    @contextmanager
    def writing(self, config: Config, paths: Mapping[str, str], *, resume: bool = False) -> Iterator[None]:
        """Opens the folder for a run with its settings, as the user wrote them, and its log.

        A new run that fails for a reason that the user can fix, before the first checkpoint of its fit,
        leaves nothing behind. What is stopped or fails later can be resumed.
        """
        if not resume:
            self.check_free()
        with claim_folder(self.path, option="--run", new=not resume):
            if not self.is_begun():  # or another process has finished it meanwhile
                check_free(self.path, option="--run")
            try:
                text = format_config(config)
                self.write_json(UNFINISHED, UnfinishedRun(text, dict(paths)))
                self.write_text(SETTINGS, text)
                with _write_log(self.path / LOG):
                    yield
                    self.update_manifest()
                self.clear()
            except (PneumoError, OSError):
                if not resume and not self.checkpoint_file.exists():
                    self._remove_written()
                raise

    def update_manifest(self) -> None:
        """Enters all files that were written into the manifest."""
        names = {path.relative_to(self.path).as_posix() for path in self._written}
        extend_manifest(self.path, names - {UNFINISHED})

    def clear(self) -> None:
        """Removes the files that only an unfinished run needs."""
        for path in (self.checkpoint_file, self.tuning_checkpoint_file, self.path / UNFINISHED):
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                log.warning("%s cannot be removed (%s): delete it", path, error.strerror)

    def _remove_written(self) -> None:
        """Only what this run wrote, without errors of its own: the original error is being raised."""
        for path in [*self._written, self.path / MANIFEST, self.path / LOG]:
            with suppress(OSError):
                path.unlink(missing_ok=True)
        for folder in {path.parent for path in self._written} - {self.path}:
            with suppress(OSError):
                folder.rmdir()

    def write_text(self, name: str, text: str) -> None:
        """Writes a text file of the run, UTF-8, line ends as they are."""
        self.write_with(name, lambda file: file.write_text(text, encoding="utf-8", newline=""))

    def write_json(self, name: str, document: object) -> None:
        """Writes a mapping or a dataclass as a JSON file of the run."""
        self.write_text(name, json.dumps(to_document(document), indent=2, allow_nan=False) + "\n")

    def write_table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Writes a CSV file of the run, with a header."""
        self.write_text(name, format_csv(rows))

    def write_with(self, name: str, save: Callable[[Path], object]) -> None:
        """Writes a file of the run, such as `figures/summary.png`, with a function that takes a path."""
        path = self.path / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replace_atomically(path) as temporary:
                save(temporary)
        except OSError as error:
            raise RunError(f"{path} cannot be written: {error.strerror or error}") from error
        self._written.append(path)

    def load_document(self, kind: type[Kind], name: str) -> Kind:
        """Reads a JSON file of the run."""
        return parse_document(kind, self.read_text(name), name=str(self.path / name))

    def load_settings(self) -> Config:
        """The settings, as the user wrote them."""
        path = self.verify(SETTINGS)
        try:
            return load_config(str(path))
        except SettingsError as error:
            raise RunError(f"{path} is of another version. {error}") from error

    def load_unfinished(self, asked: Config | None) -> tuple[Config, Mapping[str, str]]:
        """The settings of a run that was begun, and the paths of the files that they name.

        `asked` are settings that the user names again: they must be the same.
        """
        if not self.is_begun():
            raise RunError(
                f"--resume continues a run that was begun. Received: {self.path}, which holds none. Begin "
                "one with --config."
            )
        path = self.path / UNFINISHED
        try:
            begun = parse_document(UnfinishedRun, read_text(path), name=str(path))
            config = parse_config(begun.settings, name=str(path))
        except (OSError, UnicodeDecodeError, SettingsError) as error:
            raise RunError(f"{path} cannot be read: {error}. Train into another folder.") from error
        return config, {**begun.paths, **self._find_moved(config, asked)}

    def load_evaluation(self, asked: Config | None) -> Evaluation:
        """The metrics of a finished run on its validation images; see `load_unfinished` for `asked`."""
        self.verify_all()
        self._find_moved(self.load_settings(), asked)
        metrics = self.load_document(Metrics, "metrics_val.json")
        return Evaluation(**{one.name: getattr(metrics, one.name) for one in fields(Evaluation)})

    def _find_moved(self, config: Config, asked: Config | None) -> dict[str, str]:
        """New paths of files that have moved, by dotted key; no other setting may differ."""
        if asked is None:
            return {}
        changes = find_changes(config, asked)
        for key, (then, now) in changes.items():
            if key not in FILES_BY_CONTENT:
                raise RunError(
                    f"{self.path} has other settings: {key} = {then}. Received: {now}. Leave --config and "
                    "--set out, or name another --run."
                )
        return {key: path for key, path in list_paths(asked).items() if key in changes}

    def read_text(self, name: str) -> str:
        """The text of a file of the run."""
        path = self.verify(name)
        try:
            return path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise RunError(f"{path} is damaged: it is not text in UTF-8. {RETRAIN_ADVICE}") from error


def load_manifest(folder: Path) -> dict[str, str]:
    """SHA-256 of each file by its name below the folder; none where nothing was finished.

    Raises:
        RunError: The manifest is damaged.
    """
    path = folder / MANIFEST
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error}. Train again.") from error
    rows = [MANIFEST_LINE.fullmatch(line) for line in lines]
    if not all(rows):
        raise RunError(f"{path} is damaged: it must hold a SHA-256 and a name in each line. Train again.")
    return {row[2]: row[1] for row in rows if row}


def extend_manifest(folder: Path, names: Iterable[str]) -> None:
    """Enters what files hold now; those that are gone are left out. One writer at a time.

    Raises:
        RunError: The manifest cannot be written, or is damaged.
    """
    path, lock = folder / MANIFEST, folder / MANIFEST_LOCK
    try:
        with wait_for_lock(lock, f"it writes {path}"):
            known = {**load_manifest(folder), **{name: "" for name in names}}
            names = [name for name in sorted(known) if (folder / name).is_file()]
            lines = [f"{known[name] or _hash_file(folder / name)}  {name}\n" for name in names]
            write_atomically(path, "".join(lines))
            lock.unlink(missing_ok=True)
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error.strerror or error}") from error


def _hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _write_log(path: Path) -> Iterator[None]:
    """Adds all that is logged inside the `with` block to a file."""
    try:
        handler = _LogFile(path, encoding="utf-8")
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error.strerror or error}") from error
    handler.setFormatter(PrintableFormatter("%(asctime)s %(levelname)s %(message)s"))
    log.setLevel(logging.INFO)
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        handler.close()


class _LogFile(logging.FileHandler):
    """Ignores write errors of the log: a full disk also fails the run's own files, which report it."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (named by Python)
        pass
