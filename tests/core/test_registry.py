"""Names and what they stand for, ours and those of other packages."""

from importlib.metadata import EntryPoint

import pytest

from vesalius.core import registry
from vesalius.core.registry import Registry
from vesalius.errors import VesaliusError

READERS = Registry("reader", {"folders": "json:loads", "text": "json:dumps"})


@pytest.fixture
def installed(monkeypatch):
    """Entry points as if a package had them: by name, what they stand for."""

    def install(**points: str) -> None:
        def entry_points(group, name=None):
            assert group == "vesalius.readers"
            found = [EntryPoint(key, value, group) for key, value in points.items()]
            return [one for one in found if name in (None, one.name)]

        monkeypatch.setattr(registry, "entry_points", entry_points)

    return install


def test_our_own_come_first_and_are_loaded_by_name(installed):
    import json

    installed(text="json:load", nrrd="pathlib:Path", analyze="pathlib:PurePath")
    assert READERS.names() == ("folders", "text", "analyze", "nrrd")
    assert READERS.load("text") is json.dumps
    assert READERS.load("nrrd").__name__ == "Path"


def test_an_unknown_name_is_one_line_with_all_names(installed):
    installed(nrrd="pathlib:Path")
    with pytest.raises(VesaliusError, match="no reader 'x': choose one of folders, text, nrrd"):
        READERS.load("x")
    READERS.check("auto", "auto")
    with pytest.raises(VesaliusError, match="choose one of auto, folders, text, nrrd"):
        READERS.check("x", "auto")


@pytest.mark.parametrize("value", ["nowhere:read", "pathlib:nothing"])
def test_a_broken_package_is_named(installed, value):
    installed(nrrd=value)
    with pytest.raises(VesaliusError, match=f"the reader 'nrrd' of {value} cannot be loaded: "):
        READERS.load("nrrd")
