"""What is unsafe is refused, and the printed address is one that works."""

import socket
import ssl
from pathlib import Path

import pytest

from vesalius.errors import VesaliusError
from vesalius.web.run import bind, run
from vesalius.web.settings import ServerSettings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"host": "0.0.0.0"}, "give --certificate and --key, or --insecure"),
        ({"key": __file__}, "belong together"),
        ({"root_path": "study"}, "write it as /study"),
        ({"address": "study.example"}, "write it as https://host/path"),
    ],
)
def test_what_is_refused(settings, message):
    with pytest.raises(VesaliusError, match=message):
        ServerSettings(**settings)


@pytest.mark.parametrize(
    ("settings", "url"),
    [
        ({}, "http://127.0.0.1:9/"),
        ({"root_path": "/a/b/"}, "http://127.0.0.1:9/a/b/"),
        ({"host": "::1"}, "http://[::1]:9/"),
        ({"host": "0.0.0.0", "insecure": True}, "http://127.0.0.1:9/"),
        ({"host": "::", "insecure": True}, "http://127.0.0.1:9/"),
        ({"address": "https://study.example/eye"}, "https://study.example/eye/"),
    ],
)
def test_the_printed_address(settings, url):
    assert ServerSettings(**settings).url(9) == url


def test_the_names_it_answers_to():
    everywhere = ServerSettings(host="0.0.0.0", insecure=True)
    assert socket.gethostname().lower() in everywhere.hosts()
    assert everywhere.is_everywhere
    assert "" not in everywhere.hosts()
    assert ServerSettings().hosts() == {"127.0.0.1", "localhost", "::1"}
    behind = ServerSettings(address="https://Study.example/eye")
    assert "study.example" in behind.hosts()
    assert (behind.prefix, behind.origin()) == ("/eye", "https://study.example")


@pytest.mark.parametrize(
    "error", [ssl.SSLError("no PEM"), PermissionError(13, "Permission denied")]
)
def test_a_key_that_cannot_be_used_is_one_line(monkeypatch, error):
    uvicorn = pytest.importorskip("uvicorn")

    def load(config):
        raise error

    monkeypatch.setattr(uvicorn.Config, "load", load)
    settings = ServerSettings(port=0, certificate=Path(__file__), key=Path(__file__))
    with bind(settings) as listening, pytest.raises(VesaliusError, match="or its key cannot be"):
        run(lambda *_: None, settings, listening)


def test_a_taken_port_is_one_line():
    with bind(ServerSettings(port=0)) as first:
        port = first.getsockname()[1]
        with pytest.raises(VesaliusError, match=f"port {port} is taken"):
            bind(ServerSettings(port=port))
