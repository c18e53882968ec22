"""Answers of the database joined with the key: what `export` writes and `analyse` measures."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vesalius.core.documents import read_json
from vesalius.errors import VesaliusError
from vesalius.study.database import WITHDRAWN, Answer, Database, Reader, Trial
from vesalius.study.judgements import Judgement, Person, score_of
from vesalius.study.key import SYNTHETIC, KeyItem, KeyTrial, read_items, read_trials
from vesalius.study.layout import Layout
from vesalius.study.lock import verify
from vesalius.study.protocol import Protocol, read_protocol


@dataclass(frozen=True)
class Material:
    """All of a study that has been read, by one who may open the key."""

    study: str  # its id
    locked: str  # hash of the lock
    protocol: Protocol
    judgements: Sequence[Judgement]  # undone ones and training too
    people: Sequence[Person]
    lock: Mapping[str, Any]  # protocol.lock.json
    build: Mapping[str, Any]  # build.json
    what: dict[str, Any]  # images of each arm and set, with the hashes of the synthetic ones
    unfinished: Sequence[str] = ()  # readers who have not ended


def read_material(layout: Layout, *, unfinished: bool, what: str) -> Material:
    """Check the lock, and join answers with the key.

    Raises VesaliusError where the study is not as it was locked, the database is of another version, or
    readers have not ended (unless `unfinished`, which the study's log keeps: `what` was done).
    """
    locked = verify(layout, key=True)
    protocol = read_protocol(layout.protocol)
    key = {row.item: row for row in read_items(layout.key)}
    of_trials = {row.trial: row for row in read_trials(layout.key_trials)}
    with Database(layout.database) as database:
        readers = database.readers()
        trials, answers = list(database.trials()), list(database.answers())
        own = _by_reader(trials, answers)
        people = [_person(reader, own.get(reader.id, {})) for reader in readers]
        waiting = [each.reader for each in people if each.finished_at is None]
        if waiting and not unfinished:
            raise VesaliusError(
                f"{len(waiting)} of {len(people)} readers have not ended ({', '.join(waiting[:5])}"
                f"{', ...' if len(waiting) > 5 else ''}): wait, or pass --unfinished, which is recorded "
                "and said in the report"
            )
        if waiting:
            database.add_event("", "unfinished", f"{what} before {len(waiting)} readers had ended")
        prompts = {item.id: item.prompt for item in database.items()}
    joined = _Joined(key, of_trials, {p.reader: p for p in people}, prompts)
    return Material(
        locked.study,
        locked.hash,
        protocol,
        joined.judgements(trials, answers),
        people,
        locked.document,
        read_json(layout.build),
        _images(list(key.values())),
        waiting,
    )


def _images(items: Sequence[KeyItem]) -> dict[str, Any]:
    """How many there are of each arm; of each synthetic set which, so that others know it again."""
    sets = sorted({item.arm for item in items if item.arm.startswith(SYNTHETIC)})
    return {
        "images": dict(sorted(Counter(item.arm for item in items).items())),
        "sets": [
            {
                "arm": arm,
                "name": next(item.set for item in items if item.arm == arm),
                "sha1": sorted(item.sha1 for item in items if item.arm == arm),
            }
            for arm in sets
        ],
    }


@dataclass(frozen=True)
class _Joined:
    """Looks up what is true of an answer."""

    key: Mapping[str, KeyItem]
    of_trials: Mapping[int, KeyTrial]
    people: Mapping[str, Person]
    prompts: Mapping[str, str]

    def judgements(self, trials: Sequence[Trial], answers: Sequence[Answer]) -> list[Judgement]:
        """One a row that was given, but for withdrawals: these only undo the one before."""
        by_trial: dict[int, list[Answer]] = defaultdict(list)
        for answer in answers:
            by_trial[answer.trial].append(answer)
        return [
            self.judgement(trial, answer, last=answer is given[-1], changes=number)
            for trial in trials
            if (given := by_trial.get(trial.id))
            for number, answer in enumerate(a for a in given if a.value != WITHDRAWN)
        ]

    def judgement(self, trial: Trial, answer: Answer, *, last: bool, changes: int) -> Judgement:
        """One answer with all that the key says of its trial and pictures."""
        person, of_trial = self.people[trial.reader], self.of_trials[trial.id]
        pictures = [self.key[item] for item in trial.items]
        left, right = pictures[0], pictures[1] if len(pictures) > 1 else None
        scored = trial.task == "turing"
        return Judgement(
            reader=trial.reader,
            specialty=person.specialty,
            years=person.years,
            task=trial.task,  # pyright: ignore[reportArgumentType]
            phase=trial.phase,
            kind=of_trial.kind,  # pyright: ignore[reportArgumentType]
            position=trial.position,
            trial=trial.id,
            item_left=left.item,
            item_right=right.item if right else "",
            arm=left.arm,
            arm_right=right.arm if right else "",
            set=left.set,
            set_right=right.set if right else "",
            label=left.label,
            truth=of_trial.truth,
            value=answer.value,
            confidence=answer.confidence,
            score=score_of(answer.value, answer.confidence) if scored else None,
            correct=answer.value == of_trial.truth if of_trial.truth else None,
            details=answer.details,
            seconds=None if answer.visible_ms is None else answer.visible_ms / 1000,
            shown_at=answer.shown_at,
            submitted_at=answer.submitted_at,
            changes=changes,
            zoomed=bool(answer.tools.get("zoomed")),
            windowed=bool(answer.tools.get("windowed")),
            repeat_of=of_trial.repeat_of,
            counts=last,
            prompt=self.prompts.get(left.item, ""),
        )


def _by_reader(
    trials: Sequence[Trial], answers: Sequence[Answer]
) -> dict[str, dict[int, str | None]]:
    """Of each reader the last answer to each trial, None to one that was not answered."""
    last = {answer.trial: answer.value for answer in answers}
    found: dict[str, dict[int, str | None]] = defaultdict(dict)
    for trial in trials:
        found[trial.reader][trial.id] = last.get(trial.id)
    return found


def _person(reader: Reader, last: Mapping[int, str | None]) -> Person:
    years = reader.profile.get("years")
    try:
        known = None if years in (None, "") else float(years)
    except (TypeError, ValueError):
        known = None
    return Person(
        reader.id,
        reader.specialty or str(reader.profile.get("specialty") or ""),
        known,
        str(reader.profile.get("seen_before") or ""),
        len(last),
        sum(value not in (None, WITHDRAWN) for value in last.values()),
        reader.consented_at,
        reader.started_at,
        reader.finished_at,
    )
