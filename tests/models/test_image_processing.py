# SPDX-License-Identifier: Apache-2.0
import base64

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import Mask2FormerImageProcessorPil

from unisegment.models.unisegment.image_processing_unisegment import UniSegmentImageProcessor
from unisegment.structures import Sample, SegmentationTarget

FIXED = {"height": 64, "width": 96}
NOT_STOCK = {"num_labels", "range", "stuff_label_ids", "id2label"}


def image_of(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def map_of(height, width, numbers, seed=0):
    """A map of blocks, in which every number has some pixels."""
    blocks = np.random.default_rng(seed).permutation(np.resize(numbers, 20)).reshape(4, 5)
    return blocks.repeat(-(-height // 4), 0).repeat(-(-width // 5), 1)[:height, :width]


def described(target_masks, labels):
    return [(label, mask.sum().item()) for mask, label in zip(target_masks, labels.tolist(), strict=True)]


class TestImages:
    @pytest.mark.parametrize(
        "keywords",
        [
            {},
            {"resample": 3},
            {"do_normalize": False},
            {"do_rescale": False, "image_mean": [100.0, 110, 120], "image_std": [50.0, 60, 70]},
            {"rescale_factor": 1 / 127.5, "image_mean": [1.0] * 3, "image_std": [1.0] * 3},
            {"do_rescale": False, "do_normalize": False},
            {"image_mean": 0.5, "image_std": 0.25},
        ],
    )
    def test_the_same_pixels_as_transformers_where_it_does_not_stretch(self, keywords):
        image = image_of(53, 71)
        expected = Mask2FormerImageProcessorPil(size=FIXED, **keywords)(image, return_tensors="pt")
        ours = UniSegmentImageProcessor(size=FIXED, **keywords)(image)
        torch.testing.assert_close(ours.pixel_values, expected.pixel_values.float(), rtol=0, atol=1e-4)
        assert ours.pixel_values.dtype == torch.float32
        assert torch.equal(ours.pixel_mask, expected.pixel_mask)

    def test_shares_of_255_that_are_not_rescaled(self):
        image = image_of(53, 71)
        processor = UniSegmentImageProcessor(size=FIXED)
        expected = processor(image).pixel_values
        assert torch.equal(processor(image / 255).pixel_values, expected)
        shares = processor(image / 255, do_rescale=False).pixel_values
        # One grey level, which is no longer rounded to.
        torch.testing.assert_close(shares, expected, rtol=0, atol=1 / 255 / 0.22)
        assert (shares - expected).abs().mean() > 1e-4
        stock = Mask2FormerImageProcessorPil(size=FIXED, do_rescale=False)((image / 255).astype(np.float32))
        # transformers rounds down to a level.
        torch.testing.assert_close(shares[0].numpy(), stock.pixel_values[0], rtol=0, atol=2 / 255 / 0.22)

    @pytest.mark.parametrize(
        "keywords",
        [
            {"do_normalize": False},
            {"image_mean": [0.5, 0.25, 0.125], "image_std": [0.5, 1.0, 2.0]},
        ],
    )
    def test_images_that_are_normalised_already_are_those_of_transformers(self, keywords):
        off = {"do_resize": False, "do_rescale": False}
        images = [(image_of(53, 71) / 255 - 0.45) / 0.225, (image_of(37, 61, 1) / 255 - 0.45) / 0.225]
        forms = [image.astype(np.float32).transpose(2, 0, 1) for image in images]
        segment_maps = [map_of(53, 71, [0, 1, 5]), map_of(37, 61, [2, 3])]
        maps = [entry.astype(np.uint8) for entry in segment_maps]
        stock = Mask2FormerImageProcessorPil(ignore_index=255, **off, **keywords)(forms, maps, return_tensors="pt")
        ours = UniSegmentImageProcessor(**off, **keywords)(forms, segment_maps)
        assert ours.pixel_values.shape == (2, 3, 64, 96)
        assert torch.equal(ours.pixel_values[..., :53, :71], stock.pixel_values)
        assert not ours.pixel_values[..., 53:, :].any()
        for mine, theirs, (height, width) in zip(
            ours.mask_labels, stock.mask_labels, [(53, 71), (37, 61)], strict=True
        ):
            assert torch.equal(mine[:, :height, :width].float(), theirs[:, :height, :width])

    def test_images_that_are_normalised_already_pass_unchanged(self):
        processor = UniSegmentImageProcessor(do_resize=False, do_rescale=False, do_normalize=False)
        image = np.random.default_rng(0).normal(0, 100, (53, 71, 3)).astype(np.float32)
        for form in (image, image.transpose(2, 0, 1), torch.from_numpy(image), image[None], image.astype(np.float64)):
            pixels = processor(form).pixel_values[0, :, :53, :71]
            assert np.array_equal(pixels.permute(1, 2, 0).numpy(), image)
        resized = processor(image, do_resize=True, size=(26, 35)).pixel_values[0, :, :26, :35]
        planes = [Image.fromarray(plane).resize((35, 26), 2) for plane in image.transpose(2, 0, 1)]
        assert np.array_equal(resized.numpy(), np.stack(planes))

    def test_four_channels_take_four_means(self):
        image = np.dstack([image_of(53, 71), image_of(53, 71, 1)[..., 0]])
        mean, std = [0.1, 0.2, 0.3, 0.4], [0.5, 0.6, 0.7, 0.8]
        stock = Mask2FormerImageProcessorPil(do_resize=False, image_mean=mean, image_std=std)
        expected = stock(image, return_tensors="pt", input_data_format="channels_last").pixel_values
        processor = UniSegmentImageProcessor(do_resize=False, image_mean=mean, image_std=std)
        for form in (image, torch.from_numpy(image), Image.fromarray(image)):
            pixels = processor(form).pixel_values[..., :53, :71]
            torch.testing.assert_close(pixels, expected.float(), rtol=0, atol=1e-5)
        # Every channel is resized like a grey image: the fourth is no transparency.
        resized = processor(image, do_resize=True, do_normalize=False, do_rescale=False, size=(32, 64)).pixel_values
        for channel, plane in zip(resized[0], image.transpose(2, 0, 1), strict=True):
            assert channel.tolist() == np.asarray(Image.fromarray(plane).resize((64, 32), 2)).tolist()
        with pytest.raises(ValueError, match="Image 0: The image has 4 channels, but is to have 1 or 3, as many as"):
            UniSegmentImageProcessor()(image)

    @pytest.mark.parametrize("value_range", [[47, 1027], "percentile"])
    def test_the_range_of_16_bits_is_saved(self, tmp_path, value_range):
        scan = np.random.default_rng(0).integers(47, 1028, (53, 71), dtype=np.uint16)
        UniSegmentImageProcessor(do_resize=False, do_normalize=False, range=value_range).save_pretrained(tmp_path)
        processor = UniSegmentImageProcessor.from_pretrained(tmp_path)
        assert processor.range == value_range
        Image.fromarray(scan).save(tmp_path / "scan.png")
        low, high = np.percentile(scan, [0.5, 99.5]) if value_range == "percentile" else value_range
        levels = np.rint((np.clip(scan, low, high) - low) / (high - low) * 255)
        for form in (scan, Image.fromarray(scan), str(tmp_path / "scan.png")):
            pixels = processor(form).pixel_values[0, :, :53, :71] * 255
            np.testing.assert_allclose(pixels.numpy(), np.stack([levels] * 3), atol=1e-3)

    @pytest.mark.parametrize("orientation", [3, 6, 8])
    def test_images_and_maps_are_turned_upright(self, orientation):
        stored = Image.fromarray(image_of(53, 71))
        stored.getexif()[0x0112] = orientation
        segment_map = Image.fromarray(map_of(53, 71, [0, 1, 2]).astype(np.uint8))
        segment_map.getexif()[0x0112] = orientation
        turns = {3: 2, 6: 3, 8: 1}[orientation]
        upright_map = np.rot90(np.asarray(segment_map), turns)
        processor = UniSegmentImageProcessor(do_resize=False)
        expected = processor(np.rot90(image_of(53, 71), turns), upright_map)
        for one_map in (segment_map, upright_map):
            ours = processor(stored, one_map)
            assert torch.equal(ours.pixel_values, expected.pixel_values)
            assert torch.equal(ours.mask_labels[0], expected.mask_labels[0])

    def test_canvas(self):
        processor = UniSegmentImageProcessor(size={"shortest_edge": 37, "longest_edge": 61}, size_divisor=16)
        images = [image_of(74, 86), image_of(200, 100)]
        batch = processor(images)
        # 37x43 keeps the proportions of 74x86; 200x100 would give 74x37, so its long side is cut to 61.
        assert batch.pixel_values.shape == (2, 3, 64, 48)
        assert batch.pixel_mask.dtype == torch.int64
        assert [mask.sum(dim).amax().item() for mask in batch.pixel_mask for dim in (0, 1)] == [37, 43, 61, 31]
        assert not batch.pixel_values[0, :, 37:].any()
        assert not batch.pixel_values[0, :, :, 43:].any()
        (alone,) = processor(images[0]).pixel_values
        assert alone.shape == (3, 48, 48)
        assert torch.equal(batch.pixel_values[0, :, :37, :43], alone[:, :37, :43])

    def test_fixed_canvas(self):
        processor = UniSegmentImageProcessor(do_resize=False, pad_size={"height": 60, "width": 97})
        assert processor(image_of(53, 71)).pixel_values.shape == (1, 3, 64, 128)
        with pytest.raises(ValueError, match="65x71"):
            processor(image_of(65, 71))

    def test_forms_of_images(self):
        image = image_of(37, 53)
        processor = UniSegmentImageProcessor(do_resize=False)
        expected = processor(image).pixel_values
        assert expected.shape == (1, 3, 64, 64)
        for form in (
            Image.fromarray(image),
            torch.from_numpy(image).permute(2, 0, 1),
            [image.transpose(2, 0, 1)],
            (image,),
            image[None],
            torch.from_numpy(image).permute(2, 0, 1)[None] / 255,
        ):
            torch.testing.assert_close(processor(form).pixel_values, expected)

    def test_addresses(self, tmp_path):
        Image.fromarray(image_of(37, 53)).save(tmp_path / "image.png")
        processor = UniSegmentImageProcessor(do_resize=False)
        expected = processor(image_of(37, 53)).pixel_values
        encoded = base64.b64encode((tmp_path / "image.png").read_bytes()).decode()
        for address in (tmp_path / "image.png", str(tmp_path / "image.png"), [str(tmp_path / "image.png")], encoded):
            assert torch.equal(processor(address).pixel_values, expected)

    def test_place_of_channels(self):
        image = image_of(3, 53)
        processor = UniSegmentImageProcessor(do_resize=False)
        assert processor(image, input_data_format="channels_last").pixel_mask.sum() == 3 * 53

    def test_forms_of_results(self):
        processor = UniSegmentImageProcessor(do_resize=False)
        segment_map = map_of(37, 53, [0, 1])
        as_tensors = processor(image_of(37, 53), segment_map)
        as_arrays = processor(image_of(37, 53), segment_map, return_tensors="np")
        as_lists = processor(image_of(37, 53), segment_map, return_tensors=None)
        for key in ("pixel_values", "pixel_mask"):
            assert isinstance(as_tensors[key], torch.Tensor)
            assert np.array_equal(as_arrays[key], as_tensors[key].numpy())
            assert isinstance(as_lists[key], list)
            assert np.array_equal(as_lists[key][0], as_tensors[key][0].numpy())
        for key in ("mask_labels", "class_labels"):
            for other in (as_arrays, as_lists):
                assert isinstance(other[key][0], np.ndarray)
                assert np.array_equal(other[key][0], as_tensors[key][0].numpy())
        with pytest.raises(ValueError, match="tf is not a valid TensorType"):
            processor(image_of(37, 53), return_tensors="tf")

    def test_errors_say_which_image(self):
        processor = UniSegmentImageProcessor()
        with pytest.raises(ValueError, match="Image 1: The image is empty"):
            processor([image_of(5, 7), np.zeros((0, 7, 3), np.uint8)])
        with pytest.raises(ValueError, match="images is empty"):
            processor([])


class TestSegmentationMaps:
    @pytest.mark.parametrize(
        ("numbers", "keywords", "label_of_id"),
        [
            ([0, 1, 5, 7], {}, None),
            ([0, 1, 5, 255], {"ignore_index": 255}, None),
            ([0, 1, 5, 7], {"ignore_index": 0}, None),
            ([0, 1, 5, 7], {"ignore_index": 255, "do_reduce_labels": True}, None),
            ([9, 1, 5, 7], {}, {9: 3, 1: 3, 5: 0, 7: 2}),
            ([9, 1, 5, 255], {"ignore_index": 255}, {9: 3, 1: 3, 5: 0}),
            ([0, 1, 5, 7], {"ignore_index": 255, "do_reduce_labels": True}, {1: 3, 5: 1, 7: 3}),
            ([255], {"ignore_index": 255}, None),
        ],
    )
    def test_the_same_masks_as_transformers(self, numbers, keywords, label_of_id):
        images, maps = [image_of(53, 71), image_of(37, 47)], [map_of(53, 71, numbers), map_of(37, 47, numbers, 1)]
        stock = Mask2FormerImageProcessorPil(size=FIXED, **keywords)
        expected = stock(images, [entry.astype(np.uint8) for entry in maps], label_of_id, return_tensors="pt")
        for labels in (label_of_id, [label_of_id] * 2):
            ours = UniSegmentImageProcessor(size=FIXED, **keywords)(images, maps, labels)
            for key in ("mask_labels", "class_labels"):
                assert len(ours[key]) == 2
                for mine, theirs in zip(ours[key], expected[key], strict=True):
                    assert mine.dtype == (torch.bool if key == "mask_labels" else torch.int64)
                    assert torch.equal(mine.to(theirs.dtype), theirs)

    def test_masks_of_images_of_different_size_are_false_on_padding(self):
        images = [image_of(37, 53), image_of(61, 41)]
        maps = [map_of(37, 53, [1, 2, 300]), map_of(61, 41, [300, 4])]
        batch = UniSegmentImageProcessor(do_resize=False, ignore_index=255)(images, maps, {1: 0, 2: 1, 300: 1, 4: 2})
        for masks, labels, segment_map in zip(batch.mask_labels, batch.class_labels, maps, strict=True):
            assert masks.shape == (len(labels), 64, 64)
            height, width = segment_map.shape
            assert masks[:, :height, :width].sum() == height * width == masks.sum()
            for mask, number in zip(masks, np.unique(segment_map), strict=True):
                assert torch.equal(mask[:height, :width], torch.from_numpy(segment_map == number))
        assert [labels.tolist() for labels in batch.class_labels] == [[0, 1, 1], [2, 1]]

    def test_numbers_that_vanish_are_left_out(self):
        segment_map = np.zeros((53, 71), np.uint8)
        segment_map[0, 0] = 3
        batch = UniSegmentImageProcessor(size=(13, 17))(image_of(53, 71), segment_map)
        assert described(batch.mask_labels[0], batch.class_labels[0]) == [(0, 13 * 17)]

    def test_forms_of_maps(self):
        images, segment_map = [image_of(37, 53), image_of(37, 53, 1)], map_of(37, 53, [0, 1, 2])
        processor = UniSegmentImageProcessor(do_resize=False)
        expected = processor(images[0], segment_map)
        for form in (segment_map, segment_map[None], [segment_map], Image.fromarray(segment_map.astype(np.uint8))):
            assert torch.equal(processor(images[0], form).mask_labels[0], expected.mask_labels[0])
        batch = processor(np.stack(images), np.stack([segment_map] * 2))
        assert torch.equal(batch.mask_labels[1], expected.mask_labels[0])

    def test_errors(self):
        image, segment_map = image_of(37, 53), map_of(37, 53, [0, 5])
        processor = UniSegmentImageProcessor(num_labels=5)
        with pytest.raises(ValueError, match="segmentation_maps must have one entry for each of the 2 images, got 1"):
            processor([image, image], [segment_map])
        with pytest.raises(ValueError, match="instance_id_to_semantic_id must have one entry for each of the 1 images"):
            processor(image, segment_map, [{0: 1, 5: 1}] * 2)
        with pytest.raises(ValueError, match=r"Image 0: .*labels \[5\], but labels are from 0 to 4"):
            processor(image, segment_map)
        with pytest.raises(ValueError, match=r"Image 1: instance_id_to_semantic_id has no label for the numbers \[5\]"):
            processor([image, image], [segment_map] * 2, [{0: 1, 5: 1}, {0: 1}])
        with pytest.raises(ValueError, match=r"Image 1: the image is 37x53 .* annotation is 53x37"):
            processor([image, image], [segment_map % 5, segment_map.T % 5])
        with pytest.raises(ValueError, match="Image 0: A segmentation map must be"):
            processor(image, image)


class TestSegmentationTargets:
    def target(self, height, width):
        masks = torch.zeros(3, height, width, dtype=torch.bool)
        masks[0, 3:20, 5:30] = True
        masks[1, 10:25, 17:31] = True
        masks[2, -1, -1] = True
        return SegmentationTarget(labels=torch.tensor([4, 2, 2]), masks=masks)

    def test_order_and_overlap_are_kept(self):
        images, targets = [image_of(37, 53), image_of(61, 41)], [self.target(37, 53), self.target(61, 41)]
        batch = UniSegmentImageProcessor(do_resize=False)(images, segmentation_targets=targets)
        for masks, labels, target in zip(batch.mask_labels, batch.class_labels, targets, strict=True):
            height, width = target.size
            assert masks.shape == (3, 64, 64)
            assert masks.dtype == torch.bool
            assert torch.equal(masks[:, :height, :width], target.masks)
            assert masks.sum() == target.masks.sum()
            assert labels.tolist() == [4, 2, 2]

    def test_masks_are_resized_with_the_image_and_empty_ones_keep_their_place(self):
        batch = UniSegmentImageProcessor(size=(37, 53))(image_of(74, 106), segmentation_targets=self.target(74, 106))
        assert batch.pixel_mask.sum() == 37 * 53
        assert batch.class_labels[0].tolist() == [4, 2, 2]
        # Of two old pixels, a new one takes the second.
        assert torch.equal(batch.mask_labels[0][:, :37, :53], self.target(74, 106).masks[:, 1::2, 1::2])
        batch = UniSegmentImageProcessor(size=(13, 17))(image_of(74, 106), segmentation_targets=self.target(74, 106))
        assert batch.mask_labels[0][2].sum() == 0
        assert batch.class_labels[0].tolist() == [4, 2, 2]

    def test_crowds_are_left_out(self):
        target = SegmentationTarget(
            labels=torch.tensor([1, 99]),
            id_map=torch.from_numpy(map_of(37, 53, [1, 2])),
            segment_ids=torch.tensor([1, 2]),
            is_crowd=torch.tensor([False, True]),
        )
        batch = UniSegmentImageProcessor(do_resize=False, num_labels=5)(image_of(37, 53), segmentation_targets=[target])
        assert batch.class_labels[0].tolist() == [1]
        assert torch.equal(batch.mask_labels[0][:, :37, :53], target.id_map[None] == 1)

    def test_errors(self):
        image, target = image_of(37, 53), self.target(37, 53)
        processor = UniSegmentImageProcessor(num_labels=4)
        with pytest.raises(ValueError, match="not both"):
            processor(image, map_of(37, 53, [1]), segmentation_targets=target)
        with pytest.raises(
            ValueError, match="segmentation_targets must have one entry for each of the 1 images, got 2"
        ):
            processor(image, segmentation_targets=[target, target])
        with pytest.raises(ValueError, match=r"Image 0: .*labels \[4\]"):
            processor(image, segmentation_targets=target)
        with pytest.raises(ValueError, match=r"Image 0: the image is 37x53"):
            processor(image, segmentation_targets=self.target(53, 37), num_labels=None)


class TestKeywords:
    def test_defaults_are_those_of_transformers(self):
        ours, stock = UniSegmentImageProcessor(), Mask2FormerImageProcessorPil()
        assert ours.size == dict(stock.size)
        assert (ours.image_mean, ours.image_std) == (list(stock.image_mean), list(stock.image_std))
        for name in set(ours.keywords()) - {"size", "image_mean", "image_std", *NOT_STOCK}:
            assert getattr(ours, name) == getattr(stock, name)

    @pytest.mark.parametrize(
        ("size", "stock", "expected"),
        [
            (None, {}, {"shortest_edge": 800, "longest_edge": 1333}),
            (None, {"max_size": 999}, {"shortest_edge": 800, "longest_edge": 999}),
            (640, {"max_size": 2560}, {"shortest_edge": 640, "longest_edge": 2560}),
            ({"shortest_edge": 512}, {"max_size": 2048}, {"shortest_edge": 512, "longest_edge": 2048}),
            ({"shortest_edge": 51, "longest_edge": 70}, {"max_size": 2048}, {"shortest_edge": 51, "longest_edge": 70}),
            ({"shortest_edge": 51, "longest_edge": 70, "height": None}, {}, {"shortest_edge": 51, "longest_edge": 70}),
            ((37, 53), {}, {"height": 37, "width": 53}),
            ({"height": 384, "width": 384}, {"max_size": 1333}, {"height": 384, "width": 384}),
            ({"max_height": 37, "max_width": 53}, {}, {"max_height": 37, "max_width": 53}),
        ],
    )
    def test_sizes(self, size, stock, expected):
        assert UniSegmentImageProcessor(size=size, **stock).size == expected

    @pytest.mark.parametrize(
        "size", [{"height": 5}, {"longest_edge": 5}, (5, 7, 9), {"height": 0, "width": 5}, 0, {"width": 5, "depth": 3}]
    )
    def test_sizes_that_make_no_sense(self, size):
        with pytest.raises(ValueError, match=r"A size must be|expected a whole number from 1"):
            UniSegmentImageProcessor(size=size)

    @pytest.mark.parametrize(
        ("keyword", "value"),
        [
            ("size_divisor", 33),
            ("size_divisor", -4),
            ("image_mean", [0.5]),
            ("image_std", [0.5, 0.5, 0.0]),
            ("rescale_factor", 0.0),
            ("resample", 17),
            ("pad_size", {"shortest_edge": 5, "longest_edge": 7}),
            ("range", "all"),
            ("range", [9, 3]),
            ("range", None),
        ],
    )
    def test_values_that_make_no_sense(self, keyword, value):
        with pytest.raises(ValueError, match=r"must (be|have)|expected"):
            UniSegmentImageProcessor(**{keyword: value})

    @pytest.mark.parametrize(
        ("typo", "nearest"), [("do_resise", "do_resize"), ("sizes", "size"), ("stuff_ids", "stuff_label_ids")]
    )
    def test_an_unknown_keyword_names_the_nearest(self, typo, nearest):
        with pytest.raises(TypeError, match=f"'{typo}' is not a keyword .* '{nearest}'"):
            UniSegmentImageProcessor(**{typo: 1})
        with pytest.raises(TypeError, match=f"'{typo}' is not a keyword .* '{nearest}'"):
            UniSegmentImageProcessor()(image_of(5, 7), **{typo: 1})

    def test_old_names(self):
        processor = UniSegmentImageProcessor(reduce_labels=True, size_divisibility=64, _max_size=1333)
        assert (processor.do_reduce_labels, processor.size_divisor) == (True, 64)
        assert UniSegmentImageProcessor(size_divisibility=0).size_divisor == 32

    def test_a_call_does_not_change_the_processor(self):
        processor = UniSegmentImageProcessor(size=(37, 53), stuff_label_ids=[3, 1])
        before = processor.settings()
        batch = processor(image_of(37, 53), size=(64, 96), do_normalize=False)
        assert batch.pixel_values.shape == (1, 3, 64, 96)
        assert batch.pixel_values.amin() >= 0
        assert processor.settings() == before
        assert processor.stuff_label_ids == [1, 3]


def test_a_training_batch_is_what_a_call_makes_of_equal_images():
    processor = UniSegmentImageProcessor(do_resize=False, image_mean=[0.1, 0.2, 0.3], size_divisor=64)
    samples = []
    for height, width in ((53, 71), (37, 67)):
        masks = torch.stack([torch.ones(height, width), torch.zeros(height, width)]).bool()
        target = SegmentationTarget(labels=[1, 0], masks=masks, is_crowd=[False, True])
        samples.append(Sample(image_of(height, width), 0, "a.png", target=target))
    called = processor([sample.image for sample in samples], segmentation_targets=[one.target for one in samples])
    batch = processor.collate(samples)
    assert torch.equal(batch["pixel_values"], called.pixel_values)
    assert torch.equal(batch["pixel_mask"], called.pixel_mask.to(torch.int8))
    for target, masks, labels, other in zip(
        batch["mask_labels"], called.mask_labels, batch["class_labels"], called.class_labels, strict=True
    ):
        assert torch.equal(target.binary_masks(), masks)
        assert labels.tolist() == other.tolist() == [1]


class Halves(UniSegmentImageProcessor):
    """The model sees the left and the right half of an image, on grey."""

    padding = (1.0, 2.0, 3.0)

    def windows(self, size):
        return [(slice(size[0]), slice(0, size[1] // 2)), (slice(size[0]), slice(size[1] // 2, size[1]))]

    def _places(self, windows):
        return {"places": [[part.start for _, part in own] for own in windows]}


def test_an_image_in_parts():
    images, maps = [image_of(53, 70), image_of(37, 60)], [map_of(53, 70, [0, 1, 5]), map_of(37, 60, [2])]
    whole = UniSegmentImageProcessor(do_resize=False)(images, segmentation_maps=maps)
    halves = Halves(do_resize=False)(images, segmentation_maps=maps)
    assert halves.pixel_values.shape == (4, 3, 64, 64)
    assert halves.places == [[0, 35], [0, 30]]
    for row, (image, height, columns) in enumerate(
        [(0, 53, slice(0, 35)), (0, 53, slice(35, 70)), (1, 37, slice(0, 30)), (1, 37, slice(30, 60))]
    ):
        width = columns.stop - columns.start
        pixels = halves.pixel_values[row]
        assert torch.equal(pixels[:, :height, :width], whole.pixel_values[image, :, :height, columns])
        assert torch.equal(pixels[:, height:].amax((1, 2)), torch.tensor(Halves.padding))
        assert torch.equal(pixels[:, :, width:].amin((1, 2)), torch.tensor(Halves.padding))
        assert halves.pixel_mask[row].sum() == height * width
        masks = whole.mask_labels[image][:, :height, columns]
        kept = masks.any((1, 2))
        assert torch.equal(halves.mask_labels[row][:, :height, :width], masks[kept])
        assert torch.equal(halves.class_labels[row], whole.class_labels[image][kept])
