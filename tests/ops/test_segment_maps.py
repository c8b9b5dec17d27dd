# SPDX-License-Identifier: Apache-2.0
import torch

from tests.data.map_files import in_form
from tests.pretended_device import DEVICE, Record
from unisegment.ops.segment_maps import join_targets
from unisegment.structures import SegmentationTarget

SIZE = (5, 7)
HOST = torch.device("cpu")


def target(count, dtype, first=1):
    """Return segments with numbers from `first`, of which the last may have no pixel."""
    ids = torch.arange(first, first + count)
    id_map = torch.randint(0, count + first, SIZE).to(dtype)
    return SegmentationTarget(labels=ids % 3, id_map=id_map, segment_ids=ids)


def mixed():
    """Return targets of every form and type, one of them without segments."""
    return [
        in_form(target(3, torch.int16), "masks"),
        target(2, torch.int32, first=70_000),
        target(0, torch.uint8),
        in_form(target(4, torch.uint8), "layers"),
    ]


def masks_of(maps):
    return maps.pixels[maps.planes] == maps.ids[:, None, None]


def test_any_mix_of_targets_keeps_its_masks_and_labels():
    targets = mixed()
    maps = join_targets(targets, HOST)
    assert maps.counts == [3, 2, 0, 4]
    assert maps.starts == [0, 3, 5, 5, 9]
    assert maps.pixels.dtype == torch.int32
    assert torch.equal(masks_of(maps), torch.cat([each.binary_masks() for each in targets]))
    assert torch.equal(maps.labels, torch.cat([each.labels for each in targets]))
    assert not maps.is_plain
    assert join_targets([target(1, torch.uint8), target(2, torch.int16)], HOST).is_plain


def test_a_single_target_is_not_copied_and_small_types_stay_small():
    one = target(3, torch.uint8)
    assert join_targets([one], HOST).pixels.data_ptr() == one.id_map.data_ptr()
    masks = in_form(one, "masks")
    assert join_targets([masks], HOST).pixels.data_ptr() == masks.masks.data_ptr()
    assert join_targets([one, target(2, torch.int16)], HOST).pixels.dtype == torch.int16


def test_as_many_places_for_each_image_as_one_of_them_has():
    maps = join_targets(mixed(), HOST)
    places = maps.of_images(slice(1, 4))
    assert places.shape == (3, 4)
    assert places[0, :2].tolist() == [3, 4]
    assert places[2].tolist() == [5, 6, 7, 8]
    assert 0 <= places.min() <= places.max() < 9
    assert join_targets([target(0, torch.uint8)] * 2, HOST).of_images(slice(0, 2)).shape == (2, 0)


def test_nobody_waits_for_what_is_sent_and_labels_may_be_elsewhere():
    targets = mixed()
    with Record() as record:
        maps = join_targets(targets, DEVICE)
        assert not record.synchronisations
        assert torch.equal(masks_of(maps).cpu(), torch.cat([each.binary_masks() for each in targets]))
        there = targets[0].to(DEVICE)
        there._set("labels", targets[0].labels)
        maps = join_targets([there, targets[1]], DEVICE)
        assert torch.equal(maps.labels.cpu(), torch.cat([each.labels for each in targets[:2]]))
