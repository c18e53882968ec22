"""Kill the server at random moments while readers answer: is an answer lost, or there twice?

    python -m benchmarks.study.kills --out OUT [--kills 200] [--readers 5] [--seed 0]

The server is forked from a process that has imported everything, and killed (SIGKILL) up to a second
after it answers, or one time in four after it was started; then it is started again. Readers send each answer, with one id, until it
is acknowledged, and take one in ten back. In the end the database must be sound, contain every
acknowledged row once and as it was sent, and nothing that nobody sent. Prints, and writes to
kills.json, what was counted, and stops with an error where anything is not so.
"""

import argparse
import json
import multiprocessing
import os
import random
import signal
import socket
import sqlite3
import tempfile
import threading
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx2

from benchmarks.recording import record, run, table
from benchmarks.study.drawn import SmallStudy, small_study
from benchmarks.study.http_reader import HttpReader
from vesalius.errors import VesaliusError
from vesalius.study.database import Database
from vesalius.study.layout import Layout
from vesalius.study.server.links import missing_links
from vesalius.study.server.serve import serve
from vesalius.web.settings import ServerSettings

FORK = multiprocessing.get_context("fork")
LONGEST_LIFE = 1.0  # seconds of a server
LONGEST_THOUGHT = 0.1  # seconds of a reader
TRIALS = 1000  # of each reader, more than can be answered meanwhile


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--readers", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    figures = kill_often(args.kills, args.readers, args.seed)
    table([list(figures), list(figures.values())])
    print("no acknowledged answer was lost, none is there twice")
    record(args.out, "kills", figures, {**vars(args), "out": None})


def kill_often(kills: int, readers: int, seed: int, trials: int = TRIALS) -> dict[str, Any]:
    """Kill, restart, check; return what was counted. Raises VesaliusError for a broken promise."""
    rng = random.Random(seed)
    names = tuple(f"R{k + 1}" for k in range(readers))
    with tempfile.TemporaryDirectory() as scratch:
        small = SmallStudy(("quality",), names, 0, trials, side=16, images=20)
        layout = Layout(small_study(Path(scratch) / "study", small))
        settings = ServerSettings(port=free_port(), no_browser=True)
        with Database(layout.database) as database:
            tokens = missing_links(database)
        links = [f"{settings.url(settings.port)}r/{token}" for token in tokens.values()]
        told, done = Path(scratch) / "told.json", FORK.Event()
        clients = FORK.Process(target=read_on, args=(links, told, done, seed))
        clients.start()
        for kill in range(kills):
            server, answers = start(layout, settings)
            if kill % 4:
                answers.wait(60)
            time.sleep(rng.uniform(0, LONGEST_LIFE))
            os.kill(server.pid or 0, signal.SIGKILL)
            server.join()
        server, _ = start(layout, settings)  # so that what is under way can end
        done.set()
        clients.join(60)
        server.terminate()
        server.join()
        if clients.exitcode != 0:
            raise VesaliusError("the readers failed")
        return {"kills": kills} | check(layout, json.loads(told.read_text()))


def start(layout: Layout, settings: ServerSettings) -> tuple[Any, Any]:
    """A server in a process of its own, and the event that it answers."""
    answers = FORK.Event()

    def run_server() -> None:
        serve(layout.folder, settings, on_ready=lambda ready: answers.set())

    server = FORK.Process(target=run_server)
    server.start()
    return server, answers


def free_port() -> int:
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return trial.getsockname()[1]


def read_on(links: list[str], told: Path, done: Any, seed: int) -> None:
    """All readers, until `done` is set; writes what was sent and what was acknowledged."""
    sent: dict[str, list[Any]] = {}
    acknowledged: list[str] = []

    def read(number: int) -> None:
        with httpx2.Client(timeout=5) as client:
            reader = HttpReader(client, links[number], seed * 1000 + number)
            patiently(reader.arrive, done)
            state = patiently(reader.state, done)
            while state and state["page"] == "reading" and not done.is_set():
                body = reader.body(state)
                if state["back"] and reader.rng.random() < 0.1:
                    body |= {"trial": state["back"]["token"], "value": ""}
                sent[body["client_uuid"]] = [body["trial"], body["value"]]
                answered = patiently(lambda body=body: accepted(reader, body), done, gives_up=False)
                acknowledged.append(body["client_uuid"])
                state = answered["state"]
                time.sleep(reader.rng.uniform(0, LONGEST_THOUGHT))
                reader.responses.clear()

    threads = [threading.Thread(target=read, args=(k,)) for k in range(len(links))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    told.write_text(json.dumps({"sent": sent, "acknowledged": acknowledged}))


def accepted(reader: HttpReader, body: dict[str, Any]) -> dict[str, Any]:
    response = reader.post("answer", body)
    if response.status_code != 200:
        raise VesaliusError(f"an answer met status {response.status_code}: {response.text}")
    return response.json()


def patiently(ask: Any, done: Any, *, gives_up: bool = True) -> Any:
    """Ask until there is an answer; None once `done` is set, where that may be."""
    while True:
        try:
            return ask()
        except (httpx2.TransportError, json.JSONDecodeError):
            if gives_up and done.is_set():
                return None
            time.sleep(0.01)


def check(layout: Layout, told: dict[str, Any]) -> dict[str, Any]:
    """Compare the database with what the readers know."""
    with sqlite3.connect(layout.database) as connection:
        sound = connection.execute("PRAGMA integrity_check").fetchone()[0]
    with Database(layout.database) as database:
        rows, tokens = list(database.answers()), {t.id: t.token for t in database.trials()}
        counted = database.counted()
    kept = {row.client_uuid: [tokens[row.trial], row.value] for row in rows}
    lost = [uuid for uuid in told["acknowledged"] if kept.get(uuid) != told["sent"][uuid]]
    strange = [uuid for uuid in kept if kept[uuid] != told["sent"].get(uuid)]
    values: dict[int, list[str]] = {}
    for row in rows:
        values.setdefault(row.trial, []).append(row.value)
    # an answer follows a withdrawal and the other way round, or it would count twice
    twice = [t for t, v in values.items() if any((a == "") == (b == "") for a, b in pairwise(v))]
    if sound != "ok" or lost or strange or twice or len(kept) != len(rows):
        raise VesaliusError(
            f"{sound}; {len(lost)} lost, {len(strange)} nobody sent, {len(twice)} counted twice"
        )
    return {
        "acknowledged": len(told["acknowledged"]),
        "rows": len(rows),
        "withdrawn": sum(row.value == "" for row in rows),
        "trials answered": len(counted),
        "lost": 0,
        "twice": 0,
    }


if __name__ == "__main__":
    run(main)
