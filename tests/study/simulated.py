"""Studies in memory: what scripted readers of known skill say of made-up pictures."""

from collections.abc import Mapping, Sequence

from benchmarks.study.scripted import Question, Scripted, Skill

from vesalius.study.judgements import Judgement, Kind, Person, score_of

LABELS = ("blunt", "sharp", "round")


def people(count: int) -> list[Person]:
    """Half of them radiologists, of rising experience."""
    return [
        Person(f"R{k + 1}", "radiology" if k % 2 else "ophthalmology", years=2.0 + 4 * k)
        for k in range(count)
    ]


def arms_of(task: str, cases: int, sets: Sequence[str]) -> list[tuple[tuple[str, ...], Kind]]:
    """The arms of each trial, in order, and its kind."""
    if task == "pair":
        pairs = [(("real", sets[k % len(sets)]), "scored") for k in range(cases)]
        return [*pairs, *[(("real", "real"), "same")] * (cases // 10), *[(("real", "fake"), "fake")] * 5]  # type: ignore[list-item]  # fmt: skip
    arms = [((sets[k // 2 % len(sets)],) if k % 2 else ("real",), "scored") for k in range(cases)]
    fakes = [] if task in ("alignment", "diagnosis") else [(("fake",), "fake")] * 5
    return [*arms, *fakes]  # type: ignore[list-item]


def study(
    task: str,
    skills: Sequence[Skill],
    cases: int = 100,
    *,
    sets: Sequence[str] = ("synthetic",),
    seed: int = 0,
    ties: bool = False,
) -> tuple[list[Judgement], list[Person]]:
    """All answers of readers with these skills; every tenth picture is shown again."""
    readers = people(len(skills))
    made: list[Judgement] = []
    trials = arms_of(task, cases, sets)
    for number, (person, skill) in enumerate(zip(readers, skills, strict=True)):
        scripted = Scripted(skill, 1000 * seed + number)
        again = [(k, True) for k in range(0, cases, 10)]
        for position, (k, repeat) in enumerate([*((k, False) for k in range(len(trials))), *again]):
            arms, kind = trials[k]
            swapped = (k + number) % 2 == 1
            items = tuple(f"{seed}-{task}-{k}-{side}" for side in range(len(arms)))
            if swapped:
                arms, items = arms[::-1], items[::-1]
            label = LABELS[k % 3]
            given = {"real", "fake"}
            names = tuple(arm if arm in given else arm.removeprefix("synthetic:") for arm in arms)
            truth = _truth(task, arms, label)
            prompt = f"a {label} shape on grey" if task == "alignment" else ""
            question = Question(task, items, arms, truth, LABELS, prompt, ties)
            reply = scripted.answer(question)
            offset = 1000 * number
            made.append(
                Judgement(
                    person.reader, person.specialty, person.years, task, "reading",
                    "repeat" if repeat else kind, position, offset + position, items[0],
                    items[1] if len(items) > 1 else "", arms[0], arms[1] if len(arms) > 1 else "",
                    names[0], names[1] if len(names) > 1 else "", label, truth, reply.value, reply.confidence,
                    score_of(reply.value, reply.confidence) if task == "turing" else None,
                    reply.value == truth if truth else None, reply.details, reply.seconds,
                    float(position), position + reply.seconds, 0, False, False,
                    offset + k if repeat else None, prompt=prompt,
                )
            )  # fmt: skip
    return made, readers


def _truth(task: str, arms: tuple[str, ...], label: str) -> str:
    if task == "turing":
        return "real" if arms == ("real",) else "synthetic"
    if task == "diagnosis":
        return label
    if task == "pair" and arms.count("real") == 1:
        return "left" if arms[0] == "real" else "right"
    return ""


def skills(*d_primes: float, **more: Mapping[str, float] | float) -> list[Skill]:
    """Skills that differ in d'."""
    return [Skill(d_prime=d, **more) for d in d_primes]  # type: ignore[arg-type]
