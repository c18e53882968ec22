"""A server on a socket, until it is stopped."""

import contextlib
import errno
import socket
import threading
import webbrowser
from collections.abc import Callable

from vesalius.errors import VesaliusError
from vesalius.web.guard import App, Guard, Rules
from vesalius.web.settings import ServerSettings

KEEP_ALIVE_SECONDS = 75
STOP_SECONDS = 3


def bind(settings: ServerSettings) -> socket.socket:
    """The socket to listen on. Raises VesaliusError where it cannot be had."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((settings.host, settings.port))
        listening.listen(128)
    except OSError as error:
        listening.close()
        if error.errno == errno.EADDRINUSE:
            raise VesaliusError(
                f"port {settings.port} is taken: stop the server that has it, or choose another "
                "--port"
            ) from error
        raise VesaliusError(
            f"cannot listen on {settings.host} port {settings.port}: {error.strerror or error}"
        ) from error
    return listening


def run(
    app: App,
    settings: ServerSettings,
    listening: socket.socket,
    *,
    largest_body: int = 100_000,
    on_ready: Callable[[str], None] = lambda url: None,
    opens: str = "",
) -> None:
    """Serve `app` behind a `Guard` until Ctrl-C or SIGTERM; requests under way are answered first.

    `on_ready` is called with the address when requests are answered; then `opens`, an address, is
    shown in the user's browser, unless the settings forbid it. `largest_body` is in bytes.
    """
    import uvicorn

    rules = Rules(
        settings.hosts(),
        settings.origin(),
        settings.prefix,
        largest_body,
        by_address=settings.is_everywhere,
    )
    config = uvicorn.Config(
        Guard(app, rules),
        log_level="warning",
        access_log=False,  # addresses hold secrets
        server_header=False,
        lifespan="auto",
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=STOP_SECONDS,
        ssl_certfile=settings.certificate,
        ssl_keyfile=settings.key,
    )
    try:
        config.load()
    except OSError as error:  # of which those of TLS are
        raise VesaliusError(f"the certificate or its key cannot be used: {error}") from error

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            on_ready(settings.url(listening.getsockname()[1]))
            if opens and not settings.no_browser:
                threading.Thread(target=webbrowser.open, args=(opens,), daemon=True).start()

    with contextlib.closing(listening), contextlib.suppress(KeyboardInterrupt):
        Server(config).run(sockets=[listening])
