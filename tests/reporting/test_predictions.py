import csv
import json

import pytest

from pneumo_keras.data.decoding import ENDED
from pneumo_keras.errors import RunError
from pneumo_keras.reporting.predictions import LAYOUTS, replace_lines, resume_csv, sort_predictions, to_cell
from pneumo_keras.runs.run import ScoredImage
from pneumo_keras.storage.printable import to_printable


def say(path, probability, warning=""):
    return ScoredImage(path, probability, 0.25, warning)


NASTY = 'a\nb\x1b[31m"c",\u202e<b>.png'
IMAGES = [
    say("one.png", 0.1),
    say(NASTY, 0.75, "outside the range of the training images (1.2 x the limit)"),
    say("broken.png", None, "not scored: the file is empty"),
]


def format_all(layout):
    return [*LAYOUTS[layout].header.splitlines(), *map(LAYOUTS[layout].format, IMAGES)]


def test_a_table_for_people():
    assert format_all("table") == [
        "threshold {threshold:.4f}",
        "probability  prediction  image",
        "     0.1000  normal      one.png",
        '     0.7500  pneumonia   a\\nb\\x1b[31m"c",\\u202e<b>.png  '
        "(outside the range of the training images (1.2 x the limit))",
        "          -  -           broken.png  (not scored: the file is empty)",
    ]


def test_csv_has_a_line_for_each_image_whatever_its_name():
    lines = format_all("csv")
    assert all("\n" not in line and "\x1b" not in line for line in lines)
    rows = list(csv.DictReader(lines))
    assert [row["path"] for row in rows] == ["one.png", to_printable(NASTY), "broken.png"]
    assert [row["probability"] for row in rows] == ["0.1", "0.75", ""]
    assert [row["prediction"] for row in rows] == ["normal", "pneumonia", ""]
    assert rows[2]["warning"] == "not scored: the file is empty"


def test_json_has_the_path_as_the_system_has_it():
    lines = format_all("json")
    rows = [json.loads(line) for line in lines]
    assert rows[1]["path"] == NASTY
    assert rows[2]["probability"] is None is rows[2]["prediction"]
    assert json.loads(LAYOUTS["json"].format(say("\udcff.png", 0.5)))["path"] == "\udcff.png"


def test_bytes_that_are_no_text_are_spelled_out():
    assert to_printable("\udcff.png") == "\\udcff.png"
    assert to_printable("Füße 1.png") == "Füße 1.png"


def test_predictions_are_sorted_by_probability_or_by_what_is_nearest_to_the_threshold():
    images = [say("a", 0.1), say("broken", None), say("b", 0.9), say("c", 0.3), say("d", 0.0)]
    assert [one.path for one in sort_predictions(images, "probability")] == ["b", "c", "a", "d", "broken"]
    assert [one.path for one in sort_predictions(images, "uncertainty")] == ["c", "a", "b", "d", "broken"]


@pytest.fixture
def written(tmp_path):
    path = tmp_path / "scores.csv"
    path.write_text("\n".join(format_all("csv")) + "\n", newline="")
    return path


def test_a_whole_file_is_passed_over(written):
    paths = iter([*(image.path for image in IMAGES), "next.png"])
    before = written.read_bytes()
    found, left = resume_csv(written, paths, threshold=0.25)
    assert (found.images, found.failed, found.last) == (3, 1, (NASTY, 0.75))
    assert (list(left), written.read_bytes()) == (["next.png"], before)


@pytest.mark.parametrize("cut", range(1, 400, 7))
def test_a_file_that_was_cut_off_anywhere_is_gone_on_with_to_the_same_end(written, cut):
    whole = written.read_bytes()
    written.write_bytes(whole[:-cut])
    paths = iter([image.path for image in IMAGES])
    found, left = resume_csv(written, paths, threshold=0.25)
    done = found.images
    assert list(left) == [image.path for image in IMAGES[done:]]
    lines = format_all("csv")[1 + done :] if written.stat().st_size else format_all("csv")
    with written.open("a", newline="") as file:
        file.writelines(f"{line}\n" for line in lines)
    assert written.read_bytes() == whole


@pytest.mark.parametrize(
    ("paths", "threshold", "fault"),
    [
        (
            ["two.png"],
            0.25,
            "must have the same images in the same order; line 2: two.png. Received: one.png",
        ),
        ([], 0.25, "must have the same images in the same order; line 2: no more images. Received: one.png"),
        (
            ["one.png"],
            0.05,
            "must be of the same run and prevalence; threshold 0.05, line 2. Received: one.png,0.1,normal,",
        ),
    ],
)
def test_a_file_of_other_images_or_another_run_is_refused(written, paths, threshold, fault):
    before = written.read_bytes()
    with pytest.raises(RunError) as refusal:
        resume_csv(written, iter(paths), threshold=threshold)
    assert str(refusal.value) == f"To continue with --resume, {written} {fault}"
    assert written.read_bytes() == before


HEADER = LAYOUTS["csv"].header


@pytest.mark.parametrize(
    "content",
    [
        "index,label,score\n0,1,0.5\n",
        "Ask Anna about image 7",
        "Ask Anna about image 7\n",
        "\n",
        "\0" * 100_000,
        f"{HEADER} ",
        f"{HEADER}\r\n",
        f"\ufeff{HEADER}\n",
        format_all("table")[0],
        LAYOUTS["json"].format(IMAGES[0]),
    ],
)
def test_another_kind_of_file_is_refused_and_left_alone(written, content):
    written.write_text(content, newline="")
    before = written.read_bytes()
    with pytest.raises(RunError, match=r"must open with the line 'path,probability"):
        resume_csv(written, iter(["one.png"]), threshold=0.25)
    assert written.read_bytes() == before


@pytest.mark.parametrize("rest", ["ask Anna", "one.pngs,", "one.jp", "\0"])
@pytest.mark.parametrize("paths", [["one.png"], []])
def test_a_last_line_that_was_not_written_here_is_left_alone(written, rest, paths):
    written.write_text(f"{HEADER}\n{rest}", newline="")
    with pytest.raises(RunError, match=r"same images in the same order; line 2: (one.png|no more images)"):
        resume_csv(written, iter(paths), threshold=0.25)
    assert written.read_text() == f"{HEADER}\n{rest}"


@pytest.mark.parametrize("name", ["x" * 200_000, '",' * 100_000])
def test_a_name_of_any_length_is_gone_on_with(written, name):
    line = LAYOUTS["csv"].format(say(name, None, "not scored: File name too long"))
    written.write_text(f"{HEADER}\n{line}\n{line[:150_000]}", newline="")
    found, left = resume_csv(written, iter([name, name]), threshold=0.25)
    assert ((found.images, found.failed), list(left)) == ((1, 1), [name])
    assert written.read_text() == f"{HEADER}\n{line}\n"
    with pytest.raises(RunError, match=r"line 2: other\. Received: .{100,300}$"):
        resume_csv(written, iter(["other"]), threshold=0.25)


def test_what_was_not_scored_for_a_reason_that_may_pass_is_found_and_its_line_replaced(tmp_path):
    file = tmp_path / "scores.csv"
    images = [
        say("broken.png", None, "not scored: the file is empty"),
        say(NASTY, None, "not scored: it took more than 30 s to decode"),
        say("one.png", 0.1, "it took more than 1.8 x the limit"),
        say("killed.png", None, f"not scored: {ENDED}"),
    ]
    csv_ = LAYOUTS["csv"]
    lines = [csv_.header, *map(csv_.format, images)]
    file.write_text("".join(f"{line}\n" for line in lines), newline="", encoding="utf-8")
    link = tmp_path / "link.csv"
    link.symlink_to(file)
    found, _ = resume_csv(link, iter([image.path for image in images]), threshold=0.25)
    assert [path for _, path in found.again] == [NASTY, "killed.png"]
    assert (found.images, found.failed, found.last) == (4, 3, ("one.png", 0.1))
    lines[2], lines[4] = csv_.format(say(NASTY, 0.75)), csv_.format(say("killed.png", 0.125))
    replace_lines(link, zip([start for start, _ in found.again], [lines[2], lines[4]], strict=True))
    assert link.is_symlink()
    assert file.read_text(encoding="utf-8") == "".join(f"{line}\n" for line in lines)


def test_no_path_is_a_formula():
    assert LAYOUTS["csv"].format(say("=cmd|' .png", 0.1)).startswith("./=cmd|' .png,0.1,")
    assert to_cell("-rf.png") == "./-rf.png" and to_cell("images/=x.png") == "images/=x.png"
