# SPDX-License-Identifier: Apache-2.0
"""Samples are opened as in training, and summed up; the damages show what is found in them."""

import io

import numpy as np
import torch
from PIL import Image

from tests.checking.data_sets import WRITERS, coco_instance
from unisegment.checking.opening import OpenedPart, Part, open_part
from unisegment.checking.sample_check import SampleCheck, summarize
from unisegment.data.annotated_images import AnnotatedImages
from unisegment.data.problems import CollectedProblems
from unisegment.runs.data_recipe import DataRecipe
from unisegment.structures import Category, Sample, SegmentationTarget


def opened_as(root, data_format):
    WRITERS[data_format](root)
    return open_part(Part(DataRecipe(root=str(root), format=data_format), "train"), CollectedProblems())


def test_a_sample_is_described(tmp_path):
    opened = opened_as(tmp_path, "png_semantic")
    checked = SampleCheck(opened, {1})(1)
    assert checked.name == str(tmp_path / "images/train/b.jpg")
    assert checked.findings == []
    assert (checked.facts.seen("upright"), checked.map_mode) == ((31, 23), "L")
    assert checked.summary.labels == [0, 1, 2]
    assert checked.summary.areas == [7 * 11, 12 * 12, 29 * 23 - 7 * 11 - 12 * 12]
    assert checked.summary.unlabelled == 2 * 23
    assert Image.open(io.BytesIO(checked.tile)).format == "JPEG"
    assert SampleCheck(opened)(1).tile is None


def test_maps_and_masks_are_summed_alike():
    id_map = torch.tensor([[0, 7, 7, 3], [9, 7, 3, 3], [9, 0, 0, 0]])
    ids = torch.tensor([7, 3, 9, 5])
    image = np.zeros((3, 4, 3), np.uint8)
    crowd = torch.tensor([False, True, False, False])
    for form in ({"id_map": id_map, "segment_ids": ids}, {"masks": id_map == ids[:, None, None]}):
        target = SegmentationTarget(labels=torch.tensor([2, 0, 2, 1]), is_crowd=crowd, **form)
        summary = summarize(Sample(image, 1, "a.jpg", target=target))
        assert summary.size == (3, 4)
        assert (summary.labels, summary.areas) == ([2, 0, 2, 1], [3, 3, 2, 0])
        assert summary.is_crowd == [False, True, False, False]
        assert summary.unlabelled == 4


def test_images_are_checked_without_a_reader(tmp_path):
    coco_instance(tmp_path)
    (tmp_path / "annotations/instances_train.json").write_text("{")
    for name, content in (("b", b""), ("c", (tmp_path / "train/c.jpg").read_bytes()[:500])):
        (tmp_path / f"train/{name}.jpg").write_bytes(content)
    opened = open_part(Part(DataRecipe(root=str(tmp_path), format="coco_instance"), "train"), CollectedProblems())
    assert opened.samples is None
    kinds = [[finding.kind for finding in SampleCheck(opened)(index).findings] for index in range(4)]
    assert kinds == [[], ["empty-file"], ["truncated-image"], []]


class Rows(AnnotatedImages):
    """A data set without files."""

    def __init__(self, error):
        super().__init__([Category(1, "cow", True, (0, 0, 0))])
        self.error = error

    def __len__(self):
        return 1

    def __getitem__(self, index):
        if self.error is not None:
            raise self.error
        target = SegmentationTarget(labels=torch.tensor([0]), masks=torch.ones(1, 5, 7))
        return Sample(np.zeros((5, 7, 3), np.uint8), index, "row", target=target)


def test_data_sets_without_files_are_opened_by_their_reader_alone():
    part = Part(DataRecipe(root="user/name", format="hugging_face"), "val")
    for error, kinds in (
        (None, []),
        (ValueError("row 0 is broken"), ["unreadable-sample"]),
        (ZeroDivisionError("why not"), ["unexpected-exception"]),
    ):
        checked = SampleCheck(OpenedPart(part, Rows(error)), {0})(0)
        assert [finding.kind for finding in checked.findings] == kinds
        assert all(finding.file == "user/name: val[0]" for finding in checked.findings)
        assert (checked.summary is None) == (error is not None)
