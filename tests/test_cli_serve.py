"""`vesalius serve` as a user starts it."""

import json
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

from vesalius.errors import VesaliusError
from vesalius.serve.run import check_library


def start(library, *more):
    command = [sys.executable, "-m", "vesalius", "serve", "--library", str(library), "--port", "0"]
    return subprocess.Popen(
        [*command, "--no-browser", *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.ci
def test_from_the_command_to_an_image_after_a_kill(tmp_path, tiny_flow):
    library = tmp_path / "library"
    first = start(library, "--model", str(tiny_flow))
    base = first.stdout.readline().partition("enter?")[0]
    key = json.loads((library / "keys.json").read_text())["lab"]
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}

    def ask(path, body=None):
        data = json.dumps(body).encode() if body else None
        request = urllib.request.Request(base + path, data, headers)
        return json.load(urllib.request.urlopen(request, timeout=30))

    body = {"kind": "generate", "prompt": "chest", "n": 3, "steps": 2, "seed": 1}
    job = ask("api/v1/jobs", body)
    first.kill()
    first.communicate()
    second = start(library, "--model", str(tiny_flow))
    base = second.stdout.readline().partition("enter?")[0]
    until = time.time() + 60
    while (found := ask(f"api/v1/jobs/{job['id']}"))["state"] != "done":
        assert time.time() < until, found
        time.sleep(0.1)
    assert len(found["images"]) == 3
    third = start(library)
    _, err = third.communicate(timeout=30)
    assert third.returncode == 2
    assert "another run is at work" in err
    second.send_signal(signal.SIGINT)
    _, err = second.communicate(timeout=30)
    assert second.returncode == 0
    assert "Traceback" not in err


def test_a_library_that_a_kill_left_without_its_database_is_one(tmp_path):
    for name in ("work.lock", ".library.sqlite.0123abcd.tmp.sqlite"):
        (tmp_path / name).touch()
    check_library(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(VesaliusError, match="is not a library"):
        check_library(tmp_path)


def test_what_cannot_be_served_is_one_line(run_cli, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").touch()
    code, _, err = run_cli("serve", "--library", tmp_path / "mine", "--no-browser")
    assert code == 2
    assert re.fullmatch(r"error: .* is not a library .*\n", err)
    code, _, err = run_cli("serve", "--model", "no-such-model", "--no-browser")
    assert code == 2
    assert "unknown model" in err
    code, _, err = run_cli("serve", "--host", "0.0.0.0")
    assert code == 2
    assert "--insecure" in err
