import json

import pytest

from vesalius.core.documents import write_document, write_page


def test_names_that_are_not_utf8_survive(tmp_path):
    write_document(tmp_path / "a.json", {"name": "caf\udce9"})
    assert json.loads((tmp_path / "a.json").read_text("utf-8")) == {"name": "caf\udce9"}
    write_page(tmp_path / "a.html", "caf\udce9")
    assert (tmp_path / "a.html").read_text("utf-8") == "caf\\udce9"


def test_what_json_does_not_have_is_refused(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_document(tmp_path / "a.json", {"x": float("nan")})
