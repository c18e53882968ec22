"""The examples run as they stand."""

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
from PIL import Image

EXAMPLES = Path(__file__).parents[1] / "examples"


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.parent.name, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_model_for_medigan_gives_files_and_arrays(tmp_path):
    folder = EXAMPLES / "medigan" / "vesalius_mini"
    generate = load(folder / "__init__.py").generate
    model = str(folder / "mini.txt")
    assert generate(model, 0, str(tmp_path), True) is None
    assert generate(model, 0, str(tmp_path), False) == []
    generate(model, 1, str(tmp_path), True, prompt="brain MRI, glioma", seed=3)
    (image,) = generate(model, 1, str(tmp_path), False, prompt="brain MRI, glioma", seed=3)
    with Image.open(tmp_path / "3.png") as file:
        assert file.text["synthetic"] == "true"  # pyright: ignore
        assert np.array_equal(np.asarray(file), image)
