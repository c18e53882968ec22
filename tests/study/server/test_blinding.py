"""Nothing that a reader's browser receives tells the arm, to a classifier that sees everything else.

Names, sizes, headers, the order of trials, and the time that a response takes. In the drawn study dates
and rows of the images differ between the arms, so a server that passed them on would be found.
"""

import hashlib
import time

import numpy as np
import pyarrow.parquet as pq
import pytest

from vesalius.statistics.logistic import cross_validated
from vesalius.statistics.roc import roc

FOLDS, EXCHANGES = 4, 16
Z = 3.29  # of 99.9 %: one run in a thousand fails by chance
HASHED = 6  # columns of a text


def text_columns(text: str) -> list[float]:
    """Letters of a random name as numbers: their counts, and its hash's bits in case it is short."""
    digest = hashlib.sha256(text.encode()).digest()
    return [text.count(c) for c in "0123456789abcdef-_/"] + [b / 255 for b in digest[:HASHED]]


def received(reader, desk):
    """One row a trial: all that came with it but the picture; and the trial's token."""
    rows, tokens = [], []
    state = reader.state()
    while state["page"] == "reading":
        trial = state["trials"][0]
        row = [state["done"], len(str(trial)), len(state["trials"]), *text_columns(trial["token"])]
        for path in trial["images"]:
            begun = time.perf_counter()
            response = reader.get(path)
            seconds = time.perf_counter() - begun
            headers = sorted(response.headers.items())
            row += [seconds, len(response.content), len(headers), *text_columns(str(headers))]
            row += [len(value) for _, value in headers]
        rows.append(row)
        tokens.append(trial["token"])
        answered = reader.post("answer", reader.body(state))
        rows[-1] += [
            len(answered.content) - len(str(answered.json()["state"])),
            len(answered.headers),
        ]
        state = answered.json()["state"]
    return np.array(rows, float), tokens


def auc_interval(rows, arms):
    """The AUC of the classifier of `study check`, and how far from it chance may be.

    The width is that of the same AUC where the arms are dealt out at random and all is done again.
    """
    rng = np.random.default_rng(0)
    rows = rows[:, rows.std(0) > 0]

    def auc(arms):
        scores = cross_validated(rows, arms, np.arange(len(rows)), FOLDS, rng)
        return float(roc(scores, arms).area)

    wide = Z * np.std([auc(rng.permutation(arms)) for _ in range(EXCHANGES)], ddof=1)
    found = auc(arms)
    return found, found - wide, found + wide


@pytest.fixture
def reading(serve_small):
    return serve_small(tasks=("turing",), readers=("R1",), training=0, trials=120, side=32)


def test_no_response_tells_the_arm(reading):
    rows, tokens = received(reading.reader(), reading)
    key = pq.read_table(reading.material.layout.key_trials).to_pylist()
    arm_of = {row["trial"]: row["arm"] == "synthetic" for row in key}
    arms = np.array([arm_of[reading.material.by_token[token].id] for token in tokens])
    auc, low, high = auc_interval(rows, arms)
    assert low <= 0.5 <= high, f"AUC {auc:.3f} [{low:.3f}, {high:.3f}]"
    for leak in (rows[:, 1] + arms, np.where(arms, 1.0, 1.002)):  # a length, a time
        _, low, _ = auc_interval(np.column_stack([rows, leak]), arms)
        assert low > 0.5


def test_images_of_a_reading_differ_in_nothing_but_the_picture(reading):
    reader = reading.reader()
    state = reader.state()
    seen, paths = set(), []
    while state["page"] == "reading":
        for path in state["trials"][0]["images"]:
            response = reader.get(path)
            paths.append(path)
            assert response.headers["cache-control"] == "no-store"
            assert not {"etag", "last-modified", "content-disposition"} & set(response.headers)
            names = {item.id for item in reading.material.items.values()}
            assert not any(name in path or name in str(response.headers) for name in names)
            seen.add(tuple(sorted(response.headers.items())))
        state = reader.post("answer", reader.body(state)).json()["state"]
    assert len(seen) == 1
    assert len(set(paths)) == len(paths) == 120


def test_two_readers_have_different_addresses(serve_small):
    desk = serve_small(tasks=("turing",))
    first, second = (desk.reader(name).state()["trials"][0] for name in ("R1", "R2"))
    assert first["token"] != second["token"]
