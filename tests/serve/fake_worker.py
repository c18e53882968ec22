"""A worker without a model: grey images at once, and what some prompts ask for."""

import base64
import io
import json
import os
import sys
import threading
import time
from pathlib import Path

import numpy as np
from PIL import Image

from vesalius.images.encode import encode_image
from vesalius.sample.folder import digest

PNG = io.BytesIO()
Image.new("RGB", (2, 2)).save(PNG, "PNG")
CANCELLED = set()
ORDERS = []


def tell(**message):
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def facts_of(body, number):
    words = body.get("prompt") or body.get("first") or body["parts"][0]["prompt"]
    return {
        "synthetic": True,
        "prompt": words,
        "negative": body["negative"],
        "seed": body["seed"] + number * (body["kind"] != "interpolate"),
        "model": body["model"],
        "model_hash": "0" * 16,
        "adapters": "",
        "sampler": body["sampler"] or "Fake",
        "steps": body["steps"] or 2,
        "guidance": body["guidance"] or 1.0,
        "width": 16,
        "height": 16,
        "version": "0",
    }


def draw(order):
    job, body = order["job"], order["body"]
    total = body.get("n") or body.get("frames")
    tell(at="begun", job=job, warnings=["it is long"] if "long" in json.dumps(body) else [])
    if "fail" in json.dumps(body):
        return tell(at="failed", job=job, error="it cannot be drawn")
    for number in range(order["done"], total):
        facts = facts_of(body, number)
        died = Path(order["files"][0] + ".died")
        if "die always" in facts["prompt"]:
            os._exit(9)
        if "die once" in facts["prompt"] and number and not died.exists():
            died.touch()
            os._exit(9)
        preview = [[number, base64.b64encode(PNG.getvalue()).decode()]]
        for step in (1, 2):
            tell(at="step", job=job, done=number + step / 2, step=step, previews=preview)
            if "slow" in facts["prompt"]:
                time.sleep(0.05)
        if job in CANCELLED:
            return tell(at="cancelled", job=job)
        pixels = np.full((16, 16, 3), facts["seed"] % 256, np.uint8)
        content = encode_image(pixels, facts)
        path = Path(order["files"][number])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        tell(
            at="image",
            job=job,
            number=number,
            sha256=digest(content),
            seed=facts["seed"],
            prompt=facts["prompt"],
            provenance=facts,
            window=None,
            kept=None,
        )
    tell(at="done", job=job)


def listen():
    for line in sys.stdin:
        message = json.loads(line)
        if "cancel" in message:
            CANCELLED.add(message["cancel"])
        else:
            ORDERS.append(message)
    os._exit(0)


sys.stdin.readline()
threading.Thread(target=listen, daemon=True).start()
tell(at="loaded", job="", model="mini", model_hash="0" * 16, seconds=0)
tell(at="ready", job="")
while True:
    while ORDERS:
        draw(ORDERS.pop(0))
    time.sleep(0.002)
