"""The server of these tests at an address, so that a browser can reach it."""

import socket
import threading

import uvicorn
from tests.serve.conftest import House

from vesalius.serve.settings import MOST_BODY
from vesalius.web.guard import Guard, Rules


class Served:
    """A `House` on a free port of this machine, below `root_path` where one is given."""

    def __init__(self, house: House, root_path: str = "") -> None:
        self.house, self.root_path = house, root_path
        self.port = 0
        self.start()

    def start(self) -> None:
        """Listen; on the port of before, if there was one."""
        listening = socket.create_server(("127.0.0.1", self.port))
        self.port = listening.getsockname()[1]
        rules = Rules(frozenset({"127.0.0.1"}), root_path=self.root_path, largest_body=MOST_BODY)
        app = Guard(self.house.app.app, rules)
        config = uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1)
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, args=([listening],), daemon=True)
        self.thread.start()

    def stop(self) -> None:
        """As if the server had gone."""
        self.server.should_exit = True
        self.thread.join(15)

    def address(self, path: str = "") -> str:
        """Of a page."""
        return f"http://127.0.0.1:{self.port}{self.root_path}/{path}"

    def link(self, user: str = "ann") -> str:
        """What opens a session once."""
        return self.address(f"enter?token={self.house.access.link(user)}")
