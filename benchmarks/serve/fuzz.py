"""Every operation of `vesalius serve` asked at random: no answer of 500 or above, none outside the schema.

    python -m benchmarks.serve.fuzz --out OUT [--cases 20000] [--minutes 5]

schemathesis makes requests that the schema allows and requests that it does not, half and half; ids
are those of real jobs and images half of the time. An operation with few parameters has few cases
that differ: it is asked with one seed after another, as long as a seed brings new ones. Each case is
counted once. The worker is that of the tests, which draws nothing: what is asked at random would take
a model years. A run ends after `--minutes`, and the next one with the same OUT goes on with new seeds.
"""

import argparse
import hashlib
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings
from schemathesis.checks import CHECKS
from schemathesis.core.failures import Failure, FailureGroup

from benchmarks.recording import record, run
from vesalius.core.atomic import atomic_path
from vesalius.core.documents import read_json

_CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
)


_UNMINDED = (HealthCheck.filter_too_much, HealthCheck.too_slow, HealthCheck.data_too_large)


EACH = 150  # cases of an operation, a mode and a seed
STATE = "state.json"


@dataclass
class State:
    """What all runs so far have asked."""

    seed: int = 0  # the next one
    seen: list[str] = field(default_factory=list)  # hashes of all cases
    statuses: dict[str, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    spent: list[str] = field(default_factory=list)  # operations and modes without anything new
    seconds: float = 0.0


@dataclass
class Asker:
    """Asks every operation; `call` is what each request is made with."""

    schema: Any
    call: dict[str, Any]
    ids: Callable[[], list[str]]
    state: State
    each: int = EACH

    def __post_init__(self) -> None:
        self.checks = [CHECKS.get_one(name) for name in _CHECKS]
        self.seen = set(self.state.seen)
        self.rng = random.Random(self.state.seed)

    def ask_everything(self, goes_on: Callable[[], bool]) -> None:
        """All operations and modes with the next seed, while `goes_on` and there are new cases."""
        for result in self.schema.get_all_operations():
            operation = result.ok()
            if operation.label == "DELETE /api/v1/session":  # of the browser that asks
                continue
            for mode in schemathesis.GenerationMode:
                name, before = f"{operation.label} {mode.value}", len(self.seen)
                if name in self.state.spent or not goes_on():
                    continue
                self.ask(operation, mode)
                if len(self.seen) == before:
                    self.state.spent.append(name)
        self.state.seen = sorted(self.seen)
        self.state.seed += 1

    def ask(self, operation: Any, mode: Any) -> None:
        """Some cases of one operation; those that were asked before are left out."""

        @seed(self.state.seed)
        @settings(
            max_examples=self.each,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=_UNMINDED,
            verbosity=Verbosity.quiet,
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def ask(case: Any) -> None:
            self.one(operation, case)

        try:
            ask()
        except Exception as error:  # nothing can be made that the schema does not allow, for one
            if "Unsatisfiable" not in type(error).__name__ and "No negative" not in str(error):
                self.state.wrong.append(
                    f"{operation.label}: {type(error).__name__}: {error}"[:2000]
                )

    def one(self, operation: Any, case: Any) -> None:
        """One case, sent and its answer checked."""
        hashed = digest(operation.label, case)
        if hashed in self.seen:
            return
        self.seen.add(hashed)
        known = self.ids() if "id" in (case.path_parameters or {}) else []
        if known and self.rng.random() < 0.5:
            case.path_parameters["id"] = self.rng.choice(known)
        answer = case.call(**self.call)
        status = str(answer.status_code)
        self.state.statuses[status] = self.state.statuses.get(status, 0) + 1
        try:
            case.validate_response(answer, checks=self.checks)
        except (FailureGroup, Failure) as error:
            self.state.wrong.append(f"{operation.label}: {str(error)[:2000]}")


def digest(label: str, case: Any) -> str:
    """What tells a case from others: all that is sent."""
    sent = (case.path_parameters, case.query, case.headers, case.cookies, case.media_type)
    text = repr((label, *map(_plain, sent), case.body))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:20]


def _plain(sent: Any) -> Any:
    return sorted(map(repr, sent.items())) if hasattr(sent, "items") else repr(sent)


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
    parser.add_argument("--minutes", type=float, default=5)
    args = parser.parse_args()
    begun = time.monotonic()
    args.out.mkdir(parents=True, exist_ok=True)
    kept = args.out / STATE
    state = State(**read_json(kept)) if kept.exists() else State()
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

        headers = {"Authorization": known.headers["Authorization"]}
        asker = Asker(schema, {"headers": headers}, ids, state)

        def goes_on() -> bool:
            there_is_time = time.monotonic() - begun < args.minutes * 60
            return there_is_time and len(asker.seen) < args.cases

        while goes_on():
            asker.ask_everything(goes_on)
        health = known.get("/api/v1/health").json()
        house.close()
    state.seconds += time.monotonic() - begun
    with atomic_path(kept) as temporary:
        temporary.write_text(json.dumps(asdict(state)))
    figures = {
        "cases": len(state.seen),
        "statuses": dict(sorted(state.statuses.items())),
        "wrong": state.wrong[:20],
        "seeds": state.seed,
        "operations_without_more": len(state.spent),
        "seconds": round(state.seconds, 1),
        "health": health["status"],
    }
    print(json.dumps(figures, indent=1))
    record(args.out, "fuzz", figures, {"operations": operations, "each": EACH})


if __name__ == "__main__":
    run(main)
