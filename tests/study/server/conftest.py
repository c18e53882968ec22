"""A small locked study behind a test client."""

import sys
from pathlib import Path

import pytest
from starlette.testclient import TestClient

ROOT = Path(__file__).parents[3]
sys.path.append(str(ROOT))  # tests and benchmarks draw the same small studies

from benchmarks.study.drawn import SmallStudy, small_study  # noqa: E402
from benchmarks.study.http_reader import HttpReader  # noqa: E402

from vesalius.study.server.app import create_app  # noqa: E402
from vesalius.study.server.links import missing_links  # noqa: E402
from vesalius.study.server.material import open_material  # noqa: E402
from vesalius.web.guard import Guard, Rules  # noqa: E402

ADDRESS = "http://127.0.0.1:8765"


class Desk:
    """A served study: `reader("R1")` opens the link of R1 in a browser of its own."""

    def __init__(self, folder: Path, root_path: str = "") -> None:
        self.material = open_material(folder)
        self.database = self.material.database
        self.links = missing_links(self.database)
        rules = Rules(frozenset({"127.0.0.1"}), root_path=root_path)
        self.app = Guard(create_app(self.material, overview_secret="see"), rules)
        self.root_path = root_path

    def client(self) -> TestClient:
        return TestClient(self.app, base_url=ADDRESS, raise_server_exceptions=False)

    def reader(self, name: str = "R1", *, arrives: bool = True) -> HttpReader:
        link = f"{ADDRESS}{self.root_path}/r/{self.links[name]}"
        reader = HttpReader(self.client(), link, seed=sum(name.encode()))
        if arrives:
            reader.arrive()
        return reader


@pytest.fixture
def serve_small(tmp_path):
    """`serve_small(tasks=..., ...)` draws a study and serves it."""
    opened = []

    def make(*, root_path="", **values):
        folder = small_study(tmp_path / f"study{len(opened)}", SmallStudy(**values))
        opened.append(Desk(folder, root_path))
        return opened[-1]

    yield make
    for desk in opened:
        desk.database.close()


@pytest.fixture
def desk(serve_small):
    return serve_small()
