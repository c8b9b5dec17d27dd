# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import torch
from PIL import Image

from tests.inference.reads_colours import NUM_LABELS, SAMPLES, ReadsColours, make_processor
from unisegment.inference.augmentation import AugmentedPredictor, View, mean_semantic_prediction
from unisegment.inference.evaluation import evaluate
from unisegment.inference.images import load_batches
from unisegment.models.unisegment.outputs import UniSegmentOutput
from unisegment.postprocessing import semantic_predictions

TARGET = (37, 53)
NAMES = {0: "disc", 1: "ring", 2: "sky"}


def random_views(seed):
    generator = torch.Generator().manual_seed(seed)
    views = []
    for grid, size in (((11, 13), (41, 47)), ((8, 9), (29, 36)), ((19, 17), (75, 68))):
        for is_mirrored in (False, True):
            outputs = UniSegmentOutput(
                masks_queries_logits=4 * torch.randn(1, 7, *grid, generator=generator),
                class_queries_logits=3 * torch.randn(1, 7, NUM_LABELS + 1, generator=generator),
                image_sizes=torch.tensor([size]),
            )
            views.append(View(outputs, make_processor(), is_mirrored))
    return views


@pytest.mark.parametrize("max_elements", [1, 5000, 10**9])
def test_scores_are_averaged_at_the_original_size(max_elements):
    views = random_views(3)
    scores = []
    for view in views:
        whole = semantic_predictions(
            view.outputs.class_queries_logits,
            view.outputs.masks_queries_logits,
            view.outputs.image_sizes,
            [TARGET],
            return_segmentation_scores=True,
        )[0].segmentation_scores
        scores.append(whole.flip(2) if view.is_mirrored else whole)
    mean = torch.stack(scores).mean(0)
    found = mean_semantic_prediction(views, TARGET, NUM_LABELS, torch.device("cpu"), max_elements)
    best = mean.sort(dim=0, descending=True).values
    assert torch.equal(found.segmentation, mean.argmax(0)) or (best[0] - best[1]).min() < 1e-5
    share = mean.amax(0) / mean.sum(0).clamp(min=1)
    for info in found.segments_info:
        assert info["score"] == pytest.approx(share[found.segmentation == info["label_id"]].mean().item(), abs=1e-4)


class SeesImages(ReadsColours):
    """Remembers what it is shown."""

    def forward(self, pixel_values, pixel_mask):
        self.shown = [*getattr(self, "shown", []), (pixel_values[0], pixel_mask[0])]
        return super().forward(pixel_values, pixel_mask=pixel_mask)


def test_the_tested_image_is_shown_at_each_size_and_mirrored():
    processor = make_processor(do_resize=True, size={"shortest_edge": 40, "longest_edge": 400}, id2label=NAMES)
    predictor = AugmentedPredictor(SeesImages(), processor, scales=(0.5, 1.0, 1.5))
    (batch,) = load_batches(SAMPLES, processor, [0])
    (found,) = predictor.semantic(batch, None)
    assert {info["label"] for info in found.segments_info} <= {"disc", "ring", "sky"}
    tested = Image.fromarray(SAMPLES[0].image).resize((58, 40), Image.Resampling.BILINEAR)
    sizes = [(20, 29), (40, 58), (60, 87)]
    assert len(predictor.model.shown) == 6
    for place, (pixels, mask) in enumerate(predictor.model.shown):
        height, width = sizes[place // 2]
        assert mask.sum() == height * width
        expected = np.asarray(tested.resize((width, height), Image.Resampling.BILINEAR))
        expected = expected[:, ::-1] if place % 2 else expected
        shown = 255 * pixels[:, :height, :width].permute(1, 2, 0).numpy()
        assert np.abs(shown - expected).max() < 1e-3


def test_only_semantic_scores_change_and_they_are_as_good():
    plain = evaluate(AugmentedPredictor(ReadsColours(), make_processor(), scales=(1.0,)), SAMPLES)
    assert 0.3 < plain["semantic"]["miou"] < 1
    scores = evaluate(AugmentedPredictor(ReadsColours(), make_processor()), SAMPLES[:2])
    assert (
        scores["panoptic"]
        == evaluate(AugmentedPredictor(ReadsColours(), make_processor(), scales=(1.0,)), SAMPLES[:2])["panoptic"]
    )
