"""The pages of this server."""

from pathlib import Path

from vesalius.web.pages import Pages

pages = Pages(Path(__file__).parent / "templates", "Vesalius")
