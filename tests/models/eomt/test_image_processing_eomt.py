# SPDX-License-Identifier: Apache-2.0
"""What is EoMT's own of its image processor, beside transformers'; the rest is in `test_image_processing.py`."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import EomtImageProcessorPil

from unisegment.models.eomt.image_processing_eomt import UniSegmentEomtImageProcessor
from unisegment.postprocessing import panoptic_predictions
from unisegment.structures import Sample, SegmentationTarget

SIZES = [(100, 150), (150, 100), (50, 180), (64, 64)]
"""transformers rounds long sides down, we to the nearest: of these both make the same."""
PADDED = {"do_pad": True, "size": {"shortest_edge": 64, "longest_edge": 64}}
SPLIT = {"do_split_image": True, "size": {"shortest_edge": 64, "longest_edge": None}}


def image_of(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


IMAGES = [image_of(*size, seed) for seed, size in enumerate(SIZES)]


def outputs_of(num_rows, labels=5, seed=0, **others):
    generator = torch.Generator().manual_seed(seed)
    return SimpleNamespace(
        class_queries_logits=5 * torch.randn(num_rows, 13, labels, generator=generator),
        masks_queries_logits=5 * torch.randn(num_rows, 13, 16, 16, generator=generator),
        **others,
    )


def both(**keywords):
    return UniSegmentEomtImageProcessor(**keywords), EomtImageProcessorPil(**keywords)


@pytest.mark.parametrize("keywords", [PADDED, SPLIT])
@pytest.mark.parametrize(
    "others",
    [
        {},
        {"do_normalize": False},
        {"resample": 3},
        {"do_rescale": False, "image_mean": [100.0, 110, 120], "image_std": [50.0, 60, 70]},
    ],
)
def test_the_pixels_are_those_of_transformers(keywords, others):
    ours, theirs = (one(IMAGES, return_tensors="pt") for one in both(**keywords, **others))
    assert ours.pixel_values.shape == theirs.pixel_values.shape
    torch.testing.assert_close(ours.pixel_values, theirs.pixel_values.float(), rtol=0, atol=1e-5)
    assert [place.tolist() for place in ours.get("patch_offsets", [])] == [
        place.tolist() for place in theirs.patch_offsets
    ]


def test_padding_is_black_and_not_part_of_the_image():
    inputs = UniSegmentEomtImageProcessor(**PADDED)(IMAGES)
    assert [mask.sum().item() for mask in inputs.pixel_mask] == [43 * 64, 64 * 43, 18 * 64, 64 * 64]
    black = UniSegmentEomtImageProcessor(do_resize=False)(np.zeros((16, 16, 3), np.uint8)).pixel_values[0, :, 0, 0]
    assert torch.equal(inputs.pixel_values[0, :, 43:].amax((1, 2)), black)
    assert torch.equal(inputs.pixel_values[0, :, 43:].amin((1, 2)), black)
    # So it is in training, where the crop's size is that of the canvas.
    target = SegmentationTarget(labels=[], masks=torch.zeros(0, 37, 40))
    batch = UniSegmentEomtImageProcessor(**PADDED).collate([Sample(image_of(37, 40), 0, "a.png", target=target)])
    assert batch["pixel_values"].shape == (1, 3, 48, 48)
    assert torch.equal(batch["pixel_values"][0, :, 37:].amax((1, 2)), black)


def test_a_canvas_is_as_large_as_the_size_says_and_larger_images_need():
    def canvas(**keywords):
        return tuple(UniSegmentEomtImageProcessor(**keywords)([IMAGES[0]]).pixel_values.shape[2:])

    assert canvas(size={"shortest_edge": 32, "longest_edge": 96}, do_pad=True) == (32, 96)
    assert canvas(size={"shortest_edge": 40, "longest_edge": 96}, do_pad=True) == (48, 96)
    assert canvas(size=40, do_pad=True) == (48, 64)
    assert canvas(size=(20, 30), do_pad=True) == (32, 32)
    assert canvas(size={"max_height": 50, "max_width": 30}, do_pad=True) == (64, 32)
    assert canvas(size={"shortest_edge": 32, "longest_edge": 32}) == (32, 32)
    assert canvas(size={"shortest_edge": 40, "longest_edge": 96}, pad_size=(90, 70)) == (96, 80)
    assert canvas(do_resize=False, do_pad=True, size=64) == (112, 160)


def test_targets_are_cut_with_their_images():
    maps = [
        np.random.default_rng(seed).integers(0, 4, size).repeat(2, 0).repeat(2, 1)
        for seed, size in ((0, (20, 35)), (1, (40, 16)))
    ]
    images = [image_of(*one.shape) for one in maps]
    keywords = {"do_split_image": True, "do_resize": False, "size": {"shortest_edge": 40}}
    ours, theirs = both(**keywords)
    targets = ours([images[0]], segmentation_maps=[maps[0]])
    stock = theirs([images[0]], [maps[0]], return_tensors="pt")
    assert len(targets.mask_labels) == len(stock.mask_labels) == 2
    for mine, other, labels, others in zip(
        targets.mask_labels, stock.mask_labels, targets.class_labels, stock.class_labels, strict=True
    ):
        assert torch.equal(mine[:, :40, :40].float(), other)
        assert torch.equal(labels, others)
    with_ignored = UniSegmentEomtImageProcessor(**keywords, ignore_index=255)([images[0]], segmentation_maps=[maps[0]])
    stock = EomtImageProcessorPil(**keywords, ignore_index=255)([images[0]], [maps[0]], return_tensors="pt")
    for mine, other, labels, others in zip(
        with_ignored.mask_labels, stock.mask_labels, with_ignored.class_labels, stock.class_labels, strict=True
    ):
        assert labels.tolist() == others.tolist() == [0, 1, 2]
        assert torch.equal(mine[:, :40, :40].float(), other)


@pytest.mark.parametrize("max_elements", [None, 1, 9001])
def test_semantic_results_of_windows_are_those_of_transformers(max_elements):
    ours, theirs = both(**SPLIT)
    offsets = ours(IMAGES).patch_offsets
    outputs = outputs_of(len(offsets), patch_offsets=offsets)
    expected = theirs.post_process_semantic_segmentation(outputs, SIZES, return_segmentation_scores=True)
    found = ours.post_process_semantic_segmentation(outputs, SIZES, True, max_elements)
    assert len(found) == len(SIZES)
    for mine, other in zip(found, expected, strict=True):
        torch.testing.assert_close(mine.segmentation_scores, other["segmentation_scores"], rtol=0, atol=1e-5)
        assert (mine.segmentation == other["segmentation"]).float().mean() > 0.9999
    # Sizes may be the images, a table, or on their way from an accelerator.
    for sizes in (IMAGES, torch.tensor(SIZES), np.array(SIZES)):
        for mine, other in zip(ours.post_process_semantic_segmentation(outputs, sizes), found, strict=True):
            assert torch.equal(mine.segmentation, other.segmentation)
    rows = ours.semantic_scores(outputs, 4, SIZES[2], slice(7, 20))
    torch.testing.assert_close(rows, found[2].segmentation_scores[:, 7:20], rtol=0, atol=1e-6)
    assert ours.semantic_row_elements(outputs, SIZES[0]) > 13 * 64


def test_windows_of_images_that_are_not_resized():
    processor = UniSegmentEomtImageProcessor(do_split_image=True, do_resize=False)
    inputs = processor([image_of(40, 100), image_of(64, 64)])
    assert [place.tolist() for place in inputs.patch_offsets] == [[0, 0, 40], [0, 30, 70], [0, 60, 100], [1, 0, 64]]
    assert inputs.pixel_values.shape == (4, 3, 64, 64)
    found = processor.post_process_semantic_segmentation(outputs_of(4), [(40, 100), (64, 64)])
    assert [one.shape for one in found] == [(40, 100), (64, 64)]


def test_what_windows_cannot_give():
    processor = UniSegmentEomtImageProcessor(**SPLIT)
    for task in ("instance", "panoptic"):
        with pytest.raises(ValueError, match=rf"for {task} ones .* do_split_image=False and do_pad=True"):
            getattr(processor, f"post_process_{task}_segmentation")(outputs_of(1), target_sizes=[(64, 64)])
        assert UniSegmentEomtImageProcessor().why_not(task) is None
    with pytest.raises(ValueError, match="give target_sizes"):
        processor.post_process_semantic_segmentation(outputs_of(2))
    with pytest.raises(ValueError, match=r"There are 3 windows, but images of target_sizes \[\(64, 70\)\] have 2"):
        processor.post_process_semantic_segmentation(outputs_of(3), [(64, 70)])
    with pytest.raises(ValueError, match=r"There are 3 windows, but images of target_sizes \[\] have 0"):
        processor.post_process_semantic_segmentation(outputs_of(3), [])


@pytest.mark.parametrize("with_image_sizes", [True, False])
def test_whole_images_are_cropped_before_they_are_resized(with_image_sizes):
    """The output of transformers' model does not say where the padding begins: the sizes of the results do."""
    processor = UniSegmentEomtImageProcessor(**PADDED, stuff_label_ids=[1])
    image_sizes = torch.tensor([[43, 64], [64, 43], [18, 64], [64, 64]])
    outputs = outputs_of(4, **({"image_sizes": image_sizes} if with_image_sizes else {}))
    logits = outputs.class_queries_logits, outputs.masks_queries_logits
    expected = panoptic_predictions(*logits, image_sizes, SIZES, label_ids_to_fuse=[1], threshold=0.2)
    found = processor.post_process_panoptic_segmentation(outputs, threshold=0.2, target_sizes=SIZES)
    for mine, other in zip(found, expected, strict=True):
        assert torch.equal(mine.segmentation, other.segmentation)
    for found in (
        processor.post_process_semantic_segmentation(outputs, SIZES),
        processor.post_process_instance_segmentation(outputs, target_sizes=SIZES),
    ):
        assert [tuple(one.segmentation.shape) for one in found] == SIZES


def test_panoptic_results_are_those_of_transformers():
    """Masks of squares without blends, so that no pixel lies on a threshold; and no share of a mask at its own."""
    ours, theirs = both(**PADDED)
    blocks = torch.randint(0, 2, (1, 13, 4, 4), generator=torch.Generator().manual_seed(3)).float() * 16 - 8
    outputs = outputs_of(1)
    outputs.masks_queries_logits = blocks.repeat_interleave(4, 2).repeat_interleave(4, 3)
    (mine,) = ours.post_process_panoptic_segmentation(
        outputs, 0.3, overlap_mask_area_threshold=0.05, label_ids_to_fuse=[0, 2], target_sizes=[(64, 48)]
    )
    (other,) = theirs.post_process_panoptic_segmentation(
        outputs, [(64, 48)], 0.3, overlap_mask_area_threshold=0.05, stuff_classes=[0, 2]
    )
    assert len(mine.segments_info) == len(other["segments_info"]) > 3
    assert torch.equal(mine.segmentation, other["segmentation"].int() + 1)
    for info, stock in zip(mine.segments_info, other["segments_info"], strict=True):
        assert (info["id"], info["label_id"]) == (stock["id"] + 1, stock["label_id"])
        assert info["score"] == pytest.approx(stock["score"], abs=1e-6)


SETTINGS = {
    "do_resize": False, "size": {"shortest_edge": 32}, "size_divisor": 24, "resample": 3, "do_rescale": False,
    "rescale_factor": 0.5, "do_normalize": False, "image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6],
    "ignore_index": 254, "do_reduce_labels": True, "num_labels": 7, "pad_size": {"height": 64, "width": 128},
    "range": [47, 1027.5], "stuff_label_ids": [1, 3], "id2label": {0: "cat", 1: "sky", 2: "dog", 3: "sea"},
    "do_split_image": True, "do_pad": True, "mask_stride": 8,
}  # fmt: skip


@pytest.mark.parametrize("format", ["unisegment", "transformers"])
def test_files(tmp_path, format):
    processor = UniSegmentEomtImageProcessor(**SETTINGS)
    assert processor.keywords() == list(SETTINGS)
    processor.save_pretrained(tmp_path, format=format)
    assert UniSegmentEomtImageProcessor.from_pretrained(tmp_path).settings() == SETTINGS
    written = json.loads((tmp_path / "preprocessor_config.json").read_text())["image_processor_type"]
    assert written == {"unisegment": "UniSegmentEomtImageProcessor", "transformers": "EomtImageProcessor"}[format]
    stock = EomtImageProcessorPil.from_pretrained(tmp_path)
    for name in ("do_resize", "do_rescale", "ignore_index", "do_split_image", "do_pad"):
        assert getattr(stock, name) == SETTINGS[name]
    assert stock.size.shortest_edge == 32


@pytest.mark.parametrize("keywords", [PADDED, SPLIT, {"ignore_index": 255}])
def test_files_of_transformers_prepare_the_same(tmp_path, keywords):
    stock = EomtImageProcessorPil(**({"do_resize": False} if "ignore_index" in keywords else keywords))
    stock.save_pretrained(tmp_path / "theirs")
    ours = UniSegmentEomtImageProcessor.from_pretrained(tmp_path / "theirs")
    ours.save_pretrained(tmp_path / "back", format="transformers")
    again = EomtImageProcessorPil.from_pretrained(tmp_path / "back")
    images = IMAGES if "size" in keywords else [image_of(48, 64)]
    pixels = [one(images, return_tensors="pt").pixel_values for one in (stock, ours, again)]
    assert torch.equal(pixels[0], pixels[2])
    torch.testing.assert_close(pixels[0], pixels[1], rtol=0, atol=1e-5)


def test_what_a_stock_file_cannot_say(tmp_path):
    with pytest.raises(ValueError, match="lowers all labels by one where ignore_index is set"):
        UniSegmentEomtImageProcessor(ignore_index=255, do_reduce_labels=False).save_pretrained(
            tmp_path, format="transformers"
        )
    UniSegmentEomtImageProcessor(do_reduce_labels=True).save_pretrained(tmp_path, format="transformers")
    assert EomtImageProcessorPil.from_pretrained(tmp_path).ignore_index == 255
    # transformers would make canvases as wide as a limit of the long side.
    limited = {"do_split_image": True, "size": {"shortest_edge": 64, "longest_edge": 2048}}
    UniSegmentEomtImageProcessor(**limited).save_pretrained(tmp_path, format="transformers")
    assert EomtImageProcessorPil.from_pretrained(tmp_path).size.longest_edge is None
