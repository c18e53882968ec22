"""The library of `vesalius serve`: pages and searches over many images, none of them drawn."""

import json
import sqlite3
import time
from pathlib import Path
from typing import Any

from benchmarks.growth.measuring import Stage
from vesalius.serve.database import FILE, Search, open_database

TIMES = 20  # each question is asked


def fill(size: int, folder: Path) -> None:
    """Rows of images as a worker writes them, a hundred to a job."""
    open_database(folder).store.close()
    body = {"kind": "generate", "prompt": "", "steps": 6, "guidance": 3.0, "size": [256, 256]}
    told = {"synthetic": True, "model": "mini", "model_hash": "0" * 64, "sampler": "dpm++2m"}
    told |= {"seed": 1, "steps": 6, "guidance": 3.0, "version": "1.0", "adapters": []}

    def row(number: int) -> tuple[Any, ...]:
        prompt = f"chest x-ray, finding {number % 50}, patient of {20 + number % 70} years"
        prompt += ", pneumothorax" * (number % 10_007 == 0)
        facts = json.dumps(told | {"prompt": prompt})
        job, of_job = divmod(number, 100)
        return (
            *(f"{number:032x}", f"{job:032x}", of_job, f"user{job % 20}", prompt),
            *(f"finding {number % 50}", "mini", number, json.dumps(body | {"prompt": prompt})),
            *(facts, "null", f"{number:064x}", float(number)),
        )

    with sqlite3.connect(folder / FILE) as db:
        db.executemany(
            "INSERT INTO image (id, job, number, owner, prompt, label, model, seed, body, provenance,"
            " window, sha256, created) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)",
            map(row, range(size)),
        )
    db.close()


def ask(size: int, folder: Path) -> dict[str, Any]:
    """What the library's page asks, by milliseconds of one question."""
    database = open_database(folder)
    questions = {
        "first page": lambda: database.search(Search()),
        "deep page": lambda: database.search(Search(before=size // 2)),
        "common word": lambda: database.search(Search(words="finding 7")),
        "rare word": lambda: database.search(Search(words="pneumothorax")),
        "no such word": lambda: database.search(Search(words="mammogram")),
        "label": lambda: database.search(Search(label="finding 7")),
        "no such label": lambda: database.search(Search(label="mass")),
        "owner": lambda: database.search(Search(owner="user3")),
        "labels": database.labels,
        "count": database.count_images,
        "of a job": lambda: database.images_of(f"{size // 200:032x}"),
    }
    found = {}
    for name, question in questions.items():
        began = time.process_time()
        for _ in range(TIMES):
            question()
        found[name] = round((time.process_time() - began) / TIMES * 1000, 2)
    return {"milliseconds": found, "bytes": (folder / FILE).stat().st_size}


STAGES = {"serve: library": Stage("images", (1_000, 10_000, 100_000), ask, fill)}
