# SPDX-License-Identifier: Apache-2.0
"""What a check found, as `report.json`, `report.html` and `samples.jpg` in a folder, and as a table for a terminal.

`report.json` has `unisegment` (the version), `errors`, `warnings`, `seconds`, and `parts`: a list with one dict for
each part, of

* `name`, `format`, `split`; `images` that it has, of which `checked` and `opened` without an error;
* `errors`, `warnings`, and `findings`: one dict for each kind, with `kind`, `severity`, `meaning`, `count`, and
  `listed`, the first hundred, each with `file` and `detail`;
* `categories`: `label`, `id`, `name`, `is_thing`; `segments`, of which `crowds`; `images` that show it; `pixels`, and
  their share of all pixels of the part;
* histograms, lists of `from`, `to` (both included) and `count`: `longest_sides` of images, `segments_per_image`,
  `root_areas` (the square roots of the pixels of segments); `coco_sizes`: segments below 32² pixels, below 96², others;
* `unlabelled_share` of all pixels, and `unlabelled_tenths`: images by the share of their pixels that is unlabelled, in
  tenths;
* `image_sizes`, the most frequent ones; `distinct_image_sizes`; `file_kinds`, images by format and channels.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from unisegment.checking.contact_sheet import draw_contact_sheet
from unisegment.checking.fixed_lists import Changes
from unisegment.checking.page import Picture, counted, make_page
from unisegment.files import filled_folder, make_folder, require_own

_FILE_WIDTH = 72


@dataclass(frozen=True)
class Report:
    """What a check found.

    Args:
        parts: As in `report.json`.
        seconds: How long it took.
        samples: Samples drawn with their targets.
        concerned: For each part, pictures of the first samples that each kind of finding is about, by the kind.
        fixed: What was changed in a corrected copy, if there is one.
    """

    parts: list[dict[str, Any]]
    seconds: float
    samples: Sequence[Picture] = ()
    concerned: Sequence[Mapping[str, Sequence[Picture]]] = ()
    fixed: Changes | None = None

    @property
    def num_errors(self) -> int:
        """How many errors all parts have."""
        return sum(part["errors"] for part in self.parts)

    @property
    def num_warnings(self) -> int:
        """How many warnings all parts have."""
        return sum(part["warnings"] for part in self.parts)

    def as_dict(self) -> dict[str, Any]:
        """Return what `report.json` holds."""
        return {
            "unisegment": metadata.version("unisegment"),
            "errors": self.num_errors,
            "warnings": self.num_warnings,
            "seconds": round(self.seconds, 3),
            "parts": self.parts,
        }

    def table(self) -> str:
        """Return the findings in words, one line for each kind and its first file."""
        lines = []
        for part in self.parts:
            lines.append(f"{part['name']} ({part['format']}): {part['opened']:,} of {part['images']:,} images opened")
            if part["checked"] < part["images"]:
                lines[-1] += f", {part['checked']:,} tried"
            for finding in part["findings"]:
                first = finding["listed"][0]
                detail = f"{_shortened(first['file'])}: {first['detail'].splitlines()[0] if first['detail'] else ''}"
                lines.append(f"  {finding['severity']:8} {finding['kind']:24} {finding['count']:>7,}  {detail}")
        lines.append(f"{counted(self.num_errors, 'error')}, {counted(self.num_warnings, 'warning')}")
        return "\n".join([*lines, *([] if self.fixed is None else [self.fixed.table()])])


def write_report(report: Report, folder: Path) -> None:
    """Write a report into a folder, which is made if need be.

    Raises:
        WriteError: When it cannot be written; an earlier one stays.
    """
    content = report.as_dict()
    # Names of files need not be text; what is none is written as an escape.
    page = make_page(content, report.samples, report.concerned).encode("utf-8", "backslashreplace")
    tiles = [(picture.name, picture.jpeg) for picture in report.samples if picture.jpeg is not None]
    with filled_folder(folder) as partial:
        (partial / "report.json").write_text(json.dumps(content, indent=1), encoding="utf-8")
        (partial / "report.html").write_bytes(page)
        if tiles:
            (partial / "samples.jpg").write_bytes(draw_contact_sheet(tiles))
    if not tiles:
        (folder / "samples.jpg").unlink(missing_ok=True)


def prepare_folder(folder: Path) -> None:
    """Make a folder for a report, and find out whether one can be written there.

    Raises:
        ValueError: When it has files of the same names that are of something else.
        WriteError: When nothing can be written there.
    """
    require_own(folder, ("report.json", "report.html", "samples.jpg"), "report.json", "unisegment")
    make_folder(folder)


def _shortened(file: str) -> str:
    return file if len(file) <= _FILE_WIDTH else f"…{file[-_FILE_WIDTH + 1 :]}"
