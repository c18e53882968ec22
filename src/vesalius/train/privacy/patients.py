"""Whose each training row is: the unit that a guarantee is given for."""

from collections.abc import Sequence

from vesalius.errors import VesaliusError
from vesalius.pairs.splits import names_patient
from vesalius.pairs.table import Pairs


def rows_by_patient(pairs: Pairs, rows: Sequence[int]) -> list[list[int]]:
    """Places in `rows` of each patient's rows, patients in the order of their names.

    Raises VesaliusError where a row says of no patient whose it is.
    """
    columns = [pairs.column(name) for name in ("source", "group", "sha1")]
    sources, groups, hashes = ([column[row] for row in rows] for column in columns)
    named = names_patient(sources, groups, hashes)
    if without := named.count(False):
        raise VesaliusError(
            f"{without:,} of {len(rows):,} training rows name no patient, and the guarantee is for "
            "patients: an image alone, or a near-copy of it elsewhere, would be counted as a person. "
            "Make the table with `vesalius pairs --group-column NAME` or --group-pattern, or leave "
            "those rows out of what the table is made of"
        )
    places: dict[str, list[int]] = {}
    for place, group in enumerate(groups):
        places.setdefault(group, []).append(place)
    return [places[group] for group in sorted(places)]
