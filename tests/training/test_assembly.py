# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from transformers.modeling_layers import GradientCheckpointingLayer

from tests.data.rows import save, semantic_rows
from tests.models.model_tester import random_targets
from tests.models.unisegment.original_files import original_state_dict, stock_model, write_pickle
from tests.recipes.small_trees import cityscapes_semantic, coco_instance, only_crowds
from unisegment.backbones import layer_order
from unisegment.data.formats import open_data_set
from unisegment.data.image_sources import ImageFolder, open_images
from unisegment.data.transforms.training import TrainTransform
from unisegment.inference import export_run
from unisegment.inference.labels import match_data_set
from unisegment.inference.predictor import open_predictor
from unisegment.models.base import FAMILIES
from unisegment.models.image_processor_settings import ImageProcessorSettings
from unisegment.models.unisegment.configuration_unisegment import UniSegmentConfig
from unisegment.models.unisegment.image_processing_unisegment import UniSegmentImageProcessor
from unisegment.runs.recipe import (
    DataRecipe,
    ModelRecipe,
    OptimRecipe,
    Recipe,
    RunRecipe,
    ScheduleRecipe,
    load_recipe,
)
from unisegment.runs.settings import RecipeError
from unisegment.training.assembly import (
    build_model,
    data_notes,
    open_batches,
    open_samples,
    plan_batches,
    region_labels,
)
from unisegment.training.optimization import make_optimizer

STAGES = ["stage1", "stage2", "stage3", "stage4"]
RESNET = {
    "model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1],
    "layer_type": "basic", "out_features": STAGES,
}  # fmt: skip
SMALL = {
    "feature_size": 32, "mask_feature_size": 16, "hidden_dim": 32, "encoder_layers": 1, "decoder_layers": 4,
    "num_attention_heads": 2, "num_queries": 11, "dim_feedforward": 40, "encoder_feedforward_dim": 24,
    "train_num_points": 61, "freeze_backbone_norm": False,
}  # fmt: skip


def test_drawn_scenes_are_made_once(tmp_path):
    data = DataRecipe(root=str(tmp_path / "scenes"), format="synthetic", num_train=3, num_val=2)
    train, held_out = open_samples(data)
    assert (len(train), len(held_out)) == (3, 2)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    open_samples(data)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_labels_of_regions_are_stuff_and_in_semantic_data_all(tmp_path):
    data = DataRecipe(root=str(tmp_path / "scenes"), format="synthetic", num_train=3, num_val=2)
    train, _ = open_samples(data)
    assert region_labels(data, train) == [5, 6, 7]
    assert region_labels(replace(data, format="coco_panoptic"), train) == [5, 6, 7]
    assert region_labels(replace(data, format="png_semantic"), train) == [*range(8)]


def test_copy_paste_needs_objects(tmp_path):
    cityscapes_semantic(tmp_path)
    pasting = TrainTransform(copy_paste_prob=0.5)
    with pytest.raises(RecipeError, match=r"data\.transform\.copy_paste_prob=0\.5: there are no objects to paste"):
        open_samples(DataRecipe(root=str(tmp_path), format="cityscapes_semantic", transform=pasting))


def test_scenes_of_another_recipe_are_not_taken_for_ours(tmp_path):
    root = str(tmp_path / "scenes")
    open_samples(DataRecipe(root=root, format="synthetic", num_train=3, num_val=2))
    wanted = DataRecipe(root=root, format="synthetic", num_train=3, num_val=5)
    with pytest.raises(RecipeError, match=r"holds 3 scenes for training and 2 held out, .* data\.num_val=5"):
        open_samples(wanted)


@pytest.mark.parametrize("only_annotated", [False, True])
def test_crowds_alone_are_nothing_to_learn_and_nothing_to_evaluate(tmp_path, only_annotated):
    coco_instance(tmp_path)
    data = DataRecipe(root=str(tmp_path), format="coco_instance", only_annotated=only_annotated)
    assert data_notes(*open_samples(data)) == []
    only_crowds(tmp_path / "annotations/instances_val2017.json")
    (note,) = data_notes(*open_samples(data))
    assert "held-out images has a segment that is no crowd: there will be no scores" in note
    only_crowds(tmp_path / "annotations/instances_train2017.json")
    with pytest.raises(RecipeError, match=r"nothing to learn: none of the \d training images has a segment that is no"):
        open_samples(data)


def test_a_missing_data_set_is_an_error_that_says_what_was_looked_for(tmp_path):
    with pytest.raises(RecipeError, match=r"data\.root=.*, data\.format=coco_panoptic: .*panoptic_train2017\.json"):
        open_samples(DataRecipe(root=str(tmp_path), format="coco_panoptic"))
    with pytest.raises(RecipeError, match=r"data\.root=.*gone, data\.format=coco_panoptic: .*gone does not exist\.$"):
        open_samples(DataRecipe(root=str(tmp_path / "gone"), format="coco_panoptic"))


def test_training_starts_from_every_format(tmp_path):
    data = DataRecipe(root=str(tmp_path / "scenes"), format="synthetic", num_train=1, num_val=1)
    samples, _ = open_samples(data)
    stock = stock_model("resnet")
    stock.save_pretrained(tmp_path / "stock")
    write_pickle(tmp_path / "model.pkl", original_state_dict(stock))
    for source in ("stock", "model.pkl"):
        recipe = Recipe(
            data=data,
            model=ModelRecipe(pretrained=str(tmp_path / source)),
            schedule=ScheduleRecipe(max_steps=1),
            run=RunRecipe(output_dir=str(tmp_path / "run")),
        )
        model, processor = build_model(recipe, samples)
        assert model.config.id2label == samples.id2label
        assert [entry["name"] for entry in model.config.categories] == [*samples.id2label.values()]
        assert [entry["id"] for entry in model.config.categories] == [*samples.label_of]
        assert torch.equal(
            model.transformer_decoder.query_pos.weight, stock.model.transformer_module.queries_embedder.weight
        )
        assert processor.stuff_label_ids == samples.stuff_label_ids
        assert processor.size == {"shortest_edge": data.shortest_edge, "longest_edge": data.longest_edge}


def recipe_of(tmp_path, backbone_config=None, optim=None, **model):
    data = DataRecipe(root=str(tmp_path / "scenes"), format="synthetic", num_train=2, num_val=1)
    samples, _ = open_samples(data)
    recipe = Recipe(
        data=data,
        model=ModelRecipe(**{"config": SMALL | {"backbone_config": backbone_config or RESNET}, **model}),
        optim=optim or OptimRecipe(),
        schedule=ScheduleRecipe(max_steps=1),
        run=RunRecipe(output_dir=str(tmp_path / "run")),
    )
    return recipe, samples


def built(tmp_path, backbone_config=None, say=None, optim=None, **model):
    recipe, samples = recipe_of(tmp_path, backbone_config, optim, **model)
    torch.manual_seed(0)
    return build_model(recipe, samples, say)[0], samples


class OtherConfig(UniSegmentConfig):
    model_type = "other"


@pytest.fixture
def other_family(monkeypatch):
    family = replace(
        FAMILIES["unisegment"], config=OtherConfig, describe=lambda config: ["others", f"{config.num_queries} of them"]
    )
    monkeypatch.setitem(FAMILIES._others, "other", family)


def test_the_family_is_that_of_the_type_or_of_the_checkpoint(other_family, tmp_path):
    said = []
    model, samples = built(tmp_path, type="other", say=said.append)
    assert model.config.model_type == "other"
    assert [entry["isthing"] for entry in model.config.categories] == [1, 1, 1, 1, 1, 0, 0, 0]
    assert model.config.id2label == samples.id2label
    assert said[0].startswith("others and 11 of them, weights from no checkpoint; ")
    assert built(tmp_path)[0].config.model_type == "unisegment"
    stock_model("resnet").save_pretrained(tmp_path / "stock")
    found = built(tmp_path, pretrained=str(tmp_path / "stock"), config={}, say=said.append)[0]
    assert found.config.model_type == "unisegment"
    assert said[1].startswith(f"a resnet backbone and 13 queries, weights from {tmp_path}/stock; 0.0 of ")
    message = r"model\.pretrained=.*stock, model\.type=other: .*stock' is a checkpoint of model_type 'mask2former'"
    for config in ({}, {"num_queries": 5}):
        with pytest.raises(RecipeError, match=message):
            built(tmp_path, pretrained=str(tmp_path / "stock"), config=config, type="other")


def test_settings_of_the_processor_reach_it_and_stay_with_a_checkpoint(tmp_path):
    settings = {"image_mean": [0.5, 0.25, 0.125], "do_reduce_labels": True}
    stock_model("resnet").save_pretrained(tmp_path / "stock")
    for start in ({}, {"pretrained": str(tmp_path / "stock"), "config": {}}):
        recipe, samples = recipe_of(tmp_path, processor=settings, **start)
        processor = build_model(recipe, samples)[1]
        assert (processor.image_mean, processor.do_reduce_labels) == ([0.5, 0.25, 0.125], True)
        assert dict(processor.size) == {"shortest_edge": 800, "longest_edge": 1333}


class OtherSettings(ImageProcessorSettings):
    def __init__(self, *, do_split_image=False, **others):
        super().__init__(**others)


def test_settings_of_another_family_than_the_checkpoint_s_are_refused(monkeypatch, tmp_path):
    other = replace(FAMILIES["unisegment"], config=OtherConfig, settings=OtherSettings)
    monkeypatch.setitem(FAMILIES._others, "other", other)
    stock_model("resnet").save_pretrained(tmp_path / "stock")
    split = {"pretrained": str(tmp_path / "stock"), "config": {}, "processor": {"do_split_image": True}}
    message = r"stock: 'do_split_image' is not a setting of the image processor of Mask2Former\."
    with pytest.raises(RecipeError, match=message):
        built(tmp_path, **split)


def test_layer_decay_needs_layers(tmp_path, monkeypatch):
    monkeypatch.setattr(layer_order, "LAYOUTS", {})
    message = r"optim\.layer_decay=0\.5: which modules of this model \(a resnet backbone and 11 queries\) are its "
    with pytest.raises(RecipeError, match=message):
        built(tmp_path, optim=OptimRecipe(layer_decay=0.5))


def test_rows_of_parquet_files_are_learned_from_block_by_block(tmp_path):
    save(tmp_path, semantic_rows())
    data = DataRecipe(root=str(tmp_path / "parquet"), format="hugging_face", streaming=True)
    train, held_out = open_samples(data)
    assert (len(train), len(held_out)) == (7, 3)
    recipe = Recipe(data=data, schedule=ScheduleRecipe(max_steps=1), run=RunRecipe(output_dir="none"))
    assert plan_batches(recipe, train, range(1)).block_bounds.tolist() == [0, 2, 4, 6, 7]
    with pytest.raises(RecipeError, match=r"data\.root=.*, data\.format=hugging_face: .*no split 'none', only train"):
        open_samples(DataRecipe(root=data.root, format=data.format, splits={"train": "train", "val": "none"}))


def test_layers_are_computed_again_where_the_recipe_says_so(tmp_path):
    for asked in (False, True):
        model, _ = built(tmp_path, gradient_checkpointing=asked)
        layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
        assert [layer.gradient_checkpointing for layer in layers] == [asked] * 4


@pytest.mark.parametrize("frozen", [0, 1, 3, "all"])
def test_the_optimiser_holds_nothing_that_is_frozen(tmp_path, frozen):
    model, _ = built(tmp_path, frozen_stages=frozen, gradient_checkpointing=True)
    starts = ["embedder.", "encoder.stages.0.", "encoder.stages.1.", "encoder.stages.2.", "encoder.stages.3."]
    prefixes = tuple(f"backbone.body.{start}" for start in (starts if frozen == "all" else starts[:frozen]))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = make_optimizer(model, OptimRecipe(lr=0.01))
    masks, labels = random_targets([3, 2], 64, 96)
    for _ in range(2):
        model.train()(torch.randn(2, 3, 64, 96), mask_labels=masks, class_labels=labels).loss.backward()
        optimizer.step()
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    assert held == {id(value) for name, value in model.named_parameters() if not name.startswith(prefixes or ("-",))}
    same = {name for name, value in model.state_dict().items() if torch.equal(value, before[name])}
    assert same == {name for name in before if name.startswith(prefixes or ("-",))}


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"do_normalize": False},
        {"do_rescale": False},
        {"do_rescale": False, "do_normalize": False},
        {"rescale_factor": 1 / 127.5, "image_mean": [1.0] * 3, "image_std": [0.5, 0.7, 0.9]},
        {"size_divisor": 48},
        {"pad_size": {"height": 131, "width": 173}},
    ],
)
def test_images_are_prepared_as_the_processor_prepares_them(tmp_path, settings):
    coco_instance(tmp_path)
    data = DataRecipe(root=str(tmp_path), format="coco_instance", transform=TrainTransform(flip_prob=0.0))
    recipe = Recipe(
        data=data,
        optim=OptimRecipe(batch_size=3),
        schedule=ScheduleRecipe(max_steps=1),
        run=RunRecipe(output_dir=str(tmp_path / "run")),
    )
    samples, _ = open_samples(data)
    processor = UniSegmentImageProcessor(do_resize=False, **settings)
    ((batch,),) = open_batches(recipe, samples, processor, range(1), workers=0)
    images = {sample.file_name: sample.image for sample in samples}
    expected = processor([images[name] for name in batch.file_names])
    assert torch.equal(batch.inputs["pixel_values"], expected["pixel_values"])
    assert torch.equal(batch.inputs["pixel_mask"].long(), expected["pixel_mask"])


def test_training_and_use_see_the_same_levels_of_16_bits(tmp_path, monkeypatch):
    coco_instance(tmp_path)
    for file in tmp_path.rglob("*.jpg"):
        with Image.open(file) as image:
            shape = image.height, image.width
        scan = np.random.default_rng(sum(shape)).integers(47, 1028, shape, dtype=np.uint16)
        Image.fromarray(scan).save(file, "PNG")
    recipe = Recipe(
        data=DataRecipe(
            root=str(tmp_path), format="coco_instance", transform=TrainTransform(flip_prob=0.0), range=(100, 610)
        ),
        model=ModelRecipe(config=SMALL | {"backbone_config": RESNET}),
        optim=OptimRecipe(batch_size=1),
        schedule=ScheduleRecipe(max_steps=1),
        run=RunRecipe(output_dir=str(tmp_path / "run")),
    )
    samples, _ = open_samples(recipe.data)
    model, processor = build_model(recipe, samples)
    ((batch,),) = open_batches(recipe, samples, processor, range(1), workers=0)
    model.save_pretrained(tmp_path / "saved")
    processor.save_pretrained(tmp_path / "saved")
    saved = UniSegmentImageProcessor.from_pretrained(tmp_path / "saved")
    assert torch.equal(saved(batch.file_names, do_resize=False)["pixel_values"], batch.inputs["pixel_values"])
    # So do data sets and folders that the checkpoint is used on.
    plain = open_data_set(tmp_path, "coco_instance", "train")
    predictor = open_predictor(tmp_path / "saved")
    _, matched = match_data_set(predictor, plain)
    assert all(np.array_equal(matched[index].image, sample.image) for index, sample in enumerate(samples))
    levels = np.rint((scan.clip(100, 610) - 100.0) / 2)
    seen = []
    monkeypatch.setattr(export_run._ExportRun, "write", lambda run, images, *_: (0, seen.append(images)))
    for number, given in enumerate((ImageFolder(file.parent), open_images([file]))):
        export_run.export_predictions(predictor, given, tmp_path / str(number), "label_png")
        assert any(np.array_equal(image.image[..., 0], levels) for image in seen.pop())
        assert (plain.reading.range, given.reading.range) == ("dtype", "dtype")


def test_more_stages_than_there_are_is_an_error_of_the_recipe(tmp_path):
    with pytest.raises(RecipeError, match=r"^model: frozen_stages=6, but this 'resnet' has only 5 parts"):
        built(tmp_path, frozen_stages=6)


def test_a_data_set_that_cannot_be_opened_is_an_error_of_the_recipe(tmp_path):
    (tmp_path / "annotations" / "panoptic_train").mkdir(parents=True)
    (tmp_path / "train").mkdir()
    (tmp_path / "annotations" / "panoptic_train.json").write_text("{")
    with pytest.raises(RecipeError, match=r"data\.format=coco_panoptic: .*panoptic_train\.json: it is not valid JSON"):
        open_samples(DataRecipe(root=str(tmp_path), format="coco_panoptic"))


def test_training_images_without_objects_are_left_out_on_request(tmp_path):
    coco_instance(tmp_path)
    data = DataRecipe(root=str(tmp_path), format="coco_instance")
    for only_annotated, expected in ((False, [0, 1, 2]), (True, [1, 2])):
        train, held_out = open_samples(replace(data, only_annotated=only_annotated))
        assert [sample.image_id for sample in train] == expected
        assert len(held_out) == 1


def test_missing_weights_of_a_backbone_are_an_error_of_the_recipe(tmp_path):
    coco_instance(tmp_path)
    recipe = load_recipe("coco_instance_r50", {"data.root": str(tmp_path), "model.config.backbone": "gone.pth"})
    with pytest.raises(RecipeError, match=r"model\.config: There is no file 'gone\.pth'"):
        build_model(recipe, open_samples(recipe.data)[0])


def test_a_model_beyond_any_memory_is_refused_before_it_is_made(tmp_path):
    coco_instance(tmp_path)
    wide = {
        "model_type": "resnet",
        "hidden_sizes": [10**6] * 4,
        "out_features": ["stage1", "stage2", "stage3", "stage4"],
    }
    recipe = load_recipe("coco_instance_r50", {"data.root": str(tmp_path), "model.config.backbone_config": wide})
    recipe.model.config.pop("use_pretrained_backbone", None)
    with pytest.raises(
        RecipeError, match=r"model\.config: the model would have \d{14,} numbers, expected at most 10{10}"
    ):
        build_model(recipe, open_samples(recipe.data)[0])
