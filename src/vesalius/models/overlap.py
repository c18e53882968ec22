"""Whether a model has learned from images that it is to be tested on. No torch here."""

from collections.abc import Callable, Sequence

from vesalius.core.trained_on import find_rows, read_rows
from vesalius.models.locate import local_folder


def seen_people(
    model: str, column: Callable[[str], Sequence[str | None]], rows: Sequence[int]
) -> int:
    """Of how many patients of a table's `rows` a model says that it has learned from images."""
    folder = local_folder(model)
    if folder is None or (path := find_rows(folder)) is None:
        return 0
    known, hashes, groups = read_rows(path), column("sha1"), column("group")
    return len({groups[row] for row in rows if known.includes(hashes[row] or "", groups[row])})


def seen_test_images(
    model: str, column: Callable[[str], Sequence[str | None]], test: Sequence[int]
) -> str | None:
    """What a model has learned from of a table's rows `test`, and what to do; None where of none.

    `column` gives the table's columns. A model that says nothing of its training is not judged.
    Raises VesaliusError where there is no such model.
    """
    folder = local_folder(model)
    if not test or folder is None or (path := find_rows(folder)) is None:
        return None
    known, hashes, groups = read_rows(path), column("sha1"), column("group")
    used = [row for row in test if known.includes(hashes[row] or "", groups[row])]
    if not used:
        return None
    images, people = {hashes[row] for row in used}, {groups[row] for row in used} - {None, ""}
    rows = zip(known.hashes, known.groups, known.sources, strict=True)
    sets = sorted({s for sha1, group, s in rows if s and (sha1 in images or group in people)})
    return (
        f"{len(used):,} of {len(test):,} test images, or others of their patients, are among those "
        f"that {model} has learned from"
        + (f" (its own sets {', '.join(sets)})" * bool(sets))
        + ": "
        f"nothing measured on them is a fair test. Take another --model, or test on images that "
        f"{model} has not seen: `vesalius pairs ... --test-rows FILE`"
    )
