# SPDX-License-Identifier: Apache-2.0
"""The published recipes say what the original's config files say, and run on the layouts of their data sets."""

import functools
import json
import math

import pytest
import torch

from tests.recipes import small_trees
from tests.recipes.published_eomt_table import PUBLISHED_EOMT
from tests.recipes.published_table import PUBLISHED, WEIGHTS
from unisegment.data.transforms.training import TrainTransform
from unisegment.models.unisegment.configuration_unisegment import UniSegmentConfig
from unisegment.models.unisegment.modeling_unisegment import UniSegmentForUniversalSegmentation
from unisegment.runs.recipe_files import find_recipe, recipe_names
from unisegment.training import fit, load_recipe
from unisegment.training.optimization import lr_factor

OWN = {
    *("quickstart", "quickstart_eomt", "coco_sample"),
    *("own_data_panoptic", "own_data_instance", "own_data_semantic", "own_data_scratch"),
}
BACKBONES = sorted(WEIGHTS, key=len, reverse=True)
SWIN = {
    "swin_t": (96, (2, 2, 6, 2), (3, 6, 12, 24), 7),
    "swin_s": (96, (2, 2, 18, 2), (3, 6, 12, 24), 7),
    "swin_b": (128, (2, 2, 18, 2), (4, 8, 16, 32), 12),
    "swin_b_in22k": (128, (2, 2, 18, 2), (4, 8, 16, 32), 12),
    "swin_l": (192, (2, 2, 18, 2), (6, 12, 24, 48), 12),
}
RESNET_DEPTHS = {"r50": (3, 4, 6, 3), "r101": (3, 4, 23, 3)}
published = functools.cache(load_recipe)
METRICS = {"panoptic": "pq", "instance": "mask_ap", "semantic": "miou"}

SMALL_MODEL = {
    "use_pretrained_backbone": False,
    **dict.fromkeys(["feature_size", "mask_feature_size", "hidden_dim"], 32),
    **dict.fromkeys(["encoder_feedforward_dim", "dim_feedforward"], 16),
    **{"encoder_layers": 1, "decoder_layers": 2, "num_attention_heads": 2, "num_queries": 7, "train_num_points": 32},
    "backbone_config.depths": [1, 1, 1, 1],
}
SMALL_BACKBONE = {
    "resnet": {"embedding_size": 8, "hidden_sizes": [8, 8, 16, 16], "layer_type": "basic"},
    "swin": {"embed_dim": 8, "num_heads": [1, 1, 2, 2]},
}
SMALL_TRANSFORM = {
    "jitter_size": {"jitter_size": [32, 32]},
    "crop_size": {"shortest_edge": [24, 40], "longest_edge": 96, "crop_size": [16, 32]},
}


def split(name):
    """Return data set and task, the task alone, and the backbone of a recipe."""
    backbone = next(backbone for backbone in BACKBONES if name.endswith(f"_{backbone}"))
    data_format = name.removesuffix(f"_{backbone}")
    return data_format, data_format.rpartition("_")[2], backbone


def model_config(name):
    config = published(name).model.config | {"use_pretrained_backbone": False}
    return UniSegmentConfig(**config, num_labels=PUBLISHED[name].num_labels)


def test_there_is_a_recipe_for_each_configuration():
    assert len(PUBLISHED) == 47
    assert set(recipe_names()) == PUBLISHED.keys() | PUBLISHED_EOMT.keys() | OWN


@pytest.mark.parametrize("name", PUBLISHED)
def test_numbers_are_the_published_ones(name):
    recipe, row = published(name), PUBLISHED[name]
    data_format, task, _ = split(name)
    optim, schedule = recipe.optim, recipe.schedule
    assert recipe.data.format == data_format
    assert (recipe.data.shortest_edge, recipe.data.longest_edge) == row.test_size
    assert recipe.data.transform == TrainTransform(**row.transform)
    assert recipe.data.only_annotated == (task == "instance")
    assert recipe.data.workers == (10 if data_format.startswith("mapillary") else 4)
    assert (optim.lr, optim.backbone_lr_factor, optim.weight_decay) == (1e-4, 0.1, 0.05)
    assert (optim.batch_size, optim.accumulation, optim.clip_norm, optim.ema_decay) == (16, 1, 0.01, 0)
    assert (schedule.max_steps, schedule.warmup_steps) == (row.steps, 0)
    factor = lr_factor(schedule)
    if row.drops:
        first, second = row.drops
        factors = [factor(step) for step in (0, first - 1, first, second - 1, second, row.steps - 1)]
        assert factors == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])
    else:
        assert [factor(0), factor(row.steps // 4)] == pytest.approx([1, 0.75**0.9])
    assert recipe.evaluation.panoptic_threshold == (0.0 if data_format.startswith("mapillary") else 0.8)
    assert recipe.run.eval_every == (0 if data_format.startswith("mapillary") else 5000)
    assert (recipe.run.precision, recipe.run.best_metric) == ("fp16", METRICS[task])
    assert recipe.run.output_dir == f"runs/{name}"


@pytest.mark.parametrize("name", PUBLISHED)
def test_models_are_the_published_ones(name):
    config, row = model_config(name), PUBLISHED[name]
    _, _, backbone = split(name)
    body, chosen = config.backbone_config, published(name).model.config
    assert chosen["use_pretrained_backbone"]
    assert (config.backbone, config.num_queries) == (row.weights, row.num_queries)
    assert config.freeze_backbone_norm != row.learns_norms
    assert (config.hidden_dim, config.feature_size, config.mask_feature_size) == (256, 256, 256)
    assert (config.encoder_layers, config.encoder_feedforward_dim, config.encoder_n_points) == (6, 1024, 4)
    assert (config.decoder_layers, config.dim_feedforward, config.num_attention_heads) == (10, 2048, 8)
    assert (config.class_weight, config.mask_weight, config.dice_weight) == (2, 5, 5)
    assert (config.no_object_weight, config.dropout, config.pre_norm) == (0.1, 0, False)
    assert (config.train_num_points, config.oversample_ratio, config.importance_sample_ratio) == (12544, 3, 0.75)
    if backbone in SWIN:
        assert (body.embed_dim, tuple(body.depths), tuple(body.num_heads), body.window_size) == SWIN[backbone]
        assert (body.drop_path_rate, body.patch_size, body.mlp_ratio, body.qkv_bias) == (0.3, 4, 4, True)
        assert (body.hidden_dropout_prob, body.attention_probs_dropout_prob) == (0, 0)
        assert (body.use_absolute_embeddings, body.image_size) == (False, 384 if body.window_size == 12 else 224)
    else:
        assert (body.layer_type, body.downsample_in_bottleneck, body.downsample_in_first_stage) == (
            "bottleneck", False, False,
        )  # fmt: skip
        assert (tuple(body.depths), body.hidden_sizes) == (RESNET_DEPTHS[backbone], [256, 512, 1024, 2048])


@pytest.mark.parametrize("name", PUBLISHED)
def test_files_name_their_origin_and_the_scores_to_expect(name):
    header = " ".join(line[2:] for line in find_recipe(name).read_text().splitlines() if line.startswith("# "))
    row = PUBLISHED[name]
    assert f"(arXiv:2112.01527), {row.file} " in header
    assert f"Expected: {row.scores}" in header
    assert "Cost: " in header
    page = (find_recipe(name).parents[1] / "docs" / "published.md").read_text(encoding="utf-8")
    (line,) = (line for line in page.split("## Which GPU")[0].splitlines() if f"| `{name}` | " in line)
    assert row.scores in line


@pytest.mark.parametrize(
    ("backbone", "millions"),
    [("r50", 44.0), ("r101", 63.0), ("swin_t", 47.4), ("swin_s", 68.7), ("swin_b", 106.9), ("swin_l", 215.5)],
)
def test_models_have_as_many_parameters_as_the_original(backbone, millions):
    with torch.device("meta"):
        model = UniSegmentForUniversalSegmentation(model_config(f"coco_panoptic_{backbone}"))
    count = sum(weight.numel() for weight in model.parameters())
    if backbone.startswith("r"):
        # Scale and shift of batch norms are constants here, and are counted there.
        count += sum(buffer.numel() for key, buffer in model.named_buffers() if key.endswith((".weight", ".bias")))
    assert count // 100_000 / 10 == millions  # further digits are cut off


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    """Return the folder of a data set in a format, made when it is asked for."""
    made = {}

    def tree(data_format):
        if data_format not in made:
            made[data_format] = tmp_path_factory.mktemp(data_format)
            getattr(small_trees, data_format)(made[data_format])
        return made[data_format]

    return tree


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_recipe_trains_and_evaluates(name, trees, tmp_path, capsys):
    data_format, task, _ = split(name)
    recipe, row = published(name), PUBLISHED[name]
    kind = recipe.model.config["backbone_config"]["model_type"]
    model = SMALL_MODEL | {f"backbone_config.{key}": value for key, value in SMALL_BACKBONE[kind].items()}
    transform = SMALL_TRANSFORM["jitter_size" if row.drops else "crop_size"]
    metrics = fit(
        name,
        **{f"model.config.{key}": value for key, value in model.items()},
        **{f"data.transform.{key}": value for key, value in transform.items()},
        **{"data.root": str(trees(data_format)), "data.workers": 0, "data.shortest_edge": 32, "data.longest_edge": 64},
        **{"optim.batch_size": 2, "schedule.max_steps": 2, "evaluation.pictures": 0},
        **{"run.output_dir": str(tmp_path), "run.precision": "no", "run.threads": 1},
        **{"run.checkpoint_every": 0, "run.eval_every": 0},
    )
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [math.isfinite(line["loss"]) for line in log] == [True, True]
    assert metrics["finished"]
    assert metrics["images"] == 1
    assert 0 <= metrics[METRICS[task]] <= 1
    config = UniSegmentConfig.from_pretrained(tmp_path / "checkpoint")
    assert config.num_labels == row.num_labels
