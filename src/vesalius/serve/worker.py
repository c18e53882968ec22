"""The one process that has the model: it reads jobs from its input, draws, and says what it did.

    python -m vesalius.serve.worker

Lines of JSON on both sides. It writes image files and nothing else, so that it can be killed at any
moment; where the server ends, its input does, and it ends too.
"""

import json
import os
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vesalius.core.atomic import atomic_path, clear_write_errors
from vesalius.errors import VesaliusError, first_line
from vesalius.images.encode import choose_format, encode_image
from vesalius.sample.draw import Request
from vesalius.sample.folder import digest
from vesalius.sample.generate import Progress, Sample, TextToImage, Watch, load
from vesalius.serve.bodies import parse_body
from vesalius.serve.drawing import samples
from vesalius.serve.messages import Config, Drawn, Order, say
from vesalius.serve.preview import Preview, find_preview

PREVIEW_SECONDS = 0.2  # between two of them
_KEPT = 2  # models in memory, each with its adapters


class Cancelled(Exception):
    """Whoever asked for a job no longer wants it."""


class Watched(TextToImage):
    """A model that tells of each step, and leaves out what an earlier life of its job has drawn."""

    def __init__(self, model: TextToImage, preview: Preview, worker: "Worker") -> None:
        super().__init__(model.generator, model.adapters)
        self.preview, self.worker = preview, worker
        self.done = 0  # images of the job that are there already
        self.shown = 0.0

    def draw(
        self,
        requests: Sequence[Request],
        batch_size: int | None = None,
        on_progress: Progress | None = None,
        bits: int = 8,
        on_latents: Watch | None = None,
    ) -> Iterator[Sample]:
        """As of any model, but images of batches that are done already are blank."""
        batch = batch_size or self.usual_batch
        left_out = self.done // batch * batch
        for k, request in enumerate(requests[:left_out]):
            mode = "I;16" if bits == 16 else "RGB"
            yield self.sample(k, request, Image.new(mode, request.size))
        latest: list[tuple[int, Tensor]] = []

        def watch(first: int, latents: Tensor) -> None:
            latest[:] = [(left_out + first, latents)]

        def report(done: float, total: int) -> None:
            self.worker.check_cancelled()
            first, latents = latest[0]
            part = (left_out + done - first) / len(latents)
            self.tell(left_out + done, round(part * requests[0].steps), first, latents)

        rest = requests[left_out:]
        yield from super().draw(rest, batch_size, report, bits, watch) if rest else ()

    def tell(self, done: float, step: int, first: int, latents: Tensor) -> None:
        """Say how far the job is, now and then with a look at its images."""
        previews: list[tuple[int, str]] = []
        if (now := time.monotonic()) - self.shown >= PREVIEW_SECONDS:
            self.shown = now
            previews = list(enumerate(self.preview.pngs(latents), first))
        self.worker.tell("step", done=done, step=step, previews=previews)


@dataclass
class Worker:
    """The models in memory, and the job at hand."""

    config: Config
    channel: TextIO
    models: OrderedDict[tuple[str, ...], Watched] = field(default_factory=OrderedDict)
    job: str = ""
    cancelled: set[str] = field(default_factory=set)

    def tell(self, at: str, **facts: Any) -> None:
        """One line to the server."""
        say(self.channel, {"at": at, "job": self.job, **facts})

    def check_cancelled(self) -> None:
        """Raise Cancelled where the job at hand is no longer wanted."""
        if self.job in self.cancelled:
            raise Cancelled

    def model(self, name: str, adapters: Sequence[tuple[str, float]]) -> Watched:
        """A model with its adapters, which are merged into its weights."""
        offered = {"model": self.config.models, "adapter": self.config.adapters}
        for what, id in (("model", name), *(("adapter", id) for id, _ in adapters)):
            if id not in offered[what]:  # asked for before the server was started without it
                raise VesaliusError(f"the {what} {id!r} is no longer offered")
        files = [f"{self.config.adapters[id]}:{weight:g}" for id, weight in adapters]
        key = (name, *files)
        if key not in self.models:
            while len(self.models) >= _KEPT:
                self.models.popitem(last=False)
            begun = time.monotonic()
            loaded = load(self.config.models[name], self.config.device, self.config.dtype, files)
            preview = find_preview(loaded.generator.vae)
            self.models[key] = Watched(loaded, preview, self)
            seconds = time.monotonic() - begun
            hash = loaded.generator.model_hash
            self.tell("loaded", model=name, model_hash=hash, seconds=round(seconds, 3))
        self.models.move_to_end(key)
        return self.models[key]

    def serve(self, order: Order) -> None:
        """Draw what a job has not drawn yet; whatever goes wrong is said."""
        self.job = order.job
        try:
            self.check_cancelled()
            self.draw(order)
        except Cancelled:
            self.tell("cancelled")
        except VesaliusError as error:
            self.tell("failed", error=str(error))
        except Exception as error:  # a library's; the next job may well be drawn
            self.tell("failed", error=f"{type(error).__name__}: {first_line(error)}"[:500])
        else:
            self.tell("done")
        self.job = ""

    def draw(self, order: Order) -> None:
        """Each image that is missing: drawn, written, told."""
        body = parse_body(order.body)
        model = self.model(str(body.model), [(use.id, use.weight) for use in body.adapters])
        model.done, model.shown = order.done, 0.0
        bits = choose_format(None, None, model.generator.settings.get("bits", 8))[1]
        self.tell("begun", warnings=model.warnings(body.prompts, body.negative))
        pictures = {name: Path(path) for name, path in order.pictures.items()}
        for number, (sample, canvas) in enumerate(samples(model, body, pictures, bits)):
            if number < order.done:
                continue
            kind = "png16" if sample.image.mode == "I;16" else "png"
            content = encode_image(np.asarray(sample.image), sample.provenance, kind)
            path = Path(order.files[number])
            with clear_write_errors(path, len(content)), atomic_path(path) as temporary:
                temporary.write_bytes(content)
            self.tell(
                "image",
                **Drawn(
                    number=number,
                    sha256=digest(content),
                    seed=sample.seed,
                    prompt=sample.prompt,
                    provenance=sample.provenance,
                    window=canvas.window if canvas else None,
                    kept=canvas.kept.facts() if canvas and canvas.kept else None,
                ).facts(),
            )
            self.check_cancelled()


def _listen(worker: Worker, lines: TextIO, orders: "list[Order]", ready: threading.Event) -> None:
    """Put what the server says where the worker finds it; end the process where the server ends."""
    for line in lines:
        message = json.loads(line)
        if "cancel" in message:
            worker.cancelled.add(message["cancel"])
        else:
            orders.append(Order(**message))
            ready.set()
    os._exit(0)


def main() -> None:
    """Serve one server until it ends."""
    # what libraries print must not come between the lines
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    config = Config(**json.loads(sys.stdin.readline()))
    if config.threads:
        torch.set_num_threads(config.threads)
    worker, orders, ready = Worker(config, channel), list[Order](), threading.Event()
    listening = threading.Thread(
        target=_listen, args=(worker, sys.stdin, orders, ready), daemon=True
    )
    listening.start()
    try:
        worker.model(next(iter(config.models)), [])
    except VesaliusError as error:
        worker.tell("broken", error=str(error))
    worker.tell("ready")
    while True:
        ready.wait()
        ready.clear()
        while orders:
            worker.serve(orders.pop(0))


if __name__ == "__main__":
    main()
