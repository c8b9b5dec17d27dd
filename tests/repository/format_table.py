# SPDX-License-Identifier: Apache-2.0
"""The table of formats in docs/data_formats.md, written from the registry.

To update the page: python -m tests.repository.format_table
"""

from pathlib import Path

from unisegment.data.formats import FORMATS
from unisegment.data.formats.format import Format, Layout

PAGE = Path(__file__).parents[2] / "docs" / "data_formats.md"
START = "| `data.format` | what it is | scores | names of categories | files for training |"
_SCORES = {"panoptic": "PQ", "instance": "mask AP", "semantic": "mIoU"}


def table() -> str:
    """Return the table as Markdown."""
    return "\n".join([START, "|---|---|---|---|---|", *map(_row, FORMATS.values())])


def with_table(page: str) -> str:
    """Return the text of the page with the table of today."""
    before, after = page.split(START)
    return before + table() + "\n\n" + after.partition("\n\n")[2]


def _row(known: Format) -> str:
    places = [*dict.fromkeys(map(_places, known.layouts))]
    if known.splits is not None:
        places.insert(0, "the splits that the folder lists itself")
    if not known.is_folder:
        places.append("a name on the Hub, addresses: [below](#data-sets-of-hugging-face)")
    tasks = ", ".join(_SCORES[task] for task in known.tasks)
    return f"| `{known.name}` | {known.summary} | {tasks} | {known.labels} | {'<br>'.join(places)} |"


def _places(layout: Layout) -> str:
    paths = zip(layout.parts, layout.paths(layout.names_of("train")[0]), strict=True)
    return ", ".join(f"`{path}`" for role, path in paths if role != "sign" and path)


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
