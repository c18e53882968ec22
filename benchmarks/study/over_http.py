"""Scripted readers who answer a study through its server, all at once, as browsers would."""

import json
import threading
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx2

from benchmarks.study.answering import Answers
from benchmarks.study.http_reader import HttpReader
from benchmarks.study.scripted import Skill
from benchmarks.study.served import Served
from vesalius.study.database import Database, Trial
from vesalius.study.layout import Layout


class ScriptedReader(HttpReader):
    """Says what a reader of known skill says."""

    def __init__(
        self, client: httpx2.Client, link: str, answers: Answers, trials: dict[str, Trial]
    ) -> None:
        super().__init__(client, link, seed=zlib.crc32(link.encode()))  # ids are of one reader
        self.answers, self.trials = answers, trials

    def body(self, state: dict[str, Any]) -> dict[str, Any]:
        """The answer to the trial that is next."""
        body = super().body(state)
        given = self.answers.given(self.trials[body["trial"]])
        return body | {
            "value": given.value,
            "confidence": given.confidence,
            "wrong_words": json.loads(given.details or "[]"),
            "elapsed_ms": given.visible_ms,
            "visible_ms": given.visible_ms,
        }


def answer_over_http(folder: Path, skills: Sequence[Skill], seed: int = 0) -> int:
    """Serve the study, let every reader read it to its end, and stop; how many answers that is."""
    answers = Answers(folder, skills, seed)
    with Database(Layout(folder).database) as database:
        trials = {trial.token: trial for trial in database.trials()}
    served, counts = Served(folder), []

    def read(link: str) -> None:
        with httpx2.Client(timeout=60) as client:
            reader = ScriptedReader(client, link, answers, trials)
            reader.arrive()
            counts.append(reader.read())

    try:
        threads = [threading.Thread(target=read, args=(link,)) for link in served.links.values()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        served.stop()
    return sum(counts)
