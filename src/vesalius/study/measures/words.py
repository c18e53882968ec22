"""Sentences' parts: figures with their intervals, and for whom they hold."""

from vesalius.statistics.equivalence import MarginTest
from vesalius.study.judgements import RECONSTRUCTED
from vesalius.study.results import StudyFigure

MINUS = "−"


def signed(value: float | None, digits: int = 2) -> str:
    """With its sign; a rounded zero has none."""
    if value is None:
        return "–"
    text = f"{abs(value):.{digits}f}" if round(value, digits) == 0 else f"{value:+.{digits}f}"
    return text.replace("-", MINUS)


def with_interval(figure: StudyFigure | None, digits: int = 2) -> str:
    """As in `0.52 (95 % interval 0.47 to 0.57)`."""
    if figure is None:
        return "not measured"
    if figure.value is None:
        return f"not measured ({figure.why})"
    text = f"{figure.value:.{digits}f}"
    if figure.low is None or figure.high is None:
        return text
    return f"{text} (95 % interval {figure.low:.{digits}f} to {figure.high:.{digits}f})".replace(
        "-", MINUS
    )


def share(value: float) -> str:
    """In percent."""
    return f"{100 * value:.0f} %"


def margin_interval(test: MarginTest, digits: int = 3) -> str:
    """The interval that the margin was held against."""
    return f"90 % interval {test.low:.{digits}f} to {test.high:.{digits}f}"


def called(arm: str) -> str:
    """The images of an arm."""
    if arm == RECONSTRUCTED:
        return "real images that went through the autoencoder"
    name = arm.partition(":")[2]
    return f"images of {name}" if name else "synthetic images"


def reach(scope: str, readers: int) -> str:
    """For whom it holds."""
    if scope == "readers and cases":
        return f"{readers} readers, for readers like them"
    if readers == 1:
        return "one reader: this reader only"
    words = {2: "two"}
    return f"{words.get(readers, readers)} readers: these readers only"
