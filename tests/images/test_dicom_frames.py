"""A frame's own size, by the header of its codestream."""

import io

import numpy as np
import pytest
from PIL import Image

from vesalius.images.dicom_frames import coded_size, frame_size
from vesalius.images.dicom_pixels import decode
from vesalius.images.pixels import BadImage

pydicom = pytest.importorskip("pydicom")


def coded(width, height, format, **options):
    stream = io.BytesIO()
    Image.new("L", (width, height)).save(stream, format, **options)
    return stream.getvalue()


def holding(frame, syntax, side=16):
    """A file that says it is `side` pixels wide and high, with this frame in it."""
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    dataset.file_meta.MediaStorageSOPInstanceUID = "2.25.1"
    dataset.Rows = dataset.Columns = side
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    dataset.PixelData = pydicom.encaps.encapsulate([frame])
    dataset["PixelData"].VR = "OB"
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("format", "options"),
    [
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("JPEG", {"comment": b"x" * 3000}),
        ("JPEG2000", {"no_jp2": True}),
        ("JPEG2000", {}),
    ],
)
def test_the_size_of_a_frame(format, options):
    assert frame_size(coded(40, 30, format, **options)) == (40, 30)


@pytest.mark.parametrize(
    "frame", [b"", b"\xff\xd8", b"\xff\xd8\xff\xc4", b"\xff\xd8abcdefghijk", b"RLE" * 50]
)
def test_what_has_no_header_has_no_size(frame):
    assert frame_size(frame) is None


def test_a_frame_that_is_larger_than_any_memory_is_not_decoded():
    small = coded(16, 16, "JPEG2000", no_jp2=True)
    huge = bytearray(small)
    huge[8:16] = (60_000).to_bytes(4) * 2
    syntax = pydicom.uid.JPEG2000Lossless
    with pytest.raises(BadImage, match="60000 x 60000"):
        decode(holding(bytes(huge), syntax))
    assert np.array_equal(decode(holding(small, syntax)).array, np.zeros((16, 16)))


def test_plain_pixels_have_no_size_of_their_own():
    dataset = pydicom.dcmread(io.BytesIO(holding(b"x" * 20, pydicom.uid.RLELossless)))
    assert coded_size(dataset) is None
