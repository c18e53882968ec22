"""Which adapters draw which rows of a plan: those of all rows, and those of the rows of one label."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vesalius.core.labels import listed, slug
from vesalius.core.paths import expanded
from vesalius.core.words import did_you_mean
from vesalius.errors import VesaliusError


@dataclass(frozen=True)
class RowAdapters:
    """Adapters as FILE or FILE:WEIGHT; `of_label` is empty, or has an entry for each label."""

    common: tuple[str, ...] = ()
    of_label: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def files(self) -> tuple[str, ...]:
        """All, in a fixed order."""
        own = (text for label in sorted(self.of_label) for text in self.of_label[label])
        return (*self.common, *own)

    def hashes(self) -> list[str]:
        """Of `files`, each as `0123456789abcdef * 1`, or `mel: 0123456789abcdef * 1` of a label."""
        from vesalius.models.adapters import adapter_hashes

        own = [
            f"{label}: {text}"
            for label in sorted(self.of_label)
            for text in adapter_hashes(self.of_label[label])
        ]
        return [*adapter_hashes(self.common), *own]

    @property
    def bare(self) -> list[str]:
        """Labels that have no adapter of their own where others have."""
        return sorted(label for label, own in self.of_label.items() if not own)


def adapters_of_rows(asked: Sequence[str], labels: Iterable[str]) -> RowAdapters:
    """What `--adapter` asks for, for a plan with these labels.

    FILE, FILE:WEIGHT and a run with one adapter are for all rows; LABEL=FILE is for those of a
    label; a run that trained an adapter for each label stands for one LABEL=FILE each, but for
    labels that are named themselves. Raises VesaliusError for a label that no row has, and for one
    of which such a run has no adapter.
    """
    names = sorted(set(labels))
    common: list[str] = []
    named: dict[str, list[str]] = {}
    runs: list[tuple[Path, str]] = []
    for text in asked:
        label, rest = _split(text, names)
        run, weight = _run_of_labels(rest)
        if label is not None:
            named.setdefault(label, []).append(rest)
        elif run:
            runs.append((run, weight))
        else:
            common.append(rest)
    own = {label: list(named.get(label, ())) for label in names} if named or runs else {}
    for label in own.keys() - named.keys():
        own[label] = [f"{adapter_of_label(run, label)}{weight}" for run, weight in runs]
    return RowAdapters(tuple(common), {label: tuple(some) for label, some in own.items()})


def is_run_of_labels(path: Path) -> bool:
    """Whether a folder is a run that trained an adapter for each label, LABEL/adapter."""
    return path.is_dir() and not (path / "adapter").is_dir() and any(path.glob("*/adapter"))


def _split(text: str, labels: Sequence[str]) -> tuple[str | None, str]:
    """A label, None for all, and FILE or FILE:WEIGHT."""
    label, equals, _ = text.partition("=")
    if any(part and expanded(part).exists() for part in (text, text.rpartition(":")[0])):
        return None, text
    if known := [one for one in labels if one and text.startswith(f"{one}=")]:
        label = max(known, key=len)  # of `a` and `a=b` the longer one
        return label, text[len(label) + 1 :]
    if not equals or "/" in label:  # a path
        return None, text
    hint = did_you_mean(label, labels) or f"; its labels are {listed([*filter(None, labels)])}"
    raise VesaliusError(f"--adapter {text}: no row of the plan has the label {label!r}{hint}")


def _run_of_labels(text: str) -> tuple[Path | None, str]:
    """A run with an adapter for each label, and `:WEIGHT` or nothing."""
    path, colon, weight = text.rpartition(":")
    for name, rest in ((text, ""), (path, colon + weight)):
        if name and is_run_of_labels(expanded(name)):
            return expanded(name), rest
    return None, ""


def adapter_of_label(run: Path, label: str) -> Path:
    """The adapter's folder of a label in a run of labels. Raises VesaliusError where there is none."""
    if not label:
        raise VesaliusError(
            f"the plan has rows without a label, and {run} has an adapter for each label: give the "
            f"rows labels, or one adapter for all, --adapter {run}/LABEL/adapter"
        )
    if not (own := run / slug(label) / "adapter").is_dir():
        known = listed(sorted(path.parent.name for path in run.glob("*/adapter")))
        raise VesaliusError(
            f"{run} has no adapter for the label {label!r}, only for {known}: name one by --adapter "
            f"{label}=FILE, or leave the label out of the plan (vesalius plan --exclude {label!r})"
        )
    return own
