# SPDX-License-Identifier: Apache-2.0
"""The number of a sample in, what is wrong with it and what it holds out: what each worker process does.

The sample is opened as training opens it, so whatever training would raise is found.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int32

from unisegment.checking.contact_sheet import draw_tile
from unisegment.checking.image_files import FileFacts, decode, look_at
from unisegment.checking.label_map_files import check_label_map
from unisegment.checking.opening import OpenedPart
from unisegment.checking.reading_check import check_levels, check_size, check_stored_image, compare_sizes
from unisegment.data.annotated_images import SampleFiles
from unisegment.data.problems import DataError, Problem
from unisegment.data.reading.blended_maps import is_blended
from unisegment.data.reading.image_reading import read_image
from unisegment.data.reading.label_maps import LabelMaps
from unisegment.data.reading.panoptic_maps import map_problems
from unisegment.ops.masks import rgb_to_ids, segment_areas, segment_index_maps
from unisegment.structures import Sample, SegmentationTarget
from unisegment.types import Size

_MOSTLY = 0.5


@dataclass(frozen=True)
class Summary:
    """What a sample holds.

    Args:
        size: Height and width of the image, upright.
        labels: Label of each segment.
        areas: Pixels of each segment.
        is_crowd: Whether each segment is a crowd.
        unlabelled: Pixels of no segment.
    """

    size: Size
    labels: list[int]
    areas: list[int]
    is_crowd: list[bool]
    unlabelled: int


@dataclass(frozen=True)
class CheckedSample:
    """What was found of one sample.

    Args:
        name: Its image file, or its number where it has no file.
        findings: What is wrong with it.
        facts: What its image file says; None if it has none, or one that cannot be opened.
        map_mode: Pillow's name of the channels of its PNG file, if it has one.
        summary: What it holds; None if it cannot be opened.
        tile: It and its target as a picture (a JPEG file), if one was asked for.
    """

    name: str
    findings: list[Problem]
    facts: FileFacts | None = None
    map_mode: str | None = None
    summary: Summary | None = None
    tile: bytes | None = None


@dataclass(frozen=True)
class SampleCheck:
    """Check samples of a part by their numbers.

    Args:
        opened: The part.
        pictures: Which samples to draw.
    """

    opened: OpenedPart
    pictures: Collection[int] = ()

    def __call__(self, index: int) -> CheckedSample:
        """Check one sample; nothing is raised."""
        entry = self.opened.files(index)
        facts, map_facts, findings = (None, None, []) if entry is None else self._check_files(entry)
        name = self.opened.name_of(index)
        sample, error = self._open(index)
        if sample is None:
            findings += self._explain(entry, name, facts, map_facts, findings, error)
            return CheckedSample(name, _as_training_says(findings, error), facts)
        findings += self._check_reading(index, entry, facts, name)
        summary = summarize(sample)
        file = str(entry.label_map) if entry is not None and entry.label_map is not None else name
        findings += self._doubts(entry, sample.target, summary, file)
        tile = None
        if index in self.pictures and self.opened.samples is not None:
            tile = draw_tile(sample, self.opened.samples.id2label)
        return CheckedSample(name, findings, facts, None if map_facts is None else map_facts.mode, summary, tile)

    def _check_files(self, entry: SampleFiles) -> tuple[FileFacts | None, FileFacts | None, list[Problem]]:
        facts, findings = look_at(entry.image, "missing-image")
        exif = self.opened.part.data.exif
        if facts is not None and (entry.size is not None or entry.label_map is None):
            findings += check_size(entry.image, facts, entry.size or facts.seen(exif), entry.source, exif)
        if entry.label_map is None:
            return facts, None, findings
        map_facts, map_findings = look_at(entry.label_map, "missing-label-map")
        # Palettes, 16 bits and the like are usual in label maps.
        findings += [finding for finding in map_findings if finding.kind != "unusual-image"]
        if map_facts is None:
            return facts, None, findings
        if entry.size is not None:
            findings += check_size(entry.label_map, map_facts, entry.size, entry.source, exif)
        else:
            findings += check_label_map(entry.label_map, map_facts)
            if facts is not None:
                findings += compare_sizes(entry.label_map, facts, map_facts, exif)
        return facts, map_facts, findings

    def _check_reading(
        self, index: int, entry: SampleFiles | None, facts: FileFacts | None, name: str
    ) -> Iterator[Problem]:
        """Return what reading does to an image that training accepts."""
        samples, reading = self.opened.samples, self.opened.part.reading
        if entry is not None and facts is not None:
            yield from check_levels(entry.image, facts, reading)
        elif samples is not None and entry is None:
            yield from check_stored_image(name, samples.stored_image(index), reading)

    def _open(self, index: int) -> tuple[Sample | None, Exception | None]:
        if self.opened.samples is None:
            return None, None
        try:
            return self.opened.samples[index], None
        except Exception as error:
            return None, error

    def _explain(
        self,
        entry: SampleFiles | None,
        name: str,
        facts: FileFacts | None,
        map_facts: FileFacts | None,
        known: list[Problem],
        error: Exception | None,
    ) -> list[Problem]:
        """Return why a sample cannot be opened, or what else is wrong with its files if nobody tried."""
        findings: list[Problem] = []
        if error is not None and not isinstance(error, ValueError | OSError):
            findings.append(Problem("unexpected-exception", name, f"{type(error).__name__}: {error}"))
        if entry is not None and facts is not None:
            findings += [finding for finding in [decode(entry.image)] if finding is not None]
        if entry is not None and entry.label_map is not None and map_facts is not None:
            findings += self._explain_map(entry.label_map, entry)
        is_known = isinstance(error, DataError) and self._is_told(entry, error.problem)
        is_known |= any(finding.severity == "error" for finding in [*known, *findings])
        if error is not None and not is_known:
            unknown = Problem("unreadable-sample", name, str(error))
            findings.append(error.problem if isinstance(error, DataError) else unknown)
        return findings

    def _is_told(self, entry: SampleFiles | None, problem: Problem) -> bool:
        """Tell whether a problem is in the annotation file, and so was told when that was opened."""
        reader = self.opened.reader
        is_of_file = entry is not None and problem.file == str(entry.source)
        return is_of_file and reader is not None and reader.tells_at_opening

    def _explain_map(self, file: Path, entry: SampleFiles) -> list[Problem]:
        undecodable = decode(file)
        if undecodable is not None:
            return [undecodable]
        if entry.segment_ids is not None:
            assert entry.source is not None
            id_map = rgb_to_ids(read_image(file))
            is_hidden = getattr(self.opened.reader, "hidden_segments", False)
            return map_problems(file, id_map, entry.segment_ids, entry.source, is_hidden)
        return []

    def _doubts(
        self, entry: SampleFiles | None, target: SegmentationTarget, summary: Summary, file: str
    ) -> Iterator[Problem]:
        """Return what is doubtful about a sample that training accepts."""
        height, width = summary.size
        share = summary.unlabelled / (height * width)
        is_dense = entry is None or entry.num_annotations is None
        if is_dense and share == 1:
            yield Problem("nothing-labelled", file, "all of its pixels are void")
        elif is_dense and share > _MOSTLY:
            yield Problem("mostly-unlabelled", file, f"{share:.0%} of its pixels are void")
        annotated = None if entry is None or self.opened.part.data.void_ids else entry.num_annotations
        if annotated is not None and len(summary.labels) < annotated:
            hidden = annotated - len(summary.labels)
            yield Problem("invisible-annotation", file, f"{hidden} of its {annotated} objects")
        yield from self._compare_with_top_k(summary, file)
        if isinstance(self.opened.reader, LabelMaps) and target.id_map is not None:
            id_map: Int32[np.ndarray, "h w"] = target.id_map.numpy()
            if is_blended(id_map):
                yield Problem("blended-labels", file, "resize labels to the nearest, never smoothly")

    def _compare_with_top_k(self, summary: Summary, file: str) -> Iterator[Problem]:
        assert self.opened.samples is not None
        categories, top_k = self.opened.samples.categories, self.opened.part.top_k
        pairs = zip(summary.labels, summary.is_crowd, strict=True)
        number = sum(categories[label].is_thing and not is_crowd for label, is_crowd in pairs)
        if number > top_k:
            yield Problem("many-objects", file, f"{number} objects, but predictions have the {top_k} best of an image")


def _as_training_says(findings: list[Problem], error: Exception | None) -> list[Problem]:
    """Return the findings, that which training stops at in its words."""
    said = error.problem if isinstance(error, DataError) else None
    return [finding if said is None or finding[:2] != said[:2] else said for finding in findings]


def summarize(sample: Sample) -> Summary:
    """Return what a sample holds."""
    target = sample.target
    covered = torch.zeros(target.size, dtype=torch.bool)
    for index_map in segment_index_maps(target):
        covered |= index_map >= 0
    return Summary(
        size=(sample.image.shape[0], sample.image.shape[1]),
        labels=target.labels.tolist(),
        areas=segment_areas(target).tolist(),
        is_crowd=target.is_crowd.tolist(),
        unlabelled=int((~covered).sum()),
    )
