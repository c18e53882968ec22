"""Vesalius: synthetic medical images from text, with evidence of what they are worth.

    import vesalius
    model = vesalius.load("mini")
    model.generate(["a chest X-ray with an effusion"])[0].image.show()

One function for each arrow of the data flow, each of which reads what the one before wrote:

    vesalius.build_pairs(["images/"], "pairs.parquet")
    vesalius.train("lora", "pairs.parquet", "run")
    vesalius.plan("pairs.parquet", "plan.csv", PlanSettings(HowMany(balance=True)))
    vesalius.synthesize("plan.csv", "set", SynthesizeSettings(adapters=("run/adapter",)))
    vesalius.evaluate("pairs.parquet", {"mine": "set"}, "evidence")
    vesalius.utility("pairs.parquet", "set", "use")

`vesalius.augment("pairs.parquet", "out")` is the whole way. Names are imported when they are first used, so
`import vesalius` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from vesalius._version import __version__

if TYPE_CHECKING:
    from vesalius import study
    from vesalius.api import plan, train
    from vesalius.augment.run import augment
    from vesalius.augment.settings import AugmentSettings
    from vesalius.errors import VesaliusError
    from vesalius.evaluate.run import evaluate
    from vesalius.evaluate.settings import EvaluateSettings
    from vesalius.models.generator import Generator, load_generator
    from vesalius.pairs.build import build_pairs, check_pairs
    from vesalius.pairs.settings import PairsSettings, ReaderOptions
    from vesalius.pairs.table import read_pairs
    from vesalius.sample.folder import generate_to_folder
    from vesalius.sample.generate import Sample, TextToImage, load
    from vesalius.sample.inpaint import inpaint, inpaint_to_folder
    from vesalius.sample.interpolate import interpolate, interpolate_to_folder
    from vesalius.sample.settings import GenerateSettings, InpaintSettings, InterpolateSettings
    from vesalius.synthesize.engine import synthesize
    from vesalius.synthesize.make_plan import plan_prompts
    from vesalius.synthesize.settings import HowMany, PlanSettings, SynthesizeSettings
    from vesalius.utility.run import utility
    from vesalius.utility.settings import UtilitySettings

__all__ = [
    "AugmentSettings",
    "EvaluateSettings",
    "GenerateSettings",
    "Generator",
    "HowMany",
    "InpaintSettings",
    "InterpolateSettings",
    "PairsSettings",
    "PlanSettings",
    "ReaderOptions",
    "Sample",
    "SynthesizeSettings",
    "TextToImage",
    "UtilitySettings",
    "VesaliusError",
    "__version__",
    "augment",
    "build_pairs",
    "check_pairs",
    "evaluate",
    "generate_to_folder",
    "inpaint",
    "inpaint_to_folder",
    "interpolate",
    "interpolate_to_folder",
    "load",
    "load_generator",
    "plan",
    "plan_prompts",
    "read_pairs",
    "study",
    "synthesize",
    "train",
    "utility",
]

_HOMES = {
    "api": "plan",
    "augment.settings": "AugmentSettings",
    "errors": "VesaliusError",
    "evaluate.settings": "EvaluateSettings",
    "models.generator": "Generator load_generator",
    "pairs.build": "build_pairs check_pairs",
    "pairs.settings": "PairsSettings ReaderOptions",
    "pairs.table": "read_pairs",
    "sample.folder": "generate_to_folder",
    "sample.generate": "Sample TextToImage load",
    "sample.inpaint": "inpaint inpaint_to_folder",
    "sample.interpolate": "interpolate interpolate_to_folder",
    "sample.settings": "GenerateSettings InpaintSettings InterpolateSettings",
    "synthesize.make_plan": "plan_prompts",
    "synthesize.settings": "HowMany PlanSettings SynthesizeSettings",
    "utility.settings": "UtilitySettings",
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names.split()}
_ROOMS = (
    "augment",
    "evaluate",
    "study",
    "synthesize",
    "train",
    "utility",
)  # packages; all but study can be called


def __getattr__(name: str) -> Any:
    """Import a public name on first use (PEP 562)."""
    if name in _ROOMS:
        return import_module(f"vesalius.{name}")
    if name not in _HOME_OF:
        raise AttributeError(f"module 'vesalius' has no attribute {name!r}")
    return getattr(import_module(f"vesalius.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
