"""What tests in Chromium share: a browser that stays on this machine, and what pages must be."""

import time
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
Axe = pytest.importorskip("axe_core_python.sync_playwright", reason="axe-core is missing").Axe

CHROMIUM = Path("/usr/bin/chromium")
MARKS = [
    pytest.mark.slow,
    pytest.mark.ci,
    pytest.mark.skipif(not CHROMIUM.exists(), reason="Debian's chromium is not installed"),
]
TABLET = {"width": 820, "height": 1180}


@contextmanager
def open_chromium():
    """A browser without a window."""
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM))
        yield browser
        browser.close()


@contextmanager
def windows(chromium):
    """`window()` opens a browser of its own, in which a request that leaves this machine fails the test."""
    contexts, away, errors = [], [], []

    def note(request):
        if urlsplit(request.url).hostname not in ("127.0.0.1", None):
            away.append(request.url)

    def open_window(**options):
        context = chromium.new_context(reduced_motion="reduce", **options)
        context.set_default_timeout(15_000)
        contexts.append(context)
        page = context.new_page()
        page.on("request", note)
        page.on("pageerror", lambda error: errors.append(str(error)))
        return page

    yield open_window
    for context in contexts:
        context.close()
    assert away == []
    assert errors == []


def check_accessible(page):
    """No serious finding of axe-core on the page as it is."""
    found = Axe().run(page)
    serious = [
        (one["id"], one["impact"], [node["html"][:100] for node in one["nodes"]][:3])
        for one in found["violations"]
        if one["impact"] in ("serious", "critical")
    ]
    assert serious == []


def until(page, expression, argument=None, seconds=15):
    """Wait until a script's expression holds; the page's own policy forbids Playwright's way."""
    deadline = time.time() + seconds
    while time.time() < deadline:
        try:
            if page.evaluate(expression, argument):
                return
        except sync_api.Error as error:  # the page has just gone on to the next one
            if "context" not in str(error) and "navigat" not in str(error):
                raise
        time.sleep(0.02)
    raise AssertionError(f"never: {expression}")


def tab_to(page, selector, most=60):
    """Press Tab until the element has the focus."""
    for _ in range(most):
        if page.evaluate("s => document.activeElement?.matches(s)", selector):
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"Tab never reached {selector}")
