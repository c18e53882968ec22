"""What decides the figures of an evaluation, and what is asked of it besides."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

from vesalius.core.settings import Help
from vesalius.errors import VesaliusError
from vesalius.evaluate.metrics import METRICS

MODEL, FIGURES = "The model itself", "Figures"
# not in metrics.json: they decide no figure, or the document names them elsewhere
_ELSEWHERE = ("learned_from", "store", "model", "adapters", "study", "overwrite")


@dataclass(frozen=True)
class EvaluateSettings:
    """Raises VesaliusError, in one line, for a setting that makes no sense."""

    learned_from: Annotated[
        Path | None,
        Help(
            "What the generator learned from: a table, a run, or its training_rows.json.",
            flags=("--trained-on", "--train"),
            unset="what the sets' records prove, else split train of --real",
        ),
    ] = None
    extractors: Annotated[
        tuple[str, ...],
        Help("Networks, with commas: inception, rad-dino, sscd, timm:NAME, ...", commas=True),
    ] = ("inception", "efficientnet-lite0")
    store: Annotated[
        Path | None, Help("Folder that keeps features, for any run.", unset="OUT/features")
    ] = None
    by: Annotated[str, Help("Column of the classes.", panel=FIGURES)] = "label"
    only: Annotated[
        tuple[str, ...],
        Help(
            "Parts, with commas: fidelity, diversity, alignment, privacy, membership, audit, "
            "anonymity, cost.",
            panel=FIGURES,
            unset="all",
            commas=True,
        ),
    ] = ()
    side: Annotated[
        int | None,
        Help(
            "Crop all images to squares of this many pixels.",
            panel=FIGURES,
            unset="that of the synthetic images, where they are squares of one size",
        ),
    ] = None
    match: Annotated[
        bool,
        Help(
            "Compare with as many real images of each class as there are synthetic.", panel=FIGURES
        ),
    ] = False
    clip: Annotated[
        str | None, Help("CLIP for CLIPScore: hub id or folder.", panel=FIGURES, unset="none")
    ] = None
    vqa: Annotated[
        str | None,
        Help("Vision-language model for VQAScore: hub id or folder.", panel=FIGURES, unset="none"),
    ] = None
    replicates: Annotated[int, Help("Replicates of each interval.", panel=FIGURES)] = 200
    seed: Annotated[int, Help("Decides every draw.", panel=FIGURES)] = 0
    device: Annotated[str, Help("auto, cpu, cuda, cuda:1 or mps.")] = "auto"
    samples: Annotated[
        int,
        Help("Pictures of each class in the report; 0 for none at all.", least=0, panel=FIGURES),
    ] = 6
    chexgenbench: Annotated[
        bool,
        Help(
            "Also write a table in the format of CheXGenBench.",
            flags=("--chexgenbench",),
            panel=FIGURES,
        ),
    ] = False
    model: Annotated[
        str | None,
        Help("The generator, for membership inference and cost.", panel=MODEL, unset="none"),
    ] = None
    adapters: Annotated[
        tuple[str, ...],
        Help(
            "Its LoRA or textual inversion, as FILE or FILE:WEIGHT; may be repeated.",
            flags=("--adapter",),
            panel=MODEL,
            unset="none",
        ),
    ] = ()
    study: Annotated[
        Path | None,
        Help(
            "A reader study of the set, its folder or results.json: goes into the report.",
            unset="none",
        ),
    ] = None
    overwrite: Annotated[bool, Help("Replace an earlier output.")] = False

    def __post_init__(self) -> None:
        names = METRICS.names()
        if unknown := [name for name in self.only if name not in names]:
            raise VesaliusError(f"no part is called {unknown[0]!r}: choose {', '.join(names)}")
        if self.replicates < 20:
            raise VesaliusError(f"{self.replicates} replicates make no interval: give 20 or more")
        if self.side is not None and self.side < 16:
            raise VesaliusError(f"--side is {self.side}: give the pixels of a square, such as 256")
        if self.adapters and not self.model:
            raise VesaliusError("--adapter needs the model that it is for: name it by --model")

    @property
    def parts(self) -> tuple[str, ...]:
        """What is measured, in the order of the registry."""
        return tuple(name for name in METRICS.names() if not self.only or name in self.only)

    def as_dict(self) -> Mapping[str, Any]:
        """What metrics.json holds of them: all that decides a figure."""
        own = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in _ELSEWHERE}
        own["only"] = self.only or self.parts
        return {name: list(v) if isinstance(v, tuple) else v for name, v in own.items()}
