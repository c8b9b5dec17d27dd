# SPDX-License-Identifier: Apache-2.0
"""Paths, addresses, passwords and code by name, in recipes and configs that are published."""

import json

import pytest
from huggingface_hub import constants

from unisegment.hub.sharing import hub_data_set, shared, shared_recipe


def sections(root="cows", format="coco_panoptic", **model):
    return {"data": {"root": root, "format": format}, "model": model, "run": {"output_dir": "runs/first"}}


@pytest.mark.parametrize(
    ("root", "shared"),
    [
        ("data/customer/cows", "cows"),
        ("cows", "cows"),
        ("..", "folder"),
        ("/", "folder"),
        ("s3://bucket/cows-*.parquet?key=secret", "cows-*.parquet"),
    ],
)
def test_of_a_path_its_last_part_is_left(root, shared):
    assert shared_recipe({"data": {"root": root}, "run": {}})["data"]["root"] == shared


@pytest.mark.parametrize(
    "root", ["user/cows:big@v1.0", "user/cows", "hf://datasets/user/cows@main/data/{split}.parquet"]
)
def test_names_on_the_hub_stay(root):
    recipe = {"data": {"root": root, "format": "hugging_face"}}
    assert shared_recipe(recipe) == recipe
    assert hub_data_set(recipe) == "user/cows"


def test_a_folder_is_no_name_on_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "customer" / "cows").mkdir(parents=True)
    recipe = {"data": {"root": "customer/cows", "format": "hugging_face"}}
    assert shared_recipe(recipe)["data"]["root"] == "cows"
    assert hub_data_set(recipe) is None
    assert hub_data_set({"data": {"root": "user/cows", "format": "coco_panoptic"}}) is None
    assert hub_data_set(None) is None


SECRET = "hf_secret"
PRIVATE = ["acme", "/home", "me@", "intranet", SECRET]


@pytest.mark.parametrize(
    ("value", "public"),
    [
        ("runs/acme/checkpoint", "checkpoint"),
        ("acme/base.pkl", "base.pkl"),
        ("acme/base", "base"),  # nothing tells that it is on the Hub
        ("acme\\base", "base"),
        ("C:\\acme\\base", "base"),
        (f"https://me:{SECRET}@intranet/acme/resnet.pth?token={SECRET}", "resnet.pth"),
        (f"https://intranet?token={SECRET}", "folder"),
        ("s3://acme", "folder"),
        (f"hf://datasets/acme/cows/train.parquet?token={SECRET}#{SECRET}", "train.parquet"),
        ("~acme", "folder"),
        ("/home/acme/cows/", "cows"),
    ],
)
def test_paths_and_addresses_are_cut_wherever_they_stand(value, public):
    recipe = sections(pretrained=value, config={"backbone": value, value: {"deep": [value, (value,)]}})
    assert shared_recipe(recipe)["model"] == {
        "pretrained": public,
        "config": {"backbone": public, public: {"deep": [public, [public]]}},
    }
    text = json.dumps(shared_recipe(recipe))
    assert not [word for word in PRIVATE if word in text]


def test_a_password_behind_a_name_on_the_hub_is_cut():
    root = f"hf://datasets/user/cows@v1/data/{{split}}.parquet?token={SECRET}"
    assert shared_recipe(sections(root, "hugging_face"))["data"]["root"] == root.partition("?")[0]
    assert hub_data_set(sections(root, "hugging_face")) == "user/cows"


def test_a_folder_beside_the_run_is_no_name_on_the_hub(tmp_path):
    (tmp_path / "acme" / "cows").mkdir(parents=True)
    recipe = sections("acme/cows", "hugging_face")
    assert shared_recipe(recipe, tmp_path / "runs" / "first")["data"]["root"] == "cows"
    assert shared_recipe(recipe, tmp_path / "elsewhere" / "first")["data"]["root"] == "acme/cows"


def test_a_model_that_came_from_the_hub_keeps_its_name(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    for place in ("snapshots/abc", "refs"):
        (tmp_path / "models--user--base" / place).mkdir(parents=True)
    (tmp_path / "models--user--base" / "refs" / "main").write_text("abc")
    (tmp_path / "models--user--base" / "snapshots" / "abc" / "config.json").write_text("{}")
    recipe = sections(pretrained="user/base", config={"backbone": "user/base", "other": "user/base"})
    assert shared_recipe(recipe)["model"] == {
        "pretrained": "user/base",
        "config": {"backbone": "user/base", "other": "base"},
    }


def test_names_of_classes_columns_and_layers_stay():
    recipe = {
        "data": {"root": "x", "columns": {"image": "raw/image"}, "categories": {7: "road/lane"}},
        "model": {"lora": {"targets": r".*\.q_proj/x"}},
        "evaluation": {"expected": "PQ 0.5 and/or more"},
    }
    assert shared_recipe(recipe) == recipe
    assert shared({"categories": "/home/acme/names.json"}) == {"categories": "names.json"}
    config = {"id2label": {"0": "road/lane"}, "label2id": {"road/lane": 0}, "categories": [{"id": 3, "name": "a/b"}]}
    assert shared(config) == config


def test_configs_name_no_code_and_no_places():
    config = {
        "auto_map": {"AutoModel": "evil/repo--file.Model"},
        "custom_pipelines": {"x": {"impl": "file.Pipeline"}},
        "backbone_config": {"_name_or_path": "/home/acme/resnet", "auto_map": {}, "depths": [1, 2]},
        "base_weights": [
            {"name": "facebook/mask2former", "license": "mit"},
            {"name": f"https://intranet/acme/resnet.pth?token={SECRET}", "license": "mit"},
            {"name": "/home/acme/resnet"},
        ],
    }
    assert shared(config) == {
        "backbone_config": {"_name_or_path": "resnet", "depths": [1, 2]},
        "base_weights": [
            {"name": "facebook/mask2former", "license": "mit"},
            {"name": "resnet.pth", "license": "mit"},
            {"name": "resnet", "license": "unknown"},
        ],
    }
