"""How large a compressed frame of a DICOM file says itself that it is, whatever the file's tags say.

A kilobyte of JPEG 2000 can hold so many black pixels that no memory is enough for them.
"""

from typing import Any

from vesalius.core.optional import need

_CODESTREAM = b"\xff\x4f\xff\x51"  # JPEG 2000 begins with its sizes
_STARTS = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}  # of a frame; F7 is that of JPEG-LS
_BARE = {0x01, *range(0xD0, 0xD9)}  # markers without a length


def coded_size(dataset: Any) -> tuple[int, int] | None:
    """Width and height of the first frame of a pydicom Dataset, by its own header.

    None for frames that are not compressed, run-length coded, or without a header that can be read.
    """
    data = dataset.get("PixelData")
    if not data or not dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        return None
    encaps = need("pydicom.encaps", "dicom")
    try:
        first = next(encaps.generate_frames(data, number_of_frames=1))
    except (ValueError, StopIteration, EOFError):
        return None
    return frame_size(first)


def frame_size(frame: bytes) -> tuple[int, int] | None:
    """Width and height that a JPEG, JPEG-LS or JPEG 2000 codestream starts with, or None."""
    at = frame.find(_CODESTREAM)  # after the boxes of a JP2 file, if there are any
    if at >= 0 and len(frame) >= at + 24:
        right, bottom, left, top = (
            int.from_bytes(frame[at + k : at + k + 4]) for k in (8, 12, 16, 20)
        )
        return right - left, bottom - top
    return _jpeg_size(frame) if frame[:2] == b"\xff\xd8" else None


def _jpeg_size(frame: bytes) -> tuple[int, int] | None:
    at = 2
    while at + 9 <= len(frame):
        if frame[at] != 0xFF:
            return None
        marker = frame[at + 1]
        if marker in _STARTS:
            return int.from_bytes(frame[at + 7 : at + 9]), int.from_bytes(frame[at + 5 : at + 7])
        if marker == 0xFF:  # filling
            at += 1
        elif marker in _BARE:
            at += 2
        else:
            at += 2 + int.from_bytes(frame[at + 2 : at + 4])
    return None
