"""How far an image moves with what should not matter: batch size, order, shards.

    python -m benchmarks.sample.equality --out OUT [--model mini] [--images 16] [--device cpu] \
        [--dtypes float32 bfloat16] [--batches 1 4 16]

Every row of one plan is synthesized with each batch size, in one piece and as two shards, in the
plan's order and backwards, and is compared with its image at the first batch size. Prints, and
writes to equality.json, for each number format and arrangement the share of channel values (0 to
255) that differ by 0, 1, 2, 3 to 8 and more levels, the largest difference, and the PSNR of the
image that moved most. A repetition of the first arrangement must be equal to the bit.
"""

import argparse
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import vesalius
from benchmarks.recording import record, run, table
from vesalius.core.manifest import read_manifest
from vesalius.errors import VesaliusError
from vesalius.images.pixels import open_rgb
from vesalius.synthesize.engine import synthesize
from vesalius.synthesize.plan import PlanRow
from vesalius.synthesize.settings import SynthesizeSettings

PROMPTS = (
    "chest X-ray, frontal view",
    "dermoscopy image of melanoma",
    "fundus photograph of a right eye",
    "brain MRI, axial slice",
)
BANDS = ((0, 0), (1, 1), (2, 2), (3, 8), (9, 255))  # levels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 4, 16])
    args = parser.parse_args()

    rows = [PlanRow(k, PROMPTS[k % len(PROMPTS)], "", 1000 + k) for k in range(args.images)]
    first, *others = args.batches
    heads = [f"{a}" if a == b else f"{a}-{b}" for a, b in BANDS]
    shown: list[list[Any]] = [["format, arrangement", *heads, "largest", "lowest PSNR"]]
    with tempfile.TemporaryDirectory() as folder:
        for dtype in args.dtypes:
            model = vesalius.load(args.model, args.device, dtype)

            def images(
                plan: list[PlanRow],
                batch: int,
                shards: int = 1,
                model: vesalius.TextToImage = model,
                dtype: str = dtype,
            ) -> np.ndarray:
                out = Path(tempfile.mkdtemp(dir=folder))
                for k in range(shards):
                    share = f"{k}/{shards}"
                    settings = SynthesizeSettings(batch_size=batch, chunk=8, shard=share)
                    synthesize(plan, out, settings, model=model)
                return pixels(out)

            reference = images(rows, first)
            if not np.array_equal(reference, images(rows, first)):
                raise VesaliusError(f"{dtype}: the same run gave other images")
            for batch in others:
                arrangements = {
                    f"batch {batch}": images(rows, batch),
                    f"batch {batch}, two shards": images(rows, batch, 2),
                    f"batch {batch}, backwards": images(rows[::-1], batch),
                }
                for name, made in arrangements.items():
                    shown.append([f"{dtype}, {name}", *compared(made, reference)])
    table(shown)
    figures = [dict(zip(shown[0], row, strict=True)) for row in shown[1:]]
    model_hash = vesalius.load(args.model, args.device).generator.model_hash
    settings = {**vars(args), "out": None, "model_hash": model_hash}
    record(args.out, "equality", figures, settings)


def pixels(out: Path) -> np.ndarray:
    """The images of a set (N, H, W, 3) by their rows' numbers."""
    rows = sorted(read_manifest(out / "manifest.jsonl"), key=lambda row: row["row"])
    return np.stack([np.asarray(open_rgb((out / row["file"]).read_bytes())) for row in rows])


def compared(made: np.ndarray, reference: np.ndarray) -> Sequence[Any]:
    """Shares in per cent of the differences in each band, the largest, the lowest PSNR in dB."""
    apart = np.abs(made.astype(int) - reference)
    shares = [f"{100 * ((apart >= a) & (apart <= b)).mean():.4f} %" for a, b in BANDS]
    worst = float((apart.astype(float) ** 2).mean(axis=(1, 2, 3)).max())
    return [*shares, int(apart.max()), 10 * math.log10(255**2 / worst) if worst else None]


if __name__ == "__main__":
    run(main)
