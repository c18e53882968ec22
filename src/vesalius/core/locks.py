"""One process at a time, on local and network disks.

The locks are the kernel's (flock) on a file: they end with their process, and a network disk that knows
them holds them across machines, which it does not for folders. A disk that refuses them gets a file whose
existence is the lock, with the name of its holder; what a dead process left of this machine is taken
over, and what another machine left is told, since nobody here can know. On Windows there are none.
"""

import errno
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vesalius.errors import VesaliusError

_TAKEN = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)
_MOMENT = (
    30.0  # seconds: who holds what is held for moments only, and has not changed since, is dead
)
_LOOK_AGAIN = 0.05  # seconds


class Busy(VesaliusError):
    """Somebody else is at it, so that nothing of theirs may be removed."""


@contextmanager
def lock_file(path: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold the file `path`, which is made for it and removed at the end.

    `wait` for whoever has it, for what is held for moments. Raises Busy elsewise.
    """
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            with lock(file, path, wait=wait):
                if not _is_at(file, path):  # its holder has just removed it
                    continue
                try:
                    yield
                finally:
                    with suppress(OSError):
                        path.unlink()
                return
        finally:
            os.close(file)


@contextmanager
def lock(file: int, path: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold an open file, at `path`, as long as the process lives. Raises Busy where somebody else does."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError as error:
        if error.errno in _TAKEN:
            raise _busy(path, "") from error
        with _named(path.with_name(f"{path.name}.owner"), wait):  # this disk has no locks
            yield
        return
    yield


@contextmanager
def _named(path: Path, wait: bool) -> Iterator[None]:
    """Hold what exists once: a new file, with the machine and process of its holder."""
    own = f"{socket.gethostname()} {os.getpid()}"
    seen, since = "", time.monotonic()
    while not _claims(path, own):
        holder = _holder(path)
        if holder != seen:
            seen, since = holder, time.monotonic()
        if _is_dead(holder) or (wait and time.monotonic() - since > _MOMENT):
            path.unlink(missing_ok=True)
        elif not wait:
            raise _busy(path, holder)
        else:
            time.sleep(_LOOK_AGAIN)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _claims(path: Path, own: str) -> bool:
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError:
        return False
    with os.fdopen(file, "w") as text:
        text.write(own)
    return True


def _holder(path: Path) -> str:
    """`machine process`; empty where it has just gone, or has not come to write it."""
    with suppress(OSError):
        return path.read_text(errors="replace")[:200]
    return ""


def _is_dead(holder: str) -> bool:
    """Whether it was a process of this machine that is no more."""
    machine, _, process = holder.partition(" ")
    if machine != socket.gethostname() or not process.isdigit() or int(process) == os.getpid():
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    return False


def _busy(path: Path, holder: str) -> Busy:
    machine, _, process = holder.partition(" ")
    who = f" (process {process} of {machine})" if process else ""
    advice = f", or delete {path} if it has died" if process else ""
    return Busy(f"another run{who} is at work on it, in {path.parent}: wait for it to end{advice}")


def _is_at(file: int, path: Path) -> bool:
    try:
        there, here = os.stat(path), os.fstat(file)
    except FileNotFoundError:
        return False
    return (there.st_ino, there.st_dev) == (here.st_ino, here.st_dev)
