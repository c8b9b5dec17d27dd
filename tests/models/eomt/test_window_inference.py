# SPDX-License-Identifier: Apache-2.0
"""A semantic model sees images in windows wherever it is used: prediction, evaluation, augmentation, pipelines."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F
from transformers import EomtImageProcessorPil, pipeline

from tests.models.eomt.tiny_config import CONFIG
from unisegment.inference.augmentation import AugmentedPredictor
from unisegment.inference.evaluation import evaluate
from unisegment.inference.predictor import Predictor
from unisegment.inference.result import results_of
from unisegment.metrics import MeanIoU
from unisegment.models.eomt.configuration_eomt import UniSegmentEomtConfig
from unisegment.models.eomt.image_processing_eomt import UniSegmentEomtImageProcessor
from unisegment.models.eomt.modeling_eomt import UniSegmentEomtForUniversalSegmentation
from unisegment.structures import Sample, SegmentationTarget

NAMES = {0: "cat", 1: "dog", 2: "sky", 3: "sea"}
SPLIT = {"do_split_image": True, "size": {"shortest_edge": 64}}
SIZES = [(100, 150), (150, 100), (50, 180), (50, 180)]
"""Two, two, four and four windows; of these sizes both round alike."""


def sample(number):
    generator = np.random.default_rng(number)
    blocks = generator.integers(0, 256, (5, 5, 3), dtype=np.uint8)
    image = np.array(Image.fromarray(blocks).resize(SIZES[number][::-1], Image.Resampling.NEAREST))
    labels = torch.from_numpy(generator.integers(0, 4, SIZES[number]).astype(np.int32))
    target = SegmentationTarget(labels=[0, 1, 2, 3], id_map=labels, segment_ids=[0, 1, 2, 3])
    return Sample(image, number, f"{number}.png", target=target)


SAMPLES = [sample(number) for number in range(len(SIZES))]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(2)
    model = UniSegmentEomtForUniversalSegmentation(UniSegmentEomtConfig(**CONFIG, id2label=NAMES)).eval()
    # Untrained, queries are sure of some class, and their masks have borders.
    nn.init.normal_(model.predictor.class_head.weight, std=3.0)
    nn.init.normal_(model.queries.weight, std=3.0)
    nn.init.normal_(model.predictor.mask_head[-1].weight, std=2.0)
    return model


@pytest.fixture
def predictor(model):
    return Predictor(model, UniSegmentEomtImageProcessor(**SPLIT, id2label=NAMES, stuff_label_ids=[2, 3]))


def expected_scores(model, image):
    """What transformers' processor makes of the image and of our network's output."""
    theirs = EomtImageProcessorPil(do_split_image=True, size={"shortest_edge": 64, "longest_edge": None})
    inputs = theirs([image], return_tensors="pt")
    with torch.no_grad():
        outputs = model(pixel_values=inputs["pixel_values"].float(), patch_offsets=inputs["patch_offsets"])
    (found,) = theirs.post_process_semantic_segmentation(outputs, [image.shape[:2]], return_segmentation_scores=True)
    return found["segmentation_scores"]


@pytest.mark.parametrize("batch_size", [1, 3])
def test_labels_are_those_of_windows(predictor, model, batch_size):
    found = {}
    for batch, outputs in predictor.stream(SAMPLES, range(4), batch_size=batch_size):
        for item, prediction in zip(batch, predictor.semantic(batch, outputs), strict=True):
            found[item.number] = prediction
        for result in results_of(batch, outputs, predictor, 0.5):
            assert torch.equal(result.of().segmentation, found[result.item.number].segmentation)
            assert result.draw().size >= result.image.shape[1::-1]
            with pytest.raises(ValueError, match="do_split_image=False"):
                _ = result.panoptic
    for number, one in found.items():
        expected = expected_scores(model, SAMPLES[number].image)
        chosen = expected.gather(0, one.segmentation[None])[0]
        torch.testing.assert_close(chosen, expected.amax(0), rtol=0, atol=1e-4)
        assert len(one.segments_info) > 1


def test_only_semantic_scores_are_asked_for(predictor, tmp_path):
    assert (predictor.task, predictor.tasks) == ("semantic", ("semantic",))
    scores = evaluate(predictor, SAMPLES, batch_size=2, worst=1, output=tmp_path)
    assert not {"panoptic", "instance"} & set(scores)
    metric = MeanIoU(4, ignore_index=-1)
    for batch, outputs in predictor.stream(SAMPLES, range(4)):
        metric.update(predictor.semantic(batch, outputs), [batch[0].image.target])
    assert scores["miou"] == pytest.approx(metric.compute()["miou"])


def test_augmented_images_are_split_at_their_own_size(predictor, model):
    augmented = AugmentedPredictor(model, predictor.processor, scales=(1.0, 0.75))
    ((batch, outputs),) = augmented.stream(SAMPLES, [2])
    (found,) = augmented.semantic(batch, outputs)
    tested = Image.fromarray(SAMPLES[2].image).resize((230, 64), Image.Resampling.BILINEAR)
    scores = []
    for size in ((64, 230), (48, 173)):
        resized = np.asarray(tested.resize(size[::-1], Image.Resampling.BILINEAR))
        for image in (resized, resized[:, ::-1]):
            # Windows of this size, whose scores are not resized.
            processor = UniSegmentEomtImageProcessor(do_split_image=True, do_resize=False)
            with torch.no_grad():
                outputs = model(**processor([image.copy()]))
            (one,) = processor.post_process_semantic_segmentation(outputs, [size], return_segmentation_scores=True)
            whole = F.interpolate(one.segmentation_scores[None], SIZES[2], mode="bilinear")[0]
            scores.append(whole.flip(2) if image is not resized else whole)
    mean = torch.stack(scores).mean(0)
    torch.testing.assert_close(mean.gather(0, found.segmentation[None])[0], mean.amax(0), rtol=0, atol=1e-5)
    assert len(found.segments_info) > 1


def test_transformers_pipeline(predictor, model):
    segment = pipeline("image-segmentation", model=model, image_processor=predictor.processor)
    results = segment(Image.fromarray(SAMPLES[2].image), subtask="semantic")
    ((batch, outputs),) = predictor.stream(SAMPLES, [2])
    (expected,) = predictor.semantic(batch, outputs)
    assert {result["label"] for result in results} == {info["label"] for info in expected.segments_info}
    for result in results:
        label = next(label for label, name in NAMES.items() if name == result["label"])
        assert np.array_equal(np.asarray(result["mask"]) > 0, (expected.segmentation == label).numpy())
