"""All pages in Chromium, on a server without a model: desktop and tablet, dark and light, by keys alone."""

import io
import json
import time
import zipfile
from urllib.parse import parse_qs, urlsplit

import pytest
from PIL import Image
from tests.browser import MARKS, TABLET, check_accessible, tab_to, until
from tests.serve.conftest import House
from tests.serve.served import Served

from vesalius.serve.settings import ServeSettings

pytestmark = MARKS
PAGES = ("", "library", "steer", "compare", "jobs", "evidence")


@pytest.fixture
def served(tmp_path):
    """`served(root_path="", **settings)` is a server at an address."""
    opened = []

    def start(root_path="", **settings):
        folder = tmp_path / f"library{len(opened)}"
        folder.mkdir()
        house = House(folder, ServeSettings(users=("ann", "bob"), **settings)).open()
        opened.append(Served(house, root_path))
        return opened[-1]

    yield start
    for one in opened:
        one.stop()
        one.house.close()


@pytest.fixture
def shown(tmp_path):
    """A set and a report to look at."""
    folder = tmp_path / "shown"
    (folder / "images").mkdir(parents=True)
    rows = []
    for number in range(3):
        name = f"images/{number}.png"
        Image.new("RGB", (16, 16), (40 * number, 90, 90)).save(folder / name)
        rows.append({"file": name, "prompt": f"a lung {number}", "label": "lung", "seed": number})
    (folder / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "report.html").write_text(
        "<!doctype html><html lang=en><title>How it went</title><h1>All well</h1>"
        "<script>parent.document.title = 'broken out'</script>"
    )
    return folder


def arrive(page, served, user="ann"):
    """Open the address of a user."""
    page.goto(served.link(user))
    page.wait_for_selector("#prompt")
    until(page, "document.querySelector('[data-words] select')")
    return page


def draw(page, prompt="a lung", **fields):
    """Fill the form of Generate, draw, and wait for all images."""
    page.fill("#prompt", prompt)
    for name, value in fields.items():
        page.fill(f"#{name}", str(value))
    page.click("button[type=submit]")
    page.wait_for_selector(".after:not([hidden])")


def loaded(page, selector, count):
    """Wait until so many pictures have come."""
    until(
        page,
        "([s, n]) => { const all = [...document.querySelectorAll(s)]; "
        "return all.length === n && all.every((i) => i.complete && i.naturalWidth); }",
        [selector, count],
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [{"width": 1280, "height": 800}, TABLET])
def test_every_page(served, shown, window, scheme, size):
    page = window(viewport=size, color_scheme=scheme)
    server = served(show=(shown,))
    arrive(page, server)
    draw(page, n=2, seed=5)
    for name in PAGES:
        began = time.perf_counter()
        page.goto(server.address(name))
        until(page, "document.querySelector('#health').textContent === 'Ready'")
        assert time.perf_counter() - began < 10
        assert page.is_visible("text=Synthetic, research only.")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        check_accessible(page)


def test_generate_then_reload_back_and_use_these_settings(served, window):
    page = arrive(window(), served())
    page.select_option("[data-words] select", "chest X-ray")
    page.click("text='normal'")
    assert page.input_value("#prompt") == "chest X-ray, normal"
    page.click("summary")
    page.fill("#n", "3")
    page.fill("#seed", "7")
    page.fill("#steps", "4")
    page.fill("#label", "mine")
    page.click("button[type=submit]")
    page.wait_for_selector(".after:not([hidden])")
    loaded(page, ".tile .open img", 3)
    address = parse_qs(urlsplit(page.url).query)
    assert address.pop("job")
    said = {"prompt": ["chest X-ray, normal"], "n": ["3"], "seed": ["7"]}
    assert address == said | {"steps": ["4"], "label": ["mine"]}
    page.reload()
    loaded(page, ".tile .open img", 3)
    assert page.input_value("#steps") == "4"
    page.go_back()
    assert "job=" not in page.url
    page.go_forward()
    loaded(page, ".tile .open img", 3)
    page.click(".tile:nth-child(2) .open")
    until(page, "document.querySelector('#picture-facts').textContent.includes('8')")
    check_accessible(page)
    page.click("#picture-made summary")
    until(page, "document.querySelector('#picture-provenance').textContent.includes('sha256')")
    page.click("#picture-use")
    until(page, "document.querySelector('#seed')?.value === '8'")
    assert page.input_value("#prompt") == "chest X-ray, normal"


def test_words_of_a_kind_are_said_as_captions_say_them(served, window):
    page = arrive(window(), served())
    page.select_option("[data-words] [data-name=kind]", label="chest X-ray")
    page.select_option("[data-words] [data-name=view]", "AP supine")
    page.click("text='normal'")
    assert page.input_value("#prompt") == "AP supine chest X-ray, normal"
    page.select_option("[data-words] [data-name=sex]", "woman")
    assert page.is_visible("text=Sex is said together with age.")
    check_accessible(page)
    page.fill("[data-words] [data-name=age]", "63")
    page.keyboard.press("Tab")
    whole = "AP supine chest X-ray of a 63-year-old woman, normal"
    until(page, "t => document.querySelector('#prompt').value === t", whole)
    page.reload()  # read back from the text alone
    until(page, "document.querySelector('[data-name=sex]')?.value === 'woman'")
    assert page.input_value("[data-name=age]") == "63"
    assert page.input_value("[data-name=view]") == "AP supine"
    page.click("text='normal'")
    until(page, "!document.querySelector('#prompt').value.includes('normal')")
    page.select_option("[data-name=kind]", label="lung histology")
    page.click("text='benign tissue'")
    assert page.input_value("#prompt") == "lung histology, benign tissue, H&E stain"
    page.fill("#prompt", "color fundus photograph of an old man, glau")
    until(page, "document.querySelectorAll('.chip').length === 4")  # nothing fits: all
    page.fill("#prompt", "color fundus photograph, glau")
    until(page, "document.querySelectorAll('.chip').length === 1")


def test_all_settings_of_guidance_go_there_and_back(served, window):
    page = arrive(window(), served())
    page.click("summary")
    draw(page, n=1, guidance_from=0.1, guidance_to=0.8, guidance_rescale=0.5)
    page.click(".tile .open")
    page.wait_for_selector("#picture-facts dd")
    page.click("#picture-use")
    until(page, "document.querySelector('#guidance_to')?.value === '0.8'")
    assert page.input_value("#guidance_from") == "0.1"
    assert page.input_value("#guidance_rescale") == "0.5"
    assert page.is_visible("#guidance_rescale")


def test_an_ellipse_and_a_mask_come_back(served, window):
    server = served()
    page = arrive(window(), server)
    draw(page, n=1)
    page.click(".tile .open")
    page.wait_for_selector("#picture-facts dd")
    page.click("#picture-edit")
    page.wait_for_selector("#mask-paint", state="visible")
    page.click("#mask-ellipse")
    box = page.locator("#mask-paint").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.75, box["y"] + box["height"] * 0.6)
    page.mouse.up()
    until(page, "document.querySelector('#ellipses').value === '0.500,0.500,0.250,0.100'")
    page.fill("#feather", "2")
    page.fill("#n", "1")
    check_accessible(page)
    page.click("button[type=submit]")
    page.wait_for_selector("text=1 image drawn")
    page.focus("#mask-paint")
    for key in ("ArrowLeft", "ArrowUp", " "):
        page.keyboard.press(key)
    page.click("button[type=submit]")
    until(page, "document.querySelector('.tiles .open') && location.search.includes('job=')")
    page.wait_for_selector(".after:not([hidden])")
    page.evaluate("sessionStorage.clear()")
    page.goto(server.address("library"))
    loaded(page, ".tile img", 3)
    page.evaluate("sessionStorage.clear()")
    page.click(".tile:nth-child(1) .open")
    page.wait_for_selector("#picture-facts dd")
    page.click("#picture-use")
    until(page, "document.querySelector('#feather')?.value === '2'")
    assert page.input_value("#ellipses") == "0.500,0.500,0.250,0.100"
    until(page, "JSON.parse(sessionStorage.getItem('vesalius-mask'))?.data.length > 100")
    until(page, "!location.search.includes('mask=')")


def test_the_page_of_the_api_and_signing_out(served, window):
    server = served()
    page = arrive(window(), server)
    page.click("text=API for programs")
    page.wait_for_selector("text=POST /api/v1/jobs")
    check_accessible(page)
    page.click("text=Back to the pages")
    until(page, "document.querySelector('#health')?.textContent === 'Ready'")
    page.click("text=Sign out")
    page.wait_for_selector("#key")
    page.goto(server.address("api"))
    page.wait_for_selector("#key")


def test_download_with_the_manifest(served, window):
    page = arrive(window(), served())
    draw(page, n=2)
    with page.expect_download() as download:
        page.click("[aria-label='ZIP of DICOM files']")
    names = zipfile.ZipFile(download.value.path()).namelist()
    assert {"manifest.jsonl", "contact-sheet.png"} < set(names)
    assert sum(name.endswith(".dcm") for name in names) == 2


def test_errors_are_one_line_where_they_arise(served, window):
    page = arrive(window(), served())
    page.click("button[type=submit]")
    assert page.text_content("#error") == "Say what the images are to show."
    assert page.evaluate("document.activeElement.id") == "prompt"
    page.fill("#prompt", "a lung")
    page.fill("#n", "99")
    page.click("button[type=submit]")
    assert page.text_content("#error").startswith("Images: ")
    check_accessible(page)
    page.fill("#n", "1")
    page.fill("#prompt", "fail")
    page.click("button[type=submit]")
    page.wait_for_selector("text=This could not be drawn: it cannot be drawn")
    page.goto(page.url.split("?")[0] + "?job=" + "0" * 32)
    page.wait_for_selector("text=There is no such job any more.")


def test_previews_place_and_cancel(served, window):
    server = served()
    first, second = arrive(window(), server), arrive(window(), server, "bob")
    first.fill("#prompt", "slow <b>lung</b>")
    first.fill("#n", "16")
    first.click("button[type=submit]")
    first.wait_for_selector(".preview")
    second.fill("#prompt", "a heart")
    second.click("button[type=submit]")
    second.wait_for_selector("text=Next in the queue")
    second.goto(server.address("jobs"))
    second.wait_for_selector("text=slow <b>lung</b>")
    assert second.locator("button:visible", has_text="Cancel").count() == 1  # one's own
    first.click(".progress button")
    first.wait_for_selector("text=Cancelled")
    second.wait_for_selector("tr:has-text('a heart') >> text=4 images")
    check_accessible(second)


def test_a_server_that_goes_away_and_comes_back(served, window):
    server = served()
    page = arrive(window(), server)
    page.fill("#prompt", "a lung")
    until(page, "location.search.includes('lung')")
    server.stop()
    page.click("button[type=submit]")
    page.wait_for_selector("#error:has-text('The server cannot be reached')")
    page.wait_for_selector("#trouble:visible")
    check_accessible(page)
    server.start()
    page.wait_for_selector("#trouble", state="hidden")
    page.click("button[type=submit]")
    page.wait_for_selector(".after:not([hidden])")


def test_library(served, window):
    server = served()
    page = arrive(window(), server)
    draw(page, "a red lung", n=2)
    draw(page, "a heart", n=1)
    page.goto(server.address("library"))
    loaded(page, ".tile img", 3)
    page.fill("[name=words]", "lung")
    loaded(page, ".tile img", 2)
    assert "words=lung" in page.url
    page.reload()
    loaded(page, ".tile img", 2)
    for box in page.query_selector_all(".pick input"):
        box.check()
    page.wait_for_selector("text=2 selected")
    check_accessible(page)
    page.click("#selected-delete")
    page.click("text=Delete 2 images for good?")
    page.wait_for_selector("text=Nothing is found")
    page.fill("[name=words]", "")
    loaded(page, ".tile img", 1)
    other = arrive(window(), server, "bob")
    other.goto(server.address("library"))
    loaded(other, ".tile img", 1)
    other.click(".tile .open")
    until(other, "document.querySelector('#picture-facts').textContent.includes('by ann')")
    assert not other.is_visible("#picture-delete")
    other.keyboard.press("Escape")
    until(other, "!document.querySelector('#picture').open && !location.search")


def test_steer_between_and_together(served, window):
    server = served()
    page = arrive(window(), server)
    page.goto(server.address("steer?first=a+lung&second=a+heart&frames=4&seed=3"))
    page.wait_for_selector("[data-words=first] select")
    page.click("button[type=submit]")
    page.wait_for_selector(".after:not([hidden])")
    page.focus("#frame-slider")
    page.keyboard.press("End")
    until(page, "document.querySelector('#frame-image').alt === 'Frame 4 of 4'")
    check_accessible(page)
    page.check("[value=compose]")
    page.fill("[aria-label='Prompt 1']", "a lung")
    page.fill("[aria-label='Prompt 2']", "a heart")
    page.fill("[aria-label='Weight of prompt 2']", "-0.5")
    check_accessible(page)
    page.click("button[type=submit]")
    page.wait_for_selector("text=2 images drawn")
    page.reload()
    page.wait_for_selector("text=2 images drawn")
    assert page.input_value("[aria-label='Prompt 2']") == "a heart"
    assert page.input_value("[aria-label='Weight of prompt 2']") == "-0.5"


def test_steer_with_a_mask_and_a_file(served, window):
    server = served()
    page = arrive(window(), server)
    draw(page, n=1)
    page.goto(server.address("steer?mode=inpaint"))
    page.click("button[type=submit]")
    assert page.text_content("#error") == "Choose an image to start from."
    page.click("#source-library")
    page.click("#chooser-tiles .open")
    page.wait_for_selector("#mask-paint", state="visible")
    assert page.input_value("#prompt") == "a lung"
    page.click("button[type=submit]")
    assert "Paint over the part" in page.text_content("#error")
    check_accessible(page)
    box = page.locator("#mask-paint").bounding_box()
    page.mouse.move(box["x"] + 40, box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + 90, box["y"] + 60)
    page.mouse.up()
    page.click("#mask-undo")
    page.click("button[type=submit]")
    assert "Paint over the part" in page.text_content("#error")
    page.focus("#mask-paint")
    for key in ("ArrowLeft", "ArrowUp", " "):
        page.keyboard.press(key)
    page.reload()  # the mask is kept
    page.wait_for_selector("#mask-paint", state="visible")
    page.click("button[type=submit]")
    page.wait_for_selector("text=2 images drawn")
    page.check("[value=image-to-image]")
    file = io.BytesIO()
    Image.new("RGB", (16, 16), "teal").save(file, "PNG")
    image = {"name": "<i>own</i>.png", "mimeType": "image/png", "buffer": file.getvalue()}
    page.set_input_files("#source-file", image)
    page.wait_for_selector("text=<i>own</i>.png")
    page.click("button[type=submit]")
    page.wait_for_selector("text=2 images drawn")


def test_compare(served, window):
    server = served()
    page = arrive(window(), server)
    draw(page, n=3, seed=40)
    page.click(".after >> text=Compare")
    until(page, "document.querySelectorAll('#viewers canvas').length === 3")
    page.click("[aria-label='Zoom in']")
    check_accessible(page)
    page.check("[value=blink]")
    page.click("#blink-next")
    page.wait_for_selector("text=Image 2 of 3")
    page.click("#blink-run")
    check_accessible(page)
    page.check("[value=difference]")
    page.wait_for_selector("text=Difference of 1 and 2")
    page.click("[aria-label='Remove image 3']")
    until(page, "document.querySelectorAll('#compared li').length === 2")
    page.go_back()
    until(page, "document.querySelectorAll('#compared li').length === 3")
    page.check("[value=grid]")
    page.fill("#vary-values", "1, x")
    page.click("#vary button")
    assert page.text_content("#error") == "x is no number."
    page.fill("#vary-values", "1, 2.5")
    page.click("#vary button")
    loaded(page, "#grid .open img", 2)
    page.reload()
    loaded(page, "#grid .open img", 2)
    check_accessible(page)


def test_sets_and_evidence(served, shown, window):
    server = served(show=(shown,))
    page = arrive(window(), server)
    page.goto(server.address("evidence"))
    page.click("#sets a")
    loaded(page, ".tile img", 3)
    check_accessible(page)
    page.click("#reports a")
    page.wait_for_selector("iframe")
    until_frame = time.time() + 10
    while len(page.frames) < 2 or "All well" not in page.frames[1].content():
        assert time.time() < until_frame, "the report is not in its frame"
        page.wait_for_timeout(50)
    assert "broken out" not in page.title()
    page.go_back()
    loaded(page, ".tile img", 3)


def test_below_a_path(served, window):
    server = served("/lab/images")
    page = arrive(window(), server)
    draw(page, n=2)
    for name in PAGES:
        page.goto(server.address(name))
        until(page, "document.querySelector('#health').textContent === 'Ready'")
    page.goto(server.address("library"))
    loaded(page, ".tile img", 2)


def test_sign_in_with_a_key(served, window):
    server = served()
    page = window()
    page.goto(server.address("library?words=lung"))
    check_accessible(page)
    page.fill("#key", "wrong")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=This key is nobody's here.")
    page.fill("#key", server.house.keys["bob"])
    page.keyboard.press("Enter")
    page.wait_for_selector("text=Nothing is found")
    assert page.input_value("[name=words]") == "lung"


def test_by_keys_alone(served, window):
    server = served()
    page = arrive(window(), server)
    tab_to(page, "#prompt")
    page.keyboard.type("a lung")
    tab_to(page, "#n")
    page.keyboard.press("Control+a")
    page.keyboard.type("2")
    page.keyboard.press("Enter")
    page.wait_for_selector(".after:not([hidden])")
    tab_to(page, ".tile .open")
    page.keyboard.press("Enter")
    until(page, "document.querySelector('#picture').open")
    tab_to(page, "#picture canvas")
    for key in ("+", "ArrowLeft", "0"):
        page.keyboard.press(key)
    page.keyboard.press("Escape")
    until(page, "!document.querySelector('#picture').open")
    assert page.evaluate("document.activeElement.matches('.tile .open')")
    page.goto(server.address("library"))
    loaded(page, ".tile img", 2)
    tab_to(page, ".pick input")
    page.keyboard.press("Space")
    tab_to(page, "#selected-delete")
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    loaded(page, ".tile img", 1)


def test_a_problem_stays_on_the_page_as_long_as_it_is_one(served, window):
    server = served()
    page = arrive(window(), server)
    conductor = server.house.service.conductor
    conductor.problem = "the disk of the library is full"
    page.goto(server.address("jobs"))  # which asks for the queue all the time
    page.wait_for_selector("#trouble:has-text('Nothing can be drawn')")
    page.evaluate(
        "new MutationObserver(() => { window.changed = (window.changed ?? 0) + 1; })"
        ".observe(document.querySelector('#trouble'), {childList: true, attributes: true})"
    )
    page.wait_for_timeout(6000)
    assert page.is_visible("#trouble")
    assert page.evaluate("window.changed ?? 0") == 0, "it is said again and again"
    conductor.problem = ""
    page.wait_for_selector("#trouble", state="hidden")


def test_many_jobs_on_a_page_leave_connections_for_the_rest(served, window):
    """A browser opens six to a server, and each stream of events takes one."""
    server = served()
    page = arrive(window(), server)
    draw(page, n=1)
    ann = server.house.client()
    [image] = ann.get("/api/v1/images").json()["images"]
    body = {"kind": "generate", "prompt": "slow", "n": 16}
    jobs = [ann.post("/api/v1/jobs", json=body).json()["id"] for _ in range(8)]
    asked = "".join(f"&job={id}" for id in jobs)
    page.goto(server.address(f"compare?id={image['id']}&view=grid{asked}"))
    page.wait_for_selector("#grid .tile")
    page.wait_for_timeout(300)
    asking = "async () => { const t = performance.now(); await fetch('api/v1/labels'); return performance.now() - t; }"
    assert page.evaluate(asking) < 1500
    for id in jobs[:-1]:
        ann.delete(f"/api/v1/jobs/{id}")
    page.wait_for_selector("#grid > li:last-child >> text=16 images drawn")
