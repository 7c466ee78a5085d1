import copy
import io
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pydicom
import pytest
from pydicom.uid import (
    MPEG2MPML,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
    RLELossless,
)

from pneumo_keras.data import dicom
from pneumo_keras.data.image_preparation import prepare_image
from pneumo_keras.data.images import Preparation
from pneumo_keras.data.kinds import NOTE, Limits
from pneumo_keras.data.pictures import load_image
from pneumo_keras.errors import DataError
from tests.conftest import SHARED
from tests.data.dicom_files import (
    build_dataset,
    build_item,
    build_table,
    save,
    save_big_endian,
    save_without_preamble,
    set_raw,
)

RANDOM = np.random.default_rng(0)
IMAGE = RANDOM.integers(0, 256, (28, 28), dtype=np.uint8)


def load(pixels, **tags):
    image = load_image(save(build_dataset(pixels, **tags)))
    return prepare_image(image, Preparation(min(pixels.shape[:2])))


def test_an_image_of_eight_bits_comes_as_it_was_saved():
    np.testing.assert_array_equal(load(IMAGE), IMAGE)


def test_where_zero_is_white_the_image_is_inverted():
    np.testing.assert_array_equal(load(255 - IMAGE, PhotometricInterpretation="MONOCHROME1"), IMAGE)


def test_the_range_is_that_of_the_bits_stored():
    np.testing.assert_allclose(
        load(IMAGE.astype(np.uint16) * 16, bits=12), IMAGE * (255 * 16 / 4095), atol=0.51
    )
    signed = IMAGE.astype(np.int16) * 16 - 2048
    np.testing.assert_allclose(load(signed, bits=12), IMAGE * (255 * 16 / 4095), atol=0.51)


def test_slope_intercept_and_window_show_what_a_viewer_shows():
    stored = IMAGE.astype(np.uint16) * 8
    tags = {"RescaleSlope": 2, "RescaleIntercept": -1000}  # -1000 to 3080
    shown = load(stored, bits=12, **tags, WindowCenter=1040.5, WindowWidth=2041)  # 20 to 2060
    expected = ((IMAGE * 16.0 - 1000 - 20) / 2040 * 255).clip(0, 255)
    np.testing.assert_allclose(shown, expected, atol=0.51)
    assert (shown == 0).any() and (shown == 255).any()
    unwindowed = load(stored, bits=12, **tags)
    np.testing.assert_allclose(unwindowed, IMAGE * (255 * 8 / 4095), atol=0.51)


def test_of_several_windows_the_first_counts():
    one = load(IMAGE.astype(np.uint16), bits=12, WindowCenter=128, WindowWidth=256)
    two = load(IMAGE.astype(np.uint16), bits=12, WindowCenter=[128, 3000], WindowWidth=[256, 10])
    np.testing.assert_array_equal(one, two)


def test_colour_becomes_luminance():
    colour = np.zeros((28, 28, 3), np.uint8)
    colour[..., 1] = 200
    assert load(colour)[0, 0] == round(0.587 * 200)


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless])
def test_compressed_images_come_as_they_were_saved(syntax):
    dataset = build_dataset(IMAGE)
    if syntax == RLELossless:
        dataset.compress(syntax)
        np.testing.assert_array_equal(prepare_image(load_image(save(dataset)), Preparation(28)), IMAGE)
    else:
        path = pydicom.data.get_testdata_file("JPEGLSNearLossless_08.dcm", download=False)
        assert np.asarray(load_image(Path(path))).std() > 10


def refuse(dataset):
    with pytest.raises(DataError) as refusal:
        load_image(save(dataset))
    return str(refusal.value)


def test_what_is_no_image_has_its_reason():
    several = build_dataset(np.stack([IMAGE, IMAGE]).reshape(56, 28), NumberOfFrames=2)
    several.Rows = 28
    assert refuse(several) == "it has 2 images, and must have one"
    without = build_dataset(IMAGE)
    del without.PixelData
    assert refuse(without) == "it is a DICOM file without an image"
    huge = build_dataset(IMAGE)
    huge.Rows = huge.Columns = 60000
    assert refuse(huge) == "it has 60,000 x 60,000 pixels, more than 50,000,000"
    short = build_dataset(IMAGE)
    short.Rows = 56
    assert refuse(short) == "it has 784 bytes of pixels, and 28 x 56 pixels take 1,568"
    fractions = build_dataset(IMAGE)
    del fractions.PixelData
    fractions.FloatPixelData = IMAGE.astype(np.float32).tobytes()
    assert refuse(fractions) == "its pixels are fractions without a known range (Float Pixel Data)"


def test_a_negative_slope_turns_grey_values_round_with_a_window_and_without():
    slope = {"RescaleSlope": -1, "RescaleIntercept": 255}
    np.testing.assert_array_equal(load(255 - IMAGE, **slope), IMAGE)
    windowed = load(255 - IMAGE, **slope, WindowCenter=128, WindowWidth=256)
    np.testing.assert_allclose(windowed, IMAGE, atol=1)


RAMP = np.tile(np.arange(8, dtype=np.uint16) * 520, (8, 1))  # of 12 bits: 0 to 3640
FULL = RAMP * (255 / 4095)
WINDOW = {"WindowCenter": 2000, "WindowWidth": 2000}
SHOWN = ((RAMP - 1999.5) / 1999 + 0.5).clip(0, 1) * 255  # in that window
BACK = {"RescaleSlope": -1, "RescaleIntercept": 4095}


def show(dataset, limits=None):
    """Grey values of a data set, or of a file, and what is to be known of it."""
    content = dataset if isinstance(dataset, bytes) else save(dataset)
    image = load_image(content, limits or Limits())
    return np.asarray(image), image.info[NOTE]


def check(dataset, expected, note="", atol=0.01):
    grey, noted = show(dataset)
    assert noted == note
    np.testing.assert_allclose(grey, expected, atol=atol)


def build_empty_table():
    item = build_item()
    item.add_new("LUTDescriptor", "US", None)
    item.add_new("LUTData", "OW", None)
    return item


EMPTY = {
    "rescale": {"RescaleSlope": None, "RescaleIntercept": None},
    "function": {"VOILUTFunction": None},
    "windows": {"WindowCenter": None, "WindowWidth": None},
    "width": {"WindowCenter": 2000, "WindowWidth": None},
    "width 0": {"WindowCenter": 0, "WindowWidth": 0},
    "tables": {"VOILUTSequence": [], "ModalityLUTSequence": []},
    "items": {"VOILUTSequence": [build_item()], "ModalityLUTSequence": [build_item()]},
    "elements": {"VOILUTSequence": [build_empty_table()]},
    "data": {"VOILUTSequence": [build_item(LUTDescriptor=[4096, 0, 10])]},
    "groups": {"SharedFunctionalGroupsSequence": [build_item(FrameVOILUTSequence=[build_item()])]},
    "shape": {"PresentationLUTShape": None},
    "spacing": {"PixelSpacing": None, "ImagerPixelSpacing": [0, 0], "PixelAspectRatio": None},
    "high bit": {"HighBit": None},
    "frames": {"NumberOfFrames": None},
}


@pytest.mark.parametrize("empty", EMPTY)
@pytest.mark.parametrize("others", [{}, BACK, WINDOW])
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_what_is_empty_does_nothing(empty, others, syntax):
    dataset = build_dataset(RAMP, bits=12, **{**EMPTY[empty], **others})
    expected = 255 - FULL if others is BACK else SHOWN if others is WINDOW else FULL
    check(save(dataset, syntax), expected)


@pytest.mark.parametrize(
    ("keyword", "text"),
    [
        ("WindowCenter", b"\\2000 "),
        ("WindowWidth", b"\\2000 "),
        ("WindowWidth", b"0\\2000"),
        ("WindowWidth", b"2000\\"),
    ],
)
def test_the_first_window_that_is_one_counts(keyword, text):
    dataset = build_dataset(RAMP, bits=12, WindowCenter=[2000, 2000], WindowWidth=[2000, 2000])
    set_raw(dataset, keyword, text)
    check(dataset, SHOWN)
    rescaled = build_dataset(RAMP, bits=12, RescaleIntercept=100, WindowCenter=2100, WindowWidth=2000)
    set_raw(rescaled, "RescaleSlope", b"\\1")
    check(rescaled, SHOWN)


def test_the_functions_of_windows_are_those_of_the_standard():
    window = {"WindowCenter": 2000, "WindowWidth": 1000}
    exact = build_dataset(RAMP, bits=12, VOILUTFunction="LINEAR_EXACT", **window)
    check(exact, ((RAMP - 2000.0) / 1000 + 0.5).clip(0, 1) * 255)
    curve = build_dataset(RAMP, bits=12, VOILUTFunction="SIGMOID", **window)
    check(curve, 255 / (1 + np.exp(-4 * (RAMP - 2000.0) / 1000)))
    step = build_dataset(RAMP, bits=12, WindowCenter=1560, WindowWidth=1)
    check(step, np.where(RAMP >= 1560, 255, 0))
    unknown = build_dataset(RAMP, bits=12, VOILUTFunction="CUBIC", **WINDOW)
    check(unknown, SHOWN, "its VOI LUT Function 'CUBIC' is unknown: taken as LINEAR")
    negative = build_dataset(RAMP, bits=12, WindowCenter=1, WindowWidth=-5)
    check(negative, FULL, "its Window Width -5 cannot be used: shown over the full range")


HALVES = np.arange(4096) // 16  # a table of 8 bits for 12
TABLES = {
    "8 bits": build_table(HALVES, bits=8),
    "8 bits in words": build_table(HALVES, bits=8, kind="OW"),
    "8 bits, two in a word": build_table(HALVES, bits=8, kind="packed"),
    "8 bits, two in a word, declared as words": build_table(HALVES, bits=16, kind="packed"),
    "8 bits, an odd number": build_table(HALVES[:-1], bits=8, kind="packed"),
    "12 bits": build_table(np.arange(4096), bits=12),
    "16 bits": build_table(np.arange(4096) * 16, bits=16, kind="OW"),
    "16 bits, all values": build_table(np.arange(65536).clip(0, 4095) * 16, bits=16, kind="OW"),
}
STORED = {
    "explicit": lambda dataset: save(dataset, ExplicitVRLittleEndian),
    "implicit": lambda dataset: save(dataset, ImplicitVRLittleEndian),
    "big endian": save_big_endian,
    "without a preamble": save_without_preamble,
}


@pytest.mark.parametrize("keyword", ["VOILUTSequence", "ModalityLUTSequence"])
@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("stored", STORED)
def test_tables_are_read_however_they_are_stored(keyword, table, stored):
    dataset = build_dataset(RAMP, bits=12)
    setattr(dataset, keyword, [copy.deepcopy(TABLES[table])])
    check(STORED[stored](dataset), FULL, atol=1)


def test_a_table_goes_before_a_window_and_the_second_item_before_none():
    table = build_table(np.arange(4096), bits=12)
    check(build_dataset(RAMP, bits=12, VOILUTSequence=[table], **WINDOW), FULL)
    check(build_dataset(RAMP, bits=12, VOILUTSequence=[build_item(), table], **WINDOW), FULL)


@pytest.mark.parametrize("declared", [10, 12])
def test_a_table_of_fewer_bits_than_a_word_that_declares_a_word_is_scaled_by_its_entries(declared):
    entries = np.arange(4096) >> (12 - declared)
    dataset = build_dataset(RAMP, bits=12, VOILUTSequence=[build_table(entries, bits=16)])
    check(dataset, FULL, f"its VOI LUT declares 16 bits and has {declared}: scaled by these", atol=0.25)
    dark = build_dataset(RAMP, bits=12, VOILUTSequence=[build_table(np.arange(4096) // 32, bits=8)])
    check(dark, FULL / 2, atol=1)
    more = build_dataset(RAMP, bits=12, VOILUTSequence=[build_table(np.arange(4096), bits=8)])
    check(more, FULL, "its VOI LUT declares 8 bits and has 12: scaled by these")


@pytest.mark.parametrize("entries", [4095, 3000])
def test_a_table_of_bytes_that_is_cut_off_is_not_taken_for_two_in_a_word(entries):
    table = build_table(HALVES[:entries], bits=8, declared=4096)
    dataset = build_dataset(RAMP, bits=12, VOILUTSequence=[table])
    check(dataset, FULL.clip(0, HALVES[entries - 1]), f"its VOI LUT has {entries:,} entries of 4,096", atol=1)


@pytest.mark.parametrize(
    "tags",
    [
        {"RescaleSlope": 2},
        {"RescaleSlope": 2, "RescaleIntercept": None},
        {"RescaleIntercept": -1000},
        {"RescaleIntercept": -1000, "RescaleSlope": None},
    ],
)
def test_a_slope_or_an_intercept_alone_is_not_used(tags):
    note = "it has one of Rescale Slope and Rescale Intercept, which was not used"
    check(build_dataset(RAMP, bits=12, **tags, **WINDOW), SHOWN, note)


@pytest.mark.parametrize(
    "syntax", ["JPEGLSLossless", "JPEG2000Lossless", "JPEGLosslessProcess14_1", "JPEGLosslessProcess14"]
)
def test_compressed_pixels_say_what_they_are_and_must_be_what_the_file_says(syntax, tmp_path):
    pixels = np.arange(20 * 12, dtype=np.uint16).reshape(20, 12) * 7
    dataset = pydicom.dcmread(io.BytesIO(compress(build_dataset(pixels, bits=12), syntax, tmp_path)))
    load_image(save(dataset, dataset.file_meta.TransferSyntaxUID))
    for tags, reason in [
        ({"Rows": 10}, "its compressed pixels are 12 x 20 of 1, its elements declare 12 x 10 of 1"),
        ({"Columns": 10}, "its compressed pixels are 12 x 20 of 1, its elements declare 10 x 20 of 1"),
        ({"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}, "bits, its elements allocate 8"),
    ]:
        other = copy.deepcopy(dataset)
        for name, value in tags.items():
            setattr(other, name, value)
        with pytest.raises(DataError, match=re.escape(reason)):
            load_image(save(other, dataset.file_meta.TransferSyntaxUID))


def test_a_table_that_is_cut_off_ends_with_its_last_entry():
    dataset = build_dataset(RAMP, bits=12)
    dataset.VOILUTSequence = [build_table(np.arange(2000), bits=12, declared=4096)]
    check(dataset, FULL.clip(0, 1999 * 255 / 4095), "its VOI LUT has 2,000 entries of 4,096")


@pytest.mark.parametrize("stored", STORED)
def test_the_first_value_of_a_table_has_a_sign_where_values_can_be_negative(stored):
    signed = RAMP.astype(np.int16) - 2048
    table = build_table(np.arange(4096), -2048, bits=12)
    check(STORED[stored](build_dataset(signed, bits=12, VOILUTSequence=[table])), FULL)
    rescaled = build_dataset(RAMP, bits=12, RescaleSlope=1, RescaleIntercept=-2048, VOILUTSequence=[table])
    check(STORED[stored](rescaled), FULL)
    unsigned = build_dataset(
        RAMP * 16, VOILUTSequence=[build_table(np.arange(32768) // 8, 32768, bits=12, kind="OW")]
    )
    check(STORED[stored](unsigned), ((RAMP * 16.0 - 32768) / 32768).clip(0, 1) * 255, atol=0.1)
    modality = build_dataset(
        signed, bits=12, ModalityLUTSequence=[build_table(np.arange(4096), -2048, bits=16)], **WINDOW
    )
    grey, _ = show(STORED[stored](modality))
    np.testing.assert_allclose(grey, SHOWN, atol=0.01)


def test_a_modality_table_goes_before_slope_and_intercept():
    table = build_table(4095 - np.arange(4096), bits=12)
    dataset = build_dataset(
        4095 - RAMP, bits=12, ModalityLUTSequence=[table], RescaleSlope=2, RescaleIntercept=5, **WINDOW
    )
    check(dataset, SHOWN, "it has a Modality LUT and a Rescale Slope: the table was used")
    dataset.RescaleSlope, dataset.RescaleIntercept = 1, 0
    check(dataset, SHOWN)


@pytest.mark.parametrize(("bits", "high"), [(12, 11), (12, 13), (12, 15), (8, 10)])
@pytest.mark.parametrize("kind", [np.uint16, np.int16])
@pytest.mark.parametrize("stored", STORED)
def test_bits_beside_those_stored_are_nobodys(bits, high, kind, stored):
    values = RAMP >> (12 - bits)
    shift = high + 1 - bits
    others = RANDOM.integers(0, 2**16, RAMP.shape) & ~((2**bits - 1) << shift)
    words = ((values.astype(int) << shift) | others).astype(np.uint16).view(kind)
    dataset = build_dataset(words, bits=bits, HighBit=high, WindowCenter=2 ** (bits - 1), WindowWidth=2**bits)
    numbers = values if kind is np.uint16 else (values ^ 2 ** (bits - 1)).astype(int) - 2 ** (bits - 1)
    expected = ((numbers - (2 ** (bits - 1) - 0.5)) / (2**bits - 1) + 0.5).clip(0, 1) * 255
    check(STORED[stored](dataset), expected)


def compress(dataset, syntax, folder):
    """By gdcm, which keeps all bits of a word where all are said to be stored."""
    gdcm = pytest.importorskip("gdcm")
    plain, packed = folder / "plain.dcm", folder / "packed.dcm"
    bits, dataset.BitsStored, dataset.HighBit = dataset.BitsStored, 16, 15
    plain.write_bytes(save(dataset))
    reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
    reader.SetFileName(str(plain))
    assert reader.Read()
    change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, syntax)))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    writer.SetFileName(str(packed))
    assert writer.Write()
    written = pydicom.dcmread(packed)
    written.BitsStored, written.HighBit = bits, bits - 1
    written.save_as(packed)
    return packed.read_bytes()


@pytest.mark.parametrize(
    "syntax",
    ["JPEGLSLossless", "JPEG2000Lossless", "JPEGLosslessProcess14_1", "JPEGLosslessProcess14", "RLELossless"],
)
@pytest.mark.parametrize("kind", [np.uint16, np.int16])
def test_an_overlay_in_unused_bits_is_not_shown(syntax, kind, tmp_path):
    words = RAMP.astype(int) & 4095
    words[:4] |= 1 << 15
    dataset = build_dataset(words.astype(np.uint16).view(kind), bits=12, **WINDOW)
    numbers = np.where(RAMP < 2048, RAMP, RAMP - 4096.0) if kind is np.int16 else RAMP
    expected = ((numbers - 1999.5) / 1999 + 0.5).clip(0, 1) * 255
    check(compress(dataset, syntax, tmp_path), expected)


@pytest.mark.parametrize("name", ["JPGExtended.dcm", "JPEG-lossy.dcm"])
def test_jpeg_of_twelve_bits_is_read(name):
    pytest.importorskip("gdcm")
    path = Path(pydicom.data.get_testdata_file(name, download=False))
    values = np.asarray(load_image(path)) * (4095 / 255)
    assert (values.min(), round(values.max())) == (0, 264)
    assert values.mean() == pytest.approx(14.37, abs=0.01)  # as DCMTK decodes it


def test_what_would_read_compressed_pixels_is_named(monkeypatch):
    none = SimpleNamespace(is_available=False)
    monkeypatch.setattr(dicom, "get_decoder", lambda syntax: none)
    with pytest.raises(DataError, match=r"JPEG Extended .*no installed codec reads: save it"):
        load_image(Path(pydicom.data.get_testdata_file("JPGExtended.dcm", download=False)))


@pytest.mark.parametrize("syntax", [MPEG2MPML, HTJ2KLossless])
def test_a_syntax_that_nothing_reads_is_refused(syntax):
    pixels = pydicom.encaps.encapsulate([IMAGE.tobytes()])
    dataset = build_dataset(IMAGE, PixelData=pixels)
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = syntax
    assert refuse(dataset).endswith("which no installed codec reads: save it uncompressed")


GROUPS = ["SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"]


@pytest.mark.parametrize("keyword", GROUPS)
@pytest.mark.parametrize("stored", STORED)
def test_functional_groups_of_one_frame_count_as_elements_beside_the_pixels_do(keyword, stored):
    group = build_item(
        PixelValueTransformationSequence=[build_item(**BACK, RescaleType="US")],
        FrameVOILUTSequence=[build_item(**WINDOW)],
        PixelMeasuresSequence=[build_item(PixelSpacing=[0.2, 0.1])],
    )
    dataset = build_dataset(4095 - RAMP, bits=12, NumberOfFrames=1, **{keyword: [group]})
    check(STORED[stored](dataset), np.repeat(SHOWN, 2, axis=0))


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("shape", ["IDENTITY", "INVERSE"])
def test_the_shape_of_the_presentation_says_what_is_white(photometric, shape):
    dataset = build_dataset(
        RAMP, bits=12, PhotometricInterpretation=photometric, PresentationLUTShape=shape, **WINDOW
    )
    notes = {
        ("MONOCHROME1", "IDENTITY"): "MONOCHROME1 with a Presentation LUT Shape IDENTITY: not inverted",
        ("MONOCHROME2", "INVERSE"): "MONOCHROME2 with a Presentation LUT Shape INVERSE: inverted",
    }
    expected = 255 - SHOWN if shape == "INVERSE" else SHOWN
    check(dataset, expected, notes.get((photometric, shape), ""))


@pytest.mark.parametrize("keyword", ["RescaleSlope", "RescaleIntercept", "WindowCenter", "WindowWidth"])
@pytest.mark.parametrize(
    ("text", "fault"), [(b"nan ", "is nan"), (b"inf ", "is inf"), (b"wide", "is not a number")]
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_numbers_that_are_none_are_refused(keyword, text, fault):
    dataset = build_dataset(RAMP, bits=12, RescaleSlope=1, RescaleIntercept=0, **WINDOW)
    set_raw(dataset, keyword, text)
    name = re.sub("(?<!^)([A-Z])", r" \1", keyword)
    expected = f"its {name} {fault}" + (": it must be a finite number" if "number" not in fault else "")
    assert refuse(dataset) == expected


ALIKE = "shows all of them as equal"


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        (
            {"RescaleSlope": 0, "RescaleIntercept": 5},
            "its Rescale Slope is 0: all grey values would be the same",
        ),
        (
            {"RescaleSlope": "1e308", "RescaleIntercept": 0},
            "its Rescale Slope 1e+308 and Rescale Intercept 0 give no finite values",
        ),
        (
            {"WindowCenter": 90000, "WindowWidth": 10},
            f"its pixels differ, but its window (center 90000, width 10) {ALIKE}",
        ),
        (
            {"WindowCenter": 0, "WindowWidth": "1e300"},
            f"its pixels differ, but its window (center 0, width 1e+300) {ALIKE}",
        ),
        (
            {"RescaleSlope": "1e-300", "RescaleIntercept": 0, **WINDOW},
            f"its pixels differ, but its window (center 2000, width 2000) {ALIKE}",
        ),
        (
            {"VOILUTSequence": [build_table([0, 1023], 5000, bits=10)]},
            f"its pixels differ, but its VOI LUT {ALIKE}",
        ),
    ],
)
def test_an_image_that_would_be_all_black_or_all_white_is_refused(tags, reason):
    assert refuse(build_dataset(RAMP, bits=12, **tags)) == reason


def test_an_image_that_is_all_black_is_shown():
    check(build_dataset(np.zeros((8, 8), np.uint16), bits=12, **WINDOW), 0)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize("meta", [True, False])
def test_elements_without_a_preamble_are_read(syntax, meta):
    dataset = build_dataset(RAMP.byteswap() if syntax == ExplicitVRBigEndian else RAMP, bits=12, **WINDOW)
    content = save(dataset, syntax)[132:] if meta else save_without_preamble(dataset, syntax)
    check(content, SHOWN)


def test_compressed_pixels_that_say_nothing_of_their_kind_are_refused():
    dataset = build_dataset(RAMP, bits=12)
    dataset.compress(RLELossless)
    bare = save(dataset)
    start = bare.index(b"\x08\x00\x16\x00")
    with pytest.raises(DataError, match="Transfer Syntax UID is missing: the compression"):
        load_image(bare[start:])


@pytest.mark.parametrize(
    "content",
    [
        b"Notes of a reader.\n" * 50,
        b"\x08\x00" + b"text" * 100,
        b"\x02\x00\x00\x00UL\x04\x00" + bytes(4),
        b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 100" + b"\xff" * 40,
        bytes(500),
    ],
)
def test_what_only_looks_a_little_like_elements_is_no_image(content):
    with pytest.raises(DataError, match="it is not a PNG, JPEG, TIFF, BMP, WebP or DICOM file"):
        load_image(content)


SMOOTH = np.add.outer(np.arange(40), np.arange(30)).astype(np.uint16) * 50
SPACINGS = ["PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing", "PixelAspectRatio"]


@pytest.mark.parametrize("keyword", SPACINGS)
@pytest.mark.parametrize(
    ("values", "shape"),
    [
        ([2, 1], (80, 30)),
        ([1, 2], (40, 60)),
        ([3, 2], (60, 30)),
        ([1, 1], (40, 30)),
        ([1000, 1009], (40, 30)),
    ],
)
def test_pixels_become_square(keyword, values, shape):
    dataset = build_dataset(SMOOTH, bits=12, **{keyword: values})
    grey, note = show(dataset)
    assert (grey.shape, note) == (shape, "")
    corners = grey[0, 0], grey[-1, -1]
    assert corners == pytest.approx((0, 3400 * 255 / 4095), abs=3)


def test_colour_gets_square_pixels_too():
    colour = np.repeat((SMOOTH // 20).astype(np.uint8)[..., None], 3, axis=-1)
    assert show(build_dataset(colour, PixelAspectRatio=[2, 1]))[0].shape == (80, 30)


def test_a_spacing_goes_before_an_aspect_and_what_disagrees_is_said():
    dataset = build_dataset(SMOOTH, bits=12, PixelSpacing=[0.2, 0.1], ImagerPixelSpacing=[0.4, 0.2])
    assert show(dataset)[0].shape == (80, 30)
    dataset.PixelAspectRatio = [1, 1]
    grey, note = show(dataset)
    assert grey.shape == (80, 30)
    assert note == "its elements disagree on the shape of a pixel: taken as 2 to 1"


def test_spacings_that_cannot_be_are_passed_over_or_refused():
    negative = build_dataset(SMOOTH, bits=12, PixelSpacing=[-1, 2])
    assert show(negative)[0].shape == (40, 30)
    one = build_dataset(SMOOTH, bits=12, PixelSpacing=2)
    assert show(one)[0].shape == (40, 30)
    flat = build_dataset(SMOOTH, bits=12, PixelSpacing=[100, 1])
    assert refuse(flat) == "its pixels are 100 times as high as wide: more than 10 to 1 is not an image"


def test_square_pixels_are_no_more_than_a_file_may_have():
    dataset = build_dataset(SMOOTH, bits=12, PixelSpacing=[4, 1])
    grey, _ = show(dataset, Limits(pixels=1200))
    assert grey.size <= 1300
    assert grey.shape[0] / grey.shape[1] == pytest.approx(160 / 30, rel=0.05)


PALETTE = "PALETTE COLOR"


@pytest.mark.parametrize("stored", STORED)
@pytest.mark.parametrize("kind", ["packed", "OW"])
def test_palettes_are_read_however_they_are_stored(stored, kind):
    dataset = build_dataset(RAMP, bits=12, PhotometricInterpretation=PALETTE)
    entries = HALVES if kind == "packed" else HALVES * 257
    for colour in ("Red", "Green", "Blue"):
        table = build_table(entries, bits=8 if kind == "packed" else 16, kind=kind)
        for of, element in (("Descriptor", table["LUTDescriptor"]), ("Data", table["LUTData"])):
            dataset.add_new(f"{colour}PaletteColorLookupTable{of}", element.VR, element.value)
    check(STORED[stored](dataset), HALVES[RAMP], atol=0.1)


ODD = [b"", b" ", b"x", b"1\\2\\3", b"-7", b"99999999999999999999", b"nan\\nan", b"1e400", b"\xff\xfe"]
INSIDES = re.compile(
    r"object|None|Error|Exception|unpack|index|argument|operand|codec can|subscript|literal|convert|class|"
    r"uint|dtype|array|buffer|bytes-like|tuple|list|str\b|int\b|float\b|0x|\(\)|_[a-z]"
)


def build_full():
    dataset = build_dataset(
        RAMP,
        bits=12,
        RescaleSlope=1,
        RescaleIntercept=0,
        VOILUTFunction="LINEAR",
        PresentationLUTShape="IDENTITY",
        PixelSpacing=[1, 1],
        PixelAspectRatio=[1, 1],
        NumberOfFrames=1,
        VOILUTSequence=[build_table(np.arange(4096), bits=12)],
        ModalityLUTSequence=[build_table(np.arange(4096), bits=16)],
        **WINDOW,
    )
    dataset.SharedFunctionalGroupsSequence = [build_item(FrameVOILUTSequence=[build_item(**WINDOW)])]
    return dataset


def damage(random):
    """An element of the data set, or of an item, that is missing, empty or nonsense, or bytes that are."""
    dataset = build_full()
    items = [dataset, dataset.VOILUTSequence[0]]
    if random.random() < 0.3:
        content = bytearray(save(dataset))
        for _ in range(random.integers(1, 8)):
            content[random.integers(132, 700)] = random.integers(256)
        return bytes(content[: random.integers(400, len(content))] if random.random() < 0.3 else content)
    for _ in range(random.integers(1, 4)):
        item = items[random.integers(len(items))]
        names = sorted(map(pydicom.datadict.keyword_for_tag, item.keys()))
        if not names:
            continue
        name = names[random.integers(len(names))]
        if random.random() < 0.2:
            delattr(item, name)
        else:
            set_raw(item, name, ODD[random.integers(len(ODD))])
    file = io.BytesIO()
    try:
        pydicom.dcmwrite(file, dataset, implicit_vr=False, little_endian=True, enforce_file_format=False)
    except Exception:  # noqa: BLE001 (pydicom refuses to write some)
        return damage(random)
    return file.getvalue()


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_whatever_is_wrong_the_reason_is_a_sentence_about_the_file():
    reasons = set()
    for seed in range(60):
        try:
            load_image(damage(np.random.default_rng(seed)))
        except DataError as error:
            reasons.add(str(error))
    assert len(reasons) > 12
    assert not [reason for reason in reasons if INSIDES.search(reason) or not reason.startswith("it")]


@pytest.mark.real_data
@pytest.mark.parametrize(
    "path", sorted(SHARED.glob("data/awkward/*/film.dcm")), ids=lambda path: path.parent.name
)
def test_files_that_were_read_wrongly_are_read_rightly(path):
    text = (path.parent / "README").read_text(encoding="utf-8")
    right = re.search(r"Right (?:first row|row 0): \[([^]]*)\]", text)
    row = np.asarray(load_image(path))[0]
    if right:
        np.testing.assert_allclose(row, [float(value) for value in right[1].split(",")], atol=0.051)
    assert path.parent.name != "pixel-aspect-2-1" or load_image(path).size == (8, 16)
