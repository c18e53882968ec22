"""What the runs on real images share: commands that are done once, tables cut from tables, the summary.

A run is a chain of `vesalius` commands in a folder of work. Each is skipped where its result is
there, so that a run that was stopped goes on, and `commands.txt` lists them with their seconds.
"""

import argparse
import json
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.recording import record, table
from vesalius.core.atomic import atomic_path

SCORES = ("auroc", "aupr", "balanced_accuracy", "macro_f1")


def options(doc: str | None) -> argparse.ArgumentParser:
    """The arguments that all runs have."""
    parser = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    parser.add_argument("--model", required=True, help="a generator that saw no test image")
    parser.add_argument(
        "--trained-on", type=Path, help="the run that made it, where it has no record"
    )
    parser.add_argument(
        "--allow-unproven", action="store_true", help="for a base of which nobody knows what it saw"
    )
    parser.add_argument("--work", type=Path, required=True, help="folder for all that is made")
    parser.add_argument("--out", type=Path, required=True, help="folder for the figures")
    parser.add_argument("--backbone", default="inception")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--side", type=int, default=256, help="pixels of all images")
    parser.add_argument("--device", default="auto")
    return parser


def proof(args: argparse.Namespace) -> list[Any]:
    """Arguments that say what the generator has seen."""
    return [
        *(["--trained-on", args.trained_on] if args.trained_on else []),
        *(["--allow-unproven"] if args.allow_unproven else []),
    ]


def once(work: Path, makes: Path, *arguments: Any) -> None:
    """Run `vesalius` with these arguments, unless what it makes is there."""
    if makes.exists():
        return
    words = [str(each) for each in arguments]
    began = time.monotonic()
    print("vesalius", shlex.join(words), flush=True)
    subprocess.run([sys.executable, "-m", "vesalius", *words], check=True)
    with (work / "commands.txt").open("a") as log:
        log.write(f"{time.monotonic() - began:.0f} s: vesalius {shlex.join(words)}\n")


def cut(pairs: Path, out: Path, split: Callable[[dict[str, Any]], str | None]) -> Path:
    """Write the rows of a pairs table that `split` names a split for, given their text columns."""
    whole = pq.read_table(pairs)
    told = whole.drop_columns("image").to_pylist()
    named = [split(row) for row in told]
    kept = [k for k, name in enumerate(named) if name]
    place = whole.column_names.index("split")
    chosen = whole.take(kept).set_column(
        place, "split", pa.array([named[k] for k in kept], pa.string())
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(out) as path:
        pq.write_table(chosen, path, row_group_size=200)
    return out


def topped_up(
    doc: str | None,
    source: str,
    per_class: int,
    chosen: Callable[[dict[str, Any]], bool],
    fractions: str = "1",
    more: Sequence[Any] = (),
) -> None:
    """Judge synthetic images of the rows of one `source` that are `chosen`, by the table's split."""
    parser = options(doc)
    parser.add_argument("--pairs", type=Path, required=True, help="with the splits of the model")
    parser.add_argument("--per-class", type=int, default=per_class, help="synthetic images")
    parser.add_argument("--fractions", default=fractions, help="parts of the real images")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    pairs = args.work / f"{source}.parquet"
    if not pairs.exists():
        cut(
            args.pairs,
            pairs,
            lambda row: row["split"] if row["source"] == source and chosen(row) else None,
        )
    judged(args, source, pairs, more=["--fractions", args.fractions, *more])


def judged(
    args: argparse.Namespace,
    name: str,
    pairs: Path,
    adapter: Path | None = None,
    more: Sequence[Any] = (),
) -> None:
    """Plan `args.per_class` images, generate them, run `vesalius utility` with `more`, record it."""
    work: Path = args.work
    plan, made, results = work / "plan.csv", work / "set", work / f"utility-{args.backbone}"
    taught = ["--adapter", adapter] if adapter else []
    once(work, plan, "plan", "--pairs", pairs, "--per-class", args.per_class, "--out", plan)
    once(
        work, made / "manifest.jsonl", "synthesize", plan, "--model", args.model, *taught,
        "--guard", pairs, "--out", made, "--device", args.device,
    )  # fmt: skip
    once(
        work, results / "results.json", "utility", "--real", pairs, "--synthetic", made,
        "--out", results, "--store", work / "features", "--backbone", args.backbone, *more,
        "--seeds", args.seeds, "--side", args.side, "--device", args.device, *proof(args),
    )  # fmt: skip
    figures = told(json.loads((results / "results.json").read_text("utf-8")))
    show(figures)
    finish(args, f"{name}-{args.backbone}", figures)


def told(document: dict[str, Any]) -> dict[str, Any]:
    """Of results.json what is recorded: the verdict, each arm's scores, and all comparisons."""
    return {
        "verdict": document["verdict"],
        "images": document["task"]["images"],
        "honesty": [check["message"] for check in document["honesty"]],
        "budgets": [
            {
                "name": budget["name"],
                "best": budget["best"],
                "baseline": budget["baseline"],
                "left_out": budget["left_out"],
                "arms": {
                    arm["name"]: {
                        "real": arm["real_images"],
                        "synthetic": arm["synthetic_images"],
                        **{
                            name: [arm["figures"][name][k] for k in ("value", "low", "high")]
                            for name in SCORES
                            if name in arm["figures"]
                        },
                    }
                    for arm in budget["arms"]
                },
            }
            for budget in document["budgets"]
        ],
        "comparisons": document["comparisons"],
        "seconds": document["seconds"],
    }


def show(figures: dict[str, Any]) -> None:
    """Print arms with their scores."""
    for budget in figures["budgets"]:
        rows: list[Sequence[Any]] = [[budget["name"], "real", "synthetic", *SCORES]]
        for name, arm in budget["arms"].items():
            cells = [
                "{:.3f} [{:.3f}, {:.3f}]".format(*arm[s])
                if s in arm and None not in arm[s]
                else "-"
                for s in SCORES
            ]
            rows.append([name, arm["real"], arm["synthetic"], *cells])
        table(rows)
        print()
    print(figures["verdict"]["headline"])


def finish(args: argparse.Namespace, name: str, figures: Any) -> None:
    """Write the figures with the settings and the commands that were run."""
    log = args.work / "commands.txt"
    settings: dict[str, Any] = {key: str(value) for key, value in vars(args).items()}
    settings["commands"] = log.read_text().splitlines() if log.is_file() else []
    record(args.out, name, figures, settings)
