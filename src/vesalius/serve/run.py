"""`vesalius serve`: a library opened, a model loaded beside it, a page at an address."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from vesalius.core.atomic import MARKER, clear_write_errors, locked_folder
from vesalius.errors import VesaliusError
from vesalius.serve.catalogue import make_catalogue
from vesalius.serve.conductor import Conductor, Library
from vesalius.serve.database import FILE, open_database
from vesalius.serve.events import Events
from vesalius.serve.messages import Config
from vesalius.serve.settings import MOST_BODY, ServeSettings
from vesalius.serve.shown import find_shown
from vesalius.web.settings import need_server


@dataclass(frozen=True)
class Opened:
    """Where the server is reached: an address that works once for each user."""

    links: dict[str, str]
    keys: str  # the file with the keys of programs


def serve(settings: ServeSettings, on_open: Callable[[Opened], None] = lambda opened: None) -> None:
    """Serve until Ctrl-C. Nothing is imported or loaded here that takes long.

    Raises VesaliusError for a model or adapter that is not there, a port or library in use.
    """
    need_server()
    from vesalius.web.run import bind

    catalogue, shown = make_catalogue(settings), find_shown(settings.show)
    folder = settings.library
    check_library(folder)
    listening = bind(settings)
    with ExitStack() as stack:
        stack.enter_context(listening)
        stack.enter_context(locked_folder(folder))
        with clear_write_errors(folder, 0):
            folder.chmod(0o700)
        database, events = open_database(folder), Events()
        stack.enter_context(database.store)
        config = Config(
            {model.id: model.source for model in catalogue.models.values()},
            {adapter.id: str(adapter.file) for adapter in catalogue.adapters.values()},
            settings.device,
            settings.dtype,
            settings.threads,
        )
        conductor = Conductor(database, Library(folder), config, events)
        stack.callback(conductor.stop)
        conductor.start()  # the model is loaded while the server is imported

        from vesalius.serve.access import KEYS, Access, make_keys
        from vesalius.serve.app import make_app
        from vesalius.serve.service import Service
        from vesalius.web.run import run

        service = Service(
            settings, catalogue, database, conductor.library, conductor, events, shown
        )
        conductor.on_change, conductor.work = service.tell, service.work
        port = listening.getsockname()[1]
        access = Access(database, make_keys(folder, settings.users), port)
        base = settings.url(port)
        links = {user: f"{base}enter?token={access.link(user)}" for user in settings.users}
        run(
            make_app(service, access),
            settings,
            listening,
            largest_body=MOST_BODY,
            on_ready=lambda url: on_open(Opened(links, str(folder / KEYS))),
            opens=f"{base}enter?token={access.link(settings.users[0])}",
        )


def check_library(folder: Path) -> None:
    """Raise VesaliusError for a folder of something else; what a kill left is nothing."""
    if not folder.is_dir() or (folder / FILE).exists():
        return
    if any(path.name != MARKER and not path.name.startswith(".") for path in folder.iterdir()):
        raise VesaliusError(
            f"{folder} is not a library (it has no {FILE}): choose another --library"
        )
