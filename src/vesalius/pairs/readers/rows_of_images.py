"""Which rows of a table are of one image: a row a box, a row a reader, or a row an image."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vesalius.pairs.readers.base import Note
from vesalius.pairs.readers.columns import Columns, Description, attribute_text, canonical, describe
from vesalius.pairs.readers.tables import table_rows


@dataclass(frozen=True)
class TableRow:
    """A row's cells, and what they say of their image."""

    row: dict[str, Any]
    said: Description


def image_of(cells: dict[str, Any], columns: Columns) -> str | None:
    """The path of a row's image as the table writes it; None where it says none."""
    cell = cells.get(columns.image or "")
    return None if isinstance(cell, bytes | dict | list) else attribute_text(cell)


def rows_of_images(
    table: Path, names: Sequence[str], columns: Columns, rows_are: str
) -> Iterator[tuple[int, TableRow | str | Note]]:
    """The rows of a table with what they say; several rows of one image as one, where they are."""

    def said(cells: dict[str, Any]) -> TableRow:
        return TableRow(cells, describe({name: cells.get(name) for name in names}, columns))

    counts = Counter(
        image
        for _, cells in table_rows(table)
        if isinstance(cells, dict) and (image := image_of(cells, columns))
    )
    repeated: dict[str, list[TableRow]] = {
        image: [] for image, count in counts.items() if count > 1 and rows_are != "images"
    }
    for _, cells in table_rows(table) if repeated else ():
        if isinstance(cells, dict) and (image := image_of(cells, columns)) in repeated:
            repeated[image].append(said(cells))
    if rows_are == "auto":
        apart = [
            image
            for image, rows in repeated.items()
            if len({row.said["caption"] for row in rows}) > 1
        ]
        boxes = any(len({row.said["label"] for row in repeated[image]}) > 1 for image in apart)
        for image in apart:
            del repeated[image]
        if apart:
            yield (
                0,
                Note(
                    f"{len(apart):,} images of {table.name} have several rows with captions that differ: "
                    f"each row is an image of its own{' (--rows-are boxes unites them)' * boxes}"
                ),
            )
    if repeated:
        total = sum(len(rows) for rows in repeated.values())
        yield (
            0,
            Note(
                f"{total:,} rows of {table.name} are of {len(repeated):,} images (boxes or "
                "readers): each is one image with the labels of its rows (--rows-are images keeps them apart)"
            ),
        )
    for line, cells in table_rows(table):
        if isinstance(cells, str):
            yield line, cells
            continue
        image = image_of(cells, columns)
        if image not in repeated:
            yield line, said(cells)
        elif rows := repeated[image]:
            yield line, _one(rows)
            rows.clear()


def _one(rows: Sequence[TableRow]) -> TableRow | str:
    """Several rows of one image as one, or why they cannot be."""
    groups = {row.said["group"] for row in rows} - {None}
    splits = {row.said["split"] for row in rows} - {None}
    if len(groups) > 1 or len(splits) > 1:
        return f"its {len(rows)} rows name several {'patients' if len(groups) > 1 else 'splits'}"
    first = rows[0]
    labels = [label for row in rows if (label := row.said["label"])]
    agreed = {
        name: text
        for name, text in first.said["attributes"].items()
        if all(row.said["attributes"].get(name) == text for row in rows)
    }
    return TableRow(
        first.row,
        Description(
            label=canonical("|".join(labels)),
            caption=first.said["caption"],
            group=next(iter(groups), None),
            split=next(iter(splits), None),
            attributes=agreed,
        ),
    )
