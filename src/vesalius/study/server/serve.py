"""Serve a study to its readers until it is stopped."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from vesalius.core.words import plural
from vesalius.errors import VesaliusError
from vesalius.study.database import open_database
from vesalius.study.layout import open_study
from vesalius.study.server.app import create_app
from vesalius.study.server.links import missing_links, new_link
from vesalius.study.server.material import open_material
from vesalius.web.run import bind, run
from vesalius.web.settings import ServerSettings
from vesalius.web.tokens import new_token


@dataclass(frozen=True)
class Ready:
    """What the administrator must know once the server answers."""

    address: str
    overview: str  # the page of everybody's progress, until the server is stopped
    links: Mapping[str, str]  # of readers who had none; they are not shown again
    readers: int

    def __str__(self) -> str:
        lines = [f"serving on {self.address} (Ctrl-C stops; every answer is kept)"]
        lines.append(f"progress: {self.overview}")
        lines += _links(self.links)
        if len(self.links) < self.readers:
            kept = self.readers - len(self.links)
            have = f"{plural(kept, 'reader')} {'has' if kept == 1 else 'have'} a link already"
            lines.append(f"{have}; --new-link NAME makes another")
        return "\n".join(lines)


def serve(
    folder: Path | str,
    settings: ServerSettings,
    *,
    on_ready: Callable[[Ready], object] = lambda ready: None,
) -> None:
    """Serve the locked study in `folder` until Ctrl-C or SIGTERM.

    Raises VesaliusError where the study is not locked or was changed since, or the port is taken.
    """
    listening = bind(settings)
    try:
        material = open_material(folder)
    except BaseException:
        listening.close()
        raise
    with material.database as database:
        secret = new_token()
        port = listening.getsockname()[1]
        overview = f"{settings.url(port)}progress/{secret}"

        def tell(address: str) -> None:
            links = {n: f"{address}r/{token}" for n, token in missing_links(database).items()}
            on_ready(Ready(address, overview, links, len(material.trials)))

        app = create_app(material, overview_secret=secret)
        run(app, settings, listening, on_ready=tell, opens=overview)


def renew_link(folder: Path | str, reader: str, settings: ServerSettings) -> str:
    """A new link of one reader, in words; a server that is running takes it at once.

    The old link, and the browser that reads by it, are shut out. Raises VesaliusError for a name
    that the study does not have.
    """
    if not settings.port:
        raise VesaliusError("--new-link needs the --port of the server: 0 is none")
    with open_database(open_study(folder)) as database:
        token = new_link(database, reader)
    return "\n".join(_links({reader: f"{settings.url(settings.port)}r/{token}"}))


def _links(links: Mapping[str, str]) -> list[str]:
    if not links:
        return []
    width = max(map(len, links))
    head = f"{plural(len(links), 'link')}, shown only now:"
    return [head, *(f"  {name.ljust(width)}  {link}" for name, link in links.items())]
