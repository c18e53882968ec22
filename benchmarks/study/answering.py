"""Scripted readers answer a locked study: straight into its database, or as browsers do, over http."""

import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.study.scripted import Question, Scripted, Skill
from vesalius.study.database import Database, Given, Trial
from vesalius.study.key import read_items, read_trials
from vesalius.study.layout import Layout
from vesalius.study.protocol import read_protocol

BEGAN = 1_790_000_000.0  # seconds since 1970
YEARS = (2, 6, 12, 20)


class Answers:
    """What readers of these skills say to each trial of a study; its key is read for it."""

    def __init__(self, folder: Path, skills: Sequence[Skill], seed: int = 0) -> None:
        layout = Layout(folder)
        self.protocol = read_protocol(layout.protocol)
        self.items = {row.item: row for row in read_items(layout.key)}
        self.trials = {row.trial: row for row in read_trials(layout.key_trials)}
        names = [reader.name for reader in self.protocol.readers]
        self.readers = {
            name: Scripted(skills[k % len(skills)], 7919 * seed + k) for k, name in enumerate(names)
        }

    def given(self, trial: Trial) -> Given:
        """The answer to one trial, shown at 0."""
        pictures = [self.items[name] for name in trial.items]
        task = self.protocol.task(trial.task)
        question = Question(
            trial.task,
            trial.items,
            tuple(picture.arm for picture in pictures),
            self.trials[trial.id].truth,
            task.labels,
            pictures[0].prompt,
            task.ties,
        )
        reply = self.readers[trial.reader].answer(question)
        milliseconds = round(1000 * reply.seconds)
        return Given(
            str(uuid.uuid4()),
            reply.value,
            reply.confidence,
            reply.details,
            0.0,
            reply.seconds,
            milliseconds,
            {"zoomed": int(milliseconds % 3 == 0), "windowed": 0},
        )


def answer_all(
    folder: Path,
    skills: Sequence[Skill],
    seed: int = 0,
    only: Mapping[str, Sequence[str]] | None = None,
) -> int:
    """Every reader answers everything, each of one skill, in turn; how many answers that is.

    `only` gives the tasks that a reader answers, where these are not all.
    """
    answers, count = Answers(folder, skills, seed), 0
    with Database(Layout(folder).database) as database:
        for number, reader in enumerate(database.readers()):
            profile = {"specialty": "radiology", "years": YEARS[number % 4], "seen_before": "some"}
            database.update_reader(reader.id, profile=profile, consented_at=BEGAN, started_at=BEGAN)
            now = BEGAN
            for trial in database.trials(reader.id):
                if only and trial.task not in only.get(reader.id, (trial.task,)):
                    continue
                given = answers.given(trial)
                at = Given(**{**vars(given), "shown_at": now, "submitted_at": now + (given.submitted_at or 0)})  # fmt: skip
                now = at.submitted_at or now
                database.record_answer(trial, at, received_at=now)
                count += 1
            database.update_reader(reader.id, finished_at=now)
    return count
