"""One evaluation: every image read once, every figure with its interval, one document, one page.

`evaluate` writes `metrics.json` and `report.html`; docs/evaluation.md says what is in them. What is read
stands in `inputs`, what is measured in `metrics`, what is said of it in `summary`, what is written in
`document`.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

from vesalius.core.atomic import atomic_path, clear_write_errors
from vesalius.core.documents import write_document, write_page
from vesalius.core.progress import Count, Progress, no_progress
from vesalius.errors import VesaliusError
from vesalius.evaluate import validity
from vesalius.evaluate.document import Evaluation, Given, as_document
from vesalius.evaluate.inputs import Inputs, Reader, find_all, read_inputs
from vesalius.evaluate.metrics.base import Case, Metric, Models, Result, reference_of
from vesalius.evaluate.metrics.membership import unfair_attacks
from vesalius.evaluate.model import load_model
from vesalius.evaluate.references import HELD_OUT, classes_of
from vesalius.evaluate.settings import EvaluateSettings
from vesalius.evaluate.summary import (
    Compared,
    first_answers,
    load_metrics,
    metric_names,
    summarise,
)
from vesalius.evaluate.validity import Remark
from vesalius.models.device import pick_device
from vesalius.models.networks.clip import load_clip
from vesalius.models.networks.vqa import TransformersVqa
from vesalius.report.readers import of_sets, read_study, shown
from vesalius.statistics.figure import select

METRICS_FILE, REPORT, TABLE = "metrics.json", "report.html", "chexgenbench.csv"
MOST_CLASSES = 40  # with figures of their own
_NEEDED_BYTES = 20_000_000  # at most, of both outputs


def evaluate(
    real: Path | str,
    synthetic: Mapping[str, Path | str],
    out: Path | str,
    settings: EvaluateSettings | None = None,
    *,
    command: str = "",
    progress: Progress = no_progress,
    on_warning: Callable[[str], None] = lambda message: None,
) -> Evaluation:
    """Compare synthetic sets with real images; write `out`/metrics.json and `out`/report.html.

    Args:
        real: a pairs table, whose split train is what the generator learned from unless
            `settings.learned_from` says otherwise, or any other images.
        synthetic: name to pairs table, folder with a manifest, or any other images.
        out: the folder. Features are kept in `settings.store`, by default `out`/features, by the
            content of the images: an interrupted evaluation goes on from them.
        settings: see `EvaluateSettings`.
        command: the command line, for the report.
        progress: makes a progress bar of a few words.
        on_warning: gets each line that makes the comparison unfair or something missing.

    Raises VesaliusError for what cannot be read or written.
    """
    settings, began, out = settings or EvaluateSettings(), time.monotonic(), Path(out)
    study = _check(settings, synthetic, out)
    store = settings.store or out / "features"
    extractors, unavailable = find_all(settings.extractors)
    for name, why in unavailable.items():
        on_warning(f"{name} is left out: {why}")
    models, metrics = load_models(settings), load_metrics(settings.parts)
    try:
        reader = Reader(extractors, store, settings.device, progress)
        folder = models.generator.folder if models.generator else None
        inputs = read_inputs(real, synthetic, settings, reader, folder)
        readers = _readers(study, inputs, settings)
        remarks = _judge(inputs, settings)
        cases = _cases(inputs, settings, models, store, progress)
        results, of_model = _measure(metrics, cases)
    except KeyboardInterrupt as interrupt:
        raise KeyboardInterrupt(
            f"interrupted: no report was written; features are kept in {store}; repeat the "
            "command to resume"
        ) from interrupt
    remarks = _worst_first(remarks + _afterwards(results, of_model))
    for remark in remarks:
        if remark.severity == "unfair":
            on_warning(str(remark))
    name = models.generator.name if models.generator else None
    given = Given(real, synthetic, settings, extractors, unavailable, name, command, readers)
    document = as_document(given, inputs, results, of_model, remarks, time.monotonic() - began)
    figures = {name: result.figures for name, result in results.items()}
    to = Compared(reference_of(inputs.references), inputs.training.known)
    document["summary"] = summary = {
        name: summarise(metrics, own, of_model.figures, to) for name, own in figures.items()
    }
    found = Evaluation(out, figures, of_model.figures, summary, remarks, document)
    _write(found, inputs, settings, metrics)
    return found


def _check(
    settings: EvaluateSettings, synthetic: Mapping[str, Path | str], out: Path
) -> dict[str, Any] | None:
    """Refuse what cannot be done; the results of the reader study, if one is named."""
    if not synthetic:
        raise VesaliusError("give a synthetic set to evaluate")
    if out.exists() and not out.is_dir():
        raise VesaliusError(f"{out} is a file, not a folder: choose another --out")
    if (out / METRICS_FILE).exists() and not settings.overwrite:
        raise VesaliusError(f"{out} holds a report already: choose another --out, or --overwrite")
    return read_study(settings.study) if settings.study else None


def _readers(
    study: Mapping[str, Any] | None, inputs: Inputs, settings: EvaluateSettings
) -> dict[str, Any] | None:
    """What a reader study says of the sets. Raises VesaliusError where it is of others."""
    if study is None or settings.study is None:
        return None
    keys = {name: set(fake.survey.keys) for name, fake in inputs.fakes.items()}
    return of_sets(settings.study, study, keys)


def load_models(settings: EvaluateSettings) -> Models:
    """The networks that are asked about images, loaded before any image is read."""
    generator = clip = vqa = None
    if settings.model:
        generator = load_model(settings.model, settings.adapters, settings.device)
    if "alignment" in settings.parts:
        device = str(pick_device(settings.device))
        clip = load_clip(settings.clip, device) if settings.clip else None
        vqa = TransformersVqa(settings.vqa, device) if settings.vqa else None
    return Models(generator, clip, vqa)


def _judge(inputs: Inputs, settings: EvaluateSettings) -> list[Remark]:
    """Whether the sets can be compared."""
    remarks = list(inputs.remarks)
    for fake in inputs.fakes.values():
        references = inputs.compared(fake, settings)
        real = references.get(HELD_OUT) or next(iter(references.values()))
        remarks += validity.shared_files([inputs.real, *references.values()], fake)
        remarks += validity.compare_sets(real, fake, side=inputs.side, seed=settings.seed)
    remarks += validity.synthetic_among(inputs.real)
    return remarks + validity.same_numbers(list(inputs.fakes.values()))


def _cases(
    inputs: Inputs, settings: EvaluateSettings, models: Models, store: Path, progress: Progress
) -> dict[str, Case]:
    memo = {}
    return {
        name: Case(
            fake,
            inputs.references,
            inputs.compared(fake, settings),
            classes_of(fake, MOST_CLASSES),
            [*fake.features],
            replicates=settings.replicates,
            seed=settings.seed,
            device=str(pick_device(settings.device)),
            no_coin=inputs.no_coin,
            store=store,
            models=models,
            memo=memo,
            progress=partial(_named, progress, name if len(inputs.fakes) > 1 else ""),
        )
        for name, fake in inputs.fakes.items()
    }


def _named(progress: Progress, name: str, what: str) -> AbstractContextManager[Count]:
    return progress(f"{name}: {what}" if name else what)


def _measure(
    metrics: Mapping[str, Metric], cases: Mapping[str, Case]
) -> tuple[dict[str, Result], Result]:
    """Every metric for every synthetic set, and those of the model alone."""
    results, of_model = {name: Result() for name in cases}, Result()
    for name, case in cases.items():
        for metric in metrics.values():
            if not metric.of_model:
                results[name].join(metric.measure(case))
    for metric in metrics.values():
        if metric.of_model:
            of_model.join(metric.measure(next(iter(cases.values()))))
    return results, of_model


def _afterwards(results: Mapping[str, Result], of_model: Result) -> list[Remark]:
    """What only the metrics could find: near-duplicates of real images; notes."""
    remarks = [Remark("note", "", note) for note in of_model.notes]
    for part in ("membership", "audit"):
        remarks += [Remark("unfair", "", text) for text in unfair_attacks(of_model.figures, part)]
    for name, result in results.items():
        remarks += [Remark("note", name, note) for note in result.notes]
        for figure in select(result.figures, metric="copies", extractor="structure"):
            remarks += validity.near_duplicates(figure.value or 0.0, figure.reference, name)
    return remarks


def _worst_first(remarks: Sequence[Remark]) -> list[Remark]:
    return sorted(dict.fromkeys(remarks), key=lambda remark: remark.severity != "unfair")


def _write(
    found: Evaluation, inputs: Inputs, settings: EvaluateSettings, metrics: Mapping[str, Metric]
) -> None:
    from vesalius.report.chexgenbench import as_csv
    from vesalius.report.evaluate import evaluation_page

    to, out = Compared(reference_of(inputs.references), inputs.training.known), found.folder
    page = evaluation_page(
        found.document,
        inputs.references,
        inputs.fakes,
        answers={
            name: first_answers(metrics, own, found.of_model, to, settings.by)
            for name, own in found.figures.items()
        },
        metric_names=metric_names(metrics),
        samples=settings.samples,
        readers=shown(found.document["readers"], out / REPORT),
    )
    with (
        clear_write_errors(out, _NEEDED_BYTES),
        atomic_path(out / METRICS_FILE) as metrics_file,
        atomic_path(out / REPORT) as report,
    ):
        write_document(metrics_file, found.document)
        write_page(report, page)
        if settings.chexgenbench:
            with atomic_path(out / TABLE) as table:
                table.write_text(as_csv(found.document), "utf-8")
