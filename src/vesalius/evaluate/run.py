"""One evaluation: every image read once, every figure with its interval, one document, one page.

`evaluate` writes `metrics.json` and `report.html`; docs/evaluation.md says what is in them.
"""

import hashlib
import json
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from vesalius._version import __version__
from vesalius.core.atomic import atomic_path, told_plainly
from vesalius.core.progress import Progress, no_progress
from vesalius.errors import VesaliusError
from vesalius.evaluate import comparison, validity
from vesalius.evaluate.answers import at_a_glance
from vesalius.evaluate.comparison import Side
from vesalius.evaluate.material import Material, Settings, compared, find_all, read_material
from vesalius.evaluate.metrics.privacy_figures import privacy_step
from vesalius.evaluate.model_itself import Subject, cost_step, membership_step
from vesalius.evaluate.steps import Case, alignment_step, diversity_step, fidelity_step
from vesalius.evaluate.summary import NAMES, summarise
from vesalius.models.device import pick_device
from vesalius.statistics.record import PARTS, Result, together

METRICS, REPORT, TABLE = "metrics.json", "report.html", "chexgenbench.csv"
FORMAT = 1  # of metrics.json
MOST_CLASSES = 40  # with figures of their own
_LIBRARIES = ("torch", "numpy", "pillow", "diffusers", "transformers", "timm", "scikit-learn")
_NEEDED_BYTES = 20_000_000  # at most, of both outputs


@dataclass(frozen=True)
class Models:
    """The networks that are asked about images, loaded before any image is read."""

    subject: Subject | None
    clip: Any = None
    vqa: Any = None


def _models(settings: Settings, subject: Subject | None) -> Models:
    if "alignment" not in settings.only:
        return Models(subject)
    device = str(pick_device(settings.device))
    clip = vqa = None
    if settings.clip:
        from vesalius.evaluate.metrics.clip import load_clip

        clip = load_clip(settings.clip, device)
    if settings.vqa:
        from vesalius.evaluate.metrics.vqa import TransformersVqa

        vqa = TransformersVqa(settings.vqa, device)
    return Models(subject, clip, vqa)


def evaluate(
    real: Path | str,
    synthetic: Mapping[str, Path | str],
    out: Path | str,
    settings: Settings | None = None,
    *,
    train: Path | str | None = None,
    store: Path | str | None = None,
    subject: Subject | None = None,
    overwrite: bool = False,
    command: str = "",
    progress: Progress = no_progress,
    on_warning: Callable[[str], None] = lambda message: None,
) -> dict[str, Any]:
    """Compare synthetic sets with real images; write `out`/metrics.json and `out`/report.html.

    Args:
        real: a pairs table, whose split train is what the generator learned from unless `train`
            says otherwise, or any other images.
        synthetic: name to pairs table, folder with a manifest, or any other images.
        out: the folder. Features are kept in `store`, by default `out`/features, by the content of
            the images: an interrupted evaluation goes on from them.
        settings: see `Settings`.
        train: what the generator learned from: a table, a run, or its training_rows.json.
        store: the folder of the features.
        subject: the generator itself, for membership inference and cost.
        overwrite: replace an earlier report.
        command: the command line, for the report.
        progress: makes a progress bar of a few words.
        on_warning: gets each line that makes the comparison unfair or something missing.

    Returns the document of metrics.json; `unfair` in it says whether the comparison is.
    Raises VesaliusError for what cannot be read or written, and settings that make no sense.
    """
    settings = settings or Settings()
    began, out = time.monotonic(), Path(out)
    _check(settings, synthetic, out, overwrite)
    store = Path(store) if store else out / "features"
    extractors, unavailable = find_all(settings.extractors)
    for name, why in unavailable.items():
        on_warning(f"{name} is left out: {why}")
    models = _models(settings, subject)
    try:
        material = read_material(
            real,
            synthetic,
            settings,
            extractors,
            train=train,
            store=store,
            model_folder=subject.folder if subject else None,
            progress=progress,
        )
        remarks = _judge(material, settings)
        results, model = _measure(material, settings, models, store, progress)
    except KeyboardInterrupt as interrupt:
        raise KeyboardInterrupt(
            f"interrupted: no report was written; features are kept in {store}, and the same "
            "command goes on from them"
        ) from interrupt
    remarks += _afterwards(results, model)
    document = {
        "format": FORMAT,
        "vesalius": __version__,
        "command": command,
        "settings": _plain(settings),
        "versions": _versions(),
        "training": {"known": material.seen.known, "how": material.seen.how},
        "real": {"path": str(real)} | _about(material.real),
        "references": {name: _about(side) for name, side in material.references.items()},
        "extractors": {e.name: e.identity for e in extractors},
        "unavailable": unavailable,
        "cut_to_px": material.side,
        "unfair": any(remark.severity == "unfair" for remark in remarks),
        "findings": [asdict(remark) for remark in _worst_first(remarks)],
        "sets": {
            name: {"path": str(synthetic[name])} | _about(fake) | _told(results[name])
            for name, fake in material.fakes.items()
        },
        "model": {"name": subject.name if subject else None} | _told(model),
        "seconds": round(time.monotonic() - began, 1),
    }
    document["summary"] = summarise(document)
    for remark in _worst_first(remarks):
        if remark.severity == "unfair":
            on_warning(
                f"unfair{f', {remark.synthetic}' * bool(remark.synthetic)}: {remark.message}"
            )
    _write(document, material, settings, out)
    return document


def _check(
    settings: Settings, synthetic: Mapping[str, Path | str], out: Path, overwrite: bool
) -> None:
    if not synthetic:
        raise VesaliusError("give a synthetic set to evaluate")
    if unknown := [name for name in settings.only if name not in PARTS]:
        raise VesaliusError(f"no part is called {unknown[0]!r}: choose {', '.join(PARTS)}")
    if settings.replicates < 20:
        raise VesaliusError(f"{settings.replicates} replicates make no interval: give 20 or more")
    if settings.side is not None and settings.side < 16:
        raise VesaliusError(f"--side is {settings.side}: give the pixels of a square, such as 256")
    if out.exists() and not out.is_dir():
        raise VesaliusError(f"{out} is a file, not a folder: choose another --out")
    if (out / METRICS).exists() and not overwrite:
        raise VesaliusError(f"{out} holds a report already: choose another --out, or --overwrite")


def _judge(material: Material, settings: Settings) -> list[validity.Remark]:
    remarks = list(material.notes)
    for fake in material.fakes.values():
        references = compared(material, fake, settings)
        real = references.get(comparison.HELD_OUT) or next(iter(references.values()))
        remarks += validity.shared_files([material.real, *references.values()], fake)
        remarks += validity.compare_sets(real, fake, side=material.side, seed=settings.seed)
    remarks += validity.synthetic_among(material.real)
    return remarks + validity.same_numbers(list(material.fakes.values()))


def _measure(
    material: Material, settings: Settings, models: Models, store: Path, progress: Progress
) -> tuple[dict[str, Result], Result]:
    """Every part for every synthetic set, and what is of the model alone."""
    cases = {
        name: Case(
            fake,
            material.references,
            compared(material, fake, settings),
            comparison.classes_of(fake, MOST_CLASSES),
            [*fake.features],
            replicates=settings.replicates,
            seed=settings.seed,
            device=str(pick_device(settings.device)),
            clip=models.clip,
            vqa=models.vqa,
            progress=partial(_named, progress, name if len(material.fakes) > 1 else ""),
        )
        for name, fake in material.fakes.items()
    }
    parts: dict[str, Callable[[Case], Result]] = {
        "fidelity": fidelity_step,
        "diversity": partial(diversity_step, memo={}),
        "alignment": partial(alignment_step, memo={}),
        "privacy": partial(privacy_step, cache=store / "bank"),
    }
    of_model = {
        "membership": partial(membership_step, subject=models.subject),
        "cost": partial(cost_step, subject=models.subject),
    }
    results = {
        name: together([step(case) for part, step in parts.items() if part in settings.only])
        for name, case in cases.items()
    }
    case = next(iter(cases.values()))
    model = [step(case) for part, step in of_model.items() if part in settings.only]
    return results, together(model)


def _named(progress: Progress, name: str, what: str) -> Any:
    return progress(f"{name}: {what}" if name else what)


def _afterwards(results: Mapping[str, Result], model: Result) -> list[validity.Remark]:
    """What only the parts could find: near-duplicates of real images; notes."""
    remarks = [validity.Remark("note", "", note) for note in model.notes]
    for name, result in results.items():
        remarks += [validity.Remark("note", name, note) for note in result.notes]
        for figure in result.figures:
            if figure["metric"] == "copies" and figure["extractor"] == "structure":
                share = figure["value"] or 0.0
                remarks += validity.near_duplicates(share, figure["reference"], name)
    return remarks


def _worst_first(remarks: Sequence[validity.Remark]) -> list[validity.Remark]:
    return sorted(dict.fromkeys(remarks), key=lambda remark: remark.severity != "unfair")


def _about(side: Side) -> dict[str, Any]:
    keys = "\n".join(sorted(side.survey.keys))
    return {
        "images": len(side),
        "classes": dict(sorted(validity.class_counts(side).items())),
        "sha256": hashlib.sha256(keys.encode()).hexdigest(),
    }


def _told(result: Result) -> dict[str, Any]:
    return {"figures": result.figures, "details": result.details}


def _plain(settings: Settings) -> dict[str, Any]:
    return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(settings).items()}


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _write(document: dict[str, Any], material: Material, settings: Settings, out: Path) -> None:
    from vesalius.report.chexgenbench import as_csv
    from vesalius.report.evaluate import evaluation_page

    page = evaluation_page(
        document,
        material.references,
        material.fakes,
        answers={name: at_a_glance(document, name) for name in document["sets"]},
        metric_names=NAMES,
        samples=settings.samples,
    )
    text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    with (
        told_plainly(out, _NEEDED_BYTES),
        atomic_path(out / METRICS) as metrics,
        atomic_path(out / REPORT) as report,
    ):
        # names of files that are not UTF-8 hold lone surrogates
        metrics.write_text(text, "utf-8", errors="backslashreplace")
        report.write_text(page, "utf-8", errors="backslashreplace")
        if settings.chexgenbench:
            with atomic_path(out / TABLE) as table:
                table.write_text(as_csv(document), "utf-8")
