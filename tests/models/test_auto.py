# SPDX-License-Identifier: Apache-2.0
import importlib
import subprocess
import sys

import numpy as np
import pytest
import torch
import transformers.pipelines.base
from PIL import Image
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForImageSegmentation,
    AutoModelForUniversalSegmentation,
    Mask2FormerConfig,
    Mask2FormerForUniversalSegmentation,
    Mask2FormerImageProcessorPil,
    ResNetConfig,
    pipeline,
)
from transformers.models.auto.image_processing_auto import AutoImageProcessor

import unisegment.models.auto
from unisegment import UniSegmentConfig, UniSegmentForUniversalSegmentation, UniSegmentImageProcessor

BACKBONE = ResNetConfig(
    embedding_size=8, hidden_sizes=[16, 24, 32, 40], depths=[1, 1, 1, 1],
    out_features=["stage1", "stage2", "stage3", "stage4"],
)  # fmt: skip
SIZES = {
    "feature_size": 32, "mask_feature_size": 16, "hidden_dim": 32, "encoder_layers": 1, "decoder_layers": 2,
    "num_queries": 17, "dim_feedforward": 24, "encoder_feedforward_dim": 40,
}  # fmt: skip
THRESHOLDS = {"threshold": 0.3, "mask_threshold": 0.4, "overlap_mask_area_threshold": 0.1}


@pytest.fixture
def checkpoint(tmp_path):
    """A model whose queries differ and are sure of themselves, and its processor, for which 0 and 2 are stuff."""
    config = UniSegmentConfig(backbone_config=BACKBONE, id2label={0: "sky", 1: "car", 2: "tree"}, **SIZES)
    model = UniSegmentForUniversalSegmentation(config)
    with torch.no_grad():
        model.transformer_decoder.query_features.weight.mul_(3)
        model.transformer_decoder.predictor.class_head.weight.mul_(5)
        model.transformer_decoder.predictor.mask_head[-1].weight.mul_(5)
    model.save_pretrained(tmp_path)
    size = {"shortest_edge": 64, "longest_edge": 96}
    UniSegmentImageProcessor(size=size, stuff_label_ids=[0, 2]).save_pretrained(tmp_path)
    return str(tmp_path)


@pytest.fixture
def images():
    noise = np.random.default_rng(0)
    return [
        Image.fromarray(noise.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in [(53, 71), (71, 53), (41, 67)]
    ]


def assert_same_segments(segments, others):
    assert [segment["label"] for segment in segments] == [segment["label"] for segment in others]
    for segment, other in zip(segments, others, strict=True):
        assert segment["score"] == pytest.approx(other["score"], abs=1e-5)
        differing = np.asarray(segment["mask"]) != np.asarray(other["mask"])
        assert differing.mean() < 1e-3


@pytest.mark.parametrize("auto_class", [AutoModel, AutoModelForImageSegmentation, AutoModelForUniversalSegmentation])
def test_auto_models_give_ours(checkpoint, auto_class):
    model = auto_class.from_pretrained(checkpoint, no_object_weight=0.3)
    assert type(model) is UniSegmentForUniversalSegmentation
    assert model.config.no_object_weight == 0.3
    assert type(auto_class.from_config(model.config)) is UniSegmentForUniversalSegmentation


@pytest.mark.parametrize("backend", [None, "pil", "torchvision"])
def test_auto_config_and_auto_image_processor_give_ours(checkpoint, backend):
    assert type(AutoConfig.from_pretrained(checkpoint)) is UniSegmentConfig
    processor = AutoImageProcessor.from_pretrained(checkpoint, backend=backend)
    assert type(processor) is UniSegmentImageProcessor
    assert processor.stuff_label_ids == [0, 2]


def test_stock_checkpoints_stay_stock_and_registering_again_changes_nothing(tmp_path):
    importlib.reload(unisegment.models.auto)
    stock = Mask2FormerForUniversalSegmentation(Mask2FormerConfig(backbone_config=BACKBONE, **SIZES))
    stock.save_pretrained(tmp_path)
    Mask2FormerImageProcessorPil().save_pretrained(tmp_path)
    assert type(AutoConfig.from_pretrained(tmp_path)) is Mask2FormerConfig
    assert type(AutoModelForUniversalSegmentation.from_pretrained(tmp_path)) is Mask2FormerForUniversalSegmentation
    assert type(AutoImageProcessor.from_pretrained(tmp_path)) is Mask2FormerImageProcessorPil
    ours = UniSegmentForUniversalSegmentation.from_pretrained(tmp_path)
    assert type(AutoModel.from_config(ours.config)) is UniSegmentForUniversalSegmentation


ORDERS = {
    "transformers before": "from transformers import AutoModel; import unisegment",
    "transformers after": """
import unisegment
assert not {"torch", "transformers"} & set(sys.modules), "import unisegment is to take no time"
from transformers import PreTrainedModel  # which imports AutoConfig on the way
""",
    "our model before both": "from unisegment.models.unisegment import modeling_unisegment",
    "again": "from transformers import AutoConfig; import unisegment.models.auto as auto; importlib.reload(auto)",
}
REGISTERED = """
from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING
from transformers.models.auto import modeling_auto, configuration_auto
from unisegment import *
assert configuration_auto.CONFIG_MAPPING["unisegment"] is UniSegmentConfig
for kind in ("", "FOR_UNIVERSAL_SEGMENTATION_", "FOR_IMAGE_SEGMENTATION_"):
    assert getattr(modeling_auto, f"MODEL_{kind}MAPPING")[UniSegmentConfig] is UniSegmentForUniversalSegmentation
assert set(IMAGE_PROCESSOR_MAPPING[UniSegmentConfig].values()) == {UniSegmentImageProcessor}
"""


@pytest.mark.parametrize("order", ORDERS)
def test_auto_classes_know_ours_in_whatever_order_both_are_imported(order):
    code = f"import importlib, sys\n{ORDERS[order]}\n{REGISTERED}"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("subtask", [None, "panoptic", "instance"])
def test_pipeline_finds_what_post_processing_finds(checkpoint, images, subtask):
    segmenter = pipeline("image-segmentation", model=checkpoint, device="cpu")
    method = f"post_process_{subtask or 'panoptic'}_segmentation"
    for image, segments in zip(images, segmenter(images, subtask=subtask, **THRESHOLDS), strict=True):
        with torch.no_grad():
            outputs = segmenter.model(**segmenter.image_processor(image))
        sizes = [(image.height, image.width)]
        (expected,) = getattr(segmenter.image_processor, method)(outputs, target_sizes=sizes, **THRESHOLDS)
        assert len(segments) >= 1
        assert [segment["score"] for segment in segments] == [info["score"] for info in expected.segments_info]
        for segment, info in zip(segments, expected.segments_info, strict=True):
            assert segment["label"] == segmenter.model.config.id2label[info["label_id"]]
            mask = expected.segmentation == info["id"]
            assert np.array_equal(np.asarray(segment["mask"]), 255 * mask.numpy().astype(np.uint8))


def test_pipeline_finds_labels(checkpoint, images):
    segmenter = pipeline("image-segmentation", model=checkpoint)
    segments = segmenter(images[0], subtask="semantic")
    with torch.no_grad():
        outputs = segmenter.model(**segmenter.image_processor(images[0]))
    (expected,) = segmenter.image_processor.post_process_semantic_segmentation(outputs, target_sizes=[(53, 71)])
    id2label = segmenter.model.config.id2label
    assert [segment["label"] for segment in segments] == [id2label[label] for label in expected.unique().tolist()]
    for segment in segments:
        is_label = torch.tensor([id2label[label] == segment["label"] for label in sorted(id2label)])[expected]
        assert np.array_equal(np.asarray(segment["mask"]) > 0, is_label.numpy())


def test_pipeline_fuses_stuff(checkpoint, images):
    segmenter = pipeline("image-segmentation", model=checkpoint)
    labels = [segment["label"] for segment in segmenter(images[0], **THRESHOLDS)]
    assert labels.count("sky") == labels.count("tree") == 1
    segmenter.image_processor.stuff_label_ids = []
    assert len(segmenter(images[0], **THRESHOLDS)) > len(labels)


def test_pipeline_takes_batches_on_one_canvas(checkpoint, images):
    processor = UniSegmentImageProcessor.from_pretrained(checkpoint, pad_size={"height": 96, "width": 96})
    segmenter = pipeline("image-segmentation", model=checkpoint, image_processor=processor)
    together, alone = (segmenter(images, batch_size=size, **THRESHOLDS) for size in (2, 1))
    for segments, others in zip(together, alone, strict=True):
        assert_same_segments(segments, others)


def test_pipeline_in_half_precision(checkpoint, images):
    segmenter = pipeline("image-segmentation", model=checkpoint, dtype=torch.bfloat16)
    assert segmenter.model.dtype == torch.bfloat16
    for subtask in ("panoptic", "instance", "semantic"):
        for image, segments in zip(images, segmenter(images, subtask=subtask), strict=True):
            assert all(segment["mask"].size == image.size for segment in segments)


def test_pipeline_does_not_complain_about_the_model(checkpoint, monkeypatch):
    complaints = []
    monkeypatch.setattr(transformers.pipelines.base.logger, "error", complaints.append)
    pipeline("image-segmentation", model=checkpoint)
    assert complaints == []
