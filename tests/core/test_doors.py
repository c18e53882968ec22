"""Whatever is wrong with a file of somebody else's is one line."""

import json
import re
import struct

import pytest
import torch

from vesalius.core.atomic import locked_folder
from vesalius.core.documents import parse_yaml, read_json, read_yaml
from vesalius.core.paths import expanded
from vesalius.core.tensors import read_header, read_tensors, save_tensors
from vesalius.errors import VesaliusError

BOMB = "a: &a [1,1,1,1,1,1,1,1,1]\n" + "".join(
    f"{new}: &{new} [{','.join([f'*{old}'] * 9)}]\n"
    for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1", "is not YAML"),
        ("2020-13-45", "month must be in 1..12"),
        ("[" * 5000, "is not YAML"),
        (BOMB, "more than 100,000 values"),
        ("&a [*a]", "contains itself"),
        ("? [1]\n: 2", "unhashable"),
        ("9" * 5000, "is not YAML"),
        ("!!python/object:os.system {}", "is not YAML"),
    ],
)
def test_text_that_is_no_yaml_is_one_line(text, message):
    with pytest.raises(VesaliusError, match=re.escape(message)):
        parse_yaml(text, "x.yaml")


def test_yaml_keeps_its_aliases():
    assert parse_yaml("a: &a [1, 2]\nb: *a\nc: {<<: {d: 1}}", "x") == {
        "a": [1, 2],
        "b": [1, 2],
        "c": {"d": 1},
    }
    assert parse_yaml("", "x") is None


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"a: \xe9", "not text in UTF-8"), (b"#" * 300_000, "larger than"), (None, "cannot be read")],
)
def test_a_file_that_is_no_yaml_is_one_line(content, message, tmp_path):
    path = tmp_path / "x.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(VesaliusError, match=message):
        read_yaml(path)


@pytest.mark.parametrize("content", [b"[" * 100_000, b"\xff{}", b"{", b"[]"])
def test_a_file_that_is_no_json_object_is_one_line(content, tmp_path):
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(VesaliusError, match=r"x\.json"):
        read_json(path)


@pytest.mark.parametrize(
    "changes",
    [
        {"dtype": "X"},
        {"dtype": 3},
        {"shape": [2**40, 2**40]},
        {"shape": "4"},
        {"shape": [-4]},
        {"shape": [7]},
        {"data_offsets": [16, 0]},
        {"data_offsets": [0]},
        {"data_offsets": [0, 2**60]},
    ],
)
def test_a_safetensors_file_that_lies_is_one_line(changes, tmp_path):
    path = tmp_path / "x.safetensors"
    save_tensors(path, {"w": torch.ones(4)}, {"a": "b"})
    tensors, notes = read_tensors(path)
    assert tensors["w"].tolist() == [1, 1, 1, 1]
    assert notes == {"a": "b"}
    header = read_header(path)
    header["w"] |= changes
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(16))
    with pytest.raises(VesaliusError, match="get it again"):
        read_tensors(path)


def test_a_user_that_does_not_exist_is_one_line(tmp_path):
    assert expanded(tmp_path) == tmp_path
    with pytest.raises(VesaliusError, match="no such user"):
        expanded("~nobody-of-this-name/x")


def test_one_run_holds_a_folder_and_clears_what_a_kill_left(tmp_path):
    out = tmp_path / "a" / "run"
    with locked_folder(out), pytest.raises(VesaliusError, match="another run"), locked_folder(out):
        pass
    assert not out.parent.exists()  # nothing was put into it
    (out / "best").mkdir(parents=True)
    for name in (".log.jsonl.0123abcd.tmp.jsonl", "best/.x.0123abcd.tmp", ".best.0123abcd.old"):
        (out / name).write_text("left")
    (out / ".generator.0123abcd.old").mkdir()  # killed before its successor stood
    (out / ".own").write_text("of the user")
    with locked_folder(out):
        pass
    names = sorted(path.relative_to(out).as_posix() for path in out.rglob("*"))
    assert names == [".own", "best", "generator"]
