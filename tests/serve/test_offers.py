"""What can be chosen and looked at, and the settings that say so."""

import io
import json

import pytest
from PIL import Image
from tests.serve.conftest import House

from vesalius.errors import VesaliusError
from vesalius.models.generator import load_generator
from vesalius.pairs.captions import columns_of, fill
from vesalius.serve.bodies import parse_body
from vesalius.serve.catalogue import make_catalogue, words_of
from vesalius.serve.settings import ServeSettings
from vesalius.serve.shown import find_shown

REPORT = (
    "<!doctype html><title>Evaluation &amp; more</title><script>1</script>"
    '<img src="data:image/jpeg;base64,AAAA"><svg></svg>'
)


@pytest.fixture
def shown(tmp_path):
    """What `vesalius augment` leaves: a set and a report, and its own page."""
    (tmp_path / "out" / "set" / "images").mkdir(parents=True)
    Image.new("RGB", (16, 16), "white").save(tmp_path / "out" / "set" / "images" / "0.png")
    rows = [
        {"file": "images/0.png", "prompt": "a <b>lung</b>", "label": "x", "sha256": "0"},
        {"file": "../../secret.png", "prompt": "out", "label": "x", "sha256": "0"},
    ]
    manifest = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "out" / "set" / "manifest.jsonl").write_text(manifest)
    (tmp_path / "out" / "set" / "about.json").write_text('{"model": "mini"}')
    (tmp_path / "out" / "report.html").write_text(REPORT)
    Image.new("RGB", (16, 16)).save(tmp_path / "secret.png")
    return tmp_path / "out"


@pytest.fixture
def opened(tmp_path, shown, request):
    (tmp_path / "library").mkdir()
    training = getattr(request, "param", False)
    settings = ServeSettings(users=("ann",), show=(shown,), show_training=training)
    house = House(tmp_path / "library", settings).open(start=False)
    yield house
    house.close()


def test_models_samplers_and_health(ann):
    [model] = ann.get("/api/v1/models").json()["models"]
    assert (model["id"], model["width"], model["multiple"], model["steps"]) == ("mini", 256, 32, 6)
    assert "brain MRI, glioma" in model["prompts"]
    assert "melanoma" in model["words"]["label"]
    assert ann.get("/api/v1/adapters").json() == {"adapters": []}
    assert "dpm++2m" in ann.get("/api/v1/samplers").json()["samplers"]
    health = ann.get("/api/v1/health").json()
    assert health["problem"] == ""
    page = ann.get("/api").text
    assert "/api/v1/jobs" in page
    assert "http" not in page.replace("https://127", "").replace("http://127", "")


def test_kinds_are_offered_as_captions_say_them():
    kinds = {kind.kind: kind for kind in words_of("mini").kinds}
    assert set(kinds["chest X-ray"].words) == {"label", "view", "sex", "age"}
    assert kinds["chest X-ray"].words["age"] == []
    assert kinds["color fundus photograph"].words["eye"] == ["right", "left"]
    assert "lung histology" in kinds
    for kind in kinds.values():
        assert fill(kind.templates[0], {"label": kind.words["label"][0]})
        assert set(kind.words) <= {c for text in kind.templates for c in columns_of(text)}


def test_sets_and_their_images(opened):
    ann = opened.client("ann")
    [one] = ann.get("/api/v1/sets").json()["sets"]
    assert (one["name"], one["images"], one["model"]) == ("out/set", 2, "mini")
    page = ann.get(f"/api/v1/sets/{one['id']}/images").json()
    assert page["images"][0] == {"number": 0, "prompt": "a <b>lung</b>", "label": "x"}
    content = ann.get(f"/api/v1/sets/{one['id']}/images/0").content
    assert Image.open(io.BytesIO(content)).size == (16, 16)
    outside = ann.get(f"/api/v1/sets/{one['id']}/images/1")
    assert (outside.status_code, outside.json()["detail"]) == (
        422,
        "this image lies outside of its set",
    )
    assert ann.get(f"/api/v1/sets/{one['id']}/images/2").status_code == 422
    assert str(opened.folder.parent) not in ann.get("/api/v1/sets").text


@pytest.mark.parametrize(("opened", "shows"), [(False, False), (True, True)], indirect=["opened"])
def test_reports_run_nothing_and_show_real_images_only_when_told(opened, shows):
    ann = opened.client("ann")
    [one] = ann.get("/api/v1/evidence").json()["evidence"]
    assert (one["name"], one["title"]) == ("out", "Evaluation & more")
    report = ann.get(f"/api/v1/evidence/{one['id']}/report")
    policy = report.headers["content-security-policy"]
    assert "sandbox" in policy
    assert ("img-src data:;" if shows else "img-src 'none';") in policy
    assert "script" not in policy
    assert ("base64,AAAA" in report.text) == shows
    assert "<svg>" in report.text


def test_what_is_wrong_with_what_is_shown_names_no_folder(opened, shown):
    (shown / "report.html").write_bytes(REPORT.replace("more", "mehr, schön").encode("latin-1"))
    ann = opened.client("ann")
    [one] = ann.get("/api/v1/evidence").json()["evidence"]
    assert one["title"].startswith("Evaluation & mehr, sch")
    assert ann.get(f"/api/v1/evidence/{one['id']}/report").status_code == 200
    (shown / "set" / "manifest.jsonl").write_text("{")
    answer = ann.get("/api/v1/sets")
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith("out/set/manifest.jsonl, line 1 is not JSON")


def test_nothing_to_show_is_an_error(tmp_path):
    with pytest.raises(VesaliusError, match="neither"):
        find_shown([tmp_path])


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"models": ()}, "no model"),
        ({"models": ("mini", "mini")}, "twice"),
        ({"users": ("a", "a")}, "twice"),
        ({"users": ("a:b",)}, "colon"),
        ({"users": ()}, "nobody"),
        ({"host": "0.0.0.0"}, "insecure"),
    ],
)
def test_settings_that_cannot_be(wrong, said):
    with pytest.raises(VesaliusError, match=said):
        ServeSettings(**wrong)


def test_a_catalogue_says_what_the_model_will(tiny_flow, tmp_path):
    """Read from configurations alone, and equal to what loading finds."""
    (tmp_path / "run" / "adapter").mkdir(parents=True)
    (tmp_path / "run" / "adapter" / "pytorch_lora_weights.safetensors").touch()
    found = make_catalogue(
        ServeSettings(models=(str(tiny_flow), "mini"), adapters=(tmp_path / "run" / "adapter",))
    )
    for model, loaded in zip(
        found.models.values(), (load_generator(tiny_flow), load_generator("mini")), strict=True
    ):
        assert model.multiple == loaded.size_multiple
        assert model.size == loaded.native_size
    assert list(found.adapters) == ["run"]
    assert found.default == tiny_flow.name
    body = parse_body({"kind": "generate", "prompt": "a", "model": "mini", "n": 2, "size": 512})
    assert getattr(body, "size", None) == "512"
    assert found.work(body) == 2 * 6 * 512 * 512
    with pytest.raises(VesaliusError, match="two are called"):
        make_catalogue(ServeSettings(adapters=(tmp_path / "run", tmp_path / "run" / "adapter")))
    with pytest.raises(VesaliusError, match="no adapter"):
        make_catalogue(ServeSettings(adapters=(tmp_path / "none",)))


def test_words_of_a_model_without_a_dictionary():
    assert words_of("somebody/else").prompts == []
    assert words_of("../mini").words == {}
