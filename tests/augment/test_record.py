"""The record of a run that was damaged is refused in one line."""

import json

import pytest

from vesalius.augment.choose import Amount, Choice
from vesalius.augment.record import Chosen, Identity, Record, read_record
from vesalius.errors import VesaliusError

IDENTITY = Identity({"path": "p", "sha256": "s"}, {"name": "m", "hash": "h"}, {"seed": 0})


@pytest.fixture
def out(tmp_path):
    amount = Amount({"per_class": 4}, "as asked", None, {"a": 4})
    division = {"how": "given", "images": {}, "notes": []}
    chosen = Chosen(division, Choice("none", "as asked"), amount, None, {})
    Record("vesalius augment", IDENTITY, chosen).write(tmp_path)
    return tmp_path


def test_what_is_written_is_read(out):
    record = read_record(out, IDENTITY)
    assert record and record.identity == IDENTITY and record.chosen.amount.total == 4


@pytest.mark.parametrize(
    "change",
    [{"input": 3}, {"model": "x"}, {"input": {}}, {"settings": [1]}, {"steps": 1}, {"verdict": "x"},
     {"choice": 7}, {"format": None}, {"amount": [7]}],
)  # fmt: skip
def test_what_is_damaged_is_one_line(out, change):
    path = out / "augment.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(VesaliusError, match="--restart"):
        read_record(out, IDENTITY)


def test_nested_without_end_too(out):
    (out / "augment.json").write_text("[" * 100_000)
    with pytest.raises(VesaliusError, match="--restart"):
        read_record(out, IDENTITY)
