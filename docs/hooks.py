"""Pages of the site that are generated when it is built: commands, files and the changelog.

MkDocs calls `on_files` (mkdocs.yml names this file under `hooks`). The command reference is read
from the command line itself, so it can never say anything else than `--help` does.
"""

import ast
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def on_files(files: Any, config: Any) -> Any:
    """Add the generated pages to those found in docs/."""
    from mkdocs.structure.files import File

    from vesalius.cli import app

    files.append(File.generated(config, "commands.md", content=command_reference(app)))
    files.append(File.generated(config, "files.md", content=file_index(ROOT / "src" / "vesalius")))
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    files.append(File.generated(config, "changelog.md", content=changelog))
    return files


def file_index(package: Path) -> str:
    """Markdown: every module of the package, room by room, with its docstring's first line."""
    rooms: dict[str, list[str]] = {}
    for path in sorted(package.rglob("*.py")):
        if path.stem.startswith("__"):
            continue
        docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        room = path.parent.relative_to(package).as_posix()
        line = " ".join(docstring.split("\n\n")[0].split())
        rooms.setdefault(room, []).append(f"| `{path.name}` | {_cell(line)} |")
    parts = ["# Files", "Generated: every file with the first line of its docstring."]
    for room in sorted(rooms):
        heading = "vesalius" if room == "." else f"vesalius/{room}"
        parts += [f"## {heading}", "\n".join(["| | |", "|---|---|", *rooms[room]])]
    return "\n\n".join(parts) + "\n"


def command_reference(app: Any) -> str:
    """Markdown: for each command its help, its usage, and a table of its options a panel."""
    import typer

    group = typer.main.get_command(app)
    parts = [
        "# Commands",
        "Generated from the program: `vesalius COMMAND --help` shows the same.",
    ]
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        parts += command_section(name, command)
    return "\n\n".join(parts) + "\n"


def command_section(name: str, command: Any, level: int = 2) -> list[str]:
    """Heading, help, usage and tables of one command; of a group, then of each of its commands."""
    context = command.context_class(command, info_name=f"vesalius {name}")
    usage = command.get_usage(context).removeprefix("Usage: ")
    parts = [f"{'#' * level} {name}", _paragraphs(command.help), f"```\n{usage}\n```"]
    panels: dict[str, list[Any]] = {}
    for parameter in command.params:
        kind = "Arguments" if parameter.param_type_name == "argument" else "Options"
        panels.setdefault(getattr(parameter, "rich_help_panel", None) or kind, []).append(parameter)
    for panel, parameters in panels.items():
        rows = [_row(parameter, context) for parameter in parameters if not _hidden(parameter)]
        if rows:
            parts += [f"**{panel}**", "\n".join(["| | |", "|---|---|", *rows])]
    for child, inner in getattr(command, "commands", {}).items():
        parts += command_section(f"{name} {child}", inner, level + 1)
    return parts


def _row(parameter: Any, context: Any) -> str:
    names, text = parameter.get_help_record(context) or (parameter.name, "")
    return f"| `{names}` | {_cell(_paragraphs(text.replace('[default: (none)]', '')))} |"


def _hidden(parameter: Any) -> bool:
    return bool(getattr(parameter, "hidden", False))


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _paragraphs(text: str | None) -> str:
    """Help as Markdown: the lines of a paragraph joined, rich's escapes undone."""
    paragraphs = (text or "").replace("\b", "").replace("\\[", "[").split("\n\n")
    return "\n\n".join(" ".join(p.split()) for p in paragraphs if p.strip())
