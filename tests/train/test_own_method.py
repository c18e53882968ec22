"""A method of another package: found by its entry point, trained by its recipe."""

import textwrap

import yaml

from vesalius.config import load_recipe
from vesalius.train.run import estimate, train_recipe

METHOD = """
    from typing import Literal

    from line_method import Line, plan

    from vesalius.config import Part
    from vesalius.train.estimate import Estimate
    from vesalius.train.loop import train


    class LineRecipe(Part):
        method: Literal["line"]
        name: str
        seen_images: int = 160


    class Kind:
        recipe = LineRecipe

        def train(self, recipe, pairs, out, session):
            done = train(Line(), plan(seen_images=recipe.seen_images), out / "line", session)
            return done.trained(done.best, "adapter")

        def estimate(self, recipe, pairs, session):
            return Estimate(40, 40, 0, "a line", {})


    KIND = Kind()
"""


def test_a_method_is_one_file_of_another_package(tmp_path, monkeypatch):
    (tmp_path / "own_method.py").write_text(textwrap.dedent(METHOD))
    about = tmp_path / "lab-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: lab\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[vesalius.methods]\nline = own_method:KIND\n")
    monkeypatch.syspath_prepend(tmp_path)
    values = {"method": "line", "name": "mine"}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(values))
    recipe = load_recipe(str(tmp_path / "mine.yaml"), ["seen_images=80"])
    assert estimate(recipe, "none").lines()["trains"] == "a line"
    result = train_recipe(recipe, "none", tmp_path / "run")
    assert result.seen_images == 80
    assert result.folder == tmp_path / "run" / "line" / "best"
    assert "80 images seen, best validation loss" in repr(result)
