# SPDX-License-Identifier: Apache-2.0
"""The published configurations, from the original's config files and its model zoo, not from our recipes."""

from typing import NamedTuple

LSJ = {"jitter_size": (1024, 1024), "jitter_scale": (0.1, 2.0)}
SEMANTIC = {"nearest": "corner", "drop_empty": True}


def _windows(base, crop, pad=True):
    edges = tuple(int(x * 0.1 * base) for x in range(5, 21))
    return {
        "shortest_edge": edges,
        "longest_edge": 4 * base,
        "crop_size": crop,
        "pad_to_crop": pad,
        "ssd_color": True,
    }


ADE512, ADE640 = _windows(512, (512, 512)), _windows(640, (640, 640))
CITY, VISTAS = _windows(1024, (512, 1024), pad=False), _windows(2048, (1024, 1024))


class Published(NamedTuple):
    """One row of the table.

    Args:
        steps: Of the whole training.
        drops: Steps before which the learning rate is multiplied by 0.1; none with the poly schedule.
        transform: What differs from our defaults.
        test_size: Shorter side of test images, and the most that the longer one may be.
        num_labels: Classes.
        num_queries: Queries.
        learns_norms: Whether batch norms of a ResNet are trained.
        weights: What the backbone starts from.
        scores: As published.
        file: Of the original, in its configs folder.
    """

    steps: int
    drops: tuple[int, ...]
    transform: dict
    test_size: tuple[int, int]
    num_labels: int
    num_queries: int
    learns_norms: bool
    weights: str
    scores: str
    file: str


WEIGHTS = {
    "r50": "https://download.pytorch.org/models/resnet50-19c8e357.pth",
    "r101": "https://download.pytorch.org/models/resnet101-63fe2227.pth",
    "swin_t": "microsoft/swin-tiny-patch4-window7-224",
    "swin_s": "microsoft/swin-small-patch4-window7-224",
    "swin_b": "https://github.com/SwinTransformer/storage/releases/download/v1.0.0/swin_base_patch4_window12_384.pth",
    "swin_b_in22k": "microsoft/swin-base-patch4-window12-384-in22k",
    "swin_l": "microsoft/swin-large-patch4-window12-384-in22k",
}
_FILES = {
    "r50": "maskformer2_R50_bs16",
    "r101": "maskformer2_R101_bs16",
    "swin_t": "swin/maskformer2_swin_tiny_bs16",
    "swin_s": "swin/maskformer2_swin_small_bs16",
    "swin_b": "swin/maskformer2_swin_base_384_bs16",
    "swin_b_in22k": "swin/maskformer2_swin_base_IN21k_384_bs16",
    "swin_l": "swin/maskformer2_swin_large_IN21k_384_bs16",
}

# Data set and task: classes, transform, test size, and scores by backbone.
_TASKS = {
    "coco_panoptic": (133, LSJ, (800, 1333), {
        "r50": "PQ 51.9, mask AP 41.7, mIoU 61.7", "r101": "PQ 52.6, mask AP 42.6, mIoU 62.4",
        "swin_t": "PQ 53.2, mask AP 43.3, mIoU 63.2", "swin_s": "PQ 54.6, mask AP 44.7, mIoU 64.2",
        "swin_b": "PQ 55.1, mask AP 45.2, mIoU 65.1", "swin_b_in22k": "PQ 56.4, mask AP 46.3, mIoU 67.1",
        "swin_l": "PQ 57.8, mask AP 48.6, mIoU 67.4",
    }),
    "coco_instance": (80, LSJ | {"drop_empty": True}, (800, 1333), {
        "r50": "mask AP 43.7", "r101": "mask AP 44.2", "swin_t": "mask AP 45.0", "swin_s": "mask AP 46.3",
        "swin_b": "mask AP 46.7", "swin_b_in22k": "mask AP 48.1", "swin_l": "mask AP 50.1",
    }),
    "ade20k_panoptic": (150, ADE640, (640, 2560), {
        "r50": "PQ 39.7, mask AP 26.5, mIoU 46.1", "swin_l": "PQ 48.1, mask AP 34.2, mIoU 54.5",
    }),
    "ade20k_instance": (100, ADE640, (640, 2560), {"r50": "mask AP 26.4", "swin_l": "mask AP 34.9"}),
    "ade20k_semantic": (150, ADE512 | SEMANTIC, (512, 2048), {
        "r50": "mIoU 47.2", "r101": "mIoU 47.8", "swin_t": "mIoU 47.7", "swin_s": "mIoU 51.3", "swin_b": "mIoU 52.4",
        "swin_b_in22k": "mIoU 53.9", "swin_l": "mIoU 56.1",
    }),
    "cityscapes_panoptic": (19, CITY, (1024, 2048), {
        "r50": "PQ 62.1, mask AP 37.3, mIoU 77.5", "r101": "PQ 62.4, mask AP 37.7, mIoU 78.6",
        "swin_t": "PQ 63.9, mask AP 39.1, mIoU 80.5", "swin_s": "PQ 64.8, mask AP 40.7, mIoU 81.8",
        "swin_b_in22k": "PQ 66.1, mask AP 42.8, mIoU 82.7", "swin_l": "PQ 66.6, mask AP 43.6, mIoU 82.9",
    }),
    "cityscapes_instance": (8, CITY, (1024, 2048), {
        "r50": "mask AP 37.4", "r101": "mask AP 38.5", "swin_t": "mask AP 39.7", "swin_s": "mask AP 41.8",
        "swin_b_in22k": "mask AP 42.0", "swin_l": "mask AP 43.7",
    }),
    "cityscapes_semantic": (19, CITY | SEMANTIC, (1024, 2048), {
        "r50": "mIoU 79.4", "r101": "mIoU 80.1", "swin_t": "mIoU 82.1", "swin_s": "mIoU 82.6",
        "swin_b_in22k": "mIoU 83.3", "swin_l": "mIoU 83.3",
    }),
    "mapillary_vistas_panoptic": (65, VISTAS, (2048, 2048), {
        "r50": "PQ 36.3, mIoU 50.7", "swin_l": "PQ 45.5, mIoU 60.8",
    }),
    "mapillary_vistas_semantic": (65, VISTAS | SEMANTIC, (2048, 2048), {"r50": "mIoU 57.4", "swin_l": "mIoU 63.2"}),
}  # fmt: skip
_STEPS = {"coco": 368750, "ade20k": 160000, "cityscapes": 90000, "mapillary_vistas": 300000}
_ENDINGS = {"coco": "_50ep", "ade20k": "_160k", "cityscapes": "_90k", "mapillary_vistas": "_300k"}


def _row(task, backbone):
    num_labels, transform, test_size, scores = _TASKS[task]
    data_set, _, kind = task.rpartition("_")
    steps, drops, ending = _STEPS[data_set], (), _ENDINGS[data_set]
    if data_set == "coco":
        drops = (327778, 355092)
        if backbone == "swin_l":
            steps, drops, ending = 737500, (655556, 710184), "_100ep"
    if task == "ade20k_semantic" and backbone in ("swin_b", "swin_b_in22k", "swin_l"):
        transform, test_size, ending = ADE640 | SEMANTIC, (640, 2560), "_160k_res640"
    if task == "ade20k_semantic" and backbone == "r101":
        ending = "_90k"
    file = f"{data_set.replace('_', '-')}/{kind}-segmentation/{_FILES[backbone]}{ending}.yaml"
    if task == "mapillary_vistas_panoptic":
        file = file.replace("maskformer2_R50", "maskformer_R50")
    return Published(
        steps=steps,
        drops=drops,
        transform=transform,
        test_size=test_size,
        num_labels=num_labels,
        num_queries=200 if backbone == "swin_l" and kind != "semantic" else 100,
        learns_norms=data_set == "cityscapes" or (task, backbone) == ("ade20k_semantic", "r101"),
        weights=WEIGHTS[backbone],
        scores=scores[backbone],
        file=file,
    )


PUBLISHED = {f"{task}_{backbone}": _row(task, backbone) for task, (*_, scores) in _TASKS.items() for backbone in scores}
