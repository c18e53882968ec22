"""Every operation of the API, asked by schemathesis for what the schema allows and what it does not."""

import pytest

CASES = 6  # of each operation and mode; `benchmarks/serve/fuzz.py` takes 20,000 in all


@pytest.mark.slow
@pytest.mark.ci
def test_no_answer_is_outside_the_schema(house, ann, draw):
    schemathesis = pytest.importorskip("schemathesis")
    from benchmarks.serve.fuzz import Asker, State

    made = draw(ann, n=2)
    ids = [made["id"], *(image["id"] for image in made["images"])]
    schema = schemathesis.openapi.from_dict(ann.get("/api/v1/openapi.json").json())
    schema.app = house.app
    schema.config.update(base_url="http://127.0.0.1:8765")
    headers = {"Authorization": ann.headers["Authorization"]}
    asker = Asker(schema, {"headers": headers}, lambda: ids, State(), CASES)
    asker.ask_everything(lambda: True)
    assert len(asker.seen) > 150
    assert asker.state.wrong == []
