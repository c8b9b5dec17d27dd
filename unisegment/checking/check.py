# SPDX-License-Identifier: Apache-2.0
"""Parts of data sets in, everything that is wrong with them out, in reports: the street through a check."""

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from unisegment.checking.category_lists import note_category_lists
from unisegment.checking.concerned import draw_concerned
from unisegment.checking.figures import Figures
from unisegment.checking.fixing import check_fix, fix_data
from unisegment.checking.opening import OpenedPart, Part, open_part
from unisegment.checking.page import Picture
from unisegment.checking.parallel import Failure, run_parallel
from unisegment.checking.repeats import note_repeats
from unisegment.checking.report import Report, prepare_folder, write_report
from unisegment.checking.sample_check import CheckedSample, SampleCheck
from unisegment.data.first_look import doubt_two_numbers
from unisegment.data.problems import CollectedProblems
from unisegment.data.reading.label_maps import LabelMaps
from unisegment.data.reading.panoptic_maps import largest_number

_LONGEST = 7 * 24 * 3600
"""Seconds; systems wait no longer than some weeks."""
_KIND_OF_FAILURE = {"slow": "too-slow", "died": "process-died", "raised": "unexpected-exception"}


@dataclass
class _Checked:
    """A part, and what was found of it so far."""

    opened: OpenedPart
    findings: CollectedProblems
    figures: Figures
    num_checked: int = 0


def check_data(
    parts: Sequence[Part],
    output_dir: str | Path = "data-check",
    *,
    workers: int | None = None,
    timeout: float = 60,
    limit: int | None = None,
    pictures: int = 12,
    progress: bool | None = None,
    fix: Path | None = None,
) -> Report:
    """Open everything and write reports, and a corrected copy of the data set where one is asked for.

    Args:
        parts: What to check; `unisegment.checking.sources.find_parts` makes them.
        output_dir: Folder for `report.html`, `report.json` and `samples.jpg`, which replace those of an earlier check.
        workers: Processes that open images; None takes one for each processor.
        timeout: Seconds that an image may take, a week at most.
        limit: Most images to open of each part, spread evenly over it; None opens all. Annotation files are always
            checked whole.
        pictures: Samples of each part that are drawn.
        progress: Whether to show progress; None shows it on a terminal.
        fix: Folder for the copy, see `unisegment.checking.fixing.fix_data`; None makes none.

    Returns:
        What the reports say.

    Raises:
        ValueError: When there is nothing to check, a number is out of range, the folder has files of these names that
            are of something else, or there can be no corrected copy.
        WriteError: When the reports cannot be written, which is tried first; earlier ones stay.
    """
    if (
        not parts
        or (workers is not None and workers < 1)
        or (limit is not None and limit < 1)
        or not 0 < timeout <= _LONGEST
    ):
        raise ValueError(
            f"There must be parts to check, with at least 1 worker, 1 image and some time for each; got {len(parts)} "
            f"parts, workers={workers}, limit={limit}, timeout={timeout}."
        )
    if fix is not None:
        check_fix(parts, fix)
    prepare_folder(Path(output_dir))
    start = time.monotonic()
    checked, samples = [], []
    for part in parts:
        findings = CollectedProblems(thorough=True)
        opened = open_part(part, findings)
        figures = Figures(None if opened.samples is None else opened.samples.categories)
        checked.append(_Checked(opened, findings, figures))
        indices = _spread(len(opened), min(limit or len(opened), len(opened)))
        drawn = {indices[place] for place in _spread(len(indices), min(pictures, len(indices)))}
        bar = tqdm(
            _in_order(SampleCheck(opened, drawn), indices, workers, timeout),
            total=len(indices),
            desc=part.name,
            unit=" images",
            disable=None if progress is None else not progress,
        )
        for index, result in bar:
            samples += _take(checked[-1], index, result)
        _note_whole(checked[-1])
    note_category_lists([(item.opened, item.findings) for item in checked])
    note_repeats([(item.opened, item.figures, item.findings) for item in checked])
    concerned = [
        draw_concerned(item.opened, item.findings.listed, workers, timeout) if pictures else {} for item in checked
    ]
    report = Report(
        parts=[_describe(item) for item in checked],
        seconds=time.monotonic() - start,
        samples=samples,
        concerned=concerned,
    )
    write_report(report, Path(output_dir))
    if fix is not None:
        report = replace(report, fixed=fix_data(parts, fix, workers=workers, timeout=timeout, progress=progress))
    return report


def _spread(number: int, chosen: int) -> list[int]:
    """Return so many of the numbers below another one, evenly spread."""
    return np.linspace(0, number - 1, chosen).round().astype(int).tolist() if chosen else []


def _in_order(
    check: SampleCheck, indices: list[int], workers: int | None, timeout: float
) -> Iterator[tuple[int, CheckedSample | Failure]]:
    """Give results in the order of the samples, so that reports do not differ from one check to the next."""
    waiting: dict[int, CheckedSample | Failure] = {}
    following = iter(indices)
    index = next(following, None)
    for number, result in run_parallel(check, indices, workers, timeout):
        waiting[number] = result
        while index in waiting:
            yield index, waiting.pop(index)
            index = next(following, None)


def _take(part: _Checked, index: int, result: CheckedSample | Failure) -> list[Picture]:
    """Count what was found of a sample, and return its picture if there is one."""
    part.num_checked += 1
    if isinstance(result, Failure):
        name = part.opened.name_of(index)
        part.findings.add(_KIND_OF_FAILURE[result.reason], name, result.detail, name)
        return []
    part.findings.extend(problem._replace(image=problem.image or result.name) for problem in result.findings)
    part.figures.add(index, result)
    return [] if result.tile is None else [Picture(os.path.basename(result.name), result.tile)]


def _note_whole(part: _Checked) -> None:
    """Note what only shows when all samples have been seen."""
    samples = part.opened.samples
    if samples is None or part.figures.opened == 0:
        return
    if part.num_checked == len(part.opened):
        if not part.figures.has_objects:
            kind = "nothing-to-evaluate" if part.opened.part.split == "val" else "nothing-to-learn"
            part.findings.add(kind, part.opened.part.name, f"{part.figures.opened} images were opened")
        for category in part.figures.unused():
            part.findings.add("unused-category", part.opened.part.name, f"{category.name} (id {category.id})")
    doubt = doubt_two_numbers(samples)
    if doubt is not None:
        part.findings.add("two-numbers", part.opened.part.name, doubt)
    modes = part.figures.label_map_modes
    reader = part.opened.reader
    if isinstance(reader, LabelMaps) and modes:
        largest = max(largest_number(mode) for mode in modes)
        for category in samples.categories:
            if category.id * reader.id_factor > largest:
                detail = f"{category.name} (id {category.id}): the PNG files hold numbers up to {largest}"
                part.findings.add("category-too-large", part.opened.part.name, detail)


def _describe(part: _Checked) -> dict[str, Any]:
    opened = part.opened
    return {
        "name": opened.part.name,
        "format": opened.part.data.format,
        "split": opened.part.split,
        "images": len(opened),
        "checked": part.num_checked,
        "opened": part.figures.opened,
        "errors": part.findings.count("error"),
        "warnings": part.findings.count("warning"),
        "findings": part.findings.as_dicts(),
        **part.figures.as_dict(),
    }
