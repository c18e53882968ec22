"""How closely a label goes with what should not depend on it: size, scanner, site."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa

SIZES_COMPARED = 20  # the commonest ones; the others count as one
FEWEST_ROWS = 20  # less say nothing about an association
LARGE = 10  # images of a label that is given as an example


def codes(column: pa.ChunkedArray) -> tuple[np.ndarray, list[str]]:
    """The column as indices (N,) into its distinct values, -1 where missing."""
    encoded = pa.chunked_array(column).combine_chunks().dictionary_encode()
    return encoded.indices.fill_null(-1).to_numpy(), encoded.dictionary.to_pylist()


def associations(
    labels: pa.ChunkedArray,
    sources: pa.ChunkedArray,
    columns: Iterable[tuple[str, pa.ChunkedArray]],
) -> list[dict[str, Any]]:
    """How closely the labels and each of the named columns go together, the closest first.

    Within each source, since labels of different sources differ by nature.
    """
    label_codes, label_names = codes(labels)
    source_codes, source_names = codes(sources)
    found: list[dict[str, Any] | None] = []
    for name, column in columns:
        values, value_names = codes(column)
        for code, source in enumerate(source_names):
            at = source_codes == code
            found.append(
                _association(name, source, label_codes[at], values[at], label_names, value_names)
            )
    close = [association for association in found if association]
    return sorted(close, key=lambda one: (-one["cramers_v"], one["attribute"], one["source"]))


def _association(
    attribute: str,
    source: str,
    labels: np.ndarray,
    values: np.ndarray,
    label_names: list[str],
    value_names: list[str],
) -> dict[str, Any] | None:
    """Cramér's V of two columns of codes (N,), and where it shows most; None for a constant."""
    known = (labels >= 0) & (values >= 0)
    labels, rows = np.unique(labels[known], return_inverse=True)
    values, columns = np.unique(values[known], return_inverse=True)
    if min(len(labels), len(values)) < 2 or len(rows) < FEWEST_ROWS:
        return None
    names = [value_names[value] for value in values]
    if len(names) > SIZES_COMPARED:
        order = np.argsort(-np.bincount(columns), kind="stable")
        columns = np.minimum(np.argsort(order), SIZES_COMPARED)[columns]
        names = [*(names[i] for i in order[:SIZES_COMPARED]), "another"]
    counts = np.bincount(rows * len(names) + columns, minlength=len(labels) * len(names))
    counts = counts.reshape(len(labels), len(names))
    totals = counts.sum(axis=1)
    large = np.flatnonzero(totals >= min(LARGE, np.sort(totals)[-2]))
    shares = counts[large] / totals[large, None]
    value = int(np.argmax(np.ptp(shares, axis=0)))
    most, least = (int(pick(shares[:, value])) for pick in (np.argmax, np.argmin))
    return {
        "attribute": attribute,
        "source": source,
        "cramers_v": round(_cramers_v(counts), 3),
        "value": names[value],
        "most": {
            "label": label_names[labels[large[most]]],
            "share": round(float(shares[most, value]), 4),
        },
        "least": {
            "label": label_names[labels[large[least]]],
            "share": round(float(shares[least, value]), 4),
        },
    }


def _cramers_v(counts: np.ndarray) -> float:
    """0 (independent) to 1 (one determines the other), corrected for bias as in Bergsma (2013)."""
    n, (r, c) = counts.sum(), counts.shape
    expected = np.outer(counts.sum(axis=1), counts.sum(axis=0)) / n
    phi2 = ((counts - expected) ** 2 / expected).sum() / n - (r - 1) * (c - 1) / (n - 1)
    smaller = min(r - (r - 1) ** 2 / (n - 1), c - (c - 1) ** 2 / (n - 1)) - 1
    return float(min(1.0, np.sqrt(max(0.0, phi2) / smaller))) if smaller > 0 else 0.0
