"""`vesalius serve`."""

from vesalius.commands.options import options
from vesalius.serve.settings import ServeSettings


@options
def serve(*, settings: ServeSettings) -> None:
    """Open a web page and an API on this machine: generate, steer, compare, keep."""
    from vesalius.core.terminal import say
    from vesalius.serve.run import Opened, serve

    def opened(where: Opened) -> None:
        for user, link in where.links.items():
            print(f"{user}: {link}" if len(where.links) > 1 else link, flush=True)
        say(f"each address opens once; programs find their key in {where.keys}; stop with Ctrl-C")

    serve(settings, opened)
