"""One process at a time, on disks with locks and on those that refuse them."""

import errno
import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from vesalius.core import atomic, locks
from vesalius.core.atomic import (
    atomic_path,
    locked_folder,
    move,
    work_folder,
    writable_new_folder,
)
from vesalius.core.locks import Busy, lock_file
from vesalius.errors import VesaliusError

ELSEWHERE = "node17 4242"


@pytest.fixture(params=["locks", "none", "not implemented"])
def disk(request, monkeypatch):
    """A disk with locks, and two that refuse them."""
    if request.param != "locks":
        code = errno.ENOLCK if request.param == "none" else errno.ENOSYS

        def refuse(file, how):
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(fcntl, "flock", refuse)
    return request.param


@pytest.fixture
def without_locks(monkeypatch):
    def refuse(file, how):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)


@pytest.mark.usefixtures("disk")
def test_two_are_never_in_and_nothing_is_left(tmp_path):
    inside, most, path = [0], [0], tmp_path / "gate"

    def enter():
        for _ in range(20):
            with lock_file(path, wait=True):
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                inside[0] -= 1

    threads = [threading.Thread(target=enter) for _ in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert most == [1]
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("disk")
def test_a_folder_that_is_held_is_refused_and_stays(tmp_path):
    out, work = tmp_path / "run", tmp_path / "work"
    with locked_folder(out), work_folder(work):
        with pytest.raises(Busy, match="another run"), locked_folder(out):
            pass
        with pytest.raises(Busy, match="another run"), work_folder(work):
            pass
        assert work.is_dir()
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("disk")
def test_what_a_killed_process_held_is_taken_over(tmp_path):
    script = (
        "import errno, fcntl, os, signal, sys\n"
        "from pathlib import Path\n"
        "from vesalius.core.atomic import locked_folder\n"
        "def refuse(file, how): raise OSError(errno.ENOLCK, 'No locks available')\n"
        "if sys.argv[2] != 'locks': fcntl.flock = refuse\n"
        "with locked_folder(Path(sys.argv[1])): os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    kind = "none" if fcntl.flock.__name__ == "refuse" else "locks"
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "run"), kind], check=False)
    assert list((tmp_path / "run").iterdir())  # the lock of the dead
    with locked_folder(tmp_path / "run"):
        (tmp_path / "run" / "x").touch()
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["x"]


@pytest.mark.usefixtures("without_locks")
def test_what_another_machine_holds_is_told_with_what_to_do(tmp_path):
    owner = tmp_path / "run" / "work.lock.owner"
    owner.parent.mkdir()
    owner.write_text(ELSEWHERE)
    with (
        pytest.raises(Busy, match=r"process 4242 of node17.*delete .*work\.lock\.owner"),
        locked_folder(owner.parent),
    ):
        pass
    assert owner.read_text() == ELSEWHERE
    owner.write_text(f"{socket.gethostname()} {os.getpid()}")  # alive
    with pytest.raises(Busy), locked_folder(owner.parent):
        pass


@pytest.mark.usefixtures("without_locks")
def test_what_is_held_for_moments_and_does_not_change_is_taken_over(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "_MOMENT", 0.2)
    (tmp_path / "gate.owner").write_text(ELSEWHERE)
    with lock_file(tmp_path / "gate", wait=True):
        assert (tmp_path / "gate.owner").read_text() != ELSEWHERE
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("code", [errno.ESTALE, errno.EBUSY])
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_rename_that_fails_for_a_moment_is_done_again(tmp_path, monkeypatch, code, kind):
    waits = []
    monkeypatch.setattr(atomic.time, "sleep", waits.append)
    tries = fails_first(monkeypatch, code)
    with atomic.atomic_path(tmp_path / "x") as temporary:
        temporary.mkdir() if kind == "folder" else temporary.write_text("new")
    assert len(tries) == 2 and waits == [0.05]
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_a_rename_of_which_the_answer_was_lost_is_done(tmp_path, monkeypatch):
    monkeypatch.setattr(atomic.time, "sleep", lambda seconds: None)
    fails_first(monkeypatch, errno.ESTALE, after=True)
    with atomic.atomic_path(tmp_path / "x") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "x").read_text() == "new"


def test_one_that_fails_for_good_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(atomic.time, "sleep", lambda seconds: None)
    tries = fails_first(monkeypatch, errno.EBUSY, times=9)
    (tmp_path / "x").touch()
    with pytest.raises(OSError, match="busy"):
        move(tmp_path / "x", tmp_path / "y")
    assert len(tries) == 4


def fails_first(monkeypatch, code, times=1, after=False):
    """Renames fail so often with a code; `after` they were done."""
    tries = []
    for name in ("replace", "rename"):
        real = getattr(atomic.Path, name)

        def once(self, target, real=real):
            tries.append(target)
            if len(tries) <= times:
                if after:
                    real(self, target)
                raise OSError(code, os.strerror(code))
            return real(self, target)

        monkeypatch.setattr(atomic.Path, name, once)
    return tries


_KILLED = (
    "import errno, fcntl, os, signal, sys\n"
    "from pathlib import Path\n"
    "from vesalius.core import atomic\n"
    "def refuse(file, how): raise OSError(errno.ENOLCK, 'No locks available')\n"
    "def die(*args): os.kill(os.getpid(), signal.SIGKILL)\n"
    "if sys.argv[2] != 'locks': fcntl.flock = refuse\n"
    "with atomic.atomic_path(Path(sys.argv[1])) as temporary:\n"
    "    temporary.mkdir()\n"
    "    (temporary / 'half').touch()\n"
    "    if sys.argv[3] == 'within': die()\n"
    "    moves = []\n"
    "    move = atomic.move\n"
    "    atomic.move = lambda *paths: die() if moves else (moves.append(1), move(*paths))\n"
)


def _kill_writer(out, moment):
    kind = "none" if fcntl.flock.__name__ == "refuse" else "locks"
    command = [sys.executable, "-c", _KILLED, str(out), kind, moment]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL


def _names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.usefixtures("disk")
def test_what_a_killed_writer_left_goes_when_its_output_is_written_again(tmp_path):
    _kill_writer(tmp_path / "set.v1", "within")
    left = _names(tmp_path)
    assert any(".tmp" in name for name in left)
    with atomic_path(tmp_path / "set") as of_another:
        of_another.mkdir()
        assert set(left) <= {*_names(tmp_path)}
    with atomic_path(tmp_path / "set.v1") as alive:
        alive.mkdir()
        assert not set(left) & {*_names(tmp_path)}
        with atomic_path(tmp_path / "set.v1") as second:
            second.mkdir()
            (second / "x").touch()
        writable_new_folder(tmp_path / "set.v1", overwrite=True)
        assert alive.is_dir()
    assert _names(tmp_path) == ["set", "set.v1"]


@pytest.mark.usefixtures("disk")
def test_an_old_output_stands_again_if_its_successor_was_killed_on_the_way(tmp_path):
    out = tmp_path / "set"
    out.mkdir()
    (out / "old").touch()
    _kill_writer(out, "between")
    assert not out.exists()
    with pytest.raises(VesaliusError, match="exists already"):
        writable_new_folder(out)
    assert _names(tmp_path) == ["set"]
    assert _names(out) == ["old"]


def test_writers_of_one_output_at_the_same_time_leave_one_whole(tmp_path):
    def write(number):
        for _ in range(20):
            with atomic_path(tmp_path / "record.json") as temporary:
                temporary.write_text(str(number) * 1000)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    assert _names(tmp_path) == ["record.json"]
    assert len(set((tmp_path / "record.json").read_text())) == 1
