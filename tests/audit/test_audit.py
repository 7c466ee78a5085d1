import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from pneumo_keras.arrays import SPLITS
from pneumo_keras.audit.audit import audit_images
from pneumo_keras.data.images import ImageArray
from pneumo_keras.errors import DataError
from pneumo_keras.storage.documents import to_document
from tests.audit.noise import CountingImages, brighten, draw_images, put
from tests.images import load_archive

REAL = Path(__file__).resolve().parents[2].parent / "shared/data/pneumoniamnist.npz"


def test_every_image_is_read_once_and_few_at_a_time():
    images = draw_images(700, seed=0)
    counting = {split: CountingImages(images) for split in ("train", "val")}
    assert audit_images(counting) == audit_images({"train": images, "val": images})
    for part in counting.values():
        assert sum(part.reads) == 700 and max(part.reads) <= 256


def test_an_audit_needs_neither_keras_nor_jax():
    code = (
        "import sys, pkgutil, importlib, numpy as np, pneumo_keras.audit as room\n"
        "for module in pkgutil.iter_modules(room.__path__, room.__name__ + '.'):\n"
        "    importlib.import_module(module.name)\n"
        "from pneumo_keras.data.images import ImageArray\n"
        "images = np.random.default_rng(0).integers(0, 255, (8, 28, 28)).astype(np.uint8)\n"
        "room.audit.audit_images({'train': ImageArray(images, np.arange(8) % 2)})\n"
        "print(sorted({'keras', 'jax'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_command_that_audits_starts_neither_keras_nor_jax(tmp_path):
    code = (
        "import sys\nfrom pneumo_keras.cli import main\n"
        "command = 'data audit --config demo --set data.phantom_images=[12,8,8] --out out'\n"
        "main(command.split(), standalone_mode=False)\n"
        "print(sorted({'keras', 'jax'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout.splitlines()[-1] == "[]"
    assert (tmp_path / "out" / "audit.png").is_file()


def test_classes_are_counted_with_their_prior():
    facts = audit_images({"train": draw_images(8, seed=0, pneumonia=6)}).splits["train"]
    assert (facts.images, facts.normal, facts.pneumonia, facts.pneumonia_share) == (8, 2, 6, 0.75)
    assert (facts.height, facts.width) == (28, 28)


def test_blank_images_are_counted_and_resemble_nothing(clean):
    for index, grey in enumerate((0, 7, 255)):
        put(clean, ("train", index), np.full((28, 28), grey, np.uint8))
    audit = audit_images(clean)
    assert audit.splits["train"].blank == 3
    assert sum(audit.alike.counts.values()) == 0


def test_prior_shift_is_notable_when_it_is_large_and_no_chance():
    splits = {
        "train": draw_images(400, seed=1, pneumonia=300),
        "test": draw_images(400, seed=2, pneumonia=200),
    }
    (shift,) = audit_images(splits).prior_shifts
    assert (shift.first, shift.second, shift.difference) == ("train", "test", -0.25)
    assert shift.p == pytest.approx(stats.fisher_exact([[100, 300], [200, 200]]).pvalue)
    assert shift.is_notable


def test_prior_shift_of_a_few_images_may_be_chance():
    audit = audit_images({"train": draw_images(8, seed=1, pneumonia=6), "test": draw_images(8, seed=2)})
    assert not audit.prior_shifts[0].is_notable


def test_the_document_holds_everything(clean):
    put(clean, ("val", 7), brighten(clean["train"].images[3]))
    document = json.loads(json.dumps(to_document(audit_images(clean)), allow_nan=False))
    assert list(document) == ["splits", "identical", "alike", "prior_shifts", "exposure_shifts", "patients"]
    assert document["alike"]["pairs"][0]["second"] == {"split": "val", "index": 7, "label": 0}
    assert document["splits"]["train"]["exposure"]["contrast"]["normal"]["n"] == 20


def test_an_empty_split_is_refused():
    none = ImageArray(np.zeros((0, 28, 28), np.uint8), np.zeros(0, np.int64))
    with pytest.raises(DataError, match=r"images in every split\. Received: none in split 'val'"):
        audit_images({"train": draw_images(2, seed=0), "val": none})


@pytest.mark.real_data
def test_pneumonia_mnist_holds_the_known_repeats():
    audit = audit_images({split: load_archive(REAL, split, size=28) for split in SPLITS})
    assert audit.identical.repeats == {"train": 18, "val": 0, "test": 3}
    assert audit.identical.shared == {"train/val": 8, "train/test": 0, "val/test": 0}
    assert (audit.identical.conflicts, sum(audit.alike.counts.values())) == (0, 0)
    assert [shift.is_notable for shift in audit.prior_shifts] == [False, True]
    assert not any(shift.is_notable for shift in audit.exposure_shifts)
    assert audit.splits["train"].telling == ["contrast"]
    assert audit.splits["train"].separation["contrast"] == pytest.approx(0.81, abs=0.005)
