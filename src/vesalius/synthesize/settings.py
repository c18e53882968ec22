"""What `vesalius plan` and `vesalius synthesize` can be asked for, checked at once. No torch here."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from vesalius.core.registry import Registry
from vesalius.core.settings import Help
from vesalius.errors import VesaliusError
from vesalius.sample.checks import check_numbers, parse_size
from vesalius.sample.samplers import check_sampler
from vesalius.sample.settings import BITS, FORMAT, OWN, ModelSettings
from vesalius.synthesize.shards import parse_shard

ENGINES = ("local", "ray")
STORES = Registry(
    "store",
    {
        "folder": "vesalius.synthesize.stores:write_folder",
        "webdataset": "vesalius.synthesize.stores:write_tar",
        "parquet": "vesalius.synthesize.stores:write_parquet",
    },
)
AMOUNT, CLASSES, PROMPTS = "How many, of real classes", "Which classes", "Prompts"
ROWS = "The same for all rows"


@dataclass(frozen=True)
class SynthesizeSettings(ModelSettings):
    """`vesalius synthesize`. Batch size, compilation and engine change the speed alone."""

    steps: Annotated[int | None, Help("For rows that name none.", unset=OWN)] = None
    guidance: Annotated[float | None, Help("For rows that name none.", unset=OWN)] = None
    sampler: Annotated[str | None, Help("For rows that name none.", unset=OWN)] = None
    adapters: Annotated[
        tuple[str, ...],
        Help(
            "FILE or FILE:WEIGHT for all rows; LABEL=FILE for one label; or a run, whose adapter, "
            "or the one of each row's label, is used. May be given repeatedly.",
            flags=("--adapter",),
            unset="none",
        ),
    ] = ()
    guard: Annotated[
        Path | None,
        Help(
            "Pairs table that the model was trained on: near-copies of it, blank and broken images "
            "are drawn again.",
            unset="none",
        ),
    ] = None
    attempts: Annotated[int, Help("Images drawn for a row at most, until the guard takes one.")] = 5
    format: FORMAT = None
    bits: BITS = None
    store: Annotated[str, Help("folder, webdataset or parquet.")] = "folder"
    shard: Annotated[
        str | None,
        Help("Make one share of several: 0/4 to 3/4, as in a job array.", unset="everything"),
    ] = None
    chunk: Annotated[int, Help("Rows that are finished at once.")] = 32  # what a kill costs at most
    batch_size: Annotated[
        int | None,
        Help("Images denoised at once.", unset="4 on a CPU, else 16, or 128 of a small model"),
    ] = None
    compiled: Annotated[
        bool,
        Help("Compile for faster steps (CUDA); takes minutes at the start.", flags=("--compile",)),
    ] = False
    engine: Annotated[str, Help("local, or ray for a cluster.")] = "local"
    ray_address: Annotated[
        str | None, Help("Of a Ray cluster.", unset="RAY_ADDRESS, or this machine")
    ] = None

    def __post_init__(self) -> None:
        from vesalius.images.encode import choose_format

        check_numbers(steps=self.steps, guidance=self.guidance, batch_size=self.batch_size)
        check_sampler(self.sampler or "")
        choose_format(self.format, self.bits)
        for name, value in (("attempts", self.attempts), ("chunk", self.chunk)):
            if value < 1:
                raise VesaliusError(f"{name} is {value}: it must be at least 1")
        STORES.check(self.store)
        if self.engine not in ENGINES:
            raise VesaliusError(f"no engine {self.engine!r}: choose one of {', '.join(ENGINES)}")
        if self.shard:
            parse_shard(self.shard)

    @property
    def defaults(self) -> dict[str, int | float | str]:
        """What rows have that name none themselves."""
        given = {"steps": self.steps, "guidance": self.guidance, "sampler": self.sampler}
        return {name: value for name, value in given.items() if value is not None}


@dataclass(frozen=True)
class HowMany:
    """Images to plan of each class: one of the first four ways.

    `balance` tops up each class to the largest one; `per_class` is as many of each; `ratio` is
    times the real number, rounded; `total` is shared in the proportions of the real numbers, or
    with `share="even"` evenly, and adds up exactly.
    """

    balance: Annotated[bool, Help("Top up every class to the largest one.", panel=AMOUNT)] = False
    per_class: Annotated[int | None, Help("Images of each class.", panel=AMOUNT)] = None
    ratio: Annotated[
        float | None, Help("Images of each class, as a multiple of its real ones.", panel=AMOUNT)
    ] = None
    total: Annotated[int | None, Help("Images in all.", panel=AMOUNT)] = None
    share: Annotated[
        str,
        Help(
            "How --total is shared among classes: real (in real proportions) or even.", panel=AMOUNT
        ),
    ] = "real"

    def __post_init__(self) -> None:
        if len(given := self.given) > 1:
            raise VesaliusError(
                f"{' and '.join(given)} exclude each other: give one of --balance, --per-class, "
                "--ratio and --total"
            )
        if self.share not in ("real", "even"):
            raise VesaliusError(f"--share {self.share!r}: choose one of real, even")
        for name, value in given.items():
            if not 0 < value < float("inf"):
                raise VesaliusError(f"{name} is {value}: it must be above 0")

    @property
    def given(self) -> dict[str, float]:
        """The ways that are chosen, as options; at most one."""
        ways = {"--balance": self.balance or None, "--per-class": self.per_class}
        ways |= {"--ratio": self.ratio, "--total": self.total}
        return {name: value for name, value in ways.items() if value is not None}


@dataclass(frozen=True)
class RowSettings:
    """What all rows of a plan share; `model` binds it to that model's present content."""

    steps: Annotated[int | None, Help("Denoising steps.", panel=ROWS, unset=OWN)] = None
    guidance: Annotated[float | None, Help("Guidance scale; 1 is none.", panel=ROWS, unset=OWN)] = (
        None
    )
    sampler: Annotated[str | None, Help("As in `vesalius generate`.", panel=ROWS, unset=OWN)] = None
    size: Annotated[str | None, Help("Pixels: 256, or 384x256.", panel=ROWS, unset=OWN)] = None
    negative: Annotated[str, Help("What to move away from.", panel=ROWS)] = ""
    model: Annotated[
        str | None, Help("The only model that may carry out this plan.", panel=ROWS, unset="any")
    ] = None

    def __post_init__(self) -> None:
        check_numbers(steps=self.steps, guidance=self.guidance)
        check_sampler(self.sampler or "")
        if self.size:
            parse_size(self.size)


@dataclass(frozen=True)
class PlanSettings:
    """What is planned for the classes of a pairs table.

    Prompts are real captions, or composed by a dictionary (`captions`), by `templates`, or by
    templates with a dictionary's words; `attributes` are then set as `prompts.composed_captions`
    says. `include` and `exclude` name labels, as `mel` or `dermoscopy/mel`; what is left out counts
    nowhere.
    """

    amount: HowMany = HowMany()
    sources: Annotated[
        tuple[str, ...], Help("Only this source.", flags=("--source",), panel=CLASSES, unset="all")
    ] = ()
    include: Annotated[
        tuple[str, ...], Help("Only this label: LABEL or SOURCE/LABEL.", panel=CLASSES, unset="all")
    ] = ()
    exclude: Annotated[
        tuple[str, ...], Help("All but this label.", panel=CLASSES, unset="none")
    ] = ()
    prompts: Annotated[
        str | None,
        Help(
            "captions: those of the real images; dictionary: composed by --captions.",
            panel=PROMPTS,
            unset="captions, without --captions or --template",
        ),
    ] = None
    captions: Annotated[
        str | None, Help("Prompt dictionary: a bundled name or a .yaml file.", panel=PROMPTS)
    ] = None
    templates: Annotated[
        tuple[str, ...],
        Help(
            "Prompts like this: 'a photo of <tb>, {label}', {braces} name a column.",
            flags=("--template",),
            panel=PROMPTS,
        ),
    ] = ()
    attributes: Annotated[
        tuple[str, ...],
        Help(
            "Set an attribute: age=60; sex=female,male take turns.",
            flags=("--attribute",),
            panel=PROMPTS,
            unset="as in reality",
        ),
    ] = ()
    adapter: Annotated[
        Path | None,
        Help(
            "Run or adapter that will draw the plan: its word is put into every prompt.",
            panel=PROMPTS,
            unset="none",
        ),
    ] = None
    seed: Annotated[int, Help("Decides all prompts and seeds.")] = 0
    rows: RowSettings = RowSettings()

    def __post_init__(self) -> None:
        check_numbers(seed=self.seed)
        if self.prompts not in (None, "captions", "dictionary"):
            raise VesaliusError(f"--prompts {self.prompts!r}: choose one of captions, dictionary")
        if self.prompts == "dictionary" and not self.captions:
            raise VesaliusError(
                "--prompts dictionary needs --captions, a bundled name or a .yaml file"
            )
        if self.prompts == "captions" and (self.captions or self.templates):
            raise VesaliusError(
                "--prompts captions takes the real ones: leave out the other prompts"
            )
        if self.attributes and not self.captions and not self.templates:
            raise VesaliusError(
                "--attribute needs --captions or --template: real captions are taken as they are"
            )
