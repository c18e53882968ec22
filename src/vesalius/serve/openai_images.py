"""`/v1`: image generation and models as clients of OpenAI's API ask for them."""

import time
from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from vesalius.serve.answers import Refusal
from vesalius.serve.api import REFUSALS, Asker, Parts
from vesalius.serve.bodies import DRAWN, LARGEST_SEED, Prompt, parse_body
from vesalius.serve.settings import MOST_IMAGES, MOST_STEPS
from vesalius.serve.waiting import as_text, drawn


class Problem(BaseModel):
    """What went wrong, as these clients read it."""

    message: str
    type: str
    param: str | None
    code: str | None


class OpenAIRefusal(Refusal):
    """Why a request was not served."""

    error: Problem | None = None


class Generation(BaseModel):
    """What is read of a request; its other fields have no meaning here and are left alone."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)
    prompt: Prompt
    model: str | None = Field(None, max_length=200)
    n: int | None = Field(1, ge=1, le=MOST_IMAGES)
    size: str | None = Field("auto", pattern=r"^(auto|[1-9]\d{0,3}x[1-9]\d{0,3})$")
    response_format: Literal["b64_json"] | None = Field(
        None, description="Addresses of images are not given: they would need a cookie."
    )
    seed: int = Field(DRAWN, ge=DRAWN, le=LARGEST_SEED)
    steps: int | None = Field(None, ge=1, le=MOST_STEPS)


class Generated(BaseModel):
    """One image, a PNG."""

    b64_json: str


class Generations(BaseModel):
    """The images."""

    created: int
    data: list[Generated]
    output_format: Literal["png"] = "png"


class ModelEntry(BaseModel):
    """A model."""

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = "vesalius"


class ModelList(BaseModel):
    """All models."""

    object: Literal["list"] = "list"
    data: list[ModelEntry]


_REFUSALS: dict[int | str, dict[str, Any]] = {
    status: answer | {"model": OpenAIRefusal} for status, answer in REFUSALS.items()
}
openai = APIRouter(prefix="/v1", tags=["OpenAI"], responses=_REFUSALS)


@openai.get("/models")
def models(who: Asker, service: Parts) -> ModelList:
    """The models that can be chosen."""
    return ModelList(data=[ModelEntry(id=id) for id in service.catalogue.models])


@openai.post("/images/generations")
async def generations(body: Generation, who: Asker, service: Parts) -> Generations:
    """Images, when they are drawn."""
    asked = body.model_dump(include={"prompt", "model", "seed", "steps"}) | {
        "kind": "generate",
        "n": body.n or 1,
        "size": None if body.size == "auto" else body.size,
    }
    _, made = await drawn(service, who.user, parse_body(asked))
    data = [Generated(b64_json=await as_text(service, one)) for one in made]
    return Generations(created=int(time.time()), data=data)
