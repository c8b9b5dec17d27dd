# SPDX-License-Identifier: Apache-2.0
"""The folder that code on the pages runs in: photographs, data sets, a run, and checkpoints of three code bases.

Names on the Hub that pages use are folders here, which are opened the same way.
"""

import contextlib
import shutil
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import (
    Mask2FormerConfig,
    Mask2FormerForUniversalSegmentation,
    Mask2FormerImageProcessorPil,
    ResNetConfig,
)

from unisegment import UniSegmentForUniversalSegmentation
from unisegment.data.categories import label_names
from unisegment.training import fit

BACKBONE = {
    "embedding_size": 8, "hidden_sizes": [8, 8, 8, 8], "depths": [1, 1, 1, 1],
    "out_features": ["stage1", "stage2", "stage3", "stage4"],
}  # fmt: skip
SIZES = {
    "feature_size": 32, "mask_feature_size": 16, "hidden_dim": 32, "encoder_layers": 1, "decoder_layers": 2,
    "num_attention_heads": 2, "num_queries": 7, "train_num_points": 112,
}  # fmt: skip
STOCK = "facebook/mask2former-swin-tiny-coco-panoptic"
IMAGE_SIZE = {"shortest_edge": 64, "longest_edge": 96}


def make_folder(folder: Path) -> Path:
    with contextlib.chdir(folder):
        _train_the_quickstart()
        shutil.copytree("runs/quickstart-scenes", "data/mine")
        _save_stock()
        _write_images()
        for name in ("gt", "predictions"):
            shutil.copy("data/mine/annotations/panoptic_val.json", f"{name}.json")
            shutil.copytree("data/mine/annotations/panoptic_val", name)
        for name in ("cows", "coco"):
            shutil.copytree("runs/quickstart/checkpoint", f"user/{name}")
    return folder


def _train_the_quickstart() -> None:
    """Train the quickstart for two steps, smaller than it is; then let every query be sure of a label."""
    short = {"schedule.max_steps": 2, "data.num_train": 4, "data.num_val": 3, "evaluation.pictures": 2}
    short |= {"data.shortest_edge": 64, "data.longest_edge": 96, "optim.batch_size": 2, "run.threads": 1}
    model = {f"model.config.{key}": value for key, value in SIZES.items()}
    fit("quickstart", **short, **model, **{"model.config.backbone_config": {"model_type": "resnet", **BACKBONE}})
    checkpoint = "runs/quickstart/checkpoint"
    model = UniSegmentForUniversalSegmentation.from_pretrained(checkpoint)
    head = "transformer_decoder.predictor"
    _make_sure(model, f"{head}.class_head.bias", f"{head}.mask_head.4.bias", "pixel_decoder.mask_proj.bias")
    model.save_pretrained(checkpoint)


def _save_stock() -> None:
    labels = label_names("coco_panoptic")
    config = Mask2FormerConfig(backbone_config=ResNetConfig(**BACKBONE), id2label=labels, **SIZES)
    model = Mask2FormerForUniversalSegmentation(config)
    pixels = "model.pixel_level_module.decoder.mask_projection.bias"
    queries = "model.transformer_module.decoder.mask_predictor.mask_embedder.2.0.bias"
    _make_sure(model, "class_predictor.bias", pixels, queries)
    model.save_pretrained(STOCK)
    Mask2FormerImageProcessorPil(size=IMAGE_SIZE).save_pretrained(STOCK)
    ours = UniSegmentForUniversalSegmentation.from_pretrained(STOCK)
    ours.export_original("model_final.pkl")


def _make_sure(model: torch.nn.Module, class_head: str, *mask_heads: str) -> None:
    """Let label 0 win, and masks cover the image: an untrained model would find nothing."""
    with torch.no_grad():
        model.get_parameter(class_head)[0] += 20
        for name in mask_heads:
            model.get_parameter(name).add_(2)


def _write_images() -> None:
    numbers = np.random.default_rng(0)
    Path("photos").mkdir()
    for name, size in (("photo.jpg", (53, 71)), ("photos/first.jpg", (61, 83)), ("photos/second.png", (53, 71))):
        Image.fromarray(numbers.integers(0, 256, (*size, 3), dtype=np.uint8)).save(name)
