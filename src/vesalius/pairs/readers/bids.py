"""What `participants.tsv` of a BIDS folder says of its subjects."""

from pathlib import Path

from vesalius.pairs.readers.columns import Columns, Description, describe, find_columns
from vesalius.pairs.readers.files import PARTICIPANTS
from vesalius.pairs.readers.tables import column_names, table_rows
from vesalius.pairs.settings import ReaderOptions

_SUBJECT = "participant_id"


def participants(source: Path) -> dict[str, Description]:
    """By subject (`sub-01`) its attributes and, where a column is called so, its label.

    Empty without such a table. Raises VesaliusError where it cannot be read.
    """
    table = source / PARTICIPANTS
    if not table.is_file() or _SUBJECT not in (names := column_names(table)):
        return {}
    label = find_columns(names, ReaderOptions()).label
    columns = Columns(None, None, label, None, None)
    rows = (row for _, row in table_rows(table) if isinstance(row, dict))
    said = {str(row[_SUBJECT]): describe(row, columns) for row in rows}
    for each in said.values():
        each["attributes"].pop(_SUBJECT, None)
    return said
