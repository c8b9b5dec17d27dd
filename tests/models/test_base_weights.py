# SPDX-License-Identifier: Apache-2.0
from itertools import pairwise

import pytest
from transformers import ResNetForImageClassification

from tests.models.unisegment.original_files import BACKBONES, SIZES, original_state_dict, stock_model, write_pickle
from unisegment import UniSegmentConfig, UniSegmentForUniversalSegmentation
from unisegment.models.base_weights import record

LAUGHS = "a: &a [x]\n" + "".join(f"{b}: &{b} [*{a}, *{a}, *{a}]\n" for a, b in pairwise("abcdefghijklmnop"))


@pytest.mark.parametrize(
    ("card", "expected"),
    [
        ("---\nlicense: mit\ntags: [vision]\n---\n# Model", "mit"),
        ("---\nlicense: other\nlicense_name: dinov3-license\n---\n", "dinov3-license"),
        ("---\nlicense: other\n---\n", "other"),
        ("---\ntags: [vision]\n---\n", "unknown"),
        ("# No metadata", "unknown"),
        ("---\n: [broken\n---\n", "unknown"),
        ("---\nlicense: [mit]\n---\n", "unknown"),
        ("---\nlicense: " + "x" * 300 + "\n---\n", "unknown"),
        ("---\nlicense: &a " + "[" * 900 + "]" * 900 + "\n---\n", "unknown"),
        ("---\n" + LAUGHS + "license: *p\n---\n", "unknown"),
        (None, "unknown"),
    ],
)
def test_the_licence_is_the_one_on_the_card(tmp_path, card, expected):
    folder = tmp_path / "my model"
    folder.mkdir()
    if card is not None:
        (folder / "README.md").write_text(card)
    assert record(folder, {}) == {"name": "my model", "license": expected}
    assert record(folder, {}, license="bsd-3-clause")["license"] == "bsd-3-clause"


def test_known_checkpoints_need_no_card():
    # Nothing is asked for over the network: tests run with the Hub switched off.
    name = "facebook/mask2former-swin-tiny-coco-panoptic"
    assert record(name, {}) == {"name": name, "license": "cc-by-nc-4.0"}
    assert record("facebook/dinov3-vits16-pretrain-lvd1689m", {})["license"] == "dinov3-license"
    assert record("somebody/something", {})["license"] == "unknown"


def test_a_folder_that_looks_like_a_known_name_is_not_taken_for_it(tmp_path, monkeypatch):
    (tmp_path / "facebook" / "mask2former-mine").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert record("facebook/mask2former-mine", {}) == {"name": "mask2former-mine", "license": "unknown"}


def test_the_record_stays_whatever_follows(tmp_path):
    path = write_pickle(tmp_path / "model_final.pkl", original_state_dict(stock_model("resnet")))
    expected = [{"name": "model_final.pkl", "license": "cc-by-nc-4.0"}]
    model = UniSegmentForUniversalSegmentation.from_original(path, id2label={0: "cat"}, ignore_mismatched_sizes=True)
    for step, keys in enumerate(({"format": "transformers"}, {}, {"format": "transformers"})):
        model.save_pretrained(tmp_path / str(step), **keys)
        model = UniSegmentForUniversalSegmentation.from_pretrained(
            tmp_path / str(step), num_queries=3 + step, ignore_mismatched_sizes=True
        )
        assert model.config.base_weights == expected
    model.export_original(tmp_path / "again.pth")
    again = UniSegmentForUniversalSegmentation.from_original(tmp_path / "again.pth", license="apache-2.0")
    assert again.config.base_weights == expected


def test_a_stock_checkpoint_is_recorded(tmp_path):
    stock_model("resnet").save_pretrained(tmp_path / "finetuned")
    (tmp_path / "finetuned" / "README.md").write_text("---\nlicense: cc-by-4.0\n---\n")
    model = UniSegmentForUniversalSegmentation.from_pretrained(tmp_path / "finetuned")
    assert model.config.base_weights == [{"name": "finetuned", "license": "cc-by-4.0"}]


def test_a_pretrained_backbone_is_recorded(tmp_path):
    folder = tmp_path / "resnet"
    ResNetForImageClassification(BACKBONES["resnet"]).save_pretrained(folder)
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    config = UniSegmentConfig(backbone=str(folder), use_pretrained_backbone=True, **SIZES)
    assert config.base_weights is None
    model = UniSegmentForUniversalSegmentation(config)
    assert model.config.base_weights == [{"name": "resnet", "license": "apache-2.0"}]
    assert UniSegmentForUniversalSegmentation(UniSegmentConfig(**SIZES)).config.base_weights is None
    # Made once more from the same config, it is still one starting point.
    assert len(UniSegmentForUniversalSegmentation(config).config.base_weights) == 1


@pytest.mark.parametrize(
    "metadata",
    [
        "\n".join(
            ["a0: &a0 [lol]", *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 9)), "license: *a8"]
        ),
        "license: [mit]",
        "license: {a: b}",
        "license: other\nlicense_name: 3",
        "license: !!python/object/apply:os.getcwd []",
        "[" * 2000,
        "- mit",
    ],
)
def test_a_card_that_says_no_licence_is_read_at_once(tmp_path, metadata):
    """A licence that unfolds to 43 million values was made a text."""
    (tmp_path / "README.md").write_text(f"---\n{metadata}\n---\n# A model\n")
    assert record(tmp_path, {})["license"] == "unknown"
