"""A server without a model, reached in this process."""

import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from vesalius.serve.access import Access, make_keys
from vesalius.serve.app import make_app
from vesalius.serve.catalogue import make_catalogue
from vesalius.serve.conductor import Conductor, Library
from vesalius.serve.database import open_database
from vesalius.serve.events import Events
from vesalius.serve.messages import Config
from vesalius.serve.service import Service
from vesalius.serve.settings import MOST_BODY, ServeSettings
from vesalius.serve.shown import find_shown
from vesalius.web.guard import Guard, Rules

HOST = "http://127.0.0.1:8765"
FAKE = (sys.executable, str(Path(__file__).parent / "fake_worker.py"))


@dataclass
class House:
    """A server on a folder, which can be stopped and started again."""

    folder: Path
    settings: ServeSettings = field(default_factory=lambda: ServeSettings(users=("ann", "bob")))

    def open(self, *, start: bool = True):
        database, events = open_database(self.folder), Events()
        config = Config({"mini": "mini"}, {})
        conductor = Conductor(database, Library(self.folder), config, events, FAKE)
        self.service = Service(
            self.settings,
            make_catalogue(self.settings),
            database,
            conductor.library,
            conductor,
            events,
            find_shown(self.settings.show),
        )
        conductor.on_change, conductor.work = self.service.tell, self.service.work
        self.keys = make_keys(self.folder, self.settings.users)
        self.access = Access(database, self.keys, 8765)
        rules = Rules(frozenset({"127.0.0.1"}), largest_body=MOST_BODY)
        self.app = Guard(make_app(self.service, self.access), rules)
        if start:
            conductor.start()
        return self

    def close(self):
        self.service.conductor.stop()
        self.service.database.store.close()

    def client(self, user="ann"):
        """A program of a user; None is a browser without a cookie."""
        headers = {"Authorization": f"Bearer {self.keys[user]}"} if user else {}
        return TestClient(self.app, base_url=HOST, headers=headers, raise_server_exceptions=False)

    def browser(self, user="ann"):
        """A browser that has opened the address of a user, with what its page sends."""
        client = self.client(None)
        assert client.get("/enter", params={"token": self.access.link(user)}).status_code != 403
        client.headers["X-CSRF-Token"] = client.get("/api/v1/session").json()["csrf"]
        return client


@pytest.fixture
def house(tmp_path):
    opened = House(tmp_path / "library")
    opened.folder.mkdir()
    yield opened.open()
    opened.close()


@pytest.fixture
def ann(house):
    return house.client()


@pytest.fixture
def bob(house):
    return house.client("bob")


@pytest.fixture
def ended():
    """Wait for a job to be over."""

    def wait(client, id, seconds=20):
        until = time.time() + seconds
        while time.time() < until:
            job = client.get(f"/api/v1/jobs/{id}").json()
            if job["state"] in ("done", "failed", "cancelled"):
                return job
            time.sleep(0.01)
        raise AssertionError(f"the job is still {job['state']}")

    return wait


@pytest.fixture
def draw(ended):
    """Ask for a job and wait until it is done."""

    def wait(client, **body):
        body = body if "kind" in body else {"kind": "generate", "prompt": "a lung", **body}
        answer = client.post("/api/v1/jobs", json=body)
        assert answer.status_code == 202, answer.text
        return ended(client, answer.json()["id"])

    return wait
