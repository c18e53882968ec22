"""Rows of a plan to chunks of a set: one thread denoises, others encode and write beside it."""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
from PIL import Image

from vesalius.core.documents import read_json
from vesalius.errors import VesaliusError
from vesalius.images.encode import encode_image, suffix
from vesalius.models.device import DTYPES
from vesalius.sample.autoencoder import decode
from vesalius.sample.draw import Request, draw
from vesalius.sample.folder import digest, loaded
from vesalius.sample.generate import TextToImage
from vesalius.sample.settings import DrawSettings
from vesalius.sample.switching import Switching
from vesalius.synthesize.claim import ABOUT
from vesalius.synthesize.guard import Judge, Verdict, build_guard, derived_seed
from vesalius.synthesize.job import Job
from vesalius.synthesize.plan import PlanRow
from vesalius.synthesize.store import save_chunk
from vesalius.synthesize.stores import Made

_THREADS = min(8, os.cpu_count() or 1)
_PROMPTS_READ = 10_000  # in search of words that the model will not read
_WARNINGS = 5
_SMALL = 200_000_000  # parameters
_UNWRITTEN = 4  # chunks that may wait for a thread, besides those that are being drawn


@dataclass(frozen=True)
class _Try:
    """A row that is to be drawn for the nth time, and why it was rejected before."""

    row: PlanRow
    request: Request
    rejected: tuple[dict[str, Any], ...] = ()

    def again(self, verdict: Verdict) -> "_Try":
        """The next one, from another seed."""
        why = {"seed": self.request.seed, "reason": verdict.reason}
        why |= {"distance": verdict.distance, "nearest": verdict.nearest}
        rejected = (*self.rejected, why)
        seed = derived_seed(self.row.seed, len(rejected))
        return replace(self, request=replace(self.request, seed=seed), rejected=rejected)


def start(job: Job, on_rows: Callable[[float], None] = lambda rows: None) -> "Worker":
    """A worker with its model, and its judge if there is a guard, loaded.

    The precision `auto` is the one with which the set was begun, by another run too: the trial that
    decides it otherwise may have another outcome on another day. Raises VesaliusError where one of
    them cannot be loaded.
    """
    begun = _as_begun(job)
    model = _model_of(begun)
    if (again := _as_begun(job)) != begun:
        begun, model = again, _model_of(again)
    judge = job.guard
    if judge is None and job.settings.guard:
        judge = build_guard(job.settings.guard, device=str(model.generator.device))
    return Worker(begun, model, judge, on_rows)


def _model_of(job: Job) -> TextToImage:
    """The model with the adapters that all rows have."""
    return loaded(replace(job.settings, adapters=job.adapters.common), job.model)


def _as_begun(job: Job) -> Job:
    """The job with the dtype of the set's record in the place of `auto`."""
    if job.settings.dtype != "auto" or job.model is not None or not (job.out / ABOUT).is_file():
        return job
    dtype = read_json(job.out / ABOUT).get("dtype")
    return replace(job, settings=replace(job.settings, dtype=dtype)) if dtype in [*DTYPES] else job


class Worker:
    """Draws chunks with one model on one device.

    An image follows from its row and the model alone, but for rounding where another batch size
    sums in another order. Memory holds the chunks of one batch and a few that are being written.
    """

    def __init__(
        self,
        job: Job,
        model: TextToImage,
        judge: Judge | None = None,
        on_rows: Callable[[float], None] = lambda rows: None,
    ) -> None:
        """`on_rows` is called with the rows drawn so far, parts of one included."""
        self.job, self.model, self.judge, self.on_rows = job, model, judge, on_rows
        own = job.adapters.of_label
        self._switching = Switching(model, own) if own else None
        self.batch_size = job.settings.batch_size or usual_batch(model)
        self._pool = ThreadPoolExecutor(_THREADS)
        self._writing: deque[Future[None]] = deque()  # of chunks
        self._drawn = 0  # rows
        self._templates: dict[tuple[Any, ...], Request] = {}
        unet = model.generator.unet
        if job.settings.compiled and unet._compiled_call_impl is None:  # of an earlier set
            unet.compile(dynamic=False)

    @property
    def window_rows(self) -> int:
        """Rows that should be drawn together at least, so that batches are full."""
        one_adapter = not self._switching or self.model.generator.device.type == "cpu"
        return self.batch_size * (1 if one_adapter else len(self.job.adapters.of_label))

    @property
    def about(self) -> dict[str, Any]:
        """What decides the images besides the plan, for the set's record."""
        parts = self.model.generator
        return {
            "model": parts.name,
            "dtype": str(parts.dtype).removeprefix("torch."),
            "guard": self.judge.about if self.judge else None,
        }

    def check(self) -> list[str]:
        """Raise VesaliusError for a row that this model cannot make; return warnings."""
        for row in self.job.rows:
            try:
                self._template(row)
            except VesaliusError as error:
                raise VesaliusError(f"row {row.row} of the plan: {error}") from error
        found: list[str] = []
        for label, rows in self._by_adapters(self.job.rows):
            prompts = dict.fromkeys(row.prompt for row in rows)
            found += self._model(label).warnings(list(islice(prompts, _PROMPTS_READ)))
        return _first_few(list(dict.fromkeys(found)))

    def make(self, numbers: Sequence[int]) -> None:
        """Draw the rows of these chunks; each is written once its last row is drawn.

        Rows may be drawn in any order, so that like ones share a batch, and so that those of an
        adapter come after one another. Returns before the last chunks are on the disk: see `finished`.
        """
        rows = {number: self.job.of(number) for number in numbers}
        chunk_of = {row.row: number for number in numbers for row in rows[number]}
        images: dict[int, dict[int, Future[Made]]] = {number: {} for number in numbers}
        for one, pixels in self._draw_all([row for some in rows.values() for row in some]):
            number = chunk_of[one.row.row]
            encoded = images[number]
            encoded[one.row.row] = self._pool.submit(self._encode, one, pixels)
            if len(encoded) < len(rows[number]):
                continue
            ordered = [encoded[row.row] for row in rows[number]]
            del images[number]
            # behind its images in the pool's queue: it never waits for one that has no thread
            self._writing.append(self._pool.submit(self._write, number, ordered))
            while len(self._writing) > _UNWRITTEN:
                self._writing.popleft().result()

    def finished(self, *, wait: bool = False) -> None:
        """Raise what went wrong as a chunk was written; `wait` until all are on the disk."""
        while self._writing and (wait or self._writing[0].done()):
            self._writing.popleft().result()

    def close(self) -> None:
        """Let the threads go; what they have begun is ended, the rest left."""
        self._pool.shutdown(cancel_futures=True)

    @property
    def precision(self) -> str:
        """The number format of the denoiser, and why it is this, in words."""
        if self.job.model is None and self.job.settings.dtype != "auto":
            return f"precision: {self.about['dtype']}, as the set was begun with"
        return self.model.precision

    def _draw_all(self, rows: Sequence[PlanRow]) -> Iterator[tuple[_Try, np.ndarray | None]]:
        """Each row once, with its pixels, or None where no attempt was accepted."""
        for label, some in self._by_adapters(rows):
            if self._switching:
                self._switching.use(label)
            yield from self._draw_alike(deque(_Try(row, self._request(row)) for row in some))

    def _by_adapters(self, rows: Sequence[PlanRow]) -> list[tuple[str, list[PlanRow]]]:
        """Rows by label, those of the adapters in use first; all as one where labels share them."""
        if not self._switching:
            return [("", list(rows))]
        groups: dict[str, list[PlanRow]] = {}
        for row in rows:
            groups.setdefault(row.label, []).append(row)
        used = self._switching.used
        return sorted(groups.items(), key=lambda group: (group[0] != used, group[0]))

    def _model(self, label: str) -> TextToImage:
        return self._switching.models[label] if self._switching else self.model

    def _draw_alike(self, waiting: deque[_Try]) -> Iterator[tuple[_Try, np.ndarray | None]]:
        """`_draw_all` for rows of the same adapters."""
        while waiting:
            batch = _take_alike(waiting, self.batch_size)
            images = self._draw([one.request for one in batch])
            verdicts = [Verdict(True)] * len(batch)
            if self.judge:
                verdicts = self.judge([_eight_bit_rgb(image) for image in images])
            for one, image, verdict in zip(batch, images, verdicts, strict=True):
                if not verdict.accepted:
                    one = one.again(verdict)
                    if len(one.rejected) < self.job.settings.attempts:
                        waiting.append(one)
                        continue
                self._drawn += 1
                yield one, image if verdict.accepted else None

    def _draw(self, requests: list[Request]) -> np.ndarray:
        """Pixels (N, H, W, 3), or (N, H, W) of 16 bits."""
        count = len(requests)
        padded = requests
        if self.job.settings.compiled:  # for one shape of batch; another one would be compiled anew
            padded = requests + requests[-1:] * (self.batch_size - count)

        def on_step(done: int, steps: int) -> None:
            self.on_rows(self._drawn + count * done / steps)

        generator = self.model.generator
        latents = draw(generator, padded, on_step=on_step)[:count]
        return decode(generator.vae, latents, self.job.bits).numpy()

    def _encode(self, one: _Try, pixels: np.ndarray | None) -> Made:
        row, job = one.row, self.job
        facts: dict[str, Any] = {"row": row.row, "label": row.label, "caption": row.prompt}
        facts |= {name: row.attributes.get(name, "") for name in job.attributes}
        tries = {"attempts": len(one.rejected) + (pixels is not None)}
        tries |= {"rejected": list(one.rejected)}
        name = f"{row.row:06d}{suffix(job.format)}"
        if pixels is None:
            facts |= {"synthetic": True, "prompt": row.prompt, "seed": row.seed, "sha256": None}
            return Made(name, facts | tries, None)
        sample = self._model(row.label).sample(row.row, one.request, Image.fromarray(pixels))
        within = {**row.attributes, **sample.provenance}  # `modality` is a tag of DICOM
        data = encode_image(pixels, within, job.format, study=job.plan, number=row.row + 1)
        return Made(name, facts | sample.provenance | {"sha256": digest(data)} | tries, data)

    def _write(self, number: int, images: Sequence[Future[Made]]) -> None:
        made, job = [image.result() for image in images], self.job
        save_chunk(job.out, job.work, number, job.chunks, made, job.settings.store)

    def _request(self, row: PlanRow) -> Request:
        return replace(self._template(row), prompt=row.prompt, seed=row.seed)

    def _template(self, row: PlanRow) -> Request:
        """A request that rows with the same settings share: to check these takes longer than to copy it."""
        size = (row.width, row.height) if row.width and row.height else None
        key = (row.negative, row.steps, row.guidance, row.sampler, size)
        if key not in self._templates:
            asked = self.job.settings
            settings = DrawSettings(
                negative=row.negative,
                steps=asked.steps if row.steps is None else row.steps,
                guidance=asked.guidance if row.guidance is None else row.guidance,
                sampler=asked.sampler if row.sampler is None else row.sampler,
            )
            self._templates[key] = self.model.request(row.prompt, row.seed, settings, size=size)
        return self._templates[key]


def usual_batch(model: TextToImage) -> int:
    """Images denoised at once where nobody says: what a small GPU has memory for."""
    generator = model.generator
    if generator.device.type == "cpu":  # a larger one costs memory there and gains nothing
        return 4
    parameters = sum(weights.numel() for weights in generator.unet.parameters())
    return 128 if parameters < _SMALL else 16


def _first_few(warnings: list[str]) -> list[str]:
    more = len(warnings) - _WARNINGS
    return warnings if more <= 0 else [*warnings[:_WARNINGS], f"{more} more prompts are like that"]


def _take_alike(waiting: deque[_Try], most: int) -> list[_Try]:
    """Take up to `most` that can be drawn together with the first out of `waiting`."""
    shape = waiting[0].request.shape
    taken: list[_Try] = []
    for _ in range(len(waiting)):
        one = waiting.popleft()
        if len(taken) < most and one.request.shape == shape:
            taken.append(one)
        else:
            waiting.append(one)  # all that are left go round once, and so keep their order
    return taken


def _eight_bit_rgb(image: np.ndarray) -> np.ndarray:
    """(H, W, 3), uint8, as a judge wants it."""
    if image.dtype == np.uint16:
        image = (image // 257).astype(np.uint8)
    return image if image.ndim == 3 else np.repeat(image[:, :, None], 3, axis=2)
