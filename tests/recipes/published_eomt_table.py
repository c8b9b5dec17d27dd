# SPDX-License-Identifier: Apache-2.0
"""The published configurations of EoMT, from its code's config files, defaults and model zoo, not from our recipes."""

from typing import NamedTuple

COCO_PANOPTIC_STEPS = 7391  # of an epoch: two of them are a step of mask annealing in the configs
COCO_INSTANCE_STEPS = 117266 // 16  # images with an annotation
ADE20K_STEPS = 1262  # 31 epochs are six times 6520 steps of mask annealing, and less than six times 6521


class PublishedEomt(NamedTuple):
    """One row of the table.

    Args:
        data_format: Of the data set.
        epochs: Of the whole training.
        epoch: Steps of one.
        evaluated_after: Epochs from one evaluation to the next.
        size: Side of the crops in training, and of what the network sees in evaluation.
        scales: Of the jitter.
        jitters_colors: Whether colours change at random.
        has_windows: Whether images are cut into windows in evaluation; they are padded otherwise.
        num_labels: Classes.
        num_queries: Queries.
        vit: Which vision transformer.
        annealing: Steps at which masks of each block begin to disappear, and those at which they are gone.
        scores: As published.
        millions: Weights of the panoptic model in millions, as in the paper; None where it does not say.
        file: Of the original, in its configs folder.
        lr: Highest learning rate.
        full_rate_layers: Blocks that learn at it although `layer_decay` counts them.
        warmup: Steps in which all but the vision transformer rises, and those in which it does, after that.
    """

    data_format: str
    epochs: int
    epoch: int
    evaluated_after: int
    size: int
    scales: tuple[float, float]
    jitters_colors: bool
    has_windows: bool
    num_labels: int
    num_queries: int
    vit: str
    annealing: tuple[list[int], list[int]]
    scores: str
    millions: int | None
    file: str
    lr: float = 1e-4
    full_rate_layers: int = 0
    warmup: tuple[int, int] = (500, 1000)

    @property
    def is_dinov3(self) -> bool:
        """Whether the vision transformer is DINOv3's."""
        return self.file.startswith("dinov3/")


_SHORT = [29564, 73910, 118256], [59128, 103474, 147820]
_LONG = [14782, 29564, 44346, 59128], [29564, 44346, 59128, 73910]
_SHORT_DINOV3 = [0, 73910, 118256], [3000, 103474, 147820]
_LONG_DINOV3 = [0, 29564, 44346, 59128], [3000, 44346, 59128, 73910]
_ADE20K = [6520, 13040, 19560, 26080], [13040, 19560, 26080, 32600]
_PANOPTIC = {
    "data_format": "coco_panoptic", "epoch": COCO_PANOPTIC_STEPS, "evaluated_after": 1, "size": 640,
    "scales": (0.1, 2.0), "jitters_colors": False, "has_windows": False, "num_labels": 133, "num_queries": 200,
}  # fmt: skip

_INSTANCE = _PANOPTIC | {
    "data_format": "coco_instance", "epoch": COCO_INSTANCE_STEPS, "evaluated_after": 2, "num_labels": 80,
}  # fmt: skip
_DINOV3 = {"lr": 2e-4, "warmup": (2000, 3000), "millions": None}

PUBLISHED_EOMT = {
    "coco_panoptic_eomt_s": PublishedEomt(
        **_PANOPTIC, epochs=24, vit="small", annealing=_SHORT, scores="PQ 46.7", millions=24,
        file="dinov2/coco/panoptic/eomt_small_640_2x.yaml",
    ),
    "coco_panoptic_eomt_b": PublishedEomt(
        **_PANOPTIC, epochs=24, vit="base", annealing=_SHORT, scores="PQ 51.6", millions=93,
        file="dinov2/coco/panoptic/eomt_base_640_2x.yaml",
    ),
    "coco_panoptic_eomt_l": PublishedEomt(
        **_PANOPTIC, epochs=12, vit="large", annealing=_LONG, scores="PQ 56.0", millions=316,
        file="dinov2/coco/panoptic/eomt_large_640.yaml",
    ),
    "coco_instance_eomt_l": PublishedEomt(
        **_INSTANCE, epochs=12, vit="large", annealing=_LONG, scores="mask AP 45.2", millions=None,
        file="dinov2/coco/instance/eomt_large_640.yaml",
    ),
    "ade20k_semantic_eomt_l": PublishedEomt(
        data_format="ade20k_semantic", epochs=31, epoch=ADE20K_STEPS, evaluated_after=1, size=512, scales=(0.5, 2.0),
        jitters_colors=True, has_windows=True, num_labels=150, num_queries=100, vit="large", annealing=_ADE20K,
        scores="mIoU 58.4", millions=None, file="dinov2/ade20k/semantic/eomt_large_512.yaml",
    ),
    "coco_panoptic_eomt_s_dinov3": PublishedEomt(
        **_PANOPTIC, **_DINOV3, epochs=24, vit="small", annealing=_SHORT_DINOV3, scores="PQ 47.2", full_rate_layers=3,
        file="dinov3/coco/panoptic/eomt_small_640_2x.yaml",
    ),
    "coco_panoptic_eomt_b_dinov3": PublishedEomt(
        **_PANOPTIC, **_DINOV3, epochs=24, vit="base", annealing=_SHORT_DINOV3, scores="PQ 53.1", full_rate_layers=3,
        file="dinov3/coco/panoptic/eomt_base_640_2x.yaml",
    ),
    "coco_panoptic_eomt_l_dinov3": PublishedEomt(
        **_PANOPTIC, **_DINOV3, epochs=12, vit="large", annealing=_LONG_DINOV3, scores="PQ 56.8", full_rate_layers=4,
        file="dinov3/coco/panoptic/eomt_large_640.yaml",
    ),
    "coco_instance_eomt_l_dinov3": PublishedEomt(
        **_INSTANCE, **_DINOV3, epochs=12, vit="large", annealing=_LONG, scores="mask AP 45.9", full_rate_layers=4,
        file="dinov3/coco/instance/eomt_large_640.yaml",
    ),
}  # fmt: skip
