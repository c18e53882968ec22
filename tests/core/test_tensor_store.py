import hashlib
import itertools
import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from vesalius.core.tensor_store import MappedRows, TensorStore, keys_of, keys_of_hashes, open_store
from vesalius.core.tensors import read_tensors
from vesalius.errors import VesaliusError

MADE_WITH = {"encoder": "one", "image size": "32"}


def content(texts):
    """What an encoder might make of texts: rows that only depend on the text."""
    digests = [hashlib.sha256(text.encode()).digest() for text in texts]
    return torch.from_numpy(np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 2, 16).copy())


def fill(folder, texts, shard_bytes=1, batch=3, made_with=MADE_WITH, told=None):
    """Open a store of `texts`, fill it, and say which of them were encoded."""
    encoded = []

    def encode(positions):
        chosen = [texts[position] for position in positions]
        encoded.extend(chosen)
        return {"x": content(chosen)}

    listen = told.append if told is not None else lambda message: None
    store = open_store(folder, made_with, keys_of(texts), listen, shard_bytes)
    store.fill(encode, batch)
    assert torch.equal(store.rows("x")[torch.arange(len(texts))], content(texts))
    return store, encoded


def names(count, prefix="t"):
    return [f"{prefix}{k}" for k in range(count)]


def test_only_new_rows_are_encoded_and_each_content_once(tmp_path):
    assert fill(tmp_path, ["a", "b", "a", "c"])[1] == ["a", "b", "c"]
    assert fill(tmp_path, ["d", "c", "e", "a", "e"])[1] == ["d", "e"]
    assert fill(tmp_path, ["b", "d"])[1] == []  # rows of an earlier table are still there


def test_rows_do_not_depend_on_the_shards_they_lie_in(tmp_path):
    texts = names(20)
    small, _ = fill(tmp_path / "small", texts, shard_bytes=1)
    large, _ = fill(tmp_path / "large", texts, shard_bytes=10**6)
    assert (len(small.shards), len(large.shards)) == (7, 1)
    rows = torch.tensor([19, 0, 7, 7, 3])
    assert torch.equal(small.rows("x")[rows], large.rows("x")[rows])
    assert len(small.rows("x")[rows[:0]]) == 0


def test_what_changed_is_named_and_everything_made_anew(tmp_path):
    told = []
    fill(tmp_path, names(5))
    _, encoded = fill(tmp_path, names(5), made_with=MADE_WITH | {"encoder": "two"}, told=told)
    assert encoded == names(5)
    assert told == [f"{tmp_path} was made with another encoder; it is made anew"]
    assert len(list(tmp_path.glob("*"))) == 2  # nothing of the old encoder is left


def test_an_interruption_keeps_what_was_encoded(tmp_path):
    texts = names(20)

    def encode(positions):
        if positions[0] >= 12:
            raise KeyboardInterrupt
        return {"x": content([texts[position] for position in positions])}

    with pytest.raises(KeyboardInterrupt):
        open_store(tmp_path, MADE_WITH, keys_of(texts), shard_bytes=2 * 3 * 52).fill(encode, 3)
    assert fill(tmp_path, texts)[1] == texts[12:]
    assert not list(tmp_path.glob(".*"))


def test_a_slow_encoder_loses_little_to_a_kill(tmp_path, monkeypatch):
    seconds = itertools.count(0, 50)
    monkeypatch.setattr("vesalius.core.tensor_store.time.monotonic", lambda: next(seconds))
    store, _ = fill(tmp_path, names(30), shard_bytes=10**9)
    assert len(store.shards) == 4  # a batch takes 50 s here: three of them are over two minutes


def test_a_full_disk_is_told_and_nothing_half_written(tmp_path, monkeypatch):
    def full(path, data):
        path.open("wb").write(data[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(VesaliusError, match="the disk is full"):
        fill(tmp_path, names(5))
    assert list(tmp_path.iterdir()) == []


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_damaged_shard_is_encoded_again(tmp_path_factory, data):
    folder, texts, told = tmp_path_factory.mktemp("store"), names(9), []
    fill(folder, texts, shard_bytes=10**6)
    (path,) = folder.iterdir()
    whole = path.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    at = data.draw(st.integers(0, len(whole) - 1), "at")
    damaged = data.draw(
        st.sampled_from([whole[:at], whole + b"x", os.urandom(at), bytes(len(whole))])
        | st.just(whole[: at % 8] + b"\xff" + whole[at % 8 + 1 :])
        | st.just(b'{"' * (header // 2) + whole[header:])
    )
    path.write_bytes(damaged)
    _, encoded = fill(folder, texts, told=told)
    assert encoded == texts
    assert told == [f"{path} is damaged; what it held is made anew"]


@pytest.mark.parametrize(
    "tensors",
    [
        {"x": torch.zeros(3, 2)},
        {"key": torch.zeros(3, 20), "x": torch.zeros(3, 2)},
        {"key": torch.zeros(3, 20, dtype=torch.uint8), "x": torch.zeros(2, 2)},
        {"key": torch.zeros(3, 20, dtype=torch.uint8), "x": torch.zeros(())},
    ],
)
def test_a_safetensors_file_that_is_no_shard_is_damaged(tmp_path, tensors):
    save_file(tensors, tmp_path / "strange.safetensors", MADE_WITH)
    told = []
    fill(tmp_path, names(3), told=told)
    assert "is damaged" in told[0]


def test_two_can_fill_one_folder_at_once(tmp_path):
    texts, told = names(40), []
    orders = [texts, texts[7:] + texts[:7]]
    start = threading.Barrier(2)

    def work(order):
        store = open_store(tmp_path, MADE_WITH, keys_of(order), shard_bytes=1)
        start.wait()  # both have seen an empty folder
        store.fill(lambda at: {"x": content([order[k] for k in at])}, 2)
        return store.rows("x")[torch.arange(40)]

    with ThreadPoolExecutor(2) as workers:
        for order, rows in zip(orders, workers.map(work, orders), strict=True):
            assert torch.equal(rows, content(order))
    assert fill(tmp_path, texts, told=told)[1] == []
    assert told == []


def test_the_same_work_done_twice_is_the_same_files(tmp_path):
    one, two = (open_store(tmp_path, MADE_WITH, keys_of(names(9)), shard_bytes=1) for _ in range(2))
    for store in (one, two):
        store.fill(lambda at: {"x": content([f"t{k}" for k in at])}, 3)
    assert len(list(tmp_path.iterdir())) == 3
    assert torch.equal(one.rows("x")[torch.arange(9)], content(names(9)))


def test_opening_four_gigabytes_reads_none_of_them(tmp_path):
    keys = keys_of(names(1000))
    tensor_bytes = 1000 * 4 * 1000 * 1000
    header = {
        "__metadata__": MADE_WITH,
        "key": {"dtype": "U8", "shape": [1000, 20], "data_offsets": [0, 20000]},
        "x": {
            "dtype": "U8",
            "shape": [1000, 4, 1000, 1000],
            "data_offsets": [20000, 20000 + tensor_bytes],
        },
    }
    text = json.dumps(header).encode()
    with (tmp_path / "large.safetensors").open("wb") as file:  # sparse: it takes no disk
        file.write(len(text).to_bytes(8, "little") + text + keys.tobytes())
        file.truncate(8 + len(text) + 20000 + tensor_bytes)
    process = psutil.Process()
    before = process.memory_info().rss
    store = open_store(tmp_path, MADE_WITH, keys)
    rows = store.rows("x")
    assert (store.shard == 0).all()
    assert not rows[torch.tensor([999])].any()
    assert process.memory_info().rss - before < 100e6


def test_rows_in_memory_are_those_on_disk(tmp_path):
    rows = fill(tmp_path, names(20))[0].rows("x")
    assert rows.to("cpu") is rows
    elsewhere = rows.to("meta")  # any device but the CPU
    assert isinstance(elsewhere, torch.Tensor)
    assert elsewhere.shape == (20, 2, 16)


@pytest.mark.gpu
def test_rows_on_a_gpu_are_those_on_disk(tmp_path):
    rows = fill(tmp_path, names(3000), shard_bytes=50_000)[0].rows("x")
    held = rows.to("cuda")
    assert isinstance(rows, MappedRows) and isinstance(held, torch.Tensor)
    assert torch.equal(held.cpu(), rows[torch.arange(3000)])


def test_keys_that_end_in_zero_bytes_are_told_apart(tmp_path):
    keys = np.array([b"a", b"a\0b", b"\0", b"b"], "S20")
    store = TensorStore(tmp_path, MADE_WITH, keys, [], 1)
    store.fill(lambda at: {"x": torch.tensor(at)}, 2)
    again = open_store(tmp_path, MADE_WITH, keys[::-1].copy())
    assert again.rows("x")[torch.arange(4)].tolist() == [3, 2, 1, 0]


def test_without_a_folder_rows_are_held_in_memory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store, encoded = fill(None, ["a", "b", "a"])
    assert encoded == ["a", "b"] and len(store.shards) == 1
    assert not list(tmp_path.iterdir())


def test_rows_may_come_in_any_order_and_a_full_shard_is_on_disk_before_the_end(tmp_path):
    hashes = [hashlib.sha1(bytes([k])).hexdigest() for k in range(4)]
    keys = keys_of_hashes([*hashes, hashes[3]])
    killed = open_store(tmp_path, MADE_WITH, keys, shard_bytes=64)
    killed.add([2, 0], {"x": torch.tensor([2.0, 0.0])})
    killed.add([1], {"x": torch.tensor([1.0])})  # together over 64 bytes; never flushed
    again = open_store(tmp_path, MADE_WITH, keys)
    assert again.missing() == [3]
    assert again.rows("x")[torch.tensor([2, 1, 0, 2])].tolist() == [2, 1, 0, 2]


def test_a_key_that_two_shards_have_is_read_from_one_and_many_are_found(tmp_path):
    texts = [f"{k}" for k in range(500)]
    fill(tmp_path, texts[:300], shard_bytes=10**4)
    fill(tmp_path / "other", texts[200:400], shard_bytes=10**4)
    for path in (tmp_path / "other").iterdir():
        path.rename(tmp_path / f"other-{path.name}")
    store, encoded = fill(tmp_path, texts[::-1] + texts[:7], shard_bytes=10**4)
    assert encoded == texts[:399:-1]
    assert store.missing() == []


def test_what_is_missing_is_looked_for_once_however_many_shards_are_written(tmp_path, monkeypatch):
    looked = []
    missing = TensorStore.missing
    monkeypatch.setattr(TensorStore, "missing", lambda self: looked.append(1) or missing(self))
    store, _ = fill(tmp_path, names(60), shard_bytes=1)
    assert len(store.shards) == 20
    assert len(looked) == 1


@pytest.mark.parametrize("change", ["another name", "another shape"])
def test_shards_that_do_not_fit_together_are_one_line(tmp_path, change):
    store, _ = fill(tmp_path, ["a"])
    fill(tmp_path, ["a", "b"])
    path = sorted(tmp_path.glob("*.safetensors"))[0]
    tensors, _ = read_tensors(path)
    value = tensors.pop("x")
    tensors["y" if change == "another name" else "x"] = value[:, :1].clone()
    save_file(tensors, path, MADE_WITH)
    store = open_store(tmp_path, MADE_WITH, keys_of(["a", "b"]))
    assert store.missing() == []
    with pytest.raises(VesaliusError, match="delete the folder"):
        store.rows("x")
