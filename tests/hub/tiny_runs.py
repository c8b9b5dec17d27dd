# SPDX-License-Identifier: Apache-2.0
"""Small models and what runs leave behind."""

import torch
import yaml
from transformers import ResNetConfig

from unisegment import UniSegmentConfig, UniSegmentForUniversalSegmentation, UniSegmentImageProcessor
from unisegment.runs.recipe import load_recipe

LABELS = {0: "cow", 1: "no: [yaml] # | `x` <b>", 2: "sky"}


def tiny_model(**keys):
    backbone = ResNetConfig(embedding_size=8, hidden_sizes=[8, 8, 8, 8], depths=[1, 1, 1, 1])
    sizes = {"feature_size": 32, "mask_feature_size": 16, "hidden_dim": 32, "encoder_feedforward_dim": 16}
    sizes |= {
        "dim_feedforward": 16,
        "encoder_layers": 1,
        "decoder_layers": 2,
        "num_queries": 5,
        "num_attention_heads": 2,
    }
    return UniSegmentForUniversalSegmentation(
        UniSegmentConfig(backbone_config=backbone, id2label=LABELS, **{**sizes, **keys})
    )


def tiny_processor():
    return UniSegmentImageProcessor(size={"shortest_edge": 64, "longest_edge": 96}, stuff_label_ids=[2])


def save(folder, **keys):
    """Write a checkpoint."""
    tiny_model(**keys).save_pretrained(folder)
    tiny_processor().save_pretrained(folder)
    return folder


METRICS = {
    "pq": 0.8123456789, "sq": 0.9, "rq": 0.85, "pq_things": 0.7, "pq_stuff": 0.6, "mask_ap": 0.5, "miou": 0.95,
    "images": 31, "unreadable_images": [], "step": 7, "train_seconds": 5400.0, "finished": True,
}  # fmt: skip


def write_recipe(folder, root, **keys):
    base = {
        "data": {"root": str(root), "format": "coco_panoptic"},
        "schedule": {"max_steps": 7},
        "run": {"output_dir": str(folder)},
    }
    (folder / "base.yaml").write_text(yaml.safe_dump(base))
    recipe = load_recipe(folder / "base.yaml", {"optim.batch_size": 4, **keys})
    (folder / "base.yaml").unlink()
    (folder / "recipe.yaml").write_text(recipe.to_yaml())


def logits(model):
    with torch.no_grad():
        output = model.eval()(torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(3)))
    return output.class_queries_logits, output.masks_queries_logits
