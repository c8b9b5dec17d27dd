# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import torch
from torch.utils.data._utils.pin_memory import pin_memory

from unisegment import SegmentationTarget

ID_MAP = torch.tensor([[0, 5, 5], [70_000, 70_000, 9]])


def test_both_forms_of_a_target_have_the_same_masks():
    by_ids = SegmentationTarget(labels=[2, 1], id_map=ID_MAP, segment_ids=[70_000, 5])
    by_masks = SegmentationTarget(labels=[2, 1], masks=torch.stack([ID_MAP == 70_000, ID_MAP == 5]))
    assert torch.equal(by_ids.binary_masks(), by_masks.binary_masks())
    assert by_ids.size == by_masks.size == (2, 3)
    assert len(by_ids) == 2
    assert by_ids.is_crowd.tolist() == [False, False]


def test_loaders_pin_all_of_a_target(monkeypatch):
    """Without, nobody could send it while the CPU goes on. Without a GPU there is no such memory."""
    pinned = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: pinned.append(tensor) or tensor.clone())
    target = SegmentationTarget(
        labels=[2, 1], id_map=ID_MAP[None], segment_ids=[70_000, 5], layers=[0, 0], is_crowd=[False, True]
    )
    (copied,) = pin_memory([target])
    assert {id(tensor) for tensor in pinned} == {id(value) for value in vars(target).values() if value is not None}
    assert copied is not target
    assert torch.equal(copied.binary_masks(), target.binary_masks())
    assert copied.is_crowd.tolist() == [False, True]


@pytest.mark.parametrize(
    "masks", [np.array([[[0, 255]]], dtype=np.uint8), torch.tensor([[[0.2, 0.9]]]), [[[False, True]]]]
)
def test_masks_of_any_type_become_bool(masks):
    target = SegmentationTarget(labels=[0], masks=masks)
    assert target.masks.tolist() == [[[False, True]]]


@pytest.mark.parametrize("form", ["ids", "masks"])
def test_select_keeps_segments_and_their_flags(form):
    shape = {"id_map": ID_MAP, "segment_ids": [70_000, 5, 9]}
    if form == "masks":
        shape = {"masks": torch.stack([i == ID_MAP for i in (70_000, 5, 9)])}
    target = SegmentationTarget(labels=[2, 1, 0], is_crowd=[False, True, False], **shape)
    kept = target.select(torch.tensor([True, True, False]))
    assert kept.labels.tolist() == [2, 1]
    assert kept.is_crowd.tolist() == [False, True]
    assert torch.equal(kept.binary_masks(), target.binary_masks()[:2])
    moved = kept.to("meta")
    assert moved.labels.device.type == moved.is_crowd.device.type == "meta"


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"labels": [1]}, "either `masks`, or `id_map` together with `segment_ids`"),
        ({"labels": [1], "id_map": ID_MAP}, "either `masks`, or `id_map` together"),
        ({"labels": [1], "id_map": ID_MAP, "segment_ids": [5], "masks": ID_MAP[None]}, "either `masks`"),
        ({"labels": [1, 2], "id_map": ID_MAP, "segment_ids": [5, 5]}, r"2 different numbers.*\[5, 5\]"),
        ({"labels": [1, 2], "id_map": ID_MAP, "segment_ids": [5]}, "2 different numbers"),
        ({"labels": [1], "id_map": ID_MAP[0], "segment_ids": [5]}, r"id_map must be \(height, width\)"),
        ({"labels": [1, 2], "masks": ID_MAP[None]}, r"n = 2 as in labels, got shape \(1, 2, 3\)"),
        ({"labels": [1], "masks": ID_MAP[None], "is_crowd": [True, False]}, "one value per segment"),
    ],
)
def test_targets_that_make_no_sense_are_named(keys, message):
    with pytest.raises(ValueError, match=message):
        SegmentationTarget(**keys)


def test_overlaps_are_told():
    masks = torch.zeros(3, 5, 7, dtype=torch.bool)
    masks[0, :2], masks[1, 2:4], masks[2, 4, 6] = True, True, True
    assert not SegmentationTarget(labels=torch.zeros(3), masks=masks).has_overlaps()
    masks[1, 4, 6] = True
    assert SegmentationTarget(labels=torch.zeros(3), masks=masks).has_overlaps()
    assert not SegmentationTarget(labels=torch.zeros(0), masks=masks[:0]).has_overlaps()
    id_map = torch.arange(35).view(5, 7)
    assert not SegmentationTarget(labels=[4], id_map=id_map, segment_ids=[8]).has_overlaps()
