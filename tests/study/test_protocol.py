"""The protocol is read back as written, and refuses in one line what does not go together."""

import pytest
import yaml

from vesalius.errors import VesaliusError
from vesalius.study.protocol import Protocol, read_protocol, write_protocol
from vesalius.study.settings import DesignSettings

ANCHORS = {k: f"grade {k}" for k in range(1, 6)}
VALUES = {
    "title": "Eyes",
    "question": "Can experts tell?",
    "readers": [{"name": "R1"}, {"name": "R2", "specialty": "retina"}],
    "tasks": [
        {"task": "turing", "question": "Real?", "fakes": 5},
        {"task": "quality", "question": "How good?", "anchors": ANCHORS, "specialty": "retina"},
        {"task": "diagnosis", "question": "What?", "labels": ["normal", "glaucoma"]},
    ],
    "pixels": {"width": 128, "height": 128},
    "consent": "You may stop at any time.",
}


def test_a_sign_that_is_no_number_is_a_name():
    assert DesignSettings(readers="²").named_readers() == [("²", "")]
    assert len(DesignSettings(readers="3").named_readers()) == 3


def test_what_is_written_is_read_back(tmp_path):
    protocol = Protocol.model_validate(VALUES)
    write_protocol(tmp_path / "protocol.yaml", protocol)
    assert read_protocol(tmp_path / "protocol.yaml") == protocol
    text = (tmp_path / "protocol.yaml").read_text()
    assert "break_after:" in text  # defaults are spelled out
    assert [task.task for task in protocol.tasks_of(protocol.readers[0])] == ["turing", "diagnosis"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"trials": 3}, "trials: there is no such field"),
        ({"readers": []}, "readers: tuple should have at least 1 item"),
        ({"readers": [{"name": "a"}, {"name": "A"}]}, "two readers are called 'a'"),
        ({"readers": [{"name": "a"}]}, "no reader has the specialty 'retina' of quality"),
        ({"format": 2}, "format: input should be 1"),
        ({"tasks": VALUES["tasks"][:1], "unaware_first": True}, "unaware_first needs a task"),
        ({"tasks": VALUES["tasks"][:1] * 2}, "each task may be there once"),
        ({"tasks": [{"task": "quality", "question": "?"}]}, "anchors of quality give words"),
        ({"tasks": [{"task": "turing", "question": "?", "same": 0.1}]}, "one image at a time"),
        ({"tasks": [{"task": "diagnosis", "question": "?", "labels": ["a"]}]}, "two or more"),
        ({"tasks": [{"task": "turing", "question": "?", "margin": 10}]}, "less than 0.5"),
        (
            {"tasks": [{"task": "turing", "question": "?", "trials": 7}]},
            "trials of turing are even",
        ),
    ],
)
def test_what_does_not_go_together(tmp_path, change, message):
    path = tmp_path / "protocol.yaml"
    path.write_text(yaml.safe_dump(VALUES | change))
    with pytest.raises(VesaliusError, match=message) as refused:
        read_protocol(path)
    assert "\n" not in str(refused.value)
