# SPDX-License-Identifier: Apache-2.0
"""What was found of a part in, pictures of the first samples that each kind of problem is about out."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from unisegment.checking.contact_sheet import draw_image, draw_tile
from unisegment.checking.opening import OpenedPart
from unisegment.checking.page import Picture
from unisegment.checking.parallel import run_parallel
from unisegment.data.annotated_images import read_listed_image
from unisegment.data.problems import Box, Problem

_DRAWN = 10
"""Samples of each kind."""
_NUMBERS_SHOWN = 5
_NOT_TRIED_AGAIN = ("too-slow", "process-died")


class _Subject(NamedTuple):
    """A sample that problems of one kind are about."""

    image: str
    boxes: tuple[Box, ...]


def draw_concerned(
    opened: OpenedPart, problems: Mapping[str, Sequence[Problem]], workers: int | None, timeout: float
) -> dict[str, list[Picture]]:
    """Draw the samples that problems are about, where the problem names one, with a frame around its object.

    Args:
        opened: The part.
        problems: The problems that are listed, by their kind.
        workers: Processes that draw; None takes one for each processor.
        timeout: Seconds that a picture may take.

    Returns:
        The pictures by the kind. Their names begin with the numbers that the problems have in the list.
    """
    places = {kind: _places_by_image(listed) for kind, listed in problems.items()}
    subjects = {
        (kind, image): _Subject(image, tuple(box for place in of_image if (box := problems[kind][place].box)))
        for kind, images in places.items()
        for image, of_image in images.items()
    }
    wanted = [*dict.fromkeys(item for (kind, _), item in subjects.items() if kind not in _NOT_TRIED_AGAIN)]
    task = _Draw(opened, wanted, _indices(opened, {subject.image for subject in wanted}))
    drawn = {wanted[number]: tile for number, tile in run_parallel(task, range(len(wanted)), workers, timeout)}
    pictures: dict[str, list[Picture]] = {}
    for (kind, image), subject in subjects.items():
        tile = drawn.get(subject)
        numbers = [str(place + 1) for place in places[kind][image]]
        more = ", …" if len(numbers) > _NUMBERS_SHOWN else ""
        name = f"{', '.join(numbers[:_NUMBERS_SHOWN])}{more}: {os.path.basename(image)}"
        reason = problems[kind][places[kind][image][0]].detail
        pictures.setdefault(kind, []).append(Picture(name, tile if isinstance(tile, bytes) else None, reason))
    return pictures


def _places_by_image(problems: Sequence[Problem]) -> dict[str, list[int]]:
    """Return the places of the problems that are about each of the first images."""
    places: dict[str, list[int]] = {}
    for place, problem in enumerate(problems):
        if problem.image is not None:
            places.setdefault(problem.image, []).append(place)
    return dict(islice(places.items(), _DRAWN))


def _indices(opened: OpenedPart, images: set[str]) -> dict[str, int]:
    """Return the number of the sample of each image, where the part has one."""
    if opened.samples is None or not images:
        return {}
    return {name: index for index in range(len(opened)) if (name := opened.name_of(index)) in images}


@dataclass(frozen=True)
class _Draw:
    """Draws a sample, or its image alone where it cannot be read together with its annotation; None for neither."""

    opened: OpenedPart
    subjects: Sequence[_Subject]
    indices: Mapping[str, int]

    def __call__(self, number: int) -> bytes | None:
        image, boxes = self.subjects[number]
        samples, index = self.opened.samples, self.indices.get(image)
        if samples is not None and index is not None:
            try:
                return draw_tile(samples[index], samples.id2label, boxes)
            except Exception:  # of any kind: it is why the sample is here
                pass
        try:
            return draw_image(read_listed_image(Path(image), self.opened.part.reading), boxes)
        except Exception:
            return None
