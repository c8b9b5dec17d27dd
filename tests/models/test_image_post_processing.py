# SPDX-License-Identifier: Apache-2.0
"""Predictions of the processor are those of the functions, with names; forms and ids are transformers' own."""

import inspect
import logging
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_mask
from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, Mask2FormerImageProcessorPil, pipeline
from transformers.models.swin import SwinConfig

from unisegment.models import image_post_processing
from unisegment.models.unisegment.image_processing_unisegment import UniSegmentImageProcessor
from unisegment.postprocessing import instance_predictions, panoptic_predictions, semantic_predictions
from unisegment.structures import TASKS, SemanticPrediction
from unisegment.visualization import draw

NAMES = {0: "sky", 1: "cat", 2: "sea", 3: "dog"}


def without_names(segments_info):
    assert [info["label"] for info in segments_info] == [NAMES[info["label_id"]] for info in segments_info]
    return [{key: value for key, value in info.items() if key != "label"} for info in segments_info]


def outputs_of(batch_size=2, image_sizes=True):
    outputs = SimpleNamespace(
        class_queries_logits=torch.randn(batch_size, 13, 5) * 5,
        masks_queries_logits=torch.randn(batch_size, 13, 7, 11) * 5,
    )
    if image_sizes:
        outputs.image_sizes = torch.tensor([[28, 44], [19, 31]])[:batch_size]
    return outputs


SIZES = [(37, 53), (61, 41)]


@pytest.fixture
def processor():
    return UniSegmentImageProcessor(stuff_label_ids=[0, 2], id2label=NAMES)


@pytest.mark.parametrize("predict", [semantic_predictions, instance_predictions, panoptic_predictions])
def test_defaults_are_those_of_the_functions(predict):
    task = predict.__name__.removesuffix("_predictions")
    method = getattr(UniSegmentImageProcessor, f"post_process_{task}_segmentation")
    ours, theirs = inspect.signature(method).parameters, inspect.signature(predict).parameters
    shared = set(ours) & set(theirs) - {"label_ids_to_fuse"}
    assert {name: ours[name].default for name in shared} == {name: theirs[name].default for name in shared}
    assert len(shared) > 1


@pytest.mark.parametrize("task", ["semantic", "instance", "panoptic"])
def test_what_is_held_at_a_time_can_be_asked_for_and_changes_nothing(processor, task):
    outputs, predict = outputs_of(), getattr(processor, f"post_process_{task}_segmentation")
    whole, in_pieces = (predict(outputs, target_sizes=SIZES, max_elements=size) for size in (None, 1))
    for one, other in zip(whole, in_pieces, strict=True):
        assert torch.equal(one["segmentation"], other["segmentation"])
    with pytest.raises(ValueError, match="max_elements must be at least 1"):
        predict(outputs, max_elements=0)


@pytest.mark.parametrize("task", ["semantic", "instance", "panoptic"])
def test_sizes_are_those_of_the_images_upright(processor, task, tmp_path):
    outputs = outputs_of()
    predict = getattr(processor, f"post_process_{task}_segmentation")
    expected = predict(outputs, target_sizes=SIZES)
    pixels = [np.zeros((37, 53, 3), np.uint8), np.zeros((61, 41, 3), np.uint8)]
    turned = Image.fromarray(pixels[0].transpose(1, 0, 2))
    turned.getexif()[0x0112] = 6
    turned.save(tmp_path / "turned.png", exif=turned.getexif())
    for first in (turned, tmp_path / "turned.png", str(tmp_path / "turned.png"), pixels[0], torch.zeros(3, 37, 53)):
        for second in (Image.fromarray(pixels[1]), pixels[1][..., 0], SIZES[1]):
            for mine, other in zip(predict(outputs, target_sizes=[first, second]), expected, strict=True):
                assert torch.equal(mine["segmentation"], other["segmentation"])
    one, batch = outputs_of(batch_size=1), np.zeros((2, 37, 53, 3), np.uint8)
    assert predict(one, target_sizes=turned)[0]["segmentation"].shape == (37, 53)
    assert [result["segmentation"].shape for result in predict(outputs, target_sizes=batch)] == [(37, 53)] * 2
    assert predict(outputs, target_sizes=np.array(SIZES))[1]["segmentation"].shape == SIZES[1]


def test_a_photograph_that_is_turned_from_file_to_picture(tmp_path):
    """Perfect logits of the upright image give the upright map, which can be drawn on the photograph."""
    expected = torch.ones(96, 64, dtype=torch.int32)
    expected[:32, 16:] = 2
    photo = Image.fromarray(np.zeros((64, 96, 3), np.uint8))
    photo.getexif()[0x0112] = 6
    photo.save(tmp_path / "photo.jpg", exif=photo.getexif())
    processor = UniSegmentImageProcessor(do_resize=False, stuff_label_ids=[])
    with Image.open(tmp_path / "photo.jpg") as image:
        inputs = processor(image)
        coarse = expected[::4, ::4]
        outputs = SimpleNamespace(
            class_queries_logits=torch.tensor([[[9.0, 0, 0], [0, 9.0, 0]]]),
            masks_queries_logits=torch.stack([coarse == 1, coarse == 2])[None] * 20.0 - 10,
            image_sizes=torch.tensor([inputs.pixel_mask[0].shape]),
        )
        (result,) = processor.post_process_panoptic_segmentation(outputs, target_sizes=[image])
        assert result.segmentation.shape == expected.shape
        assert (result.segmentation == expected).float().mean() > 0.97
        assert draw(image, result, min_side=0).size == (64, 96)


@pytest.mark.parametrize("image_sizes", [True, False])
def test_semantic(processor, image_sizes):
    outputs = outputs_of(image_sizes=image_sizes)
    ours = processor.post_process_semantic_segmentation(outputs, SIZES, return_segmentation_scores=True)
    logits = outputs.class_queries_logits, outputs.masks_queries_logits, getattr(outputs, "image_sizes", None)
    for mine, expected in zip(ours, semantic_predictions(*logits, SIZES, return_segmentation_scores=True), strict=True):
        assert isinstance(mine, SemanticPrediction)
        assert torch.equal(mine.segmentation, expected.segmentation)
        assert without_names(mine["segments_info"]) == expected.segments_info
        assert mine.segmentation_scores.shape == (4, *mine.shape)
    (default, _) = processor.post_process_semantic_segmentation(outputs)
    assert default.segmentation_scores is None
    assert default.shape == (28, 44)


@pytest.mark.parametrize("image_sizes", [True, False])
def test_panoptic(processor, image_sizes):
    outputs = outputs_of(image_sizes=image_sizes)
    logits = outputs.class_queries_logits, outputs.masks_queries_logits, getattr(outputs, "image_sizes", None)
    chosen = {"threshold": 0.3, "mask_threshold": 0.4, "overlap_mask_area_threshold": 0.1}
    for keywords in ({}, chosen, chosen | {"label_ids_to_fuse": {1, 3}}, chosen | {"label_ids_to_fuse": set()}):
        ours = processor.post_process_panoptic_segmentation(outputs, target_sizes=SIZES, **keywords)
        expected = panoptic_predictions(*logits, SIZES, **({"label_ids_to_fuse": {0, 2}} | keywords))
        for mine, other in zip(ours, expected, strict=True):
            assert torch.equal(mine["segmentation"], other.segmentation)
            assert without_names(mine["segments_info"]) == other.segments_info


def test_what_is_stuff_is_unknown(caplog):
    image_post_processing._say_once.cache_clear()
    processor = UniSegmentImageProcessor()
    with caplog.at_level(logging.WARNING):
        things = processor.post_process_panoptic_segmentation(outputs_of(), target_sizes=SIZES)
        processor.post_process_panoptic_segmentation(outputs_of(), target_sizes=SIZES)
    assert [record.message for record in caplog.records] == [
        "It is not known which labels are stuff: set stuff_label_ids. All are taken for things."
    ]
    assert [prediction.segmentation.shape for prediction in things] == SIZES
    caplog.clear()
    image_post_processing._say_once.cache_clear()
    UniSegmentImageProcessor(stuff_label_ids=[]).post_process_panoptic_segmentation(outputs_of())
    processor.post_process_panoptic_segmentation(outputs_of(), label_ids_to_fuse=[])
    assert caplog.records == []


@pytest.mark.parametrize("image_sizes", [True, False])
def test_instance(processor, image_sizes):
    outputs = outputs_of(image_sizes=image_sizes)
    logits = outputs.class_queries_logits, outputs.masks_queries_logits, getattr(outputs, "image_sizes", None)
    chosen = {"threshold": 0.2, "mask_threshold": 0.4, "overlap_mask_area_threshold": 0.3, "top_k": 1}
    for keywords in ({}, chosen):
        ours = processor.post_process_instance_segmentation(outputs, target_sizes=SIZES, **keywords)
        for mine, other in zip(ours, instance_predictions(*logits, SIZES, **keywords), strict=True):
            assert len(mine.masks) > 0
            assert torch.equal(mine["masks"], other.masks)
            assert torch.equal(mine["segmentation"], other.segmentation)
            assert without_names(mine["segments_info"]) == other.segments_info


# pycocotools hands its own array class to numpy.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_run_lengths_and_binary_maps(processor):
    outputs = outputs_of()
    predictions = processor.post_process_instance_segmentation(outputs, 0.2, target_sizes=SIZES)
    run_lengths = processor.post_process_instance_segmentation(
        outputs, 0.2, target_sizes=SIZES, return_coco_annotation=True
    )
    binary_maps = processor.post_process_instance_segmentation(
        outputs, 0.2, target_sizes=SIZES, return_binary_maps=True
    )
    for prediction, run_length, binary_map, size in zip(predictions, run_lengths, binary_maps, SIZES, strict=True):
        places = [info | {"id": place} for place, info in enumerate(prediction.segments_info)]
        assert run_length["segments_info"] == binary_map["segments_info"] == places
        assert torch.equal(binary_map["segmentation"], prediction.masks)
        decoded = coco_mask.decode(run_length["segmentation"]).transpose(2, 0, 1)
        assert np.array_equal(decoded, prediction.masks.numpy())
        assert run_length["segmentation"][0]["size"] == list(size)


def test_no_objects(processor):
    arguments = {"threshold": 1.0, "target_sizes": SIZES[:1]}
    outputs = outputs_of(batch_size=1)
    (result,) = processor.post_process_instance_segmentation(outputs, return_coco_annotation=True, **arguments)
    assert result == {"segmentation": [], "segments_info": []}
    (result,) = processor.post_process_instance_segmentation(outputs, return_binary_maps=True, **arguments)
    (theirs,) = Mask2FormerImageProcessorPil().post_process_instance_segmentation(
        outputs, threshold=1.1, target_sizes=SIZES[:1], return_binary_maps=True
    )
    assert result["segments_info"] == theirs["segments_info"] == []
    assert torch.equal(result["segmentation"], theirs["segmentation"].int())


def test_two_forms_at_once(processor):
    with pytest.raises(ValueError, match="not for both"):
        processor.post_process_instance_segmentation(outputs_of(), return_coco_annotation=True, return_binary_maps=True)


@pytest.mark.parametrize("subtask", [None, "panoptic", "instance", "semantic"])
def test_transformers_pipeline(processor, subtask):
    stages = [f"stage{index}" for index in range(1, 5)]
    backbone = SwinConfig(embed_dim=8, depths=[1] * 4, num_heads=[1] * 4, window_size=3, out_features=stages)
    config = Mask2FormerConfig(
        backbone_config=backbone, feature_size=32, mask_feature_size=32, hidden_dim=32, encoder_feedforward_dim=32,
        encoder_layers=1, decoder_layers=2, num_attention_heads=2, dim_feedforward=32, num_queries=7,
        id2label={0: "cat", 1: "dog", 2: "sky"},
    )  # fmt: skip
    model = Mask2FormerForUniversalSegmentation(config).eval()
    # Untrained, each query is sure of some class.
    torch.nn.init.normal_(model.class_predictor.weight, std=5.0)
    image = np.random.default_rng(0).integers(0, 256, (53, 71, 3), dtype=np.uint8)
    processor = UniSegmentImageProcessor(size=(64, 96), stuff_label_ids=[2])
    segment = pipeline("image-segmentation", model=model, image_processor=processor)
    results = segment(Image.fromarray(image), subtask=subtask, threshold=0.0)
    assert len(results) > 0
    for result in results:
        assert result["label"] in ("cat", "dog", "sky")
        assert result["mask"].size == (71, 53)


@pytest.fixture
def outputs_alike():
    """Logits of which transformers' post-processing makes what ours does: a canvas of 384x384, and nothing at 0.5."""
    blocks = torch.randint(0, 2, (1, 13, 12, 12)).float() * 16 - 8
    masks = blocks.repeat_interleave(8, 2).repeat_interleave(8, 3)
    return SimpleNamespace(class_queries_logits=torch.randn(1, 13, 5) * 5, masks_queries_logits=masks)


def test_binary_maps_are_indexed_by_their_ids_as_in_transformers(processor, outputs_alike):
    keywords = {"threshold": 0.2, "target_sizes": [(384, 384)], "return_binary_maps": True}
    # It looks at as many pairs as there are queries.
    (ours,) = processor.post_process_instance_segmentation(outputs_alike, top_k=13, **keywords)
    (theirs,) = Mask2FormerImageProcessorPil().post_process_instance_segmentation(outputs_alike, **keywords)
    assert len(ours["segments_info"]) > 3
    found = [
        sorted(
            (
                round(info["score"], 4),
                info["label_id"],
                info["was_fused"],
                int(result["segmentation"][info["id"]].sum()),
            )
            for info in result["segments_info"]
        )
        for result in (ours, theirs)
    ]
    assert found[0] == found[1]
    assert {info["id"] for info in ours["segments_info"]} == {info["id"] for info in theirs["segments_info"]}


def test_stuff_was_fused_as_in_transformers(processor, outputs_alike):
    (ours,), (theirs,) = (
        some.post_process_panoptic_segmentation(
            outputs_alike, 0.3, overlap_mask_area_threshold=0.05, label_ids_to_fuse={0, 2}, target_sizes=[(384, 384)]
        )
        for some in (processor, Mask2FormerImageProcessorPil())
    )
    fused = [{(info["label_id"], info["was_fused"]) for info in result["segments_info"]} for result in (ours, theirs)]
    assert fused[0] == fused[1]
    assert {was_fused for _, was_fused in fused[0]} == {True, False}


@pytest.mark.parametrize(
    "labels",
    [
        {"stuff_label_ids": [0, 2]},
        {"stuff_label_ids": [2, 149]},
        {"stuff_label_ids": [1], "id2label": {0: "wall", 1: "sky", 2: "tree"}},
        {"stuff_label_ids": [0], "id2label": {0: "wall"}},
    ],
)
def test_stuff_of_a_model_with_other_labels_is_refused(labels):
    outputs, processor = outputs_of_two_labels(), UniSegmentImageProcessor(**labels)
    with pytest.raises(ValueError, match=r"of a model with 2 labels: .* id2label=model\.config"):
        processor.post_process_panoptic_segmentation(outputs)
    processor.post_process_panoptic_segmentation(outputs, label_ids_to_fuse=[])
    processor.post_process_semantic_segmentation(outputs)
    processor.post_process_instance_segmentation(outputs)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (None, ["0", "1"]),
        ({0: "sky", 1: "cat"}, ["sky", "cat"]),
        # A processor of the checkpoint that a model of other classes started from, as in notebooks on fine-tuning.
        ({0: "sky", 1: "cat", 2: "sea"}, ["0", "1"]),
        ({0: "sky"}, ["0", "1"]),
    ],
)
def test_labels_without_a_name_are_numbers(names, expected, caplog):
    image_post_processing._say_once.cache_clear()
    processor = UniSegmentImageProcessor(id2label=names, stuff_label_ids=[])
    for task in ("semantic", "instance", "panoptic"):
        (prediction,) = getattr(processor, f"post_process_{task}_segmentation")(outputs_of_two_labels())
        assert [info["label"] for info in prediction.segments_info] == expected
        assert list(prediction.segments_info[0]) == ["id", "label_id", "label", "score", "was_fused"]
    others = names is not None and len(names) != 2
    assert [f"names of {len(names or ())} labels, but the model has 2" in line for line in caplog.messages] == (
        [True] if others else []
    )


def outputs_of_two_labels():
    return SimpleNamespace(
        class_queries_logits=torch.eye(3)[None, :2] * 9,
        masks_queries_logits=torch.tensor([[[[9.0, -9.0]], [[-9.0, 9.0]]]]),
    )


class TestDifferencesFromTransformers:
    """What the table in docs/transformers.md says of transformers' own processor, which may change."""

    THEIRS = Mask2FormerImageProcessorPil()

    def test_defaults(self):
        for task, name, theirs, ours in (
            ("panoptic", "threshold", 0.5, 0.8),
            ("instance", "overlap_mask_area_threshold", 0.8, None),
        ):
            for processor, expected in ((self.THEIRS, theirs), (UniSegmentImageProcessor(), ours)):
                method = getattr(processor, f"post_process_{task}_segmentation")
                assert inspect.signature(method).parameters[name].default == expected

    def test_void_and_ids(self, outputs_alike, processor):
        (instance,) = self.THEIRS.post_process_instance_segmentation(outputs_alike, target_sizes=[(384, 384)])
        assert instance["segmentation"].dtype == torch.float32
        assert instance["segmentation"].min() == -1
        assert instance["segments_info"][0]["id"] == 0
        (panoptic,) = self.THEIRS.post_process_panoptic_segmentation(outputs_alike, label_ids_to_fuse=set())
        assert (panoptic["segmentation"].min(), panoptic["segments_info"][0]["id"]) == (0, 1)
        (nothing,) = self.THEIRS.post_process_panoptic_segmentation(outputs_alike, 1.0, label_ids_to_fuse=set())
        assert nothing["segmentation"].unique().tolist() == [-1]
        for result in (
            processor.post_process_instance_segmentation(outputs_alike)[0],
            processor.post_process_panoptic_segmentation(outputs_alike)[0],
        ):
            assert result.segmentation.dtype == torch.int32
            assert (result.segmentation.min(), result.segments_info[0]["id"]) == (0, 1)
        assert not processor.post_process_panoptic_segmentation(outputs_alike, 1.0)[0].segmentation.any()

    def test_pixels_below_the_mask_threshold(self, processor):
        outputs = SimpleNamespace(
            class_queries_logits=torch.tensor([[[0.0, 9.0, 0.0, 0.0, 0.0]]]),
            masks_queries_logits=torch.cat([torch.full((1, 1, 96, 60), 5.0), torch.full((1, 1, 96, 36), -5.0)], dim=-1),
        )
        (theirs,) = self.THEIRS.post_process_panoptic_segmentation(outputs, label_ids_to_fuse=set())
        (ours,) = processor.post_process_panoptic_segmentation(outputs)
        assert theirs["segmentation"].unique().tolist() == [1]
        assert ours.segmentation.unique().tolist() == [0, 1]

    def test_what_follows_fused_stuff_gets_an_id_of_its_own(self, processor):
        stripe = (torch.arange(96) // 24).expand(96, 96)
        outputs = SimpleNamespace(
            class_queries_logits=torch.eye(5)[None, [0, 1, 0, 1]] * 15,
            masks_queries_logits=torch.stack([stripe == number for number in range(4)])[None] * 20.0 - 10,
        )
        (theirs,) = self.THEIRS.post_process_panoptic_segmentation(outputs, label_ids_to_fuse={0})
        (ours,) = processor.post_process_panoptic_segmentation(outputs)
        assert [info["id"] for info in theirs["segments_info"]] == [1, 2, 1, 2]
        assert [info["id"] for info in ours.segments_info] == [1, 2, 3]

    def test_targets(self):
        images = [np.zeros((64, width, 3), np.uint8) for width in (64, 96)]
        maps = [np.ones(image.shape[:2], np.int32) for image in images]
        for kind, dtype, padding in (
            (type(self.THEIRS), torch.float32, 255),
            (UniSegmentImageProcessor, torch.bool, 0),
        ):
            inputs = kind(do_resize=False, ignore_index=255)(images, segmentation_maps=maps, return_tensors="pt")
            masks = inputs["mask_labels"][0]
            assert masks.dtype == dtype
            assert masks[0, 0, 60:].unique().tolist() == sorted([1, padding])


def test_only_some_labels_may_be_objects(processor):
    outputs = outputs_of()
    logits = outputs.class_queries_logits, outputs.masks_queries_logits, outputs.image_sizes
    ours = processor.post_process_instance_segmentation(outputs, 0.0, target_sizes=SIZES, label_ids={1, 3})
    for mine, other in zip(ours, instance_predictions(*logits, SIZES, threshold=0.0, label_ids={1, 3}), strict=True):
        assert torch.equal(mine.masks, other.masks)
        assert without_names(mine.segments_info) == other.segments_info
        assert {info["label"] for info in mine.segments_info} == {"cat", "dog"}


@pytest.mark.parametrize("image_sizes", [True, False])
def test_semantic_scores_of_some_rows_are_those_of_the_whole(processor, image_sizes):
    outputs = outputs_of(image_sizes=image_sizes)
    whole = processor.post_process_semantic_segmentation(outputs, SIZES, return_segmentation_scores=True)
    for index, size in enumerate(SIZES):
        for rows in (slice(0, size[0]), slice(7, 20), slice(size[0] - 1, size[0])):
            scores = processor.semantic_scores(outputs, index, size, rows)
            torch.testing.assert_close(scores, whole[index].segmentation_scores[:, rows], rtol=0, atol=1e-6)
        # The logits of 13 queries on the canvas or the result, whichever is wider, and the scores of 4 classes.
        assert processor.semantic_row_elements(outputs, size) == 13 * max(44, size[1]) + 4 * size[1]
    assert not processor.semantic_scores(outputs, 0, SIZES[0], slice(0, 3)).requires_grad


def test_masks_of_another_stride():
    class Coarse(UniSegmentImageProcessor):
        mask_stride = 8

    outputs, processor = outputs_of(image_sizes=False), Coarse(stuff_label_ids=[])
    assert [found.shape for found in processor.post_process_semantic_segmentation(outputs)] == [(56, 88)] * 2
    for found in processor.post_process_panoptic_segmentation(outputs, threshold=0.0):
        assert found.segmentation.shape == (56, 88)
    for found in processor.post_process_instance_segmentation(outputs, threshold=0.0):
        assert found.masks.shape[1:] == (56, 88)
    assert processor.semantic_scores(outputs, 1, (9, 7), slice(2, 5)).shape == (4, 3, 7)
    with pytest.raises(ValueError, match="size_divisor must be a multiple of 8, got 4"):
        Coarse(size_divisor=4)


def test_every_task_can_be_read(processor):
    assert {processor.why_not(task) for task in TASKS} == {None}


def test_a_task_that_cannot_be_read_is_refused():
    class OnlySemantic(UniSegmentImageProcessor):
        def why_not(self, task):
            return None if task == "semantic" else f"No {task} results: do it otherwise."

    for task in ("instance", "panoptic"):
        with pytest.raises(ValueError, match=f"No {task} results: do it otherwise"):
            getattr(OnlySemantic(), f"post_process_{task}_segmentation")(outputs_of())
    assert len(OnlySemantic().post_process_semantic_segmentation(outputs_of())) == 2
