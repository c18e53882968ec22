"""The documentation, opened from files as on a machine without a network."""

import subprocess
import sys
from pathlib import Path

import pytest
from tests.browser import MARKS

ROOT = Path(__file__).parents[1]
pytestmark = MARKS


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for name in ("mkdocs", "material", "mkdocstrings"):
        pytest.importorskip(name, reason="the extra docs is not installed")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True)
    return folder


def test_search_finds_a_page_without_a_server(site: Path, window):
    page = window()
    page.goto((site / "index.html").as_uri())
    page.locator(".md-search__input").press_sequentially("Obuchowski")
    found = page.locator(".md-search-result__item a").first
    found.wait_for()
    found.click()
    page.wait_for_url("file://**/study.html*")
    assert "Obuchowski" in page.locator("article").inner_text()
