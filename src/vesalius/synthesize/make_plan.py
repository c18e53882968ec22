"""Plans made: from the real classes of a pairs table, or from prompts that are given."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from vesalius.errors import VesaliusError
from vesalius.models.overlap import seen_test_images
from vesalius.pairs.captions import Dictionary, SetDictionary, entry_for, load_dictionary
from vesalius.pairs.table import read_pairs
from vesalius.report.notebook import show
from vesalius.sample.checks import check_numbers, check_prompts, parse_size
from vesalius.sample.prompt import parse_prompt
from vesalius.synthesize.classes import MOST_ROWS, RealClass, how_many, real_classes
from vesalius.synthesize.plan import PlanRow
from vesalius.synthesize.prompts import (
    Prompt,
    check_entry,
    composed_captions,
    hashed,
    parse_attributes,
    real_captions,
)
from vesalius.synthesize.settings import PlanSettings, RowSettings
from vesalius.synthesize.triggers import trigger_of, with_trigger

SEEDS = 10**10  # spreadsheets write longer numbers as 1.23E+11
MOST_OF_ONE = 20  # planned images to a real one, beyond which there is a warning


@dataclass(frozen=True)
class Count:
    """One line of the summary: a class, its real training images, and those planned."""

    name: str
    real: int
    planned: int


@dataclass(frozen=True)
class Plan:
    """The rows of a plan, and a line about each class."""

    rows: list[PlanRow]
    counts: list[Count]

    def __repr__(self) -> str:
        classes = f"{len(self.counts)} class{'es' * (len(self.counts) != 1)}"
        return f"a plan of {len(self.rows):,} images of {classes}"

    def _repr_html_(self) -> str:
        lines = [(one.name, one.real, one.planned, one.real + one.planned) for one in self.counts]
        return show(repr(self), ("class", "real", "planned", "after"), lines)


def plan_from_pairs(
    pairs: Path | str,
    settings: PlanSettings,
    on_warning: Callable[[str], object] = lambda message: None,
) -> Plan:
    """Rows for the classes of a pairs table.

    Rows go around the classes, so that any first part of a plan is as balanced as the whole. The
    seed and prompt of the k-th image of a class follow from the settings' seed, the class and k:
    more images, or more classes, leave all others as they are.
    Raises VesaliusError for what cannot be planned.
    """
    seed, asked = settings.seed, parse_attributes(settings.attributes)
    private = _private(settings)
    classes = real_classes(pairs, settings)
    counts = how_many({real.key: len(real) for real in classes}, settings.amount)
    prompts: list[Iterator[Prompt]]
    if settings.captions or settings.templates:
        entries = _entries(classes, settings.captions, settings.templates)
        for source, entry in entries.items():
            same = [real for real in classes if real.source == source]
            for message in check_entry(entry, same, asked, all_fields=bool(settings.templates)):
                on_warning(message)
        prompts = [composed_captions(real, entries[real.source], seed, asked) for real in classes]
    else:
        prompts = [real_captions(real, seed) for real in classes]
    if settings.adapter:
        words = [trigger_of(settings.adapter, real.label) for real in classes]
        prompts = [with_trigger(p, w) if w else p for p, w in zip(prompts, words, strict=True)]
    planned = [
        _Class(real.label, real.key, {"source": real.source}, source, counts[real.key])
        for real, source in zip(classes, prompts, strict=True)
    ]
    rows = _rows(planned, seed, settings.rows)
    summary = [Count(real.name, len(real), counts[real.key]) for real in classes]
    table, model = read_pairs(pairs), settings.rows.model or "mini"
    seen = seen_test_images(model, table.column, table.rows("test"))
    if seen:
        seen = f"the plan uses no test image; but before you test on them: {seen}"
    for message in filter(None, (_ambiguous(rows), _from_few(summary), seen, private)):
        on_warning(message)
    return Plan(rows, summary)


def plan_prompts(
    prompts: Sequence[str],
    n: int,
    labels: Sequence[str] = (),
    seed: int = 0,
    shared: RowSettings | None = None,
) -> list[PlanRow]:
    """`n` rows of each prompt; `labels` is empty, or one label for all, or one a prompt.

    Raises VesaliusError for a prompt that cannot be read or stands twice.
    """
    prompts = check_prompts(prompts)
    check_numbers(n=n, seed=seed)
    for prompt, times in Counter(prompts).items():
        parse_prompt(prompt)
        if times > 1:
            raise VesaliusError(f"the prompt {prompt!r} stands twice: ask for more of it by -n")
    if len(labels) not in (0, 1, len(prompts)):
        raise VesaliusError(
            f"{len(labels)} labels for {len(prompts)} prompts: give one for all, or one for each"
        )
    if n * len(prompts) > MOST_ROWS:
        raise VesaliusError(f"-n {n:,} is too many for one plan: {MOST_ROWS:,} rows are the most")
    each = [*labels] * (len(prompts) if len(labels) == 1 else 1) or [""] * len(prompts)
    wanted = [
        _Class(label, (prompt,), {}, repeat((prompt, {})), n)
        for prompt, label in zip(prompts, each, strict=True)
    ]
    return _rows(wanted, seed, shared or RowSettings())


def shared_columns(shared: RowSettings) -> dict[str, Any]:
    """The columns of a plan that are the same for all rows.

    Raises VesaliusError for a model that does not exist.
    """
    width, height = parse_size(shared.size) if shared.size else (None, None)
    columns = {"negative": shared.negative, "steps": shared.steps, "guidance": shared.guidance}
    columns |= {"sampler": shared.sampler, "width": width, "height": height}
    if shared.model:
        from vesalius.models.folder import check_folder, folder_hash
        from vesalius.models.locate import locate

        folder = locate(shared.model)
        check_folder(folder)
        columns["model_hash"] = folder_hash(folder)
    return columns


@dataclass(frozen=True)
class _Class:
    """What is planned of one class; `key` is what its seeds follow from."""

    label: str
    key: tuple[str, ...]
    attributes: dict[str, str]
    prompts: Iterator[Prompt]
    count: int


def _rows(classes: Sequence[_Class], seed: int, shared: RowSettings) -> list[PlanRow]:
    """The rows of all classes, the first image of each, then the second, ..."""
    columns = shared_columns(shared)
    rows: list[PlanRow] = []
    taken: defaultdict[str, set[int]] = defaultdict(set)
    for number in range(max(one.count for one in classes)):
        for one in classes:
            if number >= one.count:
                continue
            prompt, said = next(one.prompts)
            attempt = 0
            while (drawn := _seed(seed, one.key, number, attempt)) in taken[prompt]:
                attempt += 1  # as rare as 1 in SEEDS for two images of one prompt
            taken[prompt].add(drawn)
            attributes = one.attributes | said if said else one.attributes
            rows.append(
                PlanRow(len(rows), prompt, one.label, drawn, **columns, attributes=attributes)
            )
    return rows


def _seed(seed: int, key: tuple[str, ...], number: int, attempt: int) -> int:
    return hashed("seed", seed, *key, number, attempt) % SEEDS


def _entries(
    classes: Sequence[RealClass], captions: str | None, templates: Sequence[str]
) -> dict[str, SetDictionary]:
    """How captions are composed for each source."""
    dictionary: Dictionary = load_dictionary(captions) if captions else {}
    entries = {}
    for source in dict.fromkeys(real.source for real in classes):
        entry = entry_for(dictionary, source) if dictionary else None
        if templates:
            try:
                given = SetDictionary(templates=list(templates))
            except ValidationError as error:
                what = error.errors()[0]["msg"].removeprefix("Value error, ")
                raise VesaliusError(f"--template: {what}") from error
            entry = entry.model_copy(update={"templates": given.templates}) if entry else given
        entries[source] = entry
    return entries


def _private(settings: PlanSettings) -> str | None:
    """A warning for the plan of a private adapter: its prompts come from rows of the table.

    Raises VesaliusError for numbers that are those of real patients' images.
    """
    if settings.adapter is None:
        return None
    from vesalius.models.privacy import card_of_run

    card = card_of_run(settings.adapter)
    if card is None or card.epsilon is None:
        return None
    amount = settings.amount
    if "--per-class" not in amount.given and amount.share != "even":
        way = next(iter(amount.given), "--total")
        way += " --share real" * (way == "--total")
        raise VesaliusError(
            f"{settings.adapter} is private ({card.claim}), and {way} publishes how many images of each "
            "class its patients have: take --per-class N, or --total N --share even"
        )
    return (
        f"{settings.adapter} is private, and the guarantee does not cover this plan's prompts: they are "
        "captions of the table's rows, or state their attributes. Where those may not be published, give "
        "prompts of your own: vesalius plan --prompt"
    )


def _ambiguous(rows: Sequence[PlanRow]) -> str | None:
    """A warning where one prompt stands under several labels: its images cannot differ by them."""
    labels: defaultdict[str, set[str]] = defaultdict(set)
    for row in rows:
        labels[row.prompt].add("/".join(filter(None, (row.attributes["source"], row.label))))
    shared = {prompt: names for prompt, names in labels.items() if len(names) > 1}
    if not shared:
        return None
    count = sum(row.prompt in shared for row in rows)
    prompt, names = next(iter(shared.items()))
    return (
        f"{count:,} rows have prompts that stand under several labels, such as {prompt!r} under "
        f"{', '.join(sorted(names))}: nothing in them says which; --exclude some, or take --captions"
    )


def _from_few(summary: Sequence[Count]) -> str | None:
    """A warning where a class is planned at many times its size: little of it can be learnt."""
    few = [one for one in summary if one.planned > MOST_OF_ONE * one.real]
    if not few:
        return None
    worst = max(few, key=lambda one: one.planned / one.real)
    what = "1 class is" if len(few) == 1 else f"{len(few)} classes are"
    return (
        f"{what} planned at over {MOST_OF_ONE} times their training images, most of "
        f"all {worst.name} ({worst.planned:,} from {worst.real}): expect copies of these or "
        "inventions; --exclude leaves a class out, --ratio keeps to its size"
    )
