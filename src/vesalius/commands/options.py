r"""Settings dataclasses as options of the command line.

    @options
    def generate(prompts: Prompts, settings: DrawSettings, out: Out) -> None:

typer sees the fields of `DrawSettings` in the place of `settings`, as options with the types, defaults
and texts that the dataclass gives them, and the command is called with the dataclass. A field without
`Help` is no option; one that is a dataclass itself is its fields.

| type of the field | option |
|---|---|
| `bool` | `--name`, or `--name/--no-name` where the default is true |
| `int`, `float`, `str`, `Path`, `Literal[...]`, each `\\| None`, `tuple[float, float]` | `--name VALUE` |
| `tuple[int, ...]`, `tuple[float, ...]`, `tuple[str, ...]` with `commas` | `--name 1,2` |
| `tuple[str, ...]`, `tuple[Path, ...]` | `--name A --name B` |
| `Mapping[str, str]` | `--name COLUMN=VALUE`, which may be repeated |
"""

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from inspect import Parameter
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer

from vesalius.core.settings import Help
from vesalius.errors import VesaliusError

Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")]
Out = Annotated[Path, typer.Option(help="New folder for the images.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an earlier output.")]


def options(command: Callable[..., None]) -> Callable[..., None]:
    """The command as typer is to see it: each settings dataclass replaced by its fields."""
    flat: dict[str, Parameter] = {}
    settings: dict[str, type] = {}
    parameters = inspect.signature(command, eval_str=True).parameters
    for name, given in parameters.items():
        if isinstance(given.annotation, type) and is_dataclass(given.annotation):
            settings[name] = given.annotation
            flat |= {option.name: option.parameter() for option in _flat(given.annotation)}
        else:
            flat[name] = given.replace(kind=Parameter.KEYWORD_ONLY)

    @functools.wraps(command)
    def run(**typed: Any) -> None:
        made = {name: _build(kind, typed) for name, kind in settings.items()}
        command(**{name: typed[name] for name in parameters.keys() - made}, **made)

    run.__signature__ = inspect.Signature(list(flat.values()))  # pyright: ignore
    run.__annotations__ = {name: given.annotation for name, given in flat.items()}
    return run


@dataclass(frozen=True)
class _Option:
    """A field as typer takes it, and how the text that was typed becomes its value."""

    field: Field[Any]
    help: Help
    kind: Any  # the type that typer parses
    read: Callable[[Any], Any] | None  # None: what typer parsed is the value
    write: Callable[[Any], Any]  # of the default

    @property
    def name(self) -> str:
        return self.field.name

    @property
    def default(self) -> Any:
        if self.field.default_factory is not MISSING:
            return self.field.default_factory()
        return self.field.default

    def parameter(self) -> Parameter:
        """This option in the signature that typer reads."""
        help, default = self.help, self.default
        single_flag = self.kind is bool and not default  # typer would add --no-NAME
        option = typer.Option(
            *(help.flags or ((_flag(self.name),) if single_flag else ())),
            help=help.text,
            metavar=help.metavar,
            min=help.least,
            max=help.most,
            rich_help_panel=help.panel,
            show_default=help.unset or True,
        )
        if default is MISSING:
            default = Parameter.empty
        elif self.read:
            default = self.write(default) if default else None
        annotation = Annotated[self.kind, option]
        return Parameter(self.name, Parameter.KEYWORD_ONLY, default=default, annotation=annotation)

    def value(self, typed: Any) -> Any:
        """The field's value. Raises VesaliusError for a text that gives none."""
        if self.read is None:
            return typed
        if typed is None or typed == self.help.unset:
            return self.default
        try:
            return self.read(typed)
        except ValueError as error:
            flag = next(iter(self.help.flags), _flag(self.name))
            raise VesaliusError(f"{flag} {error}") from None


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _members(settings: type) -> Iterator[tuple[str, _Option | type]]:
    """The fields that are options, and those that are settings themselves."""
    hints = get_type_hints(settings, include_extras=True)
    for field in fields(settings):
        kind, *notes = get_args(hints[field.name]) or (hints[field.name],)
        if get_origin(hints[field.name]) is Annotated:
            if help := next((note for note in notes if isinstance(note, Help)), None):
                yield field.name, _Option(field, help, *_parsing(kind, help))
        elif isinstance(kind, type) and is_dataclass(kind):
            yield field.name, kind


def _flat(settings: type) -> Iterator[_Option]:
    for _, member in _members(settings):
        yield from [member] if isinstance(member, _Option) else _flat(member)


def _build(settings: type, typed: Mapping[str, Any]) -> Any:
    """The dataclass of what was typed; it checks its values itself."""
    values = {
        name: member.value(typed[name]) if isinstance(member, _Option) else _build(member, typed)
        for name, member in _members(settings)
    }
    return settings(**values)


def _parsing(
    kind: Any, help: Help
) -> tuple[Any, Callable[[Any], Any] | None, Callable[[Any], Any]]:
    """What typer parses for a field of type `kind`, and how its result is read and a default written."""
    inner = next((one for one in get_args(kind) if get_origin(one) in (tuple, Mapping)), kind)
    if get_origin(inner) is Mapping:
        return list[str] | None, _pairs, lambda default: [f"{k}={v}" for k, v in default.items()]
    if get_origin(inner) is not tuple or get_args(inner)[1:] != (...,):
        return kind, None, lambda default: default
    item = get_args(inner)[0]
    if item in (int, float):
        required = str if help.unset is None else str | None
        return required, _whole_numbers if item is int else _numbers, _joined
    if help.commas:
        return str | None, _names, _joined
    return list[item] | None, tuple, list


def _joined(values: tuple[Any, ...]) -> str:
    return ",".join(f"{v:g}" if isinstance(v, float) else str(v) for v in values)


def _names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise ValueError(f"{text!r} are no numbers: write them as 0.5,1") from None


def _whole_numbers(text: str) -> tuple[int, ...]:
    values = _numbers(text)
    if not all(value.is_integer() for value in values):
        raise ValueError(f"{text!r}: give whole numbers, such as 4,16")
    return tuple(int(value) for value in values)


def _pairs(texts: list[str]) -> dict[str, str]:
    if wrong := [text for text in texts if "=" not in text]:
        raise ValueError(f"{wrong[0]!r}: write it as COLUMN=VALUE")
    return dict(text.split("=", 1) for text in texts)
