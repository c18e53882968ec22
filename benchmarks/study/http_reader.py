"""A reader who reads over HTTP as a browser does, without one."""

import random
import re
import uuid
from typing import Any

import httpx2


class HttpReader:
    """One reader behind a link; `client` keeps the cookies."""

    def __init__(self, client: httpx2.Client, link: str, seed: int = 0) -> None:
        self.client, self.link = client, link
        self.base = link.split("/r/")[0]
        self.rng = random.Random(seed)
        self.csrf = ""
        self.responses: list[Any] = []

    def get(self, path: str, **options: Any) -> Any:
        response = self.client.get(f"{self.base}/{path}", **options)
        self.responses.append(response)
        return response

    def post(self, path: str, body: dict[str, Any]) -> Any:
        headers = {"x-csrf-token": self.csrf}
        response = self.client.post(f"{self.base}/{path}", json=body, headers=headers)
        self.responses.append(response)
        return response

    def open_link(self) -> Any:
        """The page behind the link, and behind its button where nobody has pressed it yet."""
        response = self.client.get(self.link, follow_redirects=True)
        self.responses.append(response)
        if "Open the reading" in response.text:
            self.responses.append(self.client.post(f"{self.link}/take", json={}))
            response = self.get("", headers={"accept": "text/html"})
        self.read_token(response)
        return response

    def read_token(self, page: Any) -> None:
        if found := re.search(r'name="csrf-token" content="(\w+)"', page.text):
            self.csrf = found[1]

    def arrive(self) -> None:
        """Everything before the first image, as far as it was not said before."""
        page = self.open_link().text
        if "open in another browser" in page:  # or in this one, which never heard that it was
            self.client.post(f"{self.link}/take", json={})
            self.read_token(self.get(""))
            page = self.get("").text
        if 'data-send="consent"' in page:
            self.post("consent", {"agreed": True})
            page = self.get("").text
        if 'data-send="profile"' in page:
            said = {"specialty": "radiology", "years": 7, "reads": "often"}
            asks = 'name="seen_before"' in page
            self.post("profile", said | ({"seen_before": "some"} if asks else {}))
            page = self.get("").text
        if 'data-send="display"' in page:
            display = {"dark_steps": 8, "bright_steps": 9, "light": "dim", "monitor": "office"}
            self.post("display", display | {"width": 1280, "height": 800, "ratio": 1})

    def state(self) -> dict[str, Any]:
        return self.get("state").json()

    def body(self, state: dict[str, Any]) -> dict[str, Any]:
        """A random answer to the trial that is next."""
        block, trial = state["block"], state["trials"][0]
        sure = self.rng.choice(block["confidence"])["value"] if block["confidence"] else None
        return {
            "client_uuid": str(uuid.UUID(int=self.rng.getrandbits(128), version=4)),
            "trial": trial["token"],
            "value": self.rng.choice(block["choices"])["value"],
            "confidence": sure,
            "wrong_words": [0] if block["words"] else [],
            "elapsed_ms": 1500,
            "visible_ms": 1400,
            "waited_ms": 1,
        }

    def images(self, state: dict[str, Any]) -> list[Any]:
        """The images of the trial that is next."""
        return [self.get(path) for path in state["trials"][0]["images"]]

    def read(self, most: int = 1_000_000) -> int:
        """Answer up to `most` trials; return how many were answered."""
        state, done = self.state(), 0
        while done < most:
            if state["page"] == "briefing":
                self.read_token(self.get(""))
                self.post("briefing", {"seen_before": "never"})
                state = self.state()
            if state["page"] != "reading":
                break
            self.images(state)
            state = self.post("answer", self.body(state)).json()["state"]
            done += 1
        return done
