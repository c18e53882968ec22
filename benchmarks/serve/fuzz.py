"""Every operation of `vesalius serve` asked at random: no answer of 500 or above, none outside the schema.

    python -m benchmarks.serve.fuzz --out OUT [--cases 20000]

schemathesis makes requests that the schema allows and requests that it does not, half and half; ids
are those of real jobs and images half of the time. The worker is that of the tests, which draws
nothing: what is asked at random would take a model years.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, Verbosity, given, settings
from schemathesis.checks import CHECKS
from schemathesis.core.failures import Failure, FailureGroup

from benchmarks.recording import record, run

_CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
)


_UNMINDED = (HealthCheck.filter_too_much, HealthCheck.too_slow, HealthCheck.data_too_large)


@dataclass
class Counts:
    cases: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


def ask_everything(
    schema: Any, call: dict[str, Any], each: int, ids: Callable[[], list[str]]
) -> Counts:
    """`each` cases of every operation and mode; `call` is what every request is made with."""
    counts, rng = Counts(), random.Random(0)
    checks = [CHECKS.get_one(name) for name in _CHECKS]
    for result in schema.get_all_operations():
        operation = result.ok()
        if operation.label == "DELETE /api/v1/session":  # of the browser that asks
            continue
        for mode in schemathesis.GenerationMode:
            _ask(operation, mode, each, Asked(counts, checks, call, ids, rng))
    return counts


@dataclass
class Asked:
    counts: Counts
    checks: list[Any]
    call: dict[str, Any]
    ids: Callable[[], list[str]]
    rng: random.Random


def _ask(operation: Any, mode: Any, each: int, asked: Asked) -> None:
    @settings(
        max_examples=each,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=_UNMINDED,
        verbosity=Verbosity.quiet,
        derandomize=True,
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: Any) -> None:
        known = asked.ids() if "id" in (case.path_parameters or {}) else []
        if known and asked.rng.random() < 0.5:
            case.path_parameters["id"] = asked.rng.choice(known)
        answer = case.call(**asked.call)
        asked.counts.cases += 1
        asked.counts.statuses[answer.status_code] += 1
        try:
            case.validate_response(answer, checks=asked.checks)
        except (FailureGroup, Failure) as error:
            asked.counts.wrong.append(f"{operation.label}: {str(error)[:2000]}")

    try:
        ask()
    except Exception as error:  # nothing can be made that the schema does not allow, for one
        if "Unsatisfiable" not in type(error).__name__ and "No negative" not in str(error):
            asked.counts.wrong.append(f"{operation.label}: {type(error).__name__}: {error}"[:2000])


def _house(folder: Path) -> Any:
    """The whole server with the worker of the tests, in this process."""
    place = Path(__file__).parents[2] / "tests" / "serve" / "conftest.py"
    spec = spec_from_file_location("house_of_the_tests", place)
    assert spec
    assert spec.loader
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module.House(folder).open()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cases", type=int, default=20_000)
    args = parser.parse_args()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        house = _house(Path(folder))
        known = house.client()
        schema = schemathesis.openapi.from_dict(known.get("/api/v1/openapi.json").json())
        schema.app = house.app
        schema.config.update(base_url="http://127.0.0.1:8765")
        operations = len(list(schema.get_all_operations()))

        def ids() -> list[str]:
            found = known.get("/api/v1/images?limit=5").json()["images"]
            return [image["id"] for image in found] + [image["job"] for image in found]

        each = -(-args.cases // (2 * operations))
        headers = {"Authorization": known.headers["Authorization"]}
        counts = ask_everything(schema, {"headers": headers}, each, ids)
        health = known.get("/api/v1/health").json()
        house.close()
    figures = {
        "cases": counts.cases,
        "statuses": dict(sorted(counts.statuses.items())),
        "wrong": counts.wrong[:20],
        "seconds": round(time.monotonic() - begun, 1),
        "health": health["status"],
    }
    print(json.dumps(figures, indent=1))
    record(args.out, "fuzz", figures, {"operations": operations, "each": each})


if __name__ == "__main__":
    run(main)
