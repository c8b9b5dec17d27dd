# SPDX-License-Identifier: Apache-2.0
"""The recipes of EoMT say what the config files and defaults of its code say, and run on the layouts of their data."""

import functools
import json
import math

import pytest
import torch

from tests.recipes import small_trees
from tests.recipes.published_eomt_table import PUBLISHED_EOMT
from unisegment.data.transforms.training import TrainTransform
from unisegment.models.base import FAMILIES
from unisegment.models.eomt.configuration_eomt import UniSegmentEomtConfig
from unisegment.models.eomt.modeling_eomt import UniSegmentEomtForUniversalSegmentation
from unisegment.runs.recipe_files import find_recipe
from unisegment.training import fit, load_recipe
from unisegment.training.optimization import lr_factor

WIDTHS = {"small": (384, 12, 6, 3), "base": (768, 12, 12, 3), "large": (1024, 24, 16, 4)}
"""Channels, blocks, heads, and blocks with queries."""
METRICS = {"coco_panoptic": "pq", "coco_instance": "mask_ap", "ade20k_semantic": "miou"}
SMALL_MODEL = {
    **{"use_pretrained_backbone": False, "backbone": None, "image_size": 32, "hidden_size": 16},
    **{"num_hidden_layers": 4, "num_attention_heads": 2, "num_queries": 7, "train_num_points": 32},
}
published = functools.cache(load_recipe)


def model_config(name):
    """Return the config of a recipe, of whose backbone nothing is read: what it does not say is that of a ViT-L."""
    keys = published(name).model.config | {"backbone": None, "use_pretrained_backbone": False}
    return UniSegmentEomtConfig(**keys, num_labels=PUBLISHED_EOMT[name].num_labels)


@pytest.mark.parametrize("name", PUBLISHED_EOMT)
def test_numbers_are_the_published_ones(name):
    recipe, row = published(name), PUBLISHED_EOMT[name]
    data, optim, schedule = recipe.data, recipe.optim, recipe.schedule
    assert recipe.model.type == "unisegment_eomt"
    assert (data.format, data.only_annotated, data.workers) == (row.data_format, True, 4)
    assert data.transform == TrainTransform(
        jitter_size=(row.size, row.size), jitter_scale=row.scales, ssd_color=row.jitters_colors, flip_prob=0.5,
        nearest="corner", pad_value=0, drop_empty=True, redraw_empty=True,
    )  # fmt: skip
    assert (optim.lr, optim.layer_decay, optim.backbone_lr_factor) == (row.lr, 0.8, 1.0)
    assert optim.full_rate_layers == row.full_rate_layers
    assert (optim.weight_decay, optim.decay_all, optim.clip_norm, optim.ema_decay) == (0.05, True, 0.01, 0)
    assert (optim.batch_size, optim.accumulation) == (16, 1)
    assert schedule.max_steps == row.epochs * row.epoch
    assert recipe.evaluation.panoptic_threshold == 0.8
    assert (recipe.run.precision, recipe.run.best_metric) == ("fp16", METRICS[row.data_format])
    assert recipe.run.eval_every == row.evaluated_after * row.epoch
    assert recipe.run.output_dir == f"runs/{name}"


@pytest.mark.parametrize("name", PUBLISHED_EOMT)
def test_the_rest_rises_first_and_the_backbone_after_it(name):
    schedule, (first, second) = published(name).schedule, PUBLISHED_EOMT[name].warmup
    rest, backbone = (lr_factor(schedule, in_backbone) for in_backbone in (False, True))
    half, both = first + (schedule.max_steps - first) // 2, first + second
    assert [rest(step) for step in (0, first // 2, first, half)] == pytest.approx([0, 0.5, 1, 0.5**0.9], rel=1e-4)
    assert [backbone(step) for step in (0, first, first + second // 2, both)] == pytest.approx([0, 0, 0.5, 1])
    assert backbone(both + (schedule.max_steps - both) // 2) == pytest.approx(0.5**0.9, rel=1e-4)


@pytest.mark.parametrize("name", PUBLISHED_EOMT)
def test_images_are_seen_as_in_the_original(name):
    recipe, row = published(name), PUBLISHED_EOMT[name]
    longest = 640 if not row.has_windows else recipe.data.longest_edge
    assert (recipe.data.shortest_edge, recipe.data.longest_edge) == (row.size, longest)
    processor = FAMILIES["unisegment_eomt"].new_processor(model_config(name), **recipe.model.processor)
    assert (processor.do_split_image, processor.do_pad) == (row.has_windows, not row.has_windows)
    assert longest == 640 or longest >= 16384  # no limit


@pytest.mark.parametrize("name", PUBLISHED_EOMT)
def test_models_are_the_published_ones(name):
    config, row, chosen = model_config(name), PUBLISHED_EOMT[name], published(name).model.config
    of_dinov3 = f"facebook/dinov3-vit{row.vit[0]}16-pretrain-lvd1689m"
    assert chosen["backbone"] == (of_dinov3 if row.is_dinov3 else f"facebook/dinov2-with-registers-{row.vit}")
    assert chosen["use_pretrained_backbone"]
    assert WIDTHS[row.vit] == (
        config.hidden_size, config.num_hidden_layers, config.num_attention_heads, config.num_blocks,
    )  # fmt: skip
    assert (config.image_size, config.patch_size, config.num_upscale_blocks) == (row.size, 16, 2)
    assert (config.num_queries, config.num_register_tokens) == (row.num_queries, 4)
    assert (config.position_encoding, config.key_bias) == (("rope", False) if row.is_dinov3 else ("learned", True))
    assert (config.class_weight, config.mask_weight, config.dice_weight, config.no_object_weight) == (2, 5, 5, 0.1)
    assert (config.train_num_points, config.oversample_ratio, config.importance_sample_ratio) == (12544, 3, 0.75)
    assert (config.drop_path_rate, config.hidden_dropout_prob, config.attention_dropout) == (0, 0, 0)
    assert (config.attn_mask_annealing, config.attn_mask_annealing_power) == (True, 0.9)
    steps = published(name).schedule.max_steps
    for shares, wanted in zip(zip(*config.annealing_shares, strict=True), row.annealing, strict=True):
        assert [share * steps for share in shares] == pytest.approx(wanted, abs=2)


@pytest.mark.parametrize("name", PUBLISHED_EOMT)
def test_files_name_their_origin_and_the_scores_to_expect(name):
    header = " ".join(line[2:] for line in find_recipe(name).read_text().splitlines() if line.startswith("# "))
    row = PUBLISHED_EOMT[name]
    assert f"(arXiv:2503.19108), configs/{row.file} " in header
    assert f"Expected: {row.scores}" in header
    assert "Cost: " in header
    page = (find_recipe(name).parents[1] / "docs" / "published.md").read_text(encoding="utf-8")
    lines = [line for line in page.splitlines() if line.startswith(f"| `{name}` | ")]  # of scores, and of memory
    assert row.scores in lines[0]


@pytest.mark.parametrize("name", [name for name, row in PUBLISHED_EOMT.items() if row.millions])
def test_models_have_as_many_parameters_as_the_paper_says(name):
    with torch.device("meta"):
        model = UniSegmentEomtForUniversalSegmentation(model_config(name))
    millions = sum(weight.numel() for weight in model.parameters()) / 1e6
    assert millions == pytest.approx(PUBLISHED_EOMT[name].millions, abs=0.75)  # neither rounded nor cut off alike


@pytest.mark.parametrize("name", PUBLISHED_EOMT)
def test_every_recipe_trains_and_evaluates(name, tmp_path, capsys):
    row = PUBLISHED_EOMT[name]
    getattr(small_trees, row.data_format)(tmp_path / "data")
    metrics = fit(
        name,
        **{f"model.config.{key}": value for key, value in SMALL_MODEL.items()},
        **{"data.root": str(tmp_path / "data"), "data.workers": 0, "data.transform.jitter_size": [32, 32]},
        **{"data.shortest_edge": 32, "data.longest_edge": 32 if not row.has_windows else 64},
        **{"optim.batch_size": 2, "schedule.max_steps": 2, "evaluation.pictures": 0},
        **{"schedule.warmup_steps": 1, "schedule.backbone_warmup_steps": 0},
        **{"run.output_dir": str(tmp_path / "run"), "run.precision": "no", "run.threads": 1},
        **{"run.checkpoint_every": 0, "run.eval_every": 0},
    )
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [math.isfinite(line["loss"]) for line in log] == [True, True]
    assert metrics["finished"]
    assert metrics["images"] == 1
    assert 0 <= metrics[METRICS[row.data_format]] <= 1
    config = UniSegmentEomtConfig.from_pretrained(tmp_path / "run" / "checkpoint")
    assert config.num_labels == row.num_labels
