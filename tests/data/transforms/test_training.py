# SPDX-License-Identifier: Apache-2.0
"""The order of the changes, and options that make no sense."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.data.transforms.drawn_samples import Scripted, draw_sample
from tests.data.transforms.scenes import STUFF, assert_segments, draw_scene, segments_of
from unisegment.data.transforms import cropping, resizing
from unisegment.data.transforms.copy_paste import choose_objects, copy_paste
from unisegment.data.transforms.mosaic import mosaic, quarters
from unisegment.data.transforms.training import OtherSamples, TrainTransform
from unisegment.structures import SegmentationTarget


def test_the_transform_flips_then_resizes_then_jitters():
    sample = draw_sample(53, 31)
    transform = TrainTransform(
        flip_prob=0.5, shortest_edge=37, longest_edge=61, jitter_size=(23, 19), jitter_scale=(0.5, 1.5)
    )
    changed = transform(sample, Scripted(0.4, 0.8, 0.3))
    expected = resizing.resize(cropping.flip(sample), (61, 36))
    expected = cropping.large_scale_jitter(expected, (23, 19), (0.5, 1.5), Scripted(0.8, 0.3))
    np.testing.assert_array_equal(changed.image, expected.image)
    assert torch.equal(changed.target.id_map, expected.target.id_map)


def test_without_options_only_half_of_the_samples_are_flipped():
    sample = draw_sample(5, 3)
    assert TrainTransform()(sample, Scripted(0.5)) is sample
    np.testing.assert_array_equal(TrainTransform()(sample, Scripted(0.49)).image, sample.image[:, ::-1])
    assert TrainTransform(flip_prob=0.0)(sample, Scripted(0.0)) is sample


def test_the_same_generator_state_gives_the_samedraw_sample():
    transform = TrainTransform(jitter_size=(23, 19))
    first, second = (transform(draw_sample(53, 31), np.random.default_rng(7)) for _ in range(2))
    np.testing.assert_array_equal(first.image, second.image)


def others(*seeds):
    """Return images of different sizes, one after the other."""
    left = [draw_scene(17 + 2 * seed, 29 - 2 * seed, seed, "id_map", name=f"{seed}.jpg") for seed in seeds]
    return OtherSamples(lambda: left.pop(0), STUFF)


ALONE = [
    {"jitter_size": (37, 41), "jitter_scale": (0.4, 2.0)},
    {"shortest_edge": (23, 43), "crop_size": (37, 41), "crop_category_max_area": 0.7, "ssd_color": True},
]


@pytest.mark.parametrize("options", ALONE, ids=["jitter", "crop"])
def test_objects_of_another_image_are_pasted_that_was_changed_in_the_same_way(options):
    sample, alone = draw_scene(23, 31, 9, "id_map"), TrainTransform(**options)
    transform = TrainTransform(**options, copy_paste_prob=0.6)
    for seed in range(8):
        generator = np.random.default_rng(seed)
        expected = alone(sample, generator)
        if generator.uniform() < 0.6:
            other = alone(others(5).draw(), generator)
            expected = copy_paste(expected, other, choose_objects(other.target, STUFF, generator))
        ours = np.random.default_rng(seed)
        changed = transform(sample, ours, others(5))
        np.testing.assert_array_equal(changed.image, expected.image)
        assert_segments(changed.target, segments_of(expected.target))
        assert ours.bit_generator.state == generator.bit_generator.state


@pytest.mark.parametrize("options", ALONE, ids=["jitter", "crop"])
def test_a_mosaic_is_of_four_images_each_cut_out_as_large_as_its_part(options):
    sample, alone = draw_scene(23, 31, 9, "id_map"), TrainTransform(**options)
    transform = TrainTransform(**options, mosaic_prob=0.5)
    for seed in range(8):
        generator = np.random.default_rng(seed)
        if generator.uniform() < 0.5:
            left = others(1, 2, 3)
            samples = [sample, *(left.draw() for _ in range(3))]
            parts = []
            for item, size in zip(samples, quarters((37, 41), generator), strict=True):
                if "crop_size" in options:
                    cut = TrainTransform(**options | {"crop_size": size}, pad_to_crop=True)(item, generator)
                else:
                    item = cropping.flip(item) if generator.uniform() < 0.5 else item
                    cut = cropping.large_scale_jitter(item, (37, 41), (0.4, 2.0), generator, window_size=size)
                assert cut.target.size == size
                parts.append(cut)
            expected = mosaic(parts, STUFF)
        else:
            expected = alone(sample, generator)
        changed = transform(sample, np.random.default_rng(seed), others(1, 2, 3))
        np.testing.assert_array_equal(changed.image, expected.image)
        assert_segments(changed.target, segments_of(expected.target))


def test_a_part_of_a_mosaic_keeps_the_scale_of_the_image():
    """Resized as for the whole, of which a window is cut out."""
    sample = draw_sample(53, 31)
    window = cropping.large_scale_jitter(sample, (23, 19), (1.0, 2.0), Scripted(1.0, 0.3), window_size=(11, 7))
    image = resizing.resize_image_fast(sample.image, (46, 27))
    # 0.3 times 46 - 11 = 35, and times 27 - 7 = 20.
    np.testing.assert_array_equal(window.image, image[10 : 10 + 11, 6 : 6 + 7])


def test_objects_are_pasted_over_mosaics_and_what_is_empty_is_dropped_at_the_end():
    sample = draw_scene(23, 31, 9, "id_map")
    transform = TrainTransform(jitter_size=(37, 41), drop_empty=True, mosaic_prob=1.0, copy_paste_prob=1.0)
    names = set()
    for seed in range(25):
        changed = transform(sample, np.random.default_rng(seed), others(1, 2, 3, 4))
        assert changed.target.size == changed.image.shape[:2] == (37, 41)
        assert all(mask.any() for *_, mask in segments_of(changed.target))
        names.add(changed.file_name)
    assert names == {"a.jpg + 1.jpg + 2.jpg + 3.jpg", "a.jpg + 1.jpg + 2.jpg + 3.jpg + 4.jpg"}


def test_without_mosaic_and_copy_paste_no_other_image_is_drawn():
    def refuse():
        raise AssertionError

    sample, generator, expected = draw_sample(53, 31), np.random.default_rng(0), np.random.default_rng(0)
    changed = TrainTransform(**ALONE[0])(sample, generator, OtherSamples(refuse))
    np.testing.assert_array_equal(changed.image, TrainTransform(**ALONE[0])(sample, expected).image)
    assert generator.bit_generator.state == expected.bit_generator.state
    with pytest.raises(ValueError, match="copy_paste_prob need other images"):
        TrainTransform(copy_paste_prob=0.1)(sample, generator)


def corner_sample():
    """Return an image whose only segment is its lower right corner."""
    id_map = torch.zeros(11, 13, dtype=torch.int32)
    id_map[-1, -1] = 9
    return replace(draw_sample(11, 13), target=SegmentationTarget(labels=[4], id_map=id_map, segment_ids=[9]))


def test_an_image_that_has_lost_all_its_segments_is_changed_anew():
    """Twice as large, of which the upper left quarter is seen, then the lower right one."""
    jitter = {"flip_prob": 0.0, "jitter_size": (11, 13), "jitter_scale": (2.0, 2.0)}
    numbers = (0.9, 0.0, 0.0), (0.9, 0.0, 1.0)  # flip, scale and place of each time
    generator = Scripted(*numbers[0], *numbers[1])
    changed = TrainTransform(**jitter, drop_empty=True, redraw_empty=True)(corner_sample(), generator)
    assert generator.numbers == []
    assert changed.target.binary_masks()[0].nonzero().tolist() == [[9, 11], [9, 12], [10, 11], [10, 12]]
    lost = TrainTransform(**jitter, drop_empty=True)(corner_sample(), Scripted(*numbers[0]))
    assert len(lost.target) == 0


def test_an_image_is_not_changed_for_ever():
    """Nor more than once, where there is nothing to be kept."""
    upper_left = TrainTransform(jitter_size=(3, 3), jitter_scale=(9.0, 9.0), redraw_empty=True)
    generator = Scripted(*[0.9, 0.0, 0.0] * 100)
    assert len(upper_left(corner_sample(), generator).target) == 1  # its label is kept, to be found nowhere
    assert generator.numbers == []
    nothing = replace(corner_sample(), target=corner_sample().target.select(torch.tensor([False])))
    upper_left(nothing, generator := Scripted(*[0.9, 0.0, 0.0] * 2))
    assert len(generator.numbers) == 3


@pytest.mark.parametrize(
    "options",
    [{"jitter_size": (61, 45), "jitter_scale": (0.5, 0.5)}, {"crop_size": (61, 45), "pad_to_crop": True}],
    ids=["jitter", "crop"],
)
def test_images_are_padded_with_the_grey_that_is_asked_for(options):
    sample = replace(draw_sample(23, 17), image=np.full((23, 17, 3), 200, dtype=np.uint8))
    for value in (0, 77):
        changed = TrainTransform(**options, pad_value=value)(sample, np.random.default_rng(0))
        height = int((changed.image[:, 0, 0] == 200).sum())
        assert 10 < height < 61
        assert (changed.image[height:] == value).all()
    assert TrainTransform().pad_value == 128


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"flip_prob": 1.5}, "flip_prob must be in"),
        ({"copy_paste_prob": -0.5}, r"copy_paste_prob must be in \[0, 1\], got -0.5"),
        ({"mosaic_prob": 2.0, "jitter_size": (8, 8)}, r"mosaic_prob must be in \[0, 1\], got 2.0"),
        ({"mosaic_prob": 0.5}, "set jitter_size or crop_size"),
        ({"mosaic_prob": 0.5, "crop_size": (1, 512)}, "of 2 pixels or more"),
        ({"longest_edge": 1333}, "set shortest_edge"),
        ({"shortest_edge": ()}, r"shortest_edge must be 1 to 16,384 pixels, got \(\)"),
        ({"shortest_edge": (512, 0)}, "shortest_edge must be 1 to 16,384 pixels"),
        ({"shortest_edge": 8, "longest_edge": 0}, "longest_edge must be 1 to 2,147,483,647 pixels"),
        ({"crop_size": (512, 0)}, "crop_size must be 1 to 16,384 pixels"),
        ({"jitter_size": (-1, 512)}, "jitter_size must be 1 to 16,384 pixels"),
        ({"crop_size": (512, 512), "crop_category_max_area": 0.0}, r"crop_category_max_area must be in \(0, 1\]"),
        ({"crop_category_max_area": 0.75}, "set crop_size"),
        ({"pad_to_crop": True}, "set crop_size"),
        ({"crop_size": (512, 512), "jitter_size": (512, 512)}, "leave out either"),
        ({"jitter_scale": (2.0, 0.1)}, "the smaller one first"),
        ({"jitter_scale": (0.0, 1.0)}, "above 0"),
        ({"jitter_scale": (0.1, 1e9)}, "up to 10"),
        ({"jitter_size": (2**20, 2**20)}, "jitter_size must be 1 to 16,384 pixels"),
        ({"pad_value": 256}, "pad_value must be 0 to 255, got 256"),
    ],
)
def test_senseless_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        TrainTransform(**options)
