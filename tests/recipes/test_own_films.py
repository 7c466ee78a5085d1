import json
import os
import shutil

import numpy as np
import pytest

from pneumo_keras.data.films import FilmArray
from pneumo_keras.data.folder import decoded
from pneumo_keras.data.pneumonia_mnist.archive import save_archive
from pneumo_keras.errors import RunError
from pneumo_keras.recipes.evaluate import evaluate_run
from pneumo_keras.recipes.other_films import OtherFilms, evaluate_other_films
from tests.films import load_phantom_splits, write_films
from tests.small import COUNTS


def refuse(call, *arguments):
    with pytest.raises(RunError) as caught:
        call(*arguments)
    return str(caught.value)


def to_refusal(path, change):
    return (
        f"{path}: the films that the run learnt from must be as they were. Received: {change}. Train again, "
        "or name films that it was not trained on with --data."
    )


def test_a_run_is_not_judged_when_the_films_that_it_learnt_from_changed(train, own_folder, monkeypatch):
    path, settings = own_folder
    run = train("run", *settings)
    film = next((path / "train" / "NORMAL").iterdir())
    others = load_phantom_splits(COUNTS, seed=7)
    write_films(path / "test", FilmArray(others["test"].images[:3], others["test"].labels[:3]))
    os.utime(film, ns=(0, 0))
    assert evaluate_run(run, "test").evaluation.n >= 40  # other test films, and a training film's time
    shutil.copy(film, film.with_name("new.png"))
    monkeypatch.setattr(decoded, "decode_films", None)  # nothing is decoded to find this
    for split in ("test", "val"):
        assert refuse(evaluate_run, run, split) == to_refusal(path, "61 training films, 60 then")
    monkeypatch.undo()


def test_a_run_is_not_judged_when_a_film_was_replaced_or_judged_anew(train, own_folder):
    path, settings = own_folder
    run = train("run", *settings)
    normal, pneumonia = (sorted((path / "val" / name).iterdir()) for name in ("NORMAL", "PNEUMONIA"))
    # The first of its new class and the last of the old one: no film moves.
    normal[-1].rename(path / "val" / "PNEUMONIA" / "0.png")
    assert refuse(evaluate_run, run, "test") == to_refusal(path, "validation films with other labels")
    (path / "val" / "PNEUMONIA" / "0.png").rename(normal[-1])
    evaluate_run(run, "test")
    shutil.copy(pneumonia[0], pneumonia[1])
    assert refuse(evaluate_run, run, "test") == to_refusal(
        path, "other validation films, or the same in another order"
    )
    shutil.rmtree(path / "val")
    assert refuse(evaluate_run, run, "test").startswith(f"{path}: the films that the run learnt from must be")


def test_films_that_were_added_to_drawn_splits_keep_a_run_from_being_judged(train, tmp_path):
    path, films = tmp_path / "plain", load_phantom_splits((160, 2, 2), seed=7)["train"]
    write_films(path, FilmArray(films.images[:150], films.labels[:150]))
    run = train("run", "data.source=folder", f"data.path={path}")
    evaluate_run(run, "test")
    for index in range(150, 160):
        write_films(tmp_path / str(index), FilmArray(films.images[index : index + 1], films.labels[[index]]))
        (film,) = (tmp_path / str(index)).rglob("*.png")
        film.rename(path / film.parent.name / f"{index:04}.png")
    assert "training films, " in refuse(evaluate_run, run, "test")


def test_another_file_in_the_place_of_the_run_s_own_is_noticed(train, own_file):
    path, settings = own_file
    run = train("run", *settings)
    same = load_phantom_splits(COUNTS)
    others = load_phantom_splits(COUNTS, seed=7)
    save_archive(path, {**same, "test": others["test"]})
    evaluate_run(run, "test")
    save_archive(path, {**same, "train": others["train"]})
    assert refuse(evaluate_run, run, "test") == to_refusal(
        path, "other training films, or the same in another order"
    )


def test_films_that_were_learnt_from_are_known_wherever_they_lie(train, own_folder, tmp_path, caplog):
    run = train("run", *own_folder[1])
    own, others = load_phantom_splits(COUNTS), load_phantom_splits(COUNTS, seed=7)["test"]
    shutil.copytree(own_folder[0] / "train", tmp_path / "copy")
    next((tmp_path / "copy" / "NORMAL").iterdir()).unlink()
    turned = FilmArray(own["val"].images[::-1], own["val"].labels[::-1])
    save_archive(tmp_path / "turned.npz", {**own, "test": turned})
    for name, n in (("copy", 59), ("turned.npz", 30)):
        assert refuse(evaluate_other_films, run, OtherFilms(tmp_path / name), "test") == (
            f"--data must name films that the run was not trained on. Received: {tmp_path}/{name}, with {n} "
            f"of {n} films among its training and validation films. Take those away."
        )
    few = FilmArray(
        np.concatenate([others.images, own["train"].images[:7]]),
        np.concatenate([others.labels, own["train"].labels[:7]]),
    )
    write_films(tmp_path / "few", few)
    caplog.clear()
    target, _ = evaluate_other_films(run, OtherFilms(tmp_path / "few"), "test")
    notice = (
        "7 of these 47 films are among the training and validation films of the run, by their pixels: the "
        "figures are flattered by that."
    )
    assert [one.message for one in caplog.records if one.levelname == "WARNING"] == [f"few, 28 px: {notice}"]
    assert notice in (target.path / "report.html").read_text()
    assert json.loads((target.path / "environment.json").read_text())["data"]["notice"] == notice
    (run.path / "seen_films.npy").unlink()
    with pytest.raises(RunError, match=r"seen_films\.npy is missing"):
        evaluate_other_films(run, OtherFilms(tmp_path / "copy"), "test")
