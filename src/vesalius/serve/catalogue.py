"""The models and adapters that a server offers, known by their ids, read from configurations alone.

No torch here: the page answers while the model is still being loaded elsewhere.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from vesalius.core.documents import read_json
from vesalius.core.paths import expanded
from vesalius.errors import VesaliusError
from vesalius.models.folder import cells_multiple, check_folder, native_pixels, pixels_per_cell
from vesalius.models.locate import bundled_models, locate, read_settings
from vesalius.pairs.captions import SetDictionary, columns_of, fill, load_dictionary
from vesalius.sample.checks import check_multiple, parse_size
from vesalius.serve.bodies import Drawing
from vesalius.serve.settings import ServeSettings

_STEPS, _GUIDANCE = 30, 7.5  # as `sample.generate` takes them where a model names none
_NUMBERS = ("age",)  # columns that any number may fill
_PLAIN = ("adapter", "generator", "text_encoder")  # folders of a run, called after it instead


@dataclass(frozen=True)
class Model:
    """A model that can be chosen."""

    id: str
    source: str  # what `load` takes
    licence: str
    size: tuple[int, int]  # by default: width, height
    multiple: int  # of a side
    steps: int
    guidance: float
    sampler: str
    bits: int


@dataclass(frozen=True)
class Adapter:
    """An adapter that can be chosen."""

    id: str
    file: Path


@dataclass(frozen=True)
class Phrases:
    """How prompts for one kind of image are made."""

    kind: str  # what the first phrasing begins with
    templates: list[str]  # as dictionaries write them
    words: dict[str, list[str]]  # by column; of a column without words any number can be said


@dataclass(frozen=True)
class Words:
    """What prompts are made of, by the dictionary that a model's captions came from."""

    prompts: list[str]
    words: dict[str, list[str]]  # by column
    kinds: list[Phrases]


@dataclass(frozen=True)
class Catalogue:
    """All that can be chosen; the first model is the default."""

    models: Mapping[str, Model]
    adapters: Mapping[str, Adapter]
    largest: int  # pixels of one image

    @property
    def default(self) -> str:
        """The model of a job that names none."""
        return next(iter(self.models))

    def check(self, body: Drawing) -> None:
        """Raise VesaliusError for a model, adapter or size that is not offered."""
        if body.model is None or body.model not in self.models:
            raise VesaliusError(f"no model {body.model!r} is offered: {', '.join(self.models)} is")
        for use in body.adapters:
            if use.id not in self.adapters:
                known = ", ".join(self.adapters) or "none"
                raise VesaliusError(f"no adapter {use.id!r} is offered: {known}")
        model, size = self.models[body.model], getattr(body, "size", None)
        if size is not None:
            width, height = parse_size(size)
            check_multiple((width, height), model.multiple)
            if width * height > self.largest:
                raise VesaliusError(
                    f"size {width}x{height} has {width * height:,} pixels, and {self.largest:,} "
                    "are the most here"
                )

    def steps(self, body: Drawing) -> int:
        """Denoising steps of each image of a checked body."""
        return body.steps or self.models[str(body.model)].steps

    def work(self, body: Drawing) -> float:
        """What a job costs: images times steps times pixels."""
        width, height = self.models[str(body.model)].size
        if size := getattr(body, "size", None):
            width, height = parse_size(size)
        return float(body.images * self.steps(body) * width * height)


def make_catalogue(settings: ServeSettings) -> Catalogue:
    """What the settings offer. A hub is contacted for a hub id that is not in the cache.

    Raises VesaliusError for a model or an adapter that is not there.
    """
    models = [_model(name) for name in settings.models]
    adapters = [_adapter(path) for path in settings.adapters]
    for what, ids in (("--model", [m.id for m in models]), ("--adapter", [a.id for a in adapters])):
        if twice := _repeated(ids):
            raise VesaliusError(f"{what}: two are called {twice!r}: rename the folder of one")
    return Catalogue(
        {model.id: model for model in models},
        {adapter.id: adapter for adapter in adapters},
        settings.largest,
    )


def _repeated(ids: Iterable[str]) -> str | None:
    ids = list(ids)
    return next((id for id in ids if ids.count(id) > 1), None)


def _id(path: Path) -> str:
    """A name for a file or folder that says nothing of where it lies."""
    path = path.resolve()
    name = path.stem if path.is_file() else path.name
    if path.is_file() and name in ("pytorch_lora_weights", "learned_embeds", "adapter_model"):
        path, name = path.parent, path.parent.name
    return path.parent.name if name in _PLAIN and path.parent.name else name


def _model(name: str) -> Model:
    folder = locate(name)
    check_folder(folder)
    own = read_settings(folder)
    denoiser, factor = read_json(folder / "unet" / "config.json"), pixels_per_cell(folder)
    is_name = name in bundled_models() or not expanded(name).is_dir()
    return Model(
        id=name if is_name else _id(folder),
        source=name if is_name else str(folder.resolve()),
        licence=str(own.get("licence", "not stated")),
        size=parse_size(own.get("size", native_pixels(denoiser, factor))),
        multiple=factor * cells_multiple(denoiser),
        steps=int(own.get("steps", _STEPS)),
        guidance=float(own.get("guidance", _GUIDANCE)),
        sampler=str(own.get("sampler", "")),
        bits=int(own.get("bits", 8)),
    )


def _adapter(path: Path) -> Adapter:
    path = expanded(path)
    if not path.exists():
        raise VesaliusError(f"there is no adapter {path}: give a .safetensors file or its folder")
    return Adapter(_id(path), path.resolve())


def words_of(model: str) -> Words:
    """What to offer for prompts: empty for a model that no bundled dictionary is named after."""
    try:
        entries = load_dictionary(model).values() if model in bundled_models() else ()
    except VesaliusError:
        entries = ()
    prompts, words = dict[str, None](), dict[str, dict[str, None]]()
    kinds: list[Phrases] = []
    for entry in entries:
        kinds.append(_phrases(entry))
        prompts |= dict.fromkeys(_prompts(entry))
        for column in entry.words:
            words.setdefault(column, {}).update(dict.fromkeys(_spoken(entry, column)))
    found = {column: list(found) for column, found in words.items() if found}
    return Words(list(prompts), found, kinds)


def _phrases(entry: SetDictionary) -> Phrases:
    """The phrasings of a set with the columns that can be offered: with words, or numbers."""
    said = {column for text in entry.templates for column in columns_of(text)}
    words = {column: _spoken(entry, column) for column in entry.words if column in said}
    words = {column: list(dict.fromkeys(found)) for column, found in words.items() if found}
    words |= {column: [] for column in sorted(said.intersection(_NUMBERS))}
    kind = fill(entry.templates[0], {}).partition(",")[0]
    return Phrases(kind, entry.templates, words)


def _spoken(entry: SetDictionary, column: str) -> list[str]:
    """The words of a column, the first synonym of each code."""
    found = [w if isinstance(w, str) else (w or [""])[0] for w in entry.words[column].values()]
    return [word for word in found if word]


def _prompts(entry: SetDictionary) -> list[str]:
    """The first phrasing, once with each label."""
    labels = _spoken(entry, "label") if "label" in entry.words else [""]
    texts = [fill(entry.templates[0], {"label": label}) for label in labels]
    return [text for text in texts if text]
