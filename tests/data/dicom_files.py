"""DICOM files out of pixels."""

import io

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian


def build_dataset(pixels, *, bits=None, **tags):
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = "1.2.3.4"
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.SamplesPerPixel = 1 if pixels.ndim == 2 else 3
    dataset.PhotometricInterpretation = "MONOCHROME2" if pixels.ndim == 2 else "RGB"
    if pixels.ndim == 3:
        dataset.PlanarConfiguration = 0
    dataset.BitsAllocated = 8 * pixels.dtype.itemsize
    dataset.BitsStored = bits or dataset.BitsAllocated
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    dataset.PixelData = pixels.tobytes()
    dataset["PixelData"].VR = "OB" if pixels.dtype.itemsize == 1 else "OW"
    for name, value in tags.items():
        setattr(dataset, name, value)
    return dataset


def build_table(entries, first=0, *, bits, kind="US", declared=None):
    """An item with a lookup table; `kind` is US, OW, or "packed" with two entries in a word."""
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [(declared or len(entries)) % 2**16, first % 2**16, bits])
    if kind == "packed":
        item.add_new(
            "LUTData", "OW", np.asarray([*entries, 0][: len(entries) + len(entries) % 2], np.uint8).tobytes()
        )
    elif kind == "OW":
        item.add_new("LUTData", "OW", np.asarray(entries, "<u2").tobytes())
    else:
        item.add_new("LUTData", "US", [int(entry) for entry in entries])
    return item


def build_item(**tags):
    item = Dataset()
    for name, value in tags.items():
        setattr(item, name, value)
    return item


def set_raw(dataset, keyword, text):
    """Writes what pydicom would not: bytes of an element as they are to stand in the file."""
    tag = pydicom.datadict.tag_for_keyword(keyword)
    kind = pydicom.datadict.dictionary_VR(tag)
    dataset[tag] = pydicom.dataelem.RawDataElement(
        pydicom.tag.Tag(tag), kind, len(text), text, 0, False, True, True
    )


def save(dataset, syntax=None):
    if syntax:
        dataset.file_meta.TransferSyntaxUID = syntax
    file = io.BytesIO()
    pydicom.dcmwrite(file, dataset, enforce_file_format=True)
    return file.getvalue()


def save_big_endian(dataset):
    """With its words turned round, which pydicom leaves to the caller."""
    for item in [dataset, *dataset.get("VOILUTSequence", []), *dataset.get("ModalityLUTSequence", [])]:
        for element in item:
            if element.VR == "OW":
                element.value = np.frombuffer(element.value, "<u2").astype(">u2").tobytes()
    return save(dataset, ExplicitVRBigEndian)


def save_without_preamble(dataset, syntax=ExplicitVRLittleEndian):
    """Elements alone, as archives keep them that know the syntax from elsewhere."""
    file = io.BytesIO()
    bare = Dataset(dataset)
    pydicom.dcmwrite(
        file,
        bare,
        implicit_vr=syntax == ImplicitVRLittleEndian,
        little_endian=syntax != ExplicitVRBigEndian,
        enforce_file_format=False,
    )
    return file.getvalue()
