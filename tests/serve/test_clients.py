"""The compatible faces, asked by clients that were written for others."""

import base64
import io
import json
import socket
import threading
import time

import pytest
import uvicorn
from PIL import Image

from vesalius.images.provenance import read_provenance


@pytest.fixture
def address(house):
    """The server on a socket, as clients need it."""
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(house.app, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield listening.getsockname()
    server.should_exit = True
    thread.join()


def test_the_openai_client(house, address):
    openai = pytest.importorskip("openai")
    host, port = address
    client = openai.OpenAI(api_key=house.keys["ann"], base_url=f"http://{host}:{port}/v1")
    assert [model.id for model in client.models.list()] == ["mini"]
    made = client.images.generate(prompt="a lung", n=2, response_format="b64_json", model="mini")
    assert len(made.data) == 2
    facts = read_provenance(base64.b64decode(made.data[0].b64_json))
    assert facts["prompt"] == "a lung"
    seeded = client.images.generate(
        prompt="a lung",
        size="256x256",
        quality="high",
        user="u",
        extra_body={"seed": 7, "steps": 3},
    )
    facts = read_provenance(base64.b64decode(seeded.data[0].b64_json))
    assert (facts["seed"], facts["steps"]) == ("7", "3")
    for wrong in (
        {"size": "250x250"},
        {"model": "gpt-image-1"},
        {"response_format": "url"},
        {"prompt": " "},
    ):
        with pytest.raises(openai.UnprocessableEntityError) as caught:
            client.images.generate(**{"prompt": "a", **wrong})
        assert caught.value.body["message"]
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(api_key="x", base_url=f"http://{host}:{port}/v1").models.list()


def test_the_web_ui_client(house, address):
    webuiapi = pytest.importorskip("webuiapi")
    host, port = address
    client = webuiapi.WebUIApi(host=host, port=port, sampler="Euler a", steps=4)
    client.set_auth("anybody", house.keys["ann"])
    assert client.util_get_model_names() == ["mini"]
    client.util_set_model("mini")
    assert client.util_get_current_model() == "mini"
    assert "DPM++ 2M" in client.util_get_sampler_names()
    made = client.txt2img(
        prompt="a lung", negative_prompt="a rib", seed=-1, batch_size=2, cfg_scale=3
    )
    assert len(made.images) == 2
    assert made.info["seed"] >= 0
    assert made.info["all_seeds"][1] == made.info["seed"] + 1
    assert "enable_hr" in made.info["ignored"]
    again = client.txt2img(
        prompt="a lung", negative_prompt="a rib", seed=made.info["seed"], cfg_scale=3
    )
    assert again.image.tobytes() == made.image.tobytes()
    source = Image.new("RGB", (32, 32), "grey")
    assert client.img2img(images=[source], prompt="a lung", denoising_strength=0.4).image
    mask = Image.new("L", (32, 32), 255)
    painted = client.img2img(images=[source], mask_image=mask, prompt="a lung", mask_blur=2)
    assert len(painted.images) == 1
    assert client.png_info(made.image).info is not None
    assert client.get_progress()["progress"] == 0
    client.interrupt()
    client.util_wait_for_ready(check_interval=0.01)


def test_a_client_that_sends_all_it_knows_by_basic_auth(house, ann):
    """The requests of Open WebUI: options, models, a choice, images, in its order."""
    key = base64.b64encode(f"user:{house.keys['ann']}".encode()).decode()
    client = house.client(None)
    client.headers["Authorization"] = f"Basic {key}"
    options = client.get("/sdapi/v1/options").json()
    titles = [model["title"] for model in client.get("/sdapi/v1/sd-models").json()]
    assert options["sd_model_checkpoint"] in titles
    assert client.post("/sdapi/v1/options", json=options | {"x": 1}).status_code == 200
    body = {"prompt": "a lung", "batch_size": 1, "width": 256, "height": 256, "steps": 6}
    answer = client.post("/sdapi/v1/txt2img", json=body | {"scheduler": "Automatic"}).json()
    info = json.loads(answer["info"])
    assert info["ignored"] == ["scheduler"]
    Image.open(io.BytesIO(base64.b64decode(answer["images"][0]))).verify()
    facts = client.post("/sdapi/v1/png-info", json={"image": answer["images"][0]}).json()
    assert f"Seed: {info['seed']}" in facts["info"]
    assert client.post("/sdapi/v1/options", json={"sd_model_checkpoint": "v1-5"}).status_code == 422
    wrong = client.post("/sdapi/v1/txt2img", json=body | {"sampler_name": "LMS"})
    assert "Euler a" in wrong.json()["detail"]
    lora = client.post("/sdapi/v1/txt2img", json={"prompt": "a <lora:x:0.5> lung"})
    assert "no adapter 'x'" in lora.json()["detail"]
    for text in ("<lora:x:99>", "<lora:x:nan>", f"<lora:{'x' * 101}:1>", "<lora:x:1>" * 9):
        refused = client.post("/sdapi/v1/txt2img", json={"prompt": f"a lung {text}"})
        assert refused.status_code == 422, (text, refused.text)


def test_interrupt_ends_only_ones_own_job(house, ann, bob, ended):
    id = ann.post("/api/v1/jobs", json={"kind": "generate", "prompt": "slow", "n": 9}).json()["id"]
    while not (progress := ann.get("/sdapi/v1/progress").json())["progress"]:
        pass
    assert progress["state"]["job"] == id
    bob.post("/sdapi/v1/interrupt")
    assert ann.get(f"/api/v1/jobs/{id}").json()["state"] == "running"
    ann.post("/sdapi/v1/interrupt")
    assert ended(ann, id)["state"] == "cancelled"


def test_what_is_left_out_may_be_anything(ann):
    deep = "[" * 900 + "]" * 900
    kind = {"Content-Type": "application/json"}
    body = f'{{"prompt": "a", "x": {deep}, "override_settings": {{"y": {deep}}}}}'
    answer = ann.post("/sdapi/v1/txt2img", content=body, headers=kind)
    assert answer.status_code == 200
    assert json.loads(answer.json()["info"])["ignored"] == ["override_settings.y", "x"]
    assert "x" not in answer.json()["parameters"]
