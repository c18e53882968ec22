"""Which images may take part: held-out real ones, one a patient, and those of the synthetic sets.

Everything that is left out is counted with its reason.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vesalius.core.documents import read_json
from vesalius.core.labels import findings_of, join_findings, labels_by_caption, listed
from vesalius.core.manifest import read_manifest
from vesalius.core.trained_on import Part, parts_of
from vesalius.errors import VesaliusError
from vesalius.images.image_set import ImageSet, joined
from vesalius.images.stored_images import MANIFEST
from vesalius.models.trained_on import of_bundled_models
from vesalius.pairs.open_images import open_images
from vesalius.pairs.table import Pairs, read_pairs
from vesalius.pairs.trained_on import lists_of, read_trained_on
from vesalius.study.key import REAL, SYNTHETIC
from vesalius.study.settings import ImageSettings


@dataclass(frozen=True)
class Candidate:
    """An image that may take part; `row` is that of all images joined."""

    row: int
    arm: str
    set: str  # the synthetic set, "" of real images
    origin: str  # where the image came from, for the key
    label: str
    prompt: str
    group: str
    attributes: Mapping[str, str]  # what it is matched by besides; only what is known


@dataclass
class Ledger:
    """What was left out, and what must be known."""

    excluded: dict[str, Counter[str]] = field(default_factory=dict)  # by arm, by reason
    warnings: list[str] = field(default_factory=list)

    def exclude(self, arm: str, why: str, number: int = 1) -> None:
        """Count images that take no part."""
        if number:
            self.excluded.setdefault(arm, Counter())[why] += number


@dataclass(frozen=True)
class Material:
    """All candidates in the order in which they are drawn, and their images."""

    pairs: Pairs
    images: ImageSet  # the rows of the table, then the sets
    real: list[Candidate]
    sets: dict[str, list[Candidate]]  # by arm
    trained: list[int]  # rows of the table that a generator learned from
    elsewhere: list[int]  # rows of the table outside the splits that are drawn from
    ledger: Ledger


def read_material(
    real: Path | str, synthetic: Mapping[str, Path | str], settings: ImageSettings, seed: int
) -> Material:
    """Open the table and the sets. Raises VesaliusError where no study can be made of them."""
    if not synthetic:
        raise VesaliusError("give a synthetic set by --synthetic")
    pairs, ledger = read_pairs(real), Ledger()
    parts = _parts(synthetic, pairs, real, settings)
    rows = _asked_for(pairs, real, settings)
    candidates = _real(pairs, rows, parts, settings, ledger)
    candidates = _one_a_patient(candidates, pairs, settings, seed, ledger)
    opened = {name: open_images(path) for name, path in synthetic.items()}
    sets: dict[str, list[Candidate]] = {}
    first, by_caption = len(pairs), labels_by_caption(
        [pairs.column("caption")[k] or "" for k in rows],
        [_label(pairs.column(settings.label)[k]) for k in rows],
    )  # fmt: skip
    for name, images in opened.items():
        arm = SYNTHETIC if len(opened) == 1 else f"{SYNTHETIC}:{name}"
        found = _synthetic(images, arm, name, first, by_caption, settings)
        _count_rejected(Path(synthetic[name]), arm, ledger)
        ledger.exclude(arm, "no label", len(images) - len(found))
        order = np.random.default_rng([seed, len(sets), 2]).permutation(len(found))
        sets[arm] = [found[k] for k in order]
        first += len(images)
    candidates, sets = _common(candidates, sets, ledger)
    seen = set[str]().union(*(part.trained_on.images for part in parts if part.trained_on))
    sha1, split = pairs.column("sha1"), pairs.column("split")
    trained = [k for k in rows if sha1[k] in seen or (not seen and split[k] == "train")]
    elsewhere = [k for k in rows if split[k] not in settings.splits and split[k] != "unused"]
    images = joined([pairs, *opened.values()])
    return Material(pairs, images, candidates, sets, trained, elsewhere, ledger)


def _parts(
    synthetic: Mapping[str, Path | str], pairs: Pairs, real: Path | str, settings: ImageSettings
) -> list[Part]:
    """The models and adapters behind the sets, with what each was trained on."""
    given = [one for path in settings.learned_from for one in read_trained_on(path)]
    known, parts = [*of_bundled_models(), *lists_of(pairs, Path(real).name)], []
    for name, path in synthetic.items():
        about = Path(path) / "about.json"
        record = read_json(about) if about.is_file() else {}
        for part in parts_of(record, given, known):
            parts.append(Part(f"{part.name} behind {name}", part.state, part.trained_on))
    return parts


def _asked_for(pairs: Pairs, path: Path | str, settings: ImageSettings) -> list[int]:
    """Rows of the sources and values that are asked for, whatever their split."""
    names = pairs.table.column_names
    if lacking := [name for name in (settings.label, *settings.where) if name not in names]:
        raise VesaliusError(f"{path} has no column {lacking[0]!r}: it has {', '.join(names)}")
    source = pairs.column("source")
    if unknown := [name for name in settings.sources if name not in source]:
        raise VesaliusError(
            f"no image of {path} is of the source {unknown[0]!r}: choose of "
            f"{listed(sorted({name or '' for name in source}))}"
        )
    rows = [k for k, name in enumerate(source) if not settings.sources or name in settings.sources]
    for name, value in settings.where.items():
        column = pairs.column(name)
        rows = [k for k in rows if str(column[k]) == value]
    return rows


def _real(
    pairs: Pairs,
    rows: Sequence[int],
    parts: Sequence[Part],
    settings: ImageSettings,
    ledger: Ledger,
) -> list[Candidate]:
    """The held-out rows with a label, whose patients no generator has seen."""
    split = pairs.column("split")
    held_out = [k for k in rows if split[k] in settings.splits]
    if not held_out:
        counts = Counter(split[k] for k in rows)
        raise VesaliusError(
            f"no real image is of the splits {', '.join(settings.splits)} ("
            + ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
            + "): make the table with `vesalius pairs --split val=0.15,test=0.2`, or give --splits"
        )
    for part in parts:
        if part.trained_on is None:
            ledger.warnings.append(
                f"nobody says what {part.name} learned from: real images of this study may be among "
                "it; name its run or table by --trained-on"
            )
    if "train" in settings.splits:
        ledger.warnings.append("training images take part as real ones, as --splits says")
    known = [part.trained_on for part in parts if part.trained_on]
    found = []
    for candidate in _of_rows(pairs, held_out, settings):
        sha1 = pairs.column("sha1")[candidate.row] if known else ""
        if not candidate.label:
            ledger.exclude(REAL, "no label")
        elif any(each.includes(sha1, candidate.group or None) for each in known):
            ledger.exclude(REAL, "its patient was trained on")
        else:
            found.append(candidate)
    if not found:
        why = ", ".join(f"{why}: {number}" for why, number in ledger.excluded[REAL].items())
        raise VesaliusError(f"none of the {len(held_out)} held-out images can take part ({why})")
    return found


def _of_rows(pairs: Pairs, rows: Sequence[int], settings: ImageSettings) -> list[Candidate]:
    table = {name: pairs.column(name) for name in ("caption", "group", "source", "row")
             if name in pairs.table.column_names}  # fmt: skip
    label = pairs.column(settings.label)
    matched = {n: pairs.column(n) for n in settings.match if n in pairs.table.column_names}
    return [
        Candidate(
            k,
            REAL,
            "",
            f"{table['source'][k] or ''}:{table['row'][k] if 'row' in table else k}",
            _label(label[k]),
            table["caption"][k] or "",
            table["group"][k] or "",
            {name: str(values[k]) for name, values in matched.items() if values[k]},
        )
        for k in rows
    ]


def _label(text: str | None) -> str:
    return join_findings(findings_of(text))


def _one_a_patient(
    candidates: Sequence[Candidate],
    pairs: Pairs,
    settings: ImageSettings,
    seed: int,
    ledger: Ledger,
) -> list[Candidate]:
    """One image of each patient by seed, those of the first split first.

    Raises VesaliusError where a patient has images in the training split too.
    """
    split, group = pairs.column("split"), pairs.column("group")
    known = {c.group for c in candidates if c.group}
    if "train" not in settings.splits:
        trained = {group[k] for k in pairs.rows("train")} - {None, ""}
        if both := known & trained:
            raise VesaliusError(
                f"one group is on two sides, {min(both)!r}: divide the table again by "
                "`vesalius pairs --split val=0.15,test=0.2`"
            )
    order = np.random.default_rng([seed, 1]).permutation(len(candidates))
    drawn = [candidates[k] for k in order]
    drawn.sort(key=lambda c: settings.splits.index(split[c.row]))
    kept: dict[str, Candidate] = {}
    for candidate in drawn:
        kept.setdefault(candidate.group or f"\0{candidate.row}", candidate)
    ledger.exclude(REAL, "another image of the patient takes part", len(drawn) - len(kept))
    return list(kept.values())


def _synthetic(
    images: ImageSet,
    arm: str,
    name: str,
    first: int,
    by_caption: Mapping[str, str],
    settings: ImageSettings,
) -> list[Candidate]:
    """The images of a set with a label: its own, or that of all real images with its prompt."""
    prompts, groups = _column(images, "caption"), _column(images, "group")
    labels = _column(images, settings.label)
    if not any(labels):
        labels = _column(images, "label")
    files, rows = _column(images, "file"), _column(images, "row")
    matched = {column: _column(images, column) for column in settings.match}
    found = []
    for k, label in enumerate(labels):
        label = _label(label) or by_caption.get(prompts[k], "")
        attributes = {column: values[k] for column, values in matched.items() if values[k]}
        origin = f"{name}:{files[k] or rows[k] or k}"
        if label:
            found.append(Candidate(first + k, arm, name, origin, label, prompts[k], groups[k], attributes))  # fmt: skip
    return found


def _column(images: ImageSet, name: str) -> list[str]:
    if isinstance(images, Pairs) and name not in images.table.column_names:
        return [""] * len(images)
    return [str(value) if value is not None else "" for value in images.column(name)]


def _count_rejected(folder: Path, arm: str, ledger: Ledger) -> None:
    """What the guard of `vesalius synthesize` has rejected, by its own reasons."""
    if not (folder / MANIFEST).is_file():
        return
    for row in read_manifest(folder / MANIFEST):
        for one in row.get("rejected") or []:
            reason = one.get("reason") if isinstance(one, dict) else None
            ledger.exclude(arm, f"rejected by the guard: {reason or 'no reason given'}")


def _common(
    real: list[Candidate], sets: dict[str, list[Candidate]], ledger: Ledger
) -> tuple[list[Candidate], dict[str, list[Candidate]]]:
    """Those whose label all arms have. Raises VesaliusError where there is none."""
    arms = {REAL: real, **sets}
    common = set.intersection(*({c.label for c in some} for some in arms.values()))
    if not common:
        have = "; ".join(
            f"{arm} {listed(sorted({c.label for c in some})) or 'none'}"
            for arm, some in arms.items()
        )
        raise VesaliusError(f"no label is common to all arms: {have}")
    kept = {}
    for arm, some in arms.items():
        kept[arm] = [c for c in some if c.label in common]
        ledger.exclude(arm, "a label that another arm lacks", len(some) - len(kept[arm]))
    return kept.pop(REAL), kept
