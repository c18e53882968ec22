"""The page of a utility experiment, from results.json."""

from collections.abc import Mapping, Sequence
from typing import Any

from vesalius.report.page import Remark, render, urgent_first
from vesalius.report.pictures import ClassPictures
from vesalius.report.plots import REAL, Curves, Mark, Plot, Row, Scale, Text, curves, round_scale
from vesalius.report.words import decimals, p_value, signed

Document = Mapping[str, Any]  # results.json
FAMILIES = {  # of comparisons
    "help": "with synthetic images against real images alone",
    "worth": "with synthetic images against the best arm without",
    "baselines": "without synthetic images against real images alone",
}


def utility_page(
    document: Document,
    *,
    scores: Mapping[str, str],
    about: Mapping[str, str],
    samples: Sequence[ClassPictures] = (),
) -> str:
    """The page.

    Args:
        document: results.json.
        scores: what each score is called.
        about: what each kind of arm is, in words.
        samples: pictures of each class.
    """
    found = [Remark(check["status"], check["message"]) for check in document["honesty"]]
    return render(
        "utility",
        d=document,
        remarks=urgent_first([*found, *(Remark("note", note) for note in document["notes"])]),
        seeds=seeds_of(document),
        samples=samples,
        plots=arms_plots(document),
        curves=learning_curves(document),
        by_class=_by_class(document),
        scores=scores,
        about=about,
        families=FAMILIES,
    )


def seeds_of(document: Document) -> int:
    """With how many seeds each arm was trained."""
    return len({one["seed"] for one in document["budgets"][-1]["arms"][0]["chosen"]})


def arms_plots(document: Document) -> list[Plot]:
    """A plot an amount of real images, the largest first."""
    return [arms_plot(document, budget) for budget in reversed(document["budgets"])]


def arms_plot(document: Document, budget: Mapping[str, Any]) -> Plot:
    """The AUROC of all arms with its interval."""
    figures = {arm["name"]: arm["figures"]["auroc"] for arm in budget["arms"]}
    scale = _scale_of(figures.values())
    tested = {
        c["second"]: c
        for c in document["comparisons"]
        if c["budget"] == budget["name"] and c["score"] == "auroc" and c["family"] != "worth"
    }
    folds = document["task"]["folds"]
    return Plot(
        "",
        f"{budget['name']} of the real training images" + (f", {folds} folds" if folds else ""),
        [
            _arm(arm, scale, tested.get(arm["name"]), (budget["best"], budget["baseline"]))
            for arm in budget["arms"]
        ],
        scale.labels(),
        scale.place(figures["real"]["value"]),
        [
            f"Not trained again: {one['arm']} would be {one['same_as']}, {one['why']}."
            for one in budget["left_out"]
        ],
    )


def _scale_of(figures: Any) -> Scale:
    values = [f[key] for f in figures for key in ("value", "low", "high") if f[key] is not None]
    return round_scale(min(values, default=0.0), max(values, default=1.0), 0.005, end=1.0)


def _arm(
    arm: Mapping[str, Any],
    scale: Scale,
    test: Mapping[str, Any] | None,
    chosen: Sequence[str | None],
) -> Row:
    figure, name = arm["figures"]["auroc"], arm["name"]
    marks = []
    if (x := scale.place(figure["value"])) is not None:
        low, high = scale.place(figure["low"]), scale.place(figure["high"])
        title = f"{name}: AUROC {decimals(figure['value'])}"
        marks.append(Mark(x, low, high, 0 if arm["synthetic_images"] else REAL, title))
    interval = "" if figure["low"] is None else f"({_range(figure)})"
    text = Text(decimals(figure["value"]), interval, _difference(test) if test else "")
    images = f"{arm['real_images']:,} real + {arm['synthetic_images']:,} synthetic"
    about = f"{images}; {arm['note']}" if arm["note"] else images
    return Row(f"{name} ★" if name in chosen else name, marks, [text], about)


def _range(figure: Mapping[str, Any]) -> str:
    return f"{decimals(figure['low'])} to {decimals(figure['high'])}"


def _difference(test: Mapping[str, Any]) -> str:
    """From real images alone, with interval and corrected p."""
    text = signed(test["difference"])
    if test["low"] is None:
        return text
    interval = f"{signed(test['low'])} to {signed(test['high'])}"
    return f"{text} ({interval}), p {p_value(test['p_corrected'])}"


def learning_curves(document: Document) -> Curves | None:
    """AUROC over the amount of real images: real alone, and the arms with both; None for one amount.

    An arm that was left out because it would repeat another one has that one's points.
    """
    if len(document["budgets"]) < 2:
        return None
    arms = [arm for budget in document["budgets"] for arm in budget["arms"]]
    wanted = ["real", *(arm["name"] for arm in arms if arm["kind"] in ("mixed", "pretrained"))]
    points: dict[str, list[tuple[int, Mapping[str, Any]]]] = {name: [] for name in wanted}
    for budget in document["budgets"]:
        own = {arm["name"]: arm for arm in budget["arms"]}
        own |= {one["arm"]: own[one["same_as"]] for one in budget["left_out"]}
        for name in points:
            arm = own.get(name)
            if arm and arm["figures"]["auroc"]["value"] is not None:
                points[name].append((arm["real_images"], arm["figures"]["auroc"]))
    scale = _scale_of(figure for line in points.values() for _, figure in line)
    return curves(points, scale, lambda n, figure: f"{n:,} real: {figure['value']:.3f}")


def _by_class(document: Document) -> list[dict[str, Any]]:
    """AUROC and AUPR of each class: real images alone, the best baseline and the best with both."""
    name = document["verdict"]["budget"]
    last = next(budget for budget in document["budgets"] if budget["name"] == name)
    arms = {arm["name"]: arm for arm in last["arms"]}
    names = list(dict.fromkeys(["real", last["baseline"], last["best"]]))
    test = document["task"]["images"]["test"]
    return [
        {"name": of, "n": test[of], "arms": [(name, arms[name]["classes"][of]) for name in names]}
        for of in arms["real"]["classes"]
    ]
