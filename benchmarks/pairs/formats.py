"""How fast `vesalius pairs` reads deep images: DICOM and 16-bit PNG.

    python -m benchmarks.pairs.formats --images 2000 --work WORK --out OUT

Each kind is `--images` slices of 512 x 512 pixels drawn as smooth fields with noise: CT-like DICOM
(16 bits, signed, with rescale slope and window, uncompressed), and 16-bit grey PNG. The time is that
of the whole command: windowing, storing as 8-bit PNG, hashes, duplicates, split, datasheet.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import pydicom
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from benchmarks.pairs.build import best
from benchmarks.recording import record

SIDE = 512


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument("--work", type=Path, required=True, help="folder for images and tables")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    figures = {}
    for kind, write in {"dicom": write_dicom, "png-16": write_png}.items():
        folder = args.work / f"{kind}-{args.images}"
        if not folder.is_dir():
            folder.mkdir(parents=True)
            for number in range(args.images):
                write(folder, number, field(number))
        command = [sys.executable, "-m", "vesalius", "pairs", str(folder), "--overwrite", "--out"]
        run = best(args.repeat, [*command, str(args.work / f"{kind}.parquet")], args.work / "none")
        figures[kind] = run | {"images a second": round(args.images / run["seconds"])}
    print(json.dumps(figures, indent=1))
    record(args.out, "pairs-formats", figures, {"images": args.images, "side": SIDE})


def field(number: int) -> np.ndarray:
    """(SIDE, SIDE) int16 from about -1,000 to 1,000, no two alike."""
    rng = np.random.default_rng(number)
    coarse = Image.fromarray(rng.normal(0, 500, (12, 12)).astype(np.float32))
    smooth = np.asarray(coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC))
    return np.clip(smooth + rng.normal(0, 10, smooth.shape), -1000, 1000).astype(np.int16)


def write_png(folder: Path, number: int, values: np.ndarray) -> None:
    Image.fromarray((values + 1000).astype(np.uint16)).save(folder / f"{number:06}.png")


def write_dicom(folder: Path, number: int, values: np.ndarray) -> None:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
    data.StudyInstanceUID, data.SeriesInstanceUID = "1.2.3", f"1.2.3.{number // 50}"
    data.PatientID, data.Modality, data.InstanceNumber = f"p{number // 50}", "CT", number
    data.Rows, data.Columns = values.shape
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 1
    data.RescaleSlope, data.RescaleIntercept = 1, 0
    data.WindowCenter, data.WindowWidth = 40, 400
    data.PixelData = values.tobytes()
    pydicom.dcmwrite(folder / f"{number:06}.dcm", data, enforce_file_format=True)


if __name__ == "__main__":
    main()
