"""A table in the shape of CheXGenBench (arXiv:2505.10496): a row a set and class, a column a figure.

Its columns are by its own networks: FID on RAD-DINO features, and a re-identification network that
is not to be had here. The column `extractor` says what stands in for the first; the second is left
empty, as is all that was not measured. Its privacy figures had bugs, so ours do not compare.
"""

import csv
import io
from collections.abc import Mapping
from typing import Any

from vesalius.statistics.figure import POOLED, pick

PREFERRED = ("rad-dino", "inception")
FIDELITY = ("fid", "kid", "precision", "recall", "density", "coverage")
HEADER = ("set", "class", "extractor", "reference", "n", *FIDELITY, "alignment_score",
          "pixel_distance", "latent_distance", "reid_score")  # fmt: skip


def as_rows(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row for each set and class, None where nothing was measured."""
    names = list(document["extractors"])
    extractor = next(
        (n for want in PREFERRED for n in names if n.partition("=")[0] == want), names[0]
    )
    reference = next(n for n in ("train", "real", "held_out") if n in document["references"])
    rows = []
    for name, each in document["sets"].items():
        figures = each["figures"]
        spaces = each["details"].get("privacy", {}).get("spaces", {})
        classes = dict.fromkeys(f["of"] for f in figures if f["part"] == "fidelity")
        for of in classes:
            row: dict[str, Any] = dict.fromkeys(HEADER)
            row |= {"set": name, "class": of, "extractor": extractor, "reference": reference}
            for metric in FIDELITY:
                where = {"metric": metric, "of": of, "extractor": extractor, "reference": reference}
                for figure in pick(figures, **where):
                    row |= {metric: figure["value"], "n": figure["n"]}
            for figure in pick(figures, metric="clip_score", of=of, reference="synthetic"):
                row["alignment_score"] = figure["value"]
            if of == POOLED:
                row["pixel_distance"] = spaces.get("tiles", {}).get("median_distance")
                row["latent_distance"] = spaces.get(extractor, {}).get("median_distance")
            rows.append(row)
    return rows


def as_csv(document: Mapping[str, Any]) -> str:
    """The same as text."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(HEADER)
    writer.writerows([row[name] for name in HEADER] for row in as_rows(document))
    return stream.getvalue()
