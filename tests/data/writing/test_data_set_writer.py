# SPDX-License-Identifier: Apache-2.0
"""What a format can hold of categories and targets; the writers' own tests show the files."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.data.map_files import in_form
from tests.data.writing.scenes import CATEGORIES, mask_of, scenes, segments, target_of
from unisegment.data.writing.coco import CocoInstanceWriter, CocoPanopticWriter
from unisegment.data.writing.data_set_writer import LOST, without_overlaps
from unisegment.data.writing.yolo_segmentation import YoloSegmentationWriter
from unisegment.structures import SegmentationTarget


def test_labels_are_in_the_order_of_the_ids_that_are_written(tmp_path):
    assert [item.id for item in CocoPanopticWriter(tmp_path, CATEGORIES).categories] == [3, 7, 64, 300]
    target = scenes()[3]
    found, lost = CocoPanopticWriter(tmp_path, CATEGORIES).fitted(target)
    assert found.labels.tolist() == [0, 3, 1, 1]
    assert found.segment_ids.tolist() == target.segment_ids.tolist()
    assert lost == {}
    assert [item.id for item in YoloSegmentationWriter(tmp_path, CATEGORIES).categories] == [0, 1]


def test_what_a_format_lacks_is_counted(tmp_path):
    size = (3, 4)
    target = SegmentationTarget(
        labels=[2, 0, 0, 1], id_map=torch.tensor([[1, 1, 2, 4]] * 3), segment_ids=[1, 2, 3, 4], is_crowd=[0, 1, 0, 0]
    )
    found, lost = YoloSegmentationWriter(tmp_path, CATEGORIES).fitted(target)
    assert lost == {"stuff": 1, "crowds": 1, "unseen": 1}
    assert lost.keys() <= LOST.keys()
    assert segments(found, YoloSegmentationWriter(tmp_path, CATEGORIES).categories) == [
        ("zebra crossing", False, mask_of(size, (0, 3, 3, 4)).tobytes())
    ]
    assert CocoInstanceWriter(tmp_path, CATEGORIES).summary(found) == [[1, 0, 3]]


def test_without_objects_there_is_nothing_to_write(tmp_path):
    stuff = [replace(category, is_thing=False) for category in CATEGORIES]
    with pytest.raises(ValueError, match=r"nothing to write: all 4 categories are stuff.* --components 8"):
        CocoInstanceWriter(tmp_path, stuff)
    CocoPanopticWriter(tmp_path, stuff)


def test_categories_that_are_read_back_must_be_the_same(tmp_path):
    writer = CocoPanopticWriter(tmp_path, CATEGORIES)
    writer.check_categories(sorted(CATEGORIES, key=lambda item: item.id))
    for others in (CATEGORIES, writer.categories[1:], [replace(item, name="x") for item in writer.categories]):
        with pytest.raises(ValueError, match=r"categories that were written are \[\(3, 'sky', False\), .*read back"):
            writer.check_categories(others)


@pytest.mark.parametrize("form", ["layers", "masks", "id_map"])
def test_segments_that_do_not_overlap_stay_as_they_are(form):
    target = scenes()[3]
    found = without_overlaps(in_form(target, form))
    assert found.layers is None
    assert found.masks is None
    assert segments(found, CATEGORIES) == segments(target, CATEGORIES)


def test_of_equal_objects_the_later_one_is_on_top():
    size = (2, 6)
    left, right = mask_of(size, (0, 0, 2, 4)), mask_of(size, (0, 2, 2, 6))
    found = without_overlaps(target_of(size, (0, False, left), (1, False, right)))
    np.testing.assert_array_equal(found.binary_masks().numpy(), [left & ~right, right])
