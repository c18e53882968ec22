"""Where a server listens, and under which address people reach it."""

import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from vesalius.core.optional import need
from vesalius.core.settings import Help
from vesalius.errors import VesaliusError

LOCAL = ("127.0.0.1", "localhost", "::1")
_EVERYWHERE = ("0.0.0.0", "::", "")
_PANEL = "Server"


@dataclass(frozen=True)
class ServerSettings:
    """Raises VesaliusError for settings that would be unsafe or cannot work."""

    host: Annotated[
        str, Help("Address to listen on; another than this machine's own needs TLS.", panel=_PANEL)
    ] = "127.0.0.1"
    port: Annotated[
        int, Help("Port; 0 takes any that is free.", least=0, most=65535, panel=_PANEL)
    ] = 8765
    root_path: Annotated[
        str, Help("Sub-path below which a proxy shows the pages, such as /study.", panel=_PANEL)
    ] = ""
    address: Annotated[
        str,
        Help("Address that people type, where a proxy stands before this server.", panel=_PANEL),
    ] = ""
    certificate: Annotated[
        Path | None, Help("TLS certificate (PEM), with --key.", panel=_PANEL)
    ] = None
    key: Annotated[Path | None, Help("Key of the certificate (PEM).", panel=_PANEL)] = None
    insecure: Annotated[
        bool, Help("Serve other machines without TLS: anyone between can listen.", panel=_PANEL)
    ] = False
    no_browser: Annotated[bool, Help("Open no browser window.", panel=_PANEL)] = False

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise VesaliusError("--certificate and --key belong together: give both")
        for path in (self.certificate, self.key):
            if path is not None and not path.is_file():
                raise VesaliusError(f"{path} is missing")
        if self.host not in LOCAL and not (self.certificate or self.insecure):
            raise VesaliusError(
                f"--host {self.host} lets other machines in: give --certificate and --key, or "
                "--insecure where the network is trusted"
            )
        if self.root_path and not (self.root_path.startswith("/") and self.root_path.strip("/")):
            raise VesaliusError(f"--root-path {self.root_path}: write it as /study")
        if self.address and not (
            urlsplit(self.address).scheme in ("http", "https") and urlsplit(self.address).hostname
        ):
            raise VesaliusError(f"--address {self.address}: write it as https://host/path")

    @property
    def prefix(self) -> str:
        """The sub-path without its last slash: of --root-path, or else of --address."""
        return (self.root_path or urlsplit(self.address).path).rstrip("/")

    def origin(self) -> str:
        """Scheme, host and port of --address; empty without one."""
        if not self.address:
            return ""
        parts = urlsplit(self.address)
        return f"{parts.scheme}://{parts.netloc}".lower()

    @property
    def is_everywhere(self) -> bool:
        """Whether it listens on all addresses of this machine."""
        return self.host in _EVERYWHERE

    def hosts(self) -> frozenset[str]:
        """Names by which this server may be called: its own, this machine's where it listens on all."""
        named = {self.host.lower(), urlsplit(self.address).hostname or "", *LOCAL}
        if self.is_everywhere:
            whole = socket.gethostname().lower()
            short = whole.partition(".")[0]
            named |= {whole, short, f"{short}.local"}
        return frozenset(named - {""})

    def url(self, port: int) -> str:
        """The address of the first page, with a slash at its end."""
        if self.address:
            return self.address.rstrip("/") + "/"
        host = "127.0.0.1" if self.is_everywhere else self.host
        scheme = "https" if self.certificate else "http"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}{self.prefix}/"


def need_server() -> None:
    """Raises VesaliusError with the line that installs what a server needs, where it is missing."""
    for module in ("fastapi", "uvicorn"):
        need(module, "serve", "a server")
