import shutil
from collections import defaultdict

import pytest

from pneumo_keras.config import load_config
from pneumo_keras.data.pneumonia_mnist.archive import save_archive
from pneumo_keras.recipes import network, perturbations
from pneumo_keras.recipes.train import train_run
from pneumo_keras.reporting import report
from pneumo_keras.runs.folder import RunFolder, extend_manifest
from pneumo_keras.runs.run import load_run
from tests.images import load_phantom_splits, sort_by_class, write_splits
from tests.small import COUNTS, SMALL, train_toy_run
from tests.toy import build_toy_backbone

FEW = ["shot_noise", "gamma_corr_down", "rotation"]


@pytest.fixture
def toy(monkeypatch):
    """The recipes with a small network in place of InceptionV3, and three kinds of perturbation."""
    monkeypatch.setattr(network, "build_backbone", build_toy_backbone)
    for table, kinds in (("CORRUPTIONS", FEW[:2]), ("PERTURBATIONS", FEW[2:])):
        whole = getattr(perturbations, table)
        monkeypatch.setattr(perturbations, table, {kind: whole[kind] for kind in kinds})


@pytest.fixture
def without_plots(monkeypatch):
    """An evaluation draws for three of its four seconds, and most tests are about its numbers and words."""
    monkeypatch.setattr(report, "draw_plots", lambda contents: defaultdict(lambda: "data:,"))


@pytest.fixture
def run(toy, toy_run):
    """The shared run on phantom images, in the test's own folder."""
    return load_run(toy_run)


@pytest.fixture(scope="session")
def trained_on_files(backend, warm_cache_folder, tmp_path_factory):
    """The same images as PNG files with two of each patient, ten patients in two splits, and as an npz file.

    With a run that was trained on each.
    """
    root = tmp_path_factory.mktemp("files")
    splits = {split: sort_by_class(images) for split, images in load_phantom_splits(COUNTS).items()}
    save_archive(root / "images.npz", splits)
    write_splits(root / "clinic", splits)
    for split, first in (("train", 0), ("val", 20)):
        for number, file in enumerate(sorted((root / "clinic" / split).rglob("*.png"))):
            file.rename(file.with_name(f"person{first + number // 2:03}_bacteria_{number:03}.png"))
    for name, source, file in (
        ("of folder", "folder", "clinic"),
        ("of npz", "pneumonia_mnist", "images.npz"),
    ):
        paths = [f"data.source={source}", f"data.path={root / file}"]
        train_toy_run(root / name, warm_cache_folder, *paths)
    return root


@pytest.fixture
def run_of_folder(toy, trained_on_files, tmp_path):
    """Of which the test may change everything: its images lie in the folder `clinic`."""
    shutil.copytree(trained_on_files / "clinic", tmp_path / "clinic")
    return move_run(trained_on_files / "of folder", tmp_path / "of folder", tmp_path / "clinic")


@pytest.fixture
def run_of_npz(toy, trained_on_files, tmp_path):
    """Of which the test may change everything: its images lie in the file `images.npz`."""
    shutil.copy(trained_on_files / "images.npz", tmp_path)
    return move_run(trained_on_files / "of npz", tmp_path / "of npz", tmp_path / "images.npz")


def move_run(source, target, images):
    """A copy of a run that was trained on images at another place."""
    shutil.copytree(source, target)
    for name in ("config.toml", "environment.json"):
        file = target / name
        old = str(source.parent / images.name)
        file.write_text(file.read_text().replace(old, str(images)))
        extend_manifest(target, [name])
    return load_run(target)


@pytest.fixture
def train(toy, tmp_path):
    def run(name="run", *overrides):
        folder = RunFolder(tmp_path / name)
        train_run(load_config("demo", [*SMALL, *overrides]), folder)
        return folder

    return run


@pytest.fixture
def own_file(tmp_path):
    """Phantom images as a file of the user's own, and the settings that name it."""
    path = tmp_path / "images.npz"
    save_archive(path, load_phantom_splits(COUNTS))
    return path, ["data.source=pneumonia_mnist", f"data.path={path}"]


@pytest.fixture
def own_folder(tmp_path):
    """The same images as PNG files, and the settings that name their folder."""
    path = tmp_path / "clinic"
    write_splits(path, load_phantom_splits(COUNTS))
    return path, ["data.source=folder", f"data.path={path}"]


@pytest.fixture
def same_file(tmp_path):
    """The images of `own_folder` in the order of the folder, as an npz file."""
    path = tmp_path / "same.npz"
    save_archive(
        path, {split: sort_by_class(images) for split, images in load_phantom_splits(COUNTS).items()}
    )
    return path, ["data.source=pneumonia_mnist", f"data.path={path}"]


@pytest.fixture
def patients_folder(tmp_path):
    """The same images in files that tell the patient: two images each, and some patients in two splits."""
    path = tmp_path / "kermany"
    write_splits(path, load_phantom_splits(COUNTS))
    for split, first in (("train", 0), ("val", 20)):
        for number, file in enumerate(sorted((path / split).rglob("*.png"))):
            file.rename(file.with_name(f"person{first + number // 2}_bacteria_{number}.png"))
    return ["data.source=folder", f"data.path={path}"]
