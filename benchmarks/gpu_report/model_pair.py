# SPDX-License-Identifier: Apache-2.0
"""Our model and transformers' own with the same random weights, what both are given, and how far they agree."""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from peers.eomt import TransformersEomt
from peers.mask2former import TransformersMask2Former
from peers.peer import Peer
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import EomtImageProcessorPil, Mask2FormerImageProcessorPil

from unisegment import (
    SegmentationTarget,
    UniSegmentConfig,
    UniSegmentEomtConfig,
    UniSegmentEomtForUniversalSegmentation,
    UniSegmentForUniversalSegmentation,
    UniSegmentImageProcessor,
)

NUM_LABELS = 133
NUM_THINGS = 80
"""Of COCO's classes; what comes after them is stuff."""
STAGES = ["stage1", "stage2", "stage3", "stage4"]
SURE_QUERIES = 20
"""Queries that post-processing makes segments of."""
SEGMENTS = (10, 20)
"""Fewest and most segments of an image."""

# Drop path would make two runs of the same weights differ.
_SWIN = {"model_type": "swin", "drop_path_rate": 0.0, "out_features": STAGES}
_TINY = {
    "feature_size": 32, "mask_feature_size": 32, "hidden_dim": 32, "encoder_feedforward_dim": 32, "dim_feedforward": 32,
    "encoder_layers": 1, "decoder_layers": 2, "num_attention_heads": 2, "num_queries": 24, "train_num_points": 112,
}  # fmt: skip
CONFIGS: dict[str, dict[str, Any]] = {
    "R50": {"backbone_config": {"model_type": "resnet", "out_features": STAGES}},
    "Swin-T": {"backbone_config": {**_SWIN, "window_size": 7}},
    "Swin-L": {
        "backbone_config": {
            **_SWIN, "embed_dim": 192, "depths": [2, 2, 18, 2], "num_heads": [6, 12, 24, 48], "window_size": 12,
        },
        "num_queries": 200,
    },
    "tiny ResNet": {
        "backbone_config": {
            "model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1],
            "layer_type": "basic", "out_features": STAGES,
        },
        **_TINY,
    },
    "tiny Swin": {
        "backbone_config": {
            **_SWIN, "image_size": 64, "embed_dim": 16, "depths": [1, 1, 1, 1], "num_heads": [1, 2, 4, 8],
            "window_size": 3,
        },
        **_TINY,
    },
    "EoMT-S": {
        "hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6, "image_size": 640, "patch_size": 16,
        "num_queries": 200, "num_blocks": 3, "num_register_tokens": 4,
    },
    "tiny EoMT": {
        "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "image_size": 64, "patch_size": 16,
        "num_queries": 24, "num_blocks": 1, "num_register_tokens": 2, "train_num_points": 112,
    },
}  # fmt: skip
"""The models of the papers, and some for tests. What is not said is as in the papers."""


@dataclass
class Contender:
    """A model with its own way to take targets and to post-process.

    Args:
        name: "ours" or "transformers".
        model: Knows which of its parts learn and which are constant in training.
        network: What is called: the same weights.
        post_process: The processor's function for panoptic results.
        targets_of: Brings targets into the form that the network takes.
    """

    name: str
    model: nn.Module
    network: Callable[..., Any]
    post_process: Callable[..., list[Any]]
    targets_of: Callable[[Sequence[SegmentationTarget]], dict[str, Any]]

    def panoptic(self, outputs: Any) -> list[Any]:
        """Return panoptic results of all images at their own size: of a segment for each query that is made sure."""
        masks = outputs.masks_queries_logits.float()
        sizes = [(4 * masks.shape[2], 4 * masks.shape[3])] * len(masks)
        logits = sure_queries(masks.shape, masks.device)
        sure = SimpleNamespace(class_queries_logits=logits, masks_queries_logits=masks + _strips(masks))
        return self.post_process(
            sure, threshold=0.8, label_ids_to_fuse=set(range(NUM_THINGS, NUM_LABELS)), target_sizes=sizes
        )


def make_pair(backbone: str) -> tuple[Contender, Contender]:
    """Return ours and transformers' with the same weights, in evaluation mode, on the CPU."""
    torch.manual_seed(0)
    make = _make_eomt if "num_blocks" in CONFIGS[backbone] else _make_mask2former
    ours, theirs, post_theirs = make(CONFIGS[backbone])
    post_ours = UniSegmentImageProcessor(stuff_label_ids=list(range(NUM_THINGS, NUM_LABELS)))
    return (
        Contender("ours", ours.eval(), ours, post_ours.post_process_panoptic_segmentation, _as_they_are),
        Contender("transformers", theirs.eval(), theirs.stock, post_theirs, _float_masks),
    )


def _make_mask2former(keys: dict[str, Any]) -> tuple[nn.Module, Peer, Callable[..., list[Any]]]:
    ours = UniSegmentForUniversalSegmentation(UniSegmentConfig(num_labels=NUM_LABELS, **keys))
    theirs = TransformersMask2Former(ours.config, ours)
    return ours, theirs, Mask2FormerImageProcessorPil().post_process_panoptic_segmentation


def _make_eomt(keys: dict[str, Any]) -> tuple[nn.Module, Peer, Callable[..., list[Any]]]:
    """Return EoMT without masks in its attention, as at the end of a training run."""
    ours = UniSegmentEomtForUniversalSegmentation(UniSegmentEomtConfig(num_labels=NUM_LABELS, **keys))
    with torch.no_grad():
        for weight in ours.parameters():  # new layers hardly do anything: their scales are 1e-5
            weight.add_(0.01 * torch.randn_like(weight))
        ours.attn_mask_probs.zero_()
    theirs = TransformersEomt(ours.config, ours)
    side = keys["image_size"]
    processor = EomtImageProcessorPil(size={"shortest_edge": side, "longest_edge": side})

    def post_process(outputs: Any, *, label_ids_to_fuse: Collection[int], **settings: Any) -> list[Any]:
        return processor.post_process_panoptic_segmentation(outputs, stuff_classes=[*label_ids_to_fuse], **settings)

    return ours, theirs, post_process


def make_images(batch_size: int, size: tuple[int, int], device: torch.device) -> Tensor:
    """Return noise (b 3 h w), as normalised images are."""
    generator = torch.Generator(device).manual_seed(1)
    return torch.randn(batch_size, 3, *size, generator=generator, device=device)


def make_targets(
    batch_size: int, size: tuple[int, int], device: torch.device, segments: int | None = None
) -> list[SegmentationTarget]:
    """Return targets without gaps: each pixel belongs to the segment whose centre is nearest.

    Args:
        batch_size: Images.
        size: Height and width.
        device: Where they are to be.
        segments: In each image; None makes images differ, see SEGMENTS.
    """
    generator = torch.Generator().manual_seed(2)
    rows, columns = (torch.arange(0, length, 8) for length in size)
    grid = torch.cartesian_prod(rows, columns).float()
    targets = []
    for image in range(batch_size):
        count = segments or SEGMENTS[0] + image % (SEGMENTS[1] - SEGMENTS[0] + 1)
        centres = torch.rand(count, 2, generator=generator) * torch.tensor(size)
        coarse = torch.cdist(grid, centres).argmin(1).view(len(rows), len(columns))
        id_map = coarse.repeat_interleave(8, 0).repeat_interleave(8, 1)[: size[0], : size[1]] + 1
        labels = torch.randint(NUM_LABELS, (count,), generator=generator)
        target = SegmentationTarget(labels=labels, id_map=id_map.int(), segment_ids=torch.arange(1, count + 1))
        targets.append(target.to(device))
    return targets


def _as_they_are(targets: Sequence[SegmentationTarget]) -> dict[str, Any]:
    return {"mask_labels": targets}


def _float_masks(targets: Sequence[SegmentationTarget]) -> dict[str, Any]:
    # transformers samples its masks with grid_sample and crashes on anything but floats.
    return {
        "mask_labels": [target.binary_masks().float() for target in targets],
        "class_labels": [target.labels for target in targets],
    }


def sure_queries(shape: Sequence[int], device: torch.device) -> Tensor:
    """Return class logits (b q k) of SURE_QUERIES sure queries, half of them things and half stuff, and of nothing."""
    labels = torch.full(shape[:2], NUM_LABELS, device=device)
    first = NUM_THINGS - SURE_QUERIES // 2
    labels[:, :SURE_QUERIES] = torch.arange(first, first + SURE_QUERIES, device=device)
    return 20 * F.one_hot(labels, NUM_LABELS + 1).float()


def _strips(masks: Tensor) -> Tensor:
    """Return what makes masks (b q h w) strips of the image: those of random weights lie over each other."""
    columns = torch.arange(masks.shape[3], device=masks.device) * SURE_QUERIES // masks.shape[3]
    is_inside = columns == torch.arange(masks.shape[1], device=masks.device)[:, None]  # q w
    return torch.where(is_inside, 1e3, -1e3)[:, None]


def compare_logits(pair: Sequence[Contender], images: Tensor) -> dict[str, Any]:
    """Return how far the logits are apart, as shares of the largest value, with an `error` where it is too far.

    Those before the first attention mask must agree to rounding. Those after the last one must in the mean: with random
    weights about one pixel in a million is so near the threshold of a mask that the last bit decides, and then moves
    queries by more than rounding. (Tests show all layers equal on images too small for that.)
    """
    with torch.no_grad():
        ours, theirs = (one.network(images, output_auxiliary_logits=True) for one in pair)
    largest, mean = differences(ours, theirs)
    has_inner = "auxiliary_logits" in theirs  # Eomt's output has none, and its attention here no masks
    first = differences(ours.auxiliary_logits[0], theirs.auxiliary_logits[0])[0] if has_inner else largest
    found = {"relative_error": largest, "mean_error": mean, "first_error": first}
    wrong = not (found["first_error"] <= 1e-4 and mean <= 1e-2)  # not a number is wrong, too
    return found | ({"error": "the two models do not agree"} if wrong else {})


def differences(ours: Any, theirs: Any) -> tuple[float, float]:
    """Return the largest and the mean difference of class and mask logits, whichever is larger."""
    found = []
    for name in ("class_queries_logits", "masks_queries_logits"):
        difference, scale = (ours[name] - theirs[name]).abs(), theirs[name].abs().max()
        found.append(torch.stack([difference.max() / scale, difference.mean() / scale]))
    largest, mean = torch.stack(found).amax(0).tolist()
    return largest, mean


def compare_losses(pair: Sequence[Contender], images: Tensor, targets: Sequence[SegmentationTarget]) -> dict[str, Any]:
    """Return both losses at equal random points and their relative difference, with an `error` where it is too large.

    After other masks of attention (see `compare_logits`) it is more than rounding.
    """
    with same_points(), torch.no_grad():
        ours, theirs = (one.network(images, **one.targets_of(targets)).loss.item() for one in pair)
    found = {"loss": ours, "their_loss": theirs, "relative_error": abs(ours / theirs - 1)}
    return found | ({} if found["relative_error"] <= 1e-3 else {"error": "the two losses do not agree"})


@contextmanager
def same_points() -> Iterator[None]:
    """Within `with`, both codes draw the same points, which depend on nothing but how many are drawn of a mask.

    Otherwise ours draws the matcher's points once an image and those of the losses some masks at a time, transformers
    once for each layer: equal seeds are no equal points.
    """
    real = torch.rand

    def fixed(*shape: Any, device: Any = None, **_: Any) -> Tensor:
        shape = shape[0] if isinstance(shape[0], (tuple, list)) else shape
        if not shape:  # not points: older releases of transformers draw a number for each layer
            return real(())
        generator = torch.Generator().manual_seed(shape[-2])
        return real(shape[-2:], generator=generator).to(device).expand(*shape).clone()

    with mock.patch.object(torch, "rand", fixed):
        yield
