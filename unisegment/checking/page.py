# SPDX-License-Identifier: Apache-2.0
"""The content of `report.json` and pictures in, one page of HTML out that needs nothing from elsewhere.

What the page looks like stands in `page.html`, a template of Jinja.
"""

import base64
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, StrictUndefined, Template

from unisegment.visualization import label_colors

_TEMPLATE = Path(__file__).with_name("page.html")


class Picture(NamedTuple):
    """A sample on the page."""

    name: str
    jpeg: bytes | None
    """None where it cannot be drawn: a grey tile says why."""
    reason: str = ""


def make_page(
    content: Mapping[str, Any],
    samples: Sequence[Picture] = (),
    concerned: Sequence[Mapping[str, Sequence[Picture]]] = (),
) -> str:
    """Return the page.

    Args:
        content: As in `report.json`.
        samples: What is shown at its end.
        concerned: For each part, samples that show a kind of finding, by the kind.
    """
    parts = [
        {
            **part,
            "findings": [{**finding, "tiles": pictures.get(finding["kind"], ())} for finding in part["findings"]],
            "bars": list(_bars(part)),
            "categories": _colored(part["categories"]),
        }
        for part, pictures in zip(content["parts"], concerned or [{}] * len(content["parts"]), strict=True)
    ]
    return _template().render({**content, "parts": parts, "samples": samples})


@cache
def _template() -> Template:
    # Names come from files, and so from anybody: whatever is put into the page is escaped.
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"counted": counted, "base64": lambda data: base64.b64encode(data).decode("ascii")}
    return environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))


def counted(number: int, noun: str) -> str:
    """Return how many of something there are, in words."""
    return f"{number or 'no':{',' if number else ''}} {noun}{'' if number == 1 else 's'}"


def _bars(part: Mapping[str, Any]) -> Iterator[tuple[str, list[tuple[str, int]]]]:
    """Give each diagram of a part: its title, and the name and length of each bar."""
    for title, key in (
        ("Longer side of images, pixels", "longest_sides"),
        ("Segments of an image", "segments_per_image"),
        ("Square root of a segment’s pixels", "root_areas"),
    ):
        yield title, [(_span(item["from"], item["to"]), item["count"]) for item in part[key]]
    yield "Size of segments, by the limits of COCO", list(part["coco_sizes"].items())
    tenths = enumerate(part["unlabelled_tenths"])
    yield "Unlabelled part of an image", [(f"{10 * tenth} to {10 * tenth + 10} %", count) for tenth, count in tenths]
    sizes = [(f"{size['height']}×{size['width']}", size["images"]) for size in part["image_sizes"]]
    yield f"Most frequent of {part['distinct_image_sizes']:,} sizes (height × width)", sizes
    yield "Image files", list(part["file_kinds"].items())


def _span(low: int, high: int) -> str:
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _colored(categories: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return categories with the colour that pictures give them."""
    colors = label_colors({place: str(category["name"]) for place, category in enumerate(categories)})
    return [{**category, "color": f"rgb{color}"} for category, color in zip(categories, colors.values(), strict=True)]
