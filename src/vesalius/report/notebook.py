"""How results show themselves in a notebook: a line and a small table."""

from collections.abc import Iterable, Sequence
from html import escape


def show(title: str, head: Sequence[object], rows: Iterable[Sequence[object]], *notes: str) -> str:
    """HTML of a table with a line above it and notes below it; numbers get their thousands apart."""

    def line(tag: str, cells: Sequence[object]) -> str:
        texts = [f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in cells]
        return f"<tr>{''.join(f'<{tag}>{escape(text)}</{tag}>' for text in texts)}</tr>"

    body = "".join(line("td", row) for row in rows)
    below = "".join(f"<li>{escape(note)}</li>" for note in notes)
    return f"<p>{escape(title)}</p><table>{line('th', head)}{body}</table><ul>{below}</ul>"
