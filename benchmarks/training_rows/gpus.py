# SPDX-License-Identifier: Apache-2.0
"""What a training step of each recipe needs, by forecast, and how many images at once fit on which GPU.

A step is gone through with shapes alone, as `--dry-run` does it, in the recipe's own number format and at the size of
its training images, with SEGMENTS segments in each image, for one image and for two; more images are added in a
straight line. How close the forecast is to measured peaks is tested in tests/training/test_memory.py.
"""

import json
import math

import torch

from unisegment.data.annotated_images import AnnotatedImages, categories_from_table
from unisegment.ops.kernel_backend import resolve_backend
from unisegment.structures import SegmentationTarget
from unisegment.training import load_recipe
from unisegment.training.assembly import build_model
from unisegment.training.memory import step_memory
from unisegment.training.optimization import make_optimizer

SEGMENTS, LABELS = 20, 133
GPUS = (8, 16, 24, 40, 80)
MOST_IMAGES = 16
RESERVE = 1.0, 0.1
"""GiB for CUDA itself, and the share of the peak that the allocator loses in gaps."""
VARIANTS = [(images, checkpointing) for checkpointing in (False, True) for images in (1, 2)]
BACKBONES = ("r50", "r101", "swin_t", "swin_s", "swin_b", "swin_l")
DEFAULT = [
    *(f"coco_panoptic_{backbone}" for backbone in BACKBONES),
    *("ade20k_semantic_r50", "ade20k_panoptic_swin_l", "cityscapes_panoptic_r50", "cityscapes_panoptic_swin_l"),
    *("coco_panoptic_eomt_s", "coco_panoptic_eomt_b", "coco_panoptic_eomt_l", "ade20k_semantic_eomt_l"),
    *("own_data_panoptic", "own_data_semantic"),
]
"""Recipes of other tasks and data sets need what those of the same backbone and image size need."""


def save_forecasts(names, output):
    """Go through the recipes, and print a table and save what they need."""
    print("\n".join(table([])))
    rows = []
    for name in names:
        rows.append(forecast(name))
        print(line(rows[-1]), flush=True)
        report = {"what": "forecast of a training step's memory on one GPU", "segments per image": SEGMENTS}
        report |= {"torch": torch.__version__, "operators of": device(), "ms_deform_attn": resolve_backend()}
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps(report | {"recipes": rows}, indent=1) + "\n", encoding="utf-8")


def table(rows):
    """Return the lines of the table."""
    head = ["recipe", "training size", "GiB, 1 and 2 images", "with checkpointing", *(f"{size} GB" for size in GPUS)]
    return ["| " + " | ".join(head) + " |", "|---" * len(head) + "|", *map(line, rows)]


def line(row):
    """Return the line of the table: GiB, and for each GPU how many images fit without and with checkpointing."""
    peaks = [entry["peak GiB"] for entry in row["variants"]]
    pairs = peaks[:2], peaks[2:]
    cells = [f"{one:.1f}, {two:.1f}" for one, two in pairs]
    cells += [" / ".join(str(images_on(size, *pair)) for pair in pairs) for size in GPUS]
    height, width = row["size"]
    return f"| {row['recipe']} | {height}x{width} | " + " | ".join(cells) + " |"


def device():
    return "cuda" if torch.backends.cuda.is_built() else "cpu"


def images_on(size, one, two):
    """Return how many images fit on a GPU, from the peaks for one and two; no more than a whole batch."""
    room = (size - RESERVE[0]) / (1 + RESERVE[1])
    return min(MOST_IMAGES, max(0, 1 + math.floor((room - one) / (two - one))))


def forecast(name):
    """Return what a recipe needs in each of the variants."""
    recipe = load_recipe(name)
    size = recipe.data.transform.jitter_size or recipe.data.transform.crop_size
    changes = {"model.config.use_pretrained_backbone": False, "model.config.backbone": None}
    if recipe.model.pretrained:  # one of the Hub, with a Swin-T
        same = load_recipe("coco_panoptic_swin_t").model.config
        changes = {"model.pretrained": None, "model.config": {"backbone_config": same["backbone_config"]}}
    dtype = {"no": None, "bf16": torch.bfloat16, "fp16": torch.float16}[recipe.run.precision]
    categories = categories_from_table(range(LABELS), {str(label): True for label in range(LABELS)})
    variants = []
    for images, checkpointing in VARIANTS:
        chosen = load_recipe(recipe, changes | {"model.gradient_checkpointing": checkpointing})
        model, _ = build_model(chosen, AnnotatedImages(categories))
        needed = step_memory(
            model,
            lambda module: make_optimizer(module, recipe.optim),
            make_inputs(images, *size),
            autocast_dtype=dtype,
            device=device(),
        )
        entry = {"images": images, "checkpointing": checkpointing, "peak GiB": round(needed.peak / 2**30, 2)}
        variants.append(entry | {part: round(count / 2**20) for part, count in needed.parts.items() if count})
    return {"recipe": name, "size": list(size), "precision": recipe.run.precision, "variants": variants}


def make_inputs(images, height, width):
    """Return a batch of the right shapes."""
    target = SegmentationTarget(
        labels=torch.zeros(SEGMENTS, dtype=torch.int64),
        id_map=torch.randint(0, SEGMENTS + 1, (height, width), dtype=torch.int32),
        segment_ids=torch.arange(1, SEGMENTS + 1),
    )
    return {"pixel_values": torch.zeros(images, 3, height, width), "mask_labels": [target] * images}
