"""Links of readers: printed once, kept as hashes."""

from vesalius.errors import VesaliusError
from vesalius.study.database import Database
from vesalius.web.tokens import digest, new_token


def missing_links(database: Database) -> dict[str, str]:
    """A new token for each reader who has none yet, by the reader's name."""
    return {r.id: _renew(database, r.id) for r in database.readers() if not r.token_hash}


def new_link(database: Database, reader: str) -> str:
    """A new token of a reader; the old link and the browser that reads by it are shut out."""
    names = [one.id for one in database.readers()]
    if reader not in names:
        raise VesaliusError(f"the study has no reader {reader}: choose of {', '.join(names)}")
    return _renew(database, reader)


def _renew(database: Database, reader: str) -> str:
    token = new_token()
    database.update_reader(reader, token_hash=digest(token), session_hash=None)
    database.add_event(reader, "link")
    return token
