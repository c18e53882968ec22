"""Composed prompts read as web UIs and the paper write them, and nothing else is one."""

import pytest

from vesalius.errors import VesaliusError
from vesalius.sample.prompt import Part, blend, parse_prompt


@pytest.mark.parametrize(
    ("prompt", "parts"),
    [
        ("effusion", (Part("effusion"),)),
        ("ratio 1:2", (Part("ratio 1:2"),)),
        ("HAND AND FOOT", (Part("HAND"), Part("FOOT"))),
        ("a AND b:0.5", (Part("a"), Part("b", 0.5))),
        ("healthy:30% AND diseased:70%", (Part("healthy", 0.3), Part("diseased", 0.7))),
        ("a : 1.5 AND b:-.5", (Part("a", 1.5), Part("b", -0.5))),
        ("a\nAND b", (Part("a"), Part("b"))),
        ("this and that", (Part("this and that"),)),
        ("BRAND NEW", (Part("BRAND NEW"),)),
    ],
)
def test_parts_and_weights(prompt, parts):
    assert parse_prompt(prompt) == parts


@pytest.mark.parametrize(
    "prompt", ["a AND ", "AND b", "a AND :0.5", "a AND b:11", " AND ".join("abcdefghi")]
)
def test_what_cannot_be_read_is_told(prompt):
    with pytest.raises(VesaliusError):
        parse_prompt(prompt)


def test_a_blend_is_a_composition_whose_weights_add_up():
    assert parse_prompt(blend("healthy lung", "pneumonia", 0.25)) == (
        Part("healthy lung", 0.75),
        Part("pneumonia", 0.25),
    )
