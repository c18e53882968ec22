"""All pages and tasks in Chromium: by keys alone, by pointer alone, offline, in two browsers."""

import re
import time

import pytest
from benchmarks.study.drawn import SmallStudy, small_study
from benchmarks.study.served import Served
from tests.browser import MARKS, TABLET, check_accessible, tab_to, until

from vesalius.study.database import Database
from vesalius.study.layout import Layout

pytestmark = MARKS


def answers(study, reader):
    with Database(study.layout.database) as database:
        return list(database.answers(reader))


@pytest.fixture
def served(tmp_path):
    started = []

    def start(*options, **values):
        folder = small_study(tmp_path / f"study{len(started)}", SmallStudy(**values))
        started.append(Served(folder, *options))
        started[-1].layout = Layout(folder)
        return started[-1]

    yield start
    for one in started:
        assert one.stop() == 0


def mode(page, *wanted):
    """Wait until the reading page is in one of these modes, or was left; return it."""
    names = ",".join(f'#main[data-mode="{name}"]' for name in wanted)
    page.wait_for_selector(f"{names},form[data-send=event]", state="attached")
    at = page.query_selector("#main[data-mode]")
    return at.get_attribute("data-mode") if at else "end"


def ready(page):
    """Wait until the image is there and answers are taken."""
    until(page, "document.querySelector('#choices button')?.disabled === false")
    page.wait_for_timeout(40)  # a frame, from which on time is counted


def forms_by_keys(page):
    tab_to(page, "[name=agreed]")
    page.keyboard.press("Space")
    page.keyboard.press("Enter")
    page.wait_for_selector("#specialty")
    tab_to(page, "button[type=submit]")
    page.keyboard.press("Enter")  # too early: the page says what is missing
    assert "write your specialty" in page.text_content("[data-error]")
    assert page.evaluate("document.activeElement.id") == "specialty"
    check_accessible(page)
    page.keyboard.type("Radiology")
    tab_to(page, "#years")
    page.keyboard.type("7")
    for name in ("reads", "seen_before"):
        tab_to(page, f"[name={name}]")
        page.keyboard.press("Space")
        page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_selector("#dark_steps")
    for name in ("dark_steps", "bright_steps"):
        tab_to(page, f"#{name}")
        page.keyboard.type("9")
    tab_to(page, "#card-width")
    page.keyboard.press("ArrowRight")
    for name in ("light", "monitor"):
        tab_to(page, f"[name={name}]")
        page.keyboard.press("Space")
    check_accessible(page)
    page.keyboard.press("Enter")


def read_by_keys(page):
    """Answer everything by keys; return what was done in each task, for comparison."""
    checked = set()
    while (now := mode(page, "intro", "trial", "feedback", "pause")) != "end":
        question = page.text_content("#question")
        if (now, question) not in checked:
            checked.add((now, question))
            check_accessible(page)
        if now == "trial":
            ready(page)
            for key in ("+", "ArrowLeft", "n", "b"):
                page.keyboard.press(key)
            if page.is_visible("#prompt"):
                tab_to(page, "#prompt button:nth-child(2)")
                page.keyboard.press("Space")
            count = page.text_content("#count")
            page.keyboard.press("2")
            if page.is_visible("#sure"):
                page.keyboard.press("d")
            if page.is_visible("#prompt"):
                page.keyboard.press("Enter")
            until(
                page,
                "c => document.querySelector('#count')?.textContent !== c || "
                "document.querySelector('#main')?.dataset.mode !== 'trial'",
                count,
            )
        else:
            page.keyboard.press("Enter")
            until(page, "m => document.querySelector('#main')?.dataset.mode !== m", now)


def test_by_keys_alone(served, window):
    study = served(trials=2)
    page = window()
    page.goto(study.links["R1"])
    check_accessible(page)
    page.focus("text=Open the reading")
    page.keyboard.press("Enter")
    until(page, "!location.pathname.includes('/r/')")
    check_accessible(page)
    forms_by_keys(page)
    read_by_keys(page)
    page.wait_for_selector("text=Thank you")
    check_accessible(page)
    given = answers(study, "R1")
    assert len(given) == 15
    assert {a.tools["input"] for a in given} == {"key"}
    assert all(a.tools["zoomed"] and a.tools["windowed"] and a.tools["panned"] for a in given)
    assert all(a.tools["zoom"] > 1.2 for a in given)
    assert all(0 < a.visible_ms < 60_000 for a in given)
    assert [a.details for a in given if a.details] == ["[1]"] * 3


def test_by_pointer_alone_on_a_tablet(served, window):
    study = served(trials=2)
    page = window(viewport=TABLET, has_touch=True, color_scheme="dark")
    page.goto(study.links["R2"])
    page.click("text=Open the reading")
    page.click("[name=agreed]")
    page.click("button.primary")
    page.fill("#specialty", "Radiology")
    page.fill("#years", "2")
    page.click("[name=reads][value=often]")
    page.click("[name=seen_before][value=never]")
    page.click("button.primary")
    page.fill("#dark_steps", "9")
    page.fill("#bright_steps", "9")
    page.click("#card-none")
    page.click("[name=light][value=dim]")
    page.click("[name=monitor][value=tablet]")
    page.click("button.primary")
    checked = set()
    while (now := mode(page, "intro", "trial", "feedback")) != "end":
        question = page.text_content("#question")
        if (now, question) not in checked:
            checked.add((now, question))
            check_accessible(page)
        if now != "trial":
            page.tap("#cover-go" if now == "intro" else "#go")
            until(page, "m => document.querySelector('#main')?.dataset.mode !== m", now)
            continue
        ready(page)
        drag(page)
        count = page.text_content("#count")
        if page.is_visible("#prompt"):
            page.tap("#prompt button:nth-child(3)")
        page.tap("#choices button:first-child")
        if page.is_visible("#sure"):
            page.tap("#confidence button:last-child")
        if page.is_visible("#prompt"):
            page.tap("#go")
        until(
            page,
            "c => document.querySelector('#count')?.textContent !== c || "
            "document.querySelector('#main')?.dataset.mode !== 'trial'",
            count,
        )
    given = answers(study, "R2")
    assert len(given) == 15
    assert {a.tools["input"] for a in given} == {"pointer"}
    assert all(a.tools["zoomed"] and a.tools["panned"] and a.tools["windowed"] for a in given)


def drag(page):
    """Wheel, drag, and a drag with the right button."""
    box = page.locator("canvas").first.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.wheel(0, -200)
    for button in ("left", "right"):
        page.mouse.down(button=button)
        page.mouse.move(x + 30, y + 20)
        page.mouse.up(button=button)
        page.mouse.move(x, y)


def skip_forms(page, link):
    """To the first introduction; the forms are told by requests."""
    page.goto(link)
    page.click("text=Open the reading")
    until(page, "document.querySelector('[data-send=consent]')")
    page.evaluate(
        """async () => {
        const csrf = document.querySelector('meta[name=csrf-token]').content;
        const say = (path, body) => fetch(path, {method: 'POST', body: JSON.stringify(body),
            headers: {'Content-Type': 'application/json', 'X-CSRF-Token': csrf}});
        await say('consent', {agreed: true});
        await say('profile', {specialty: 'x', years: 1, reads: 'some', seen_before: 'some'});
        await say('display', {dark_steps: 9, bright_steps: 9, light: 'dim', monitor: 'office',
            width: 1, height: 1, ratio: 1});
    }"""
    )
    page.reload()
    mode(page, "intro")


def begin(page):
    page.click("#cover-go")
    mode(page, "trial")
    ready(page)


def test_offline_in_the_middle(served, window):
    study = served(tasks=("turing",), training=0, trials=6)
    page = window()
    skip_forms(page, study.links["R1"])
    begin(page)
    page.wait_for_timeout(300)  # the next images come
    page.context.set_offline(True)
    for done in (1, 2):
        ready(page)
        page.keyboard.press("1")
        page.keyboard.press("a")
        until(page, f"document.querySelector('#count').textContent.startsWith('{done + 1} ')")
    page.wait_for_selector("text=No connection, 2 answers kept here")
    check_accessible(page)
    assert answers(study, "R1") == []
    page.context.set_offline(False)
    until(page, "document.querySelector('#link-state').textContent === ''")
    assert [a.value for a in answers(study, "R1")] == ["real", "real"]
    assert all(a.tools["waited_ms"] >= 0 for a in answers(study, "R1"))
    ready(page)
    page.context.set_offline(True)  # and now the page is closed before the connection is back
    page.keyboard.press("2")
    page.keyboard.press("s")
    page.wait_for_selector("text=No connection, 1 answer kept here")
    page.context.set_offline(False)
    page.goto(page.url)
    mode(page, "intro")
    assert [a.value for a in answers(study, "R1")] == ["real", "real", "synthetic"]
    assert "4 of 6" in page.text_content("#count")


def test_undo_resume_and_keys_of_ones_own(served, window):
    study = served(tasks=("quality",), training=0, trials=4)
    page = window()
    skip_forms(page, study.links["R1"])
    begin(page)
    page.keyboard.press("k")
    check_accessible(page)
    page.click("[data-action=undo]")
    page.keyboard.press("Control+w")
    assert "belong to the browser" in page.text_content("#keys-error")
    page.click("[data-action=undo]")
    page.keyboard.press("1")
    assert "1 is the key of" in page.text_content("#keys-error")
    page.click("[data-action=undo]")
    page.keyboard.press("z")
    page.click("#keys-close")
    assert page.text_content("#undo kbd") == "Z"
    page.keyboard.press("4")
    until(page, "document.querySelector('#count').textContent === '2 of 4'")
    ready(page)
    page.keyboard.press("z")
    until(page, "document.querySelector('#count').textContent === '1 of 4'")
    ready(page)
    page.keyboard.press("5")
    until(page, "document.querySelector('#count').textContent === '2 of 4'")
    ready(page)
    deadline = time.time() + 5
    while len(answers(study, "R1")) < 3 and time.time() < deadline:
        time.sleep(0.05)
    assert [a.value for a in answers(study, "R1")] == ["4", "", "5"]
    page.reload()
    mode(page, "intro")
    begin(page)
    assert page.text_content("#count") == "2 of 4"
    assert page.text_content("#undo kbd") == "Z"
    until(page, "!document.querySelector('#undo').disabled")


def test_a_second_browser_asks_and_the_first_is_told(served, window):
    study = served(tasks=("turing",), training=0, trials=4)
    first, second = window(), window()
    skip_forms(first, study.links["R1"])
    begin(first)
    second.goto(study.links["R1"])
    assert "open in another browser" in second.text_content("h1")
    check_accessible(second)
    second.click("button.primary")
    mode(second, "intro")
    assert "/r/" not in second.url
    begin(second)
    first.keyboard.press("1")
    first.keyboard.press("a")
    first.wait_for_selector("text=Open elsewhere")
    check_accessible(first)
    second.keyboard.press("2")
    second.keyboard.press("d")
    until(second, "document.querySelector('#count').textContent === '2 of 4'")
    second.wait_for_timeout(200)
    assert [a.value for a in answers(study, "R1")] == ["synthetic"]


def test_a_break_is_offered_and_the_server_may_go_away(served, window):
    rest = {"break_after": {"trials": 2, "minutes": 25}}
    study = served(tasks=("quality",), training=0, trials=4, protocol=rest)
    page = window()
    skip_forms(page, study.links["R1"])
    begin(page)
    for done in (1, 2):
        ready(page)
        page.keyboard.press("3")
        if done == 1:
            until(page, "document.querySelector('#count').textContent === '2 of 4'")
    mode(page, "pause")
    check_accessible(page)
    page.click("#cover-go")
    mode(page, "trial")
    ready(page)
    page.goto(study.overview)
    assert re.search(r"R1\s*reading\s*2 of 4", page.text_content("table"))
    check_accessible(page)
