import pytest

from pneumo_keras.config import load_config
from pneumo_keras.recipes import bench_maps
from pneumo_keras.recipes.bench_maps import measure_maps
from pneumo_keras.recipes.train import train_run
from pneumo_keras.runs.folder import RunFolder
from pneumo_keras.runs.run import load_run
from tests.conftest import SHARED


def test_maps_of_a_run_on_phantoms_are_held_against_their_opacities(train, monkeypatch):
    monkeypatch.setattr(bench_maps, "PHANTOMS", 20)
    measured = measure_maps(load_run(train().path))
    assert measured.deletion.images > 10
    assert measured.pointing is not None and 5 < measured.pointing.images < 20
    assert 0 < measured.pointing.chance < 0.6


def test_opacities_of_other_images_are_not_known(train, own_file):
    assert measure_maps(load_run(train("run", *own_file[1]).path)).pointing is None


@pytest.mark.slow
@pytest.mark.real_data
def test_maps_point_to_the_opacities_of_phantoms(tmp_path, monkeypatch):
    """The sanity check of explain: the hot spot of most images lies on what was planted there."""
    weights = SHARED / "weights" / "inception_v3_notop.weights.h5"
    settings = [f"model.weights={weights}", "data.source=phantom", "data.phantom_images=[400, 100, 2]"]
    folder = RunFolder(tmp_path / "run")
    train_run(load_config("default", settings), folder)
    monkeypatch.setattr(bench_maps, "PHANTOMS", 100)
    monkeypatch.setattr(bench_maps, "DELETED", 25)
    measured = measure_maps(load_run(folder.path))
    assert measured.pointing is not None and measured.pointing.hits >= 0.8
    assert measured.pointing.chance < 0.3
    assert measured.deletion.highest < measured.deletion.others - 0.5
    assert measured.deletion.highest < measured.deletion.random - 0.5
