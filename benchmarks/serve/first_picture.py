"""From `vesalius serve` to a picture on screen, in a real browser, with the bundled model.

    python -m benchmarks.serve.first_picture --out OUT [--rounds 5] [--chromium /usr/bin/chromium]

Each round is a new start on an empty library, with a new browser profile. Seconds are from the command
to the address that it prints, to a page that can be used (its form filled, words of the model offered),
and to the first image drawn in full on screen, of a prompt that is sent at once. Then all pages of the
running server are opened, each until it says that the server is ready.
"""

import argparse
import json
import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from benchmarks.recording import record, run
from benchmarks.serve.server import Server

_PAGES = ("library", "steer", "compare", "jobs", "evidence", "./")
_READY = "#health:has-text('Ready')"
# the image that has been decoded and can be seen, not the preview that stands in for it
_SEEN = (
    "[...document.querySelectorAll('.tile .open img')].some((i) => i.complete && i.naturalWidth)"
)


@dataclass(frozen=True)
class Round:
    """Seconds since the command, but for `page`, which is from the address to the usable page."""

    address: float
    page: float
    usable: float
    first_picture: float
    pages: dict[str, float]


def one_round(browser: Any, model: str) -> Round:
    begun = time.perf_counter()
    with Server(model) as server:
        address = time.perf_counter() - begun
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.goto(server.link, wait_until="commit")
        page.wait_for_selector("[data-words] select")
        usable = time.perf_counter() - begun
        page.fill("#prompt", "chest X-ray, normal")
        page.fill("#n", "1")
        page.click("button[type=submit]")
        while not page.evaluate(_SEEN):
            time.sleep(0.01)
        picture = time.perf_counter() - begun
        pages = {name: seconds_to(page, f"{server.base}/{name}") for name in _PAGES}
        page.close()
    return Round(address, usable - address, usable, picture, pages)


def seconds_to(page: Any, address: str) -> float:
    begun = time.perf_counter()
    page.goto(address, wait_until="commit")
    page.wait_for_selector(_READY)
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    parser.add_argument("--model", default="mini")
    args = parser.parse_args()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=args.chromium)
        rounds = [one_round(browser, args.model) for _ in range(args.rounds)]
        browser.close()
    names = ("address", "page", "usable", "first_picture")
    figures = {
        f"seconds_{name}": {
            "median": round(statistics.median(getattr(one, name) for one in rounds), 2),
            "slowest": round(max(getattr(one, name) for one in rounds), 2),
        }
        for name in names
    }
    slowest = {name: round(max(one.pages[name] for one in rounds), 2) for name in _PAGES}
    figures["slowest_seconds_of_each_page"] = slowest
    print(json.dumps(figures, indent=1))
    rows = {"rounds": [asdict(one) for one in rounds]}
    record(args.out, "first_picture", figures, vars(args) | {"out": str(args.out)} | rows)


if __name__ == "__main__":
    run(main)
