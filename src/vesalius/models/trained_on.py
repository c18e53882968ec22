"""What models and adapters say of the images that they were trained on."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vesalius.core.documents import read_json
from vesalius.core.trained_on import ROWS_FILE, TrainedOn, find_rows, read_rows
from vesalius.models.adapter_files import adapter_file
from vesalius.models.adapters import parse_adapter
from vesalius.models.locate import bundled_models


def training_digests(model: Path, adapters: Sequence[str]) -> dict[str, Any]:
    """The digests of a model folder and of each adapter, for a set's about.json; None where unknown."""
    folders = [adapter_file(parse_adapter(text)[0]).parent for text in adapters]
    return {"model": training_digest(model), "adapters": [training_digest(f) for f in folders]}


def training_digest(folder: Path) -> str | None:
    """The digest of what a model or adapter was trained on, where it says so.

    Raises VesaliusError where its list cannot be read.
    """
    if (folder / "adapter.json").is_file():
        return str(read_json(folder / "adapter.json").get("training_rows_sha256") or "") or None
    path = find_rows(folder)
    return read_rows(path).digest if path else None


def of_bundled_models() -> list[TrainedOn]:
    """What the models that come with this package were trained on."""
    files = [folder / ROWS_FILE for folder in bundled_models().values()]
    return [read_rows(file) for file in files if file.is_file()]
