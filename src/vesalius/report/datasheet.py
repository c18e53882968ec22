"""The page of a pairs table, from the document of its datasheet."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from PIL import Image

from vesalius.report.page import Remark, render
from vesalius.report.pictures import thumbnail

CLASSES_SHOWN = 60  # the document counts all


def datasheet_page(
    document: Mapping[str, Any], image: Callable[[int], Image.Image], *, samples: int = 6
) -> str:
    """The page.

    Args:
        document: what `describe` returned.
        image: gives the picture of a row, 8-bit grey or RGB; a VesaliusError leaves a blank.
        samples: pictures of each class. 0 keeps every picture out of the page, those of leaks and
            duplicates too.
    """
    return render(
        "datasheet",
        d=document,
        remarks=[Remark(one["severity"], one["message"]) for one in document["findings"]],
        samples=samples,
        splits=[name for name, images in document["splits"].items() if images],
        classes_shown=CLASSES_SHOWN,
        picture=lambda row: thumbnail(partial(image, row)),
    )
