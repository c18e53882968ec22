"""The parts of the acceptance on a GPU, in the order of their worth; gpu.py runs them."""

import shutil
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MINI = ROOT / "src" / "vesalius" / "bundled" / "mini"
TEXT_WEIGHTS = Path("text_encoder") / "model.safetensors"
ROOMS = ("train", "sample", "synthesize", "models", "evaluate", "augment")  # that use a GPU
TESTS = ("pytest", "hypothesis")


@dataclass(frozen=True)
class Part:
    """A process: a module and its arguments, in which {OUT} and {MINUTES} are put in."""

    name: str
    seconds: float  # at most
    command: tuple[str, ...]
    needs: tuple[str, ...] = ()  # modules
    instead_of: str = ""  # runs only if that part is not done


@dataclass(frozen=True)
class Place:
    """Where everything is, and whether it is a rehearsal."""

    work: Path
    out: Path
    peer: Path  # diffusers' examples
    tiny: bool

    def script(self, name: str) -> Path | None:
        """A training script of diffusers, beside the others or in the folder of its kind."""
        return next(iter(sorted(self.peer.rglob(name))), None) if self.peer.is_dir() else None

    @property
    def has_text_encoder(self) -> bool:
        return (MINI / TEXT_WEIGHTS).is_file()

    @property
    def mini(self) -> str:
        """The model that stands for mini: itself where it is whole."""
        whole = self.has_text_encoder and not self.tiny
        return "mini" if whole else str(self.work / "model")


def parts_of(place: Place) -> list[Part]:
    """All parts; a rehearsal's are as many, and small."""
    tiny = place.tiny
    images = ("--images", "2", "--batches", "2") if tiny else ("--images", "16", "--batches", "16")
    many = ("--images", "4", "--batches", "2") if tiny else ("--images", "512", "--batches", "128")
    mini = ("--tiny", *many) if tiny else ("--model", place.mini, *many)
    sd15 = ("--tiny", *images) if tiny else ("--sd15", *images)
    alike = ("--images", "2", "--batches", "1", "2") if tiny else ("--images", "16")
    private = ("--patients", "1", "--images", "2", "--repeats", "1") if tiny else ()
    device = "cpu" if tiny else "cuda"
    pretended = ("-p", "benchmarks.pretended") if tiny else ()
    files = marked_gpu()
    rooms = ("tests/train/test_loop.py",) if tiny else tuple(f"tests/{room}" for room in ROOMS)
    workers = () if tiny else ("-n", "8", "--maxfail", "40")

    def sampling(*arguments: str) -> tuple[str, ...]:
        return ("benchmarks.sample.bulk", *arguments, "--out", "{OUT}")

    def training(cases: str, *arguments: str) -> tuple[str, ...]:
        script = place.script("train_text_to_image.py")
        peer = ("--peer", str(script)) if script else ()
        size = ("--tiny",) if tiny else ()
        where = (
            "--work",
            str(place.work / "train"),
            "--out",
            "{OUT}",
            "--minutes",
            "{MINUTES:.3f}",
        )
        return ("benchmarks.train.speed", "--only", cases, *peer, *size, *arguments, *where)

    pytest = ("pytest", "-q", "-p", "no:cacheprovider")
    same = ("benchmarks.sample.equality", "--model", place.mini, "--device", device, *alike)
    step = ("benchmarks.train.privacy", "--model", place.mini, "--device", device, *private)
    full, lora, both = (
        ("full-8", "lora-1", "inversion-1") if tiny else ("full-32", "lora-8", "inversion-1")
    )
    return [
        Part("tests", 70, (*pytest, *pretended, "-m", "gpu", *files), TESTS),
        Part("mini", 60, sampling(*mini)),
        Part("equality", 60, (*same, "--out", "{OUT}")),
        Part("sd15", 90, sampling(*sd15)),
        Part("full", 250, training(full)),
        Part("full-eager", 120, training(full, "--eager"), instead_of="full"),
        Part("lora", 120, training(lora)),
        Part("rooms", 100, (*pytest, *workers, *rooms), (*TESTS, "xdist")),
        Part("sd15-compiled", 120, sampling(*sd15, "--compile")),
        Part("mini-compiled", 100, sampling(*mini, "--compile")),
        Part("inversion", 100, training(both)),
        Part("private", 60, (*step, "--out", "{OUT}"), ("dp_accounting",)),
        Part("scratch", 120, training("uvit-256")),
    ]


def marked_gpu() -> tuple[str, ...]:
    """Test files with a test marked gpu: the others may need what is not on that machine."""
    found = sorted((ROOT / "tests").rglob("test_*.py"))
    marked = [path for path in found if "pytest.mark.gpu" in path.read_text(encoding="utf-8")]
    return tuple(str(path.relative_to(ROOT)) for path in marked)


def shown(part: Part, place: Place) -> str:
    """The part's command as RECORDS.md has it."""
    script = place.script("train_text_to_image.py")
    model = "MODEL" if place.tiny else "mini"
    names = {str(place.work / "train"): "WORK", str(script): "PEER", place.mini: model}
    words = [names.get(word, word) for word in part.command]
    minutes = [k for k, word in enumerate(words) if word.startswith("{MINUTES")]
    words = [word for k, word in enumerate(words) if not {k, k + 1} & set(minutes)]
    return " ".join(["python -m", *words]).format(OUT="OUT")


def stand_in(place: Place) -> None:
    """The model that `place.mini` names, where it is not the bundled one."""
    if place.tiny:
        from benchmarks.sample.bulk import random_model

        random_model(place.work / "model", tiny=True)
    elif not place.has_text_encoder:
        write_text_encoder(MINI, place.work / "model")


def write_text_encoder(source: Path, folder: Path) -> Path:
    """A copy of the model in `source` at `folder`, its text encoder with random weights."""
    import torch
    from transformers import AutoConfig, AutoModel

    shutil.copytree(source, folder)
    torch.manual_seed(0)
    config = AutoConfig.from_pretrained(folder / "text_encoder")
    AutoModel.from_config(config).half().save_pretrained(folder / "text_encoder")
    return folder
