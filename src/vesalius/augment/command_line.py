"""The command line that does what a call with the same settings does."""

import shlex
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, get_args, get_type_hints

from vesalius.core.settings import Help


def command_line(command: str, *words: object, **options: Any) -> str:
    """`vesalius COMMAND WORDS --OPTION VALUE ...`; without options that are None, False or empty.

    The options of a settings dataclass, as `options_of` gives them, keep the names that it gives.
    """
    line = ["vesalius", command, *map(str, words)]
    for name, value in options.items():
        flag = name if name.startswith("-") else f"--{name.replace('_', '-')}"
        for each in value if isinstance(value, list) else [value]:
            if each is True:
                line.append(flag)
            elif each is not None and each is not False:
                line += [flag, str(each)]
    return shlex.join(line)


def options_of(settings: Any, *names: str) -> dict[str, Any]:
    """These fields of a settings dataclass as `command_line` takes them, by their flags.

    Tuples are joined by commas or repeated, as `Help.commas` says; a field that is a dataclass itself
    stands for all its fields that are set.
    """
    found: dict[str, Any] = {}
    hints = get_type_hints(type(settings), include_extras=True)
    for name in names:
        value, notes = getattr(settings, name), get_args(hints[name])[1:]
        if is_dataclass(value):
            given = [f.name for f in fields(value) if getattr(value, f.name) != f.default]
            found |= options_of(value, *given)
            continue
        help = next((note for note in notes if isinstance(note, Help)), Help(""))
        flag = next(iter(help.flags), f"--{name.replace('_', '-')}")
        if isinstance(value, tuple):
            numbers = all(isinstance(each, int | float) for each in value)
            value = _joined(value) if help.commas or (numbers and value) else list(value)
        elif isinstance(value, Mapping):
            value = [f"{column}={each}" for column, each in value.items()]
        found[flag] = value
    return found


def _joined(values: tuple[Any, ...]) -> str | None:
    texts = [f"{each:g}" if isinstance(each, float) else str(each) for each in values]
    return ",".join(texts) or None
