"""JSON documents and pages on disk.

Names of files that are not UTF-8 hold lone surrogates; they are written as escapes, which
are right in JSON too.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def write_document(path: Path, document: Mapping[str, Any]) -> None:
    """Write indented JSON. Raises ValueError for NaN and infinity."""
    text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False)
    write_page(path, text + "\n")


def write_page(path: Path, text: str) -> None:
    """Write text as UTF-8, whatever it holds."""
    path.write_text(text, "utf-8", errors="backslashreplace")
