"""What a set was trained on is found in the set's own record, where that proves it."""

import json
from pathlib import Path

import pytest

from vesalius.evaluate.references import recorded_training
from vesalius.models.trained_on import of_bundled_models
from vesalius.pairs.trained_on import read_trained_on


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
    (mini,), own = of_bundled_models(), read_trained_on(tiny_pairs)
    found = recorded_training([recorded(tmp_path / "a", mini.digest, own.digest)], tiny_pairs)
    assert found is not None and found.images is not None
    assert found.images.images == mini.images | own.images


@pytest.mark.parametrize("digests", [(None,), ("0" * 64,)])
def test_what_no_record_proves_stays_unknown(tmp_path, tiny_pairs, digests):
    assert recorded_training([recorded(tmp_path / "a", *digests)], tiny_pairs) is None
    (tmp_path / "b").mkdir()
    assert recorded_training([tmp_path / "b"], tiny_pairs) is None
