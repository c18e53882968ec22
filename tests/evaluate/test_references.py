"""What a set was trained on is found in the set's own record, where that proves it."""

import json
from pathlib import Path

import pytest

from vesalius.evaluate.references import read_training, recorded_training
from vesalius.models.trained_on import of_bundled_models
from vesalius.pairs.table import read_pairs
from vesalius.pairs.trained_on import lists_of, read_trained_on


def recorded(folder: Path, model, *adapters) -> Path:
    folder.mkdir()
    rows = {"model": model, "adapters": list(adapters)}
    (folder / "about.json").write_text(json.dumps({"training_rows": rows}))
    return folder


def test_the_record_of_a_set_names_a_bundled_model(tmp_path, tiny_pairs):
    (mini,) = of_bundled_models()
    found = recorded_training([recorded(tmp_path / "a", mini.digest)], tiny_pairs)
    assert found is not None and found.known
    assert found.images is not None and found.images.images == mini.images


def test_an_adapter_of_the_real_table_s_training_rows_is_proven_too(tmp_path, tiny_pairs):
    (mini,), (own,) = of_bundled_models(), read_trained_on(tiny_pairs)
    found = recorded_training([recorded(tmp_path / "a", mini.digest, own.digest)], tiny_pairs)
    assert found is not None and found.images is not None
    assert found.images.images == mini.images | own.images


@pytest.mark.parametrize("digests", [(None,), ("0" * 64,)])
def test_what_no_record_proves_stays_unknown(tmp_path, tiny_pairs, digests):
    assert recorded_training([recorded(tmp_path / "a", *digests)], tiny_pairs) is None
    (tmp_path / "b").mkdir()
    assert recorded_training([tmp_path / "b"], tiny_pairs) is None


def test_an_adapter_for_each_label_is_proven_by_the_rows_of_its_label(tmp_path, tiny_pairs):
    (mini,), pairs = of_bundled_models(), read_pairs(tiny_pairs)
    whole, *of_labels = lists_of(pairs, "table")
    assert len(of_labels) > 1 and sum(len(one.hashes) for one in of_labels) == len(whole.hashes)
    digests = [one.digest for one in of_labels]
    found = recorded_training([recorded(tmp_path / "a", mini.digest, *digests)], tiny_pairs)
    assert found is not None and found.images is not None
    assert found.images.images == mini.images | whole.images
    for number, one in enumerate(of_labels):  # the run itself says it, too
        (tmp_path / "run" / str(number)).mkdir(parents=True)
        one.write(tmp_path / "run" / str(number))
    assert {one.digest for one in read_trained_on(tmp_path / "run")} == {*digests}
    said = read_training(tmp_path / "run")
    assert said.images is not None and said.images.images == whole.images
