"""Stand-ins for real images, drawn by the bundled model, for whoever has no data at hand.

    python examples/stand_ins.py FOLDER "NUMBER:LABEL:PROMPT" ...

writes FOLDER/LABEL/*.jpg. The stages that measure refuse synthetic images where real ones belong,
so these are plain files without a record of their origin, in a folder that says what they are.
They let the commands be tried; no figure that comes out of them means anything.
"""

import sys
from pathlib import Path

import vesalius

NOTE = "Stand-ins, drawn by a model: no real image is in this folder. To try commands with.\n"


def main() -> None:
    """Draw what the command line names, but for classes that are there already."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "READ-ME.txt").write_text(NOTE)
    pipe = vesalius.load("mini")
    for k, words in enumerate(sys.argv[2:]):
        number, label, prompt = words.split(":", 2)
        target = folder / label
        target.mkdir(exist_ok=True)
        if len(list(target.iterdir())) == int(number):
            continue
        for i, made in enumerate(pipe.generate([prompt] * int(number), seed=10_000 * k)):
            made.image.save(target / f"{i:03}.jpg", quality=95)


main()
