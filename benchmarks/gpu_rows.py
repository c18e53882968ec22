"""Rows for RECORDS.md from gpu.json."""

from collections.abc import Callable
from typing import Any

Document = dict[str, Any]


def rows_of(document: Document) -> list[str]:
    """A row of RECORDS.md for each part that has a figure, and a line for each that has none."""
    rows, lines = [], []
    hardware = f"{document['hardware']}, torch {document['torch']}"
    stands_in = not document["settings"]["text encoder of mini"]
    for part in document["figures"]:
        said = sentences(part)
        if not said:
            why = f": {part['said'][-1]}" if part["said"] else ""
            lines.append(f"{part['name']}: {part['state']}{why}")
            continue
        notes = [] if part["state"] == "done" else [part["state"]]
        if part["used_gb"] is not None:
            notes.append(f"{part['used_gb']} GB of the GPU in use at most")
        if part["peak_gb"] is not None:
            notes.append(f"{part['peak_gb']} GB allocated")
        if stands_in and " mini " in part["command"]:
            notes.append("mini with a text encoder of random weights")
        cells = ["; ".join(said), f"`{part['command']}`", hardware, document["date"]]
        rows.append(f"| {' | '.join([*cells, ', '.join(notes)])} |")
    return rows + lines


def sentences(part: Document) -> list[str]:
    """What a part found, in words; nothing where it found nothing."""
    if part["counts"]:
        counts = ", ".join(f"{count} {what}" for what, count in part["counts"].items())
        return [f"tests with a GPU ({part['name']}): {counts}"]
    found = []
    for document in part["documents"]:
        kind = document["benchmark"].split("-")[0]
        found += READERS[kind](document) if kind in READERS else []
    return found


def sampling(document: Document) -> list[str]:
    settings = document["settings"]
    model = "Stable Diffusion 1.5's shapes" if settings["sd15"] else settings["model"]
    model = "a model of no use" if settings["tiny"] else model
    how = ", compiled" if settings["compile"] else ""
    return [
        f"{model}{how}, {settings['images']} images to disk, batch {row['batch']}, {row['steps']} "
        f"steps, {settings['dtype'].removeprefix('torch.')}: {row['what']} {row['img/s']:.3g} images "
        f"a second, {row['times the peer']:.2f} times the peer"
        for row in document["figures"]
    ]


def equality(document: Document) -> list[str]:
    return [
        f"an image in another arrangement ({row['format, arrangement']}): {row['0']} of the values the "
        f"same, at most {row['largest']}/255 away"
        for row in document["figures"]
    ]


def training(document: Document) -> list[str]:
    found = []
    figures = document["figures"]
    # a cache's name ends in the size of its images, which is another one for the U-ViT
    pixels = next(iter(figures["encoding"]), f"-{document['settings']['pixels']}").rpartition("-")[
        2
    ]
    how = "compiled" if document["settings"]["compiled"] else "not compiled"
    for name, case in figures["vesalius"].items():
        if "img/s" not in case:
            found.append(f"{name}: failed, {case.get('failed', 'no rate')}")
            continue
        more = [f"{key} {case[key]}" for key in ("MFU", "first step s", "peak GB") if key in case]
        found.append(
            f"{name} at {pixels} px, {how}: {case['img/s']:.4g} images a second ({', '.join(more)})"
        )
    for name, case in figures["diffusers"].items():
        rate = (
            f"{case['img/s']:.4g} images a second"
            if "img/s" in case
            else f"failed, {case['failed']}"
        )
        peak = f" (peak GB {case['peak GB']})" if "peak GB" in case else ""
        found.append(f"diffusers' {name}: {rate}{peak}")
    for name, case in figures["encoding"].items():
        if "seconds" in case:
            found.append(f"encoding {case['images']} images ({name}): {case['seconds']} s")
    return found


def private(document: Document) -> list[str]:
    return [
        f"a private step of {row['images']} images a patient takes {row['ratio']:.2f} times as long as "
        "one without"
        for row in document["figures"]
    ]


READERS: dict[str, Callable[[Document], list[str]]] = {
    "bulk": sampling,
    "equality": equality,
    "train": training,
    "privacy": private,
}
