import json

import pytest

from vesalius.core.trained_on import TrainedOn, digest_of, find_rows, parts_of, read_rows
from vesalius.errors import VesaliusError


def trained_on(name: str, *hashes: str) -> TrainedOn:
    return TrainedOn(name, hashes, tuple(f"p{k}" for k in hashes), ("",) * len(hashes))


def test_what_is_written_is_read_from_the_run_and_from_its_result(tmp_path):
    one = trained_on("one", "a", "b").plus(trained_on("base", "b", "c"))
    one.write(tmp_path)
    (tmp_path / "generator").mkdir()
    for place in (tmp_path, tmp_path / "generator", tmp_path / "training_rows.json"):
        path = find_rows(place)
        assert path is not None
        assert read_rows(path).hashes == one.hashes == ("a", "b", "c")
        assert read_rows(path).digest == one.digest == digest_of("cab")
    assert one.includes("x", "pc") and one.includes("a", None) and not one.includes("x", "")


@pytest.mark.parametrize("content", ["[1]", "{}x", '[{"group": "p"}]'])
def test_another_file_is_refused(tmp_path, content):
    path = tmp_path / "training_rows.json"
    path.write_text(content)
    with pytest.raises(VesaliusError, match="no training_rows"):
        read_rows(path)


def test_a_digest_proves_and_a_list_without_one_only_states():
    model, adapter = trained_on("model", "a"), trained_on("adapter", "b")
    about = {"adapters": ["few-shot"], "training_rows": {"model": None, "adapters": [None]}}
    about["training_rows"] = {"model": model.digest, "adapters": [None]}
    states = [(part.name, part.state) for part in parts_of(about, [adapter], [model])]
    assert states == [("the model", "proven"), ("the adapter few-shot", "stated")]
    assert [part.state for part in parts_of(about, [], [])] == ["unknown", "unknown"]
    unlike = json.loads(json.dumps(about)) | {"training_rows": {"model": digest_of("z")}}
    assert parts_of(unlike, [model], [])[0].state == "unknown"


@pytest.mark.parametrize(
    "said",
    [
        {"training_rows": 3},
        {"training_rows": "x"},
        {"training_rows": {"model": ["a"], "adapters": 7}},
        {"training_rows": {"model": {}, "adapters": [[1]]}, "adapters": 3},
    ],
)
def test_what_a_set_says_amiss_proves_nothing(said):
    parts = parts_of(said, [], [trained_on("model", "a")])
    assert parts and {part.state for part in parts} == {"unknown"}
