"""How models of other people's libraries are loaded: quietly, from a folder, whole, and never a pickle."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from vesalius.core.quiet import quiet
from vesalius.core.stopping import raise_if_asked
from vesalius.errors import VesaliusError, first_line

LOCAL: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
WEIGHTS: dict[str, Any] = {**LOCAL, "use_safetensors": True, "output_loading_info": True}


@contextmanager
def loading(what: str) -> Iterator[None]:
    """Whatever the library raises becomes one line that names `what`."""
    try:
        with quiet():
            yield
    except Exception as error:  # transformers raises a dozen types for a folder that is not right
        raise_if_asked(error)
        why = first_line(error)
        raise VesaliusError(f"{what} cannot be loaded: {why}") from error


def check_complete(what: str, report: Mapping[str, Any]) -> None:
    """Raise VesaliusError where weights are missing, by the report that transformers gives."""
    if missing := sorted(report["missing_keys"]):
        raise VesaliusError(f"{what} lacks {len(missing)} of its weights, such as {missing[0]}")
