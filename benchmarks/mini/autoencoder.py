"""What the autoencoder alone loses: PSNR, LPIPS and FID of reconstructed real images.

    python -m benchmarks.mini.autoencoder --pairs PAIRS --out OUT (--data DIR | --split val) \
        [--model mini] [--limit N]

The images of a split, or of the protocol that lies in DIR, or N of them at random (of the protocol
stratified), are encoded to the posterior's mode and decoded.
No image that the denoiser makes can be expected to come out better than these: the FID of
reconstructions against the same real images is the model's floor. PSNR is the mean over images, of
8-bit pixels, in dB; LPIPS is AlexNet's, at 256 px.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

import vesalius
from benchmarks.evaluate.perceptual import signed
from benchmarks.features import inception_features
from benchmarks.mini.common import SIDE, Item, of_split, protocol
from benchmarks.recording import record, run, table
from vesalius.models.networks.lpips import LPIPS
from vesalius.pairs.table import Pairs, read_pairs
from vesalius.statistics.distances import fid


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pairs", type=Path, required=True, help="pairs Parquet")
    images = parser.add_mutually_exclusive_group(required=True)
    images.add_argument("--data", type=Path, help="folder of fid_protocol.csv")
    images.add_argument("--split", help="all images of a split, such as val")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--limit", type=int, help="only N images")
    args = parser.parse_args()

    pairs = read_pairs(args.pairs)
    items = protocol(args.data, pairs) if args.data else of_split(pairs, args.split)
    items = items[: args.limit]
    model = vesalius.load(args.model).generator
    decibels: list[float] = []
    distances: list[float] = []
    features = inception_features(reconstructions(model.vae, items, pairs, decibels, distances))
    truth = inception_features(pairs.image(item.index, SIDE) for item in items)

    rows: list[list[Any]] = [["set", "PSNR", "held out", "LPIPS", "FID", "N"]]
    for name in ("all pooled", *sorted({item.source for item in items})):
        pick = [i for i, item in enumerate(items) if name in ("all pooled", item.source)]
        held = [decibels[i] for i in pick if items[i].held_out]
        if len(pick) < 2:
            continue
        decibel = float(np.mean([decibels[i] for i in pick]))
        decibel_held = float(np.mean(held)) if held else None
        distance = float(np.mean([distances[i] for i in pick]))
        rows.append(
            [name, decibel, decibel_held, distance, fid(features[pick], truth[pick]), len(pick)]
        )
    table(rows)
    figures = [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]
    settings = {
        "model": args.model,
        "model_hash": model.model_hash,
        "images": args.split or "protocol",
    }
    record(args.out, "autoencoder", figures, settings)


@torch.inference_mode()
def reconstructions(
    vae: Any, items: list[Item], pairs: Pairs, decibels: list[float], distances: list[float]
) -> Iterator[np.ndarray]:
    """Each image there and back as uint8 (256, 256, 3); PSNR and LPIPS are appended on the way."""
    perceptual = LPIPS("alex")
    for item in items:
        image = pairs.image(item.index, SIDE)
        x = signed(image)[None].to(vae.device, vae.dtype)
        encoded = vae.encode(x)
        # AutoencoderTiny has no posterior
        latent = encoded.latents if hasattr(encoded, "latents") else encoded.latent_dist.mode()
        y = vae.decode(latent).sample.float().cpu().clamp(-1, 1)
        pixels = ((y[0] + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
        error = np.square(pixels.astype(np.float64) - image).mean()
        decibels.append(float(10 * np.log10(255**2 / max(error, 1e-6))))
        distances.append(perceptual(x.float().cpu(), y).item())
        yield pixels


if __name__ == "__main__":
    run(main)
