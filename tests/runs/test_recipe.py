# SPDX-License-Identifier: Apache-2.0
from dataclasses import asdict, replace

import pytest

from unisegment.models.base import FAMILIES
from unisegment.models.image_processor_settings import ImageProcessorSettings
from unisegment.models.unisegment.configuration_unisegment import UniSegmentConfig
from unisegment.runs.data_recipe import DataRecipe
from unisegment.runs.recipe import Recipe, load_recipe
from unisegment.runs.settings import RecipeError, parse_overrides

BASE = """
data: {root: images, transform: {flip_prob: 0.25, jitter_scale: [0.5, 1.5]}}
model: {config: {num_queries: 7, backbone_config: {model_type: swin, depths: [1, 1, 1, 1]}}}
schedule: {max_steps: 11}
run: {output_dir: out, precision: no}
"""


@pytest.fixture
def base(tmp_path):
    path = tmp_path / "base.yaml"
    path.write_text(BASE)
    return path


def test_a_file_sets_keys_over_the_defaults(base):
    recipe = load_recipe(base)
    assert recipe.data.root == "images"
    assert recipe.data.transform.jitter_scale == (0.5, 1.5)
    assert recipe.run.precision == "no"
    # The paper's numbers.
    assert (recipe.optim.lr, recipe.optim.batch_size, recipe.optim.weight_decay) == (1e-4, 16, 0.05)
    assert (recipe.optim.backbone_lr_factor, recipe.optim.clip_norm) == (0.1, 0.01)
    assert (recipe.data.shortest_edge, recipe.data.longest_edge) == (800, 1333)
    assert recipe.evaluation.panoptic_threshold == 0.8
    assert recipe.evaluation.top_k == 100


def test_options_of_the_reader(base):
    assert load_recipe(base).data.reader_options == {"exif": "upright", "range": "dtype"}
    overrides = parse_overrides(["data.format=hugging_face", "data.columns.semantic=label", "data.streaming=true"])
    wanted = {"columns": {"semantic": "label"}, "streaming": True}
    assert load_recipe(base, overrides).data.reader_options == wanted | {"exif": "upright", "range": "dtype"}
    overrides = parse_overrides(["data.exif=stored", "data.range=[47, 1027]"])
    assert load_recipe(base, overrides).data.reader_options == {"exif": "stored", "range": (47, 1027)}
    for wrong in ("data.exif=turned", "data.range=[9, 3]", "data.range=all", "data.range=[1]"):
        with pytest.raises(RecipeError, match=rf"range must be|{wrong.split('=')[0]} must be"):
            load_recipe(base, parse_overrides([wrong]))


def test_void_ids_and_categories_reach_the_reader(base):
    overrides = parse_overrides(["data.format=png_semantic", "data.void_ids=[11]", "data.categories=[sky, road]"])
    options = load_recipe(base, overrides).data.reader_options
    assert (options["void_ids"], options["categories"]) == ((11,), ("sky", "road"))
    by_id = load_recipe(base, parse_overrides(["data.format=png_instance", "data.categories={7: sky, 255: road}"]))
    assert by_id.data.reader_options["categories"] == {7: "sky", 255: "road"}
    as_in_json = load_recipe(base, parse_overrides(["data.format=png_instance", 'data.categories={"7": sky}']))
    assert as_in_json.data.reader_options["categories"] == {"7": "sky"}
    with pytest.raises(RecipeError, match=r"categories is for format=png_semantic, .*, but format=coco_panoptic"):
        load_recipe(base, {"data.format": "coco_panoptic", "data.categories": ["sky"]})


def test_overrides_win(base):
    overrides = parse_overrides(
        ["optim.lr=3e-4", "run.precision=bf16", "run.resume=a=b", "model.config.backbone_config.depths=[1, 2]"]
    )
    recipe = load_recipe(base, {**overrides, "model.config.hidden_dim": 32, "model.config.num_queries": 13})
    assert recipe.optim.lr == 3e-4
    assert recipe.run.precision == "bf16"
    assert recipe.run.resume == "a=b"
    assert recipe.model.config == {
        "num_queries": 13,
        "hidden_dim": 32,
        "backbone_config": {"model_type": "swin", "depths": [1, 2]},
    }


def test_the_written_recipe_reads_back_the_same(base, tmp_path):
    recipe = load_recipe(base, {"data.transform.jitter_size": (31, 37), "optim.lr": 1e-5})
    (tmp_path / "written.yaml").write_text(recipe.to_yaml())
    assert load_recipe(tmp_path / "written.yaml") == recipe
    assert load_recipe(recipe) == recipe


def test_a_recipe_can_be_changed_without_touching_it(base):
    recipe = load_recipe(base)
    before = asdict(recipe)
    changed = load_recipe(recipe, {"model.config.backbone_config.depths": [3], "run.seed": 5})
    assert changed.model.config["backbone_config"]["depths"] == [3]
    assert changed.run.seed == 5
    assert asdict(recipe) == before


def test_a_file_extends_another_in_its_own_folder(base, tmp_path):
    (tmp_path / "middle.yaml").write_text("extends: base.yaml\noptim: {lr: 5}\nschedule: {name: step}")
    (tmp_path / "sub").mkdir()
    top = tmp_path / "sub" / "top.yaml"
    top.write_text("extends: ../middle.yaml\noptim: {batch_size: 3}\nmodel: {config: {hidden_dim: 64}}")
    recipe = load_recipe(top)
    assert (recipe.optim.lr, recipe.optim.batch_size) == (5.0, 3)
    assert (recipe.schedule.name, recipe.schedule.max_steps) == ("step", 11)
    assert recipe.model.config["num_queries"] == 7
    assert recipe.model.config["hidden_dim"] == 64


def test_of_several_files_the_later_wins(base, tmp_path):
    (tmp_path / "one.yaml").write_text("optim: {lr: 5, batch_size: 6}\nmodel: {config: {hidden_dim: 64}}")
    (tmp_path / "two.yaml").write_text("extends: base.yaml\noptim: {lr: 7}\nmodel: {config: {hidden_dim: 96}}")
    top = tmp_path / "top.yaml"
    top.write_text("extends: [one.yaml, two.yaml]\nmodel: {config: {num_queries: 9}}")
    recipe = load_recipe(top)
    assert (recipe.optim.lr, recipe.optim.batch_size, recipe.schedule.max_steps) == (7, 6, 11)
    assert (recipe.model.config["hidden_dim"], recipe.model.config["num_queries"]) == (96, 9)


def test_a_file_extends_a_recipe_of_the_library(tmp_path):
    top = tmp_path / "top.yaml"
    top.write_text("extends: coco_panoptic_swin_l\noptim: {batch_size: 8}")
    expected = load_recipe("coco_panoptic_swin_l", {"optim.batch_size": 8})
    assert load_recipe(top) == expected
    assert expected.schedule.max_steps == 737500


def test_what_a_recipe_has_reached_is_not_expected_of_those_that_extend_it():
    assert load_recipe("quickstart").evaluation.expected
    assert load_recipe("coco_sample").evaluation.expected is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("optim: {learning_rate: 1}", "there is no key 'optim.learning_rate'"),
        ("lr: 1", "there is no key 'lr'. Did you mean 'optim.lr'?"),
        ("optim: {batch_size: 0}", "optim.batch_size must be a whole number from 1 to 65,536, got 0."),
        ("schedule: {rise: 1.5}", "schedule.rise must be a finite number from 0 to 1, got 1.5."),
        ("schedule: {milestones: [0, 2]}", "schedule.milestones[1] must be a finite number from 0 to 1, got 2."),
        ("data: {transform: {flip_prob: 2}}", "data.transform: flip_prob must be in [0, 1], got 2.0."),
        ("run: {precision: fp8}", "run.precision must be one of no, bf16, fp16, got 'fp8'."),
        (
            "data: {format: png_semantic, streaming: true}",
            "data: streaming is for format=hugging_face, but format=png_semantic",
        ),
        ("data: {format: hugging_face, splits: {val: test}}", "data: splits must say what `train` and what `val` is"),
        ("data: {format: hugging_face, columns: [image]}", "data.columns must be a section with keys, got ['image']"),
        ("run: {threads: 0}", "run.threads must be a whole number from 1 to 1,024 or null, got 0."),
        (
            "model: {type: unisegmant}",
            "model: there is no family 'unisegmant' of models, there are unisegment (Mask2",
        ),
        ("model: {type: unisegmant}", "Did you mean 'unisegment'?"),
        (
            "optim: {layer_decay: 0}",
            "optim: layer_decay must be more than 0, got 0. To freeze layers, set model.frozen",
        ),
        ("optim: {layer_decay: 1.1}", "optim.layer_decay must be a finite number from 0 to 1, got 1.1."),
        ("optim: {lr: .nan}", "optim.lr must be a finite number of at least 0, got nan."),
        ("extends: top.yaml", "top.yaml extends itself"),
        ("extends: gone.yaml", "gone.yaml to extend in"),
    ],
)
def test_errors_name_the_key_and_the_file(base, tmp_path, text, message):
    top = tmp_path / "top.yaml"
    top.write_text(text if "extends" in text else f"extends: base.yaml\n{text}")
    with pytest.raises(RecipeError) as error:
        load_recipe(top)
    assert message in str(error.value)
    assert "top.yaml" in str(error.value)


def test_an_unknown_key_of_the_model_is_found_before_anything_runs(base):
    with pytest.raises(RecipeError, match=r"base\.yaml: model: 'num_querys' is not a key.*'num_queries'"):
        load_recipe(base, {"model.config.num_querys": 5})


class OtherConfig(UniSegmentConfig):
    model_type = "other"
    num_blocks: int = 4


def test_keys_of_the_model_are_those_of_its_family(base, monkeypatch):
    monkeypatch.setitem(FAMILIES._others, "other", replace(FAMILIES["unisegment"], config=OtherConfig))
    keys = {"model.config.num_blocks": 3}
    assert load_recipe(base, keys | {"model.type": "other"}).model.config["num_blocks"] == 3
    # A checkpoint says by itself what it is.
    assert load_recipe(base, keys | {"model.pretrained": "some/checkpoint"}).model.config["num_blocks"] == 3
    for others in (
        {},
        {"model.type": "unisegment"},
        {"model.type": "unisegment", "model.pretrained": "some/checkpoint"},
    ):
        with pytest.raises(RecipeError, match=r"model: 'num_blocks' is not a key of UniSegmentConfig\."):
            load_recipe(base, keys | others)
    with pytest.raises(RecipeError, match=r"model: 'num_querys' is not a key .*'num_queries'"):
        load_recipe(base, {"model.pretrained": "some/checkpoint", "model.config.num_querys": 3})
    # Which of them is meant is not known: each says what is like it.
    message = r"'num_blocs' is not a key of UniSegmentConfig\..* is not a key of OtherConfig\..*'num_blocks'"
    with pytest.raises(RecipeError, match=message):
        load_recipe(base, {"model.pretrained": "some/checkpoint", "model.config.num_blocs": 3})


class OtherSettings(ImageProcessorSettings):
    def __init__(self, *, do_split_image: bool = False, **others):
        super().__init__(**others)


def test_settings_of_the_processor_are_those_of_the_family(base, monkeypatch):
    other = replace(FAMILIES["unisegment"], config=OtherConfig, settings=OtherSettings)
    monkeypatch.setitem(FAMILIES._others, "other", other)
    split = {"model.processor.do_split_image": True}
    assert load_recipe(base, split | {"model.type": "other"}).model.processor == {"do_split_image": True}
    assert load_recipe(base, split | {"model.pretrained": "some/checkpoint"}).model.processor == {
        "do_split_image": True
    }
    assert load_recipe(base, {"model.processor.do_resize": False}).model.processor == {"do_resize": False}
    with pytest.raises(RecipeError, match=r"model: 'do_split_image' is not a setting .* of Mask2Former\."):
        load_recipe(base, split)
    with pytest.raises(RecipeError, match=r"model: image_mean: "):
        load_recipe(base, {"model.processor.image_mean": "dark"})
    for key, value in {"size": 64, "range": "dtype", "stuff_label_ids": [1]}.items():
        with pytest.raises(
            RecipeError, match=rf"model: processor\.{key}: the section data says it\. Sizes are data\.sh"
        ):
            load_recipe(base, {f"model.processor.{key}": value})


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"optim.lr": "fast"}, "optim.lr=fast: optim.lr must be a finite number"),
        ({"optim.speed": 1}, "optim.speed=1: there is no key 'optim.speed'"),
        ({"optim": 1}, "optim=1: optim is a section with keys"),
        ({"model.config.num_queries.x": 1}, "num_queries is 7, which has no keys"),
    ],
)
def test_errors_name_the_override(base, overrides, message):
    with pytest.raises(RecipeError, match=message):
        load_recipe(base, overrides)


@pytest.mark.parametrize("key", ["id2label={0: cow}", "label2id={cow: 0}", "num_labels=1", "categories=[]"])
@pytest.mark.parametrize("pretrained", ["null", "facebook/mask2former-swin-tiny-ade-semantic"])
def test_classes_are_those_of_the_data(base, key, pretrained):
    name = key.split("=")[0]
    with pytest.raises(RecipeError, match=rf"model: config\.{name}: the classes are the categories of the data\. Name"):
        load_recipe(base, parse_overrides([f"model.config.{key}", f"model.pretrained={pretrained}"]))


def test_an_argument_that_is_no_override_is_refused():
    with pytest.raises(RecipeError, match=r"'--lr' is not an override. Write key.path=value"):
        parse_overrides(["--lr"])


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(RecipeError, match=r"There is no recipe .*gone\.yaml"):
        load_recipe(tmp_path / "gone.yaml")


def test_required_keys_are_asked_for(tmp_path):
    path = tmp_path / "empty.yaml"
    path.write_text("optim: {lr: 1}")
    with pytest.raises(RecipeError, match=r"empty.yaml: data.root is not set.*data.root=VALUE"):
        load_recipe(path)
    assert isinstance(load_recipe(path, {"data.root": "a", "schedule.max_steps": 1, "run.output_dir": "b"}), Recipe)


def test_paths_may_begin_with_the_users_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "base.yaml").write_text(
        "data: {root: ~/cows, categories: ~/cows.json, format: hugging_face}\nschedule: {max_steps: 1}\n"
        "model: {config: {backbone: ~/swin}}\nrun: {output_dir: ~/run, resume: ~/before}"
    )
    (tmp_path / "mine.yaml").write_text("extends: ~/base.yaml")
    recipe = load_recipe("~/mine.yaml", {"model.pretrained": "~/runs/first"})
    home = str(tmp_path)
    assert (recipe.data.root, recipe.data.categories) == (f"{home}/cows", f"{home}/cows.json")
    assert (recipe.run.output_dir, recipe.run.resume) == (f"{home}/run", f"{home}/before")
    assert (recipe.model.pretrained, recipe.model.config["backbone"]) == (f"{home}/runs/first", f"{home}/swin")


def test_addresses_are_texts_that_one_format_reads():
    data = DataRecipe(root="hf://datasets/user/cows", format="hugging_face")
    assert data.root == "hf://datasets/user/cows"
    with pytest.raises(ValueError, match=r"root=s3://cows is an address, which format=hugging_face reads, not coco"):
        DataRecipe(root="s3://cows", format="coco_panoptic")
