"""A laboratory's own package, installed for one test: modules, and entry points that name them."""

import sys
from pathlib import Path


def install(folder: Path, modules: dict[str, str], points: dict[str, dict[str, str]]) -> Path:
    """Write `modules` (name: text) and entry points (group: name: "module:attribute") as installed.

    The folder is to be put on sys.path.
    """
    about = folder / "lab-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: lab\nVersion: 1.0\n")
    groups = [
        "\n".join([f"[{group}]", *(f"{name} = {value}" for name, value in own.items())])
        for group, own in points.items()
    ]
    (about / "entry_points.txt").write_text("\n".join(groups) + "\n")
    for name, text in modules.items():
        sys.modules.pop(name, None)  # of another test's package
        (folder / f"{name}.py").write_text(text)
    return folder
