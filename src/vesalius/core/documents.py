"""JSON and YAML documents and pages on disk: whatever is wrong with one is a single line.

Names of files that are not UTF-8 hold lone surrogates; they are written as escapes, which
are right in JSON too.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from vesalius.errors import VesaliusError, first_line

LARGEST_JSON = 100_000_000  # bytes of a configuration or a record
LARGEST_YAML = 200_000  # bytes of what people write by hand; the parser is slow
_MOST_VALUES = 100_000  # of a YAML document, aliases written out


def write_document(path: Path, document: Mapping[str, Any]) -> None:
    """Write indented JSON. Raises ValueError for NaN and infinity."""
    text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False)
    write_page(path, text + "\n")


def write_page(path: Path, text: str) -> None:
    """Write text as UTF-8, whatever it holds."""
    path.write_text(text, "utf-8", errors="backslashreplace")


def parse_json(text: str | bytes, source: Path | str) -> Any:
    """What a JSON text holds. Raises VesaliusError naming its `source` where it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise VesaliusError(f"{source} cannot be read as JSON: {first_line(error)}") from error


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file. Raises VesaliusError naming the file if it is anything else."""
    content = parse_json(_bytes_of(path, LARGEST_JSON), path)
    if not isinstance(content, dict):
        raise VesaliusError(f"{path} must hold a JSON object")
    return content


def read_yaml(path: Path, loader: type[yaml.SafeLoader] = yaml.SafeLoader) -> Any:
    """What a YAML file holds. Raises VesaliusError where it is none, or is unduly large."""
    try:
        text = _bytes_of(path, LARGEST_YAML).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise VesaliusError(f"{path} is not text in UTF-8: save it as UTF-8") from error
    return parse_yaml(text, path, loader)


def parse_yaml(
    text: str, source: Path | str, loader: type[yaml.SafeLoader] = yaml.SafeLoader
) -> Any:
    """What a YAML text holds. Raises VesaliusError naming its `source` where it is none.

    A value that stands under an alias counts each time that it is named, so that a few lines
    cannot become millions of values.
    """
    try:
        reader = loader(text)
        try:
            node = reader.get_single_node()
            if node is None:
                return None
            if _values(node, {}) > _MOST_VALUES:
                raise ValueError(f"it holds more than {_MOST_VALUES:,} values")
            return reader.construct_document(node)
        finally:
            reader.dispose()
    # beside YAML's own: dates that are none, numbers of too many digits, keys that are lists
    except (yaml.YAMLError, ValueError, TypeError, OverflowError, RecursionError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise VesaliusError(f"{source} is not YAML: {reason}") from error


def _values(node: yaml.Node, known: dict[int, int]) -> int:
    """How many values a node stands for; `known` are those of nodes met before."""
    if id(node) in known:
        if not known[id(node)]:
            raise ValueError("a value contains itself")
        return known[id(node)]
    known[id(node)] = 0
    parts: list[yaml.Node] = []
    if isinstance(node, yaml.MappingNode):
        parts = [part for pair in node.value for part in pair]
    elif isinstance(node, yaml.SequenceNode):
        parts = node.value
    known[id(node)] = 1 + sum(_values(part, known) for part in parts)
    return known[id(node)]


def _bytes_of(path: Path, most: int) -> bytes:
    try:
        if path.stat().st_size > most:
            raise VesaliusError(
                f"{path} is larger than {most:,} bytes: it cannot be what it should"
            )
        return path.read_bytes()
    except OSError as error:
        raise VesaliusError(f"{path} cannot be read: {error.strerror or error}") from error
