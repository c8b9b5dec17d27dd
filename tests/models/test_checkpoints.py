# SPDX-License-Identifier: Apache-2.0
import json

import pytest
import torch
from transformers import Mask2FormerForUniversalSegmentation

from tests.models.unisegment.original_files import original_state_dict, stock_model, write_pickle
from unisegment import UniSegmentForUniversalSegmentation, UniSegmentImageProcessor
from unisegment.models.checkpoints import convert, open_checkpoint

NAMES = dict(enumerate(["person", "rider", "car", "road", "sky", "truck", "wall"]))  # of Cityscapes


@pytest.fixture(scope="module")
def stock():
    return stock_model("resnet")


def test_the_way_around(stock, tmp_path):
    source = write_pickle(tmp_path / "model.pkl", original_state_dict(stock))
    model = convert(str(source), tmp_path / "ours", id2label=NAMES)
    assert model.config.id2label == NAMES
    assert UniSegmentImageProcessor.from_pretrained(tmp_path / "ours").stuff_label_ids == [3, 4, 6]
    convert(str(tmp_path / "ours"), tmp_path / "stock", "transformers")
    theirs = Mask2FormerForUniversalSegmentation.from_pretrained(tmp_path / "stock")
    pixel_values = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        expected, found = stock(pixel_values).class_queries_logits, theirs.eval()(pixel_values).class_queries_logits
    assert (found - expected).abs().max() <= 1e-4 * expected.abs().max()
    assert UniSegmentImageProcessor.from_pretrained(tmp_path / "stock").stuff_label_ids == [3, 4, 6]
    convert(str(tmp_path / "stock"), tmp_path / "back.pth", "original")
    back = UniSegmentForUniversalSegmentation.from_original(tmp_path / "back.pth")
    assert all(torch.equal(back.state_dict()[name], value) for name, value in model.state_dict().items())


def test_a_checkpoint_without_a_processor_gets_the_usual_one(stock, tmp_path):
    stock.save_pretrained(tmp_path / "stock")
    convert(str(tmp_path / "stock"), tmp_path / "ours")
    processor = UniSegmentImageProcessor.from_pretrained(tmp_path / "ours")
    assert processor.size == {"shortest_edge": 800, "longest_edge": 1333}
    assert processor.stuff_label_ids is None


def test_a_processor_that_cannot_be_read_is_found_before_anything_is_written(stock, tmp_path):
    stock.save_pretrained(tmp_path / "stock")
    (tmp_path / "stock" / "preprocessor_config.json").write_text("{[1]:[2]}")
    with pytest.raises(ValueError, match=r"preprocessor_config\.json is not valid JSON"):
        convert(str(tmp_path / "stock"), tmp_path / "ours")
    assert not (tmp_path / "ours").exists()


@pytest.mark.parametrize(
    ("content", "keywords", "said"),
    [
        ({"image_mean": "x"}, {}, r"stock/preprocessor_config\.json, image_mean: 'x', expected a number"),
        ({"size_divisor": 6}, {}, r"stock/preprocessor_config\.json, size_divisor must be a multiple of 4, got 6"),
        ({"pad_size": {"height": 10**6, "width": 7}}, {}, r"preprocessor_config\.json, pad_size\.height: 1000000, exp"),
        ({"stuff_label_ids": [3], "id2label": {"3": "x"}}, {}, r"config\.json, Which of .* are stuff\?"),
        ({}, {"size": 10**7}, r"^size\.shortest_edge: 10000000, expected a whole number from 1 to 16384"),
    ],
)
def test_what_is_wrong_with_a_processor_is_found_before_the_model_is_made(
    stock, tmp_path, monkeypatch, content, keywords, said
):
    stock.save_pretrained(tmp_path / "stock")
    (tmp_path / "stock" / "preprocessor_config.json").write_text(json.dumps(content))
    monkeypatch.setattr(UniSegmentForUniversalSegmentation, "of_description", lambda *_, **__: pytest.fail("made"))
    with pytest.raises(ValueError, match=said):
        open_checkpoint(tmp_path / "stock", keywords)


def test_a_key_of_a_processor_that_takes_the_place_of_a_method_is_named(stock, tmp_path):
    stock.save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text('{"preprocess": 5}')
    with pytest.raises(ValueError, match=r"preprocessor_config\.json, 'preprocess' is the name of a part of"):
        open_checkpoint(tmp_path)


def test_a_checkpoint_is_opened_as_its_two_halves_are(stock, tmp_path):
    stock.save_pretrained(tmp_path)
    UniSegmentImageProcessor(size=47, stuff_label_ids=[0, 2], id2label=NAMES).save_pretrained(tmp_path)
    (model, report), processor = open_checkpoint(
        tmp_path, {"size_divisor": 64}, id2label=NAMES, output_loading_info=True, ignore_mismatched_sizes=True
    )
    expected = UniSegmentForUniversalSegmentation.from_pretrained(tmp_path, id2label=NAMES)
    assert report["changes"]["classes"].made == []
    assert model.name_or_path == str(tmp_path)
    assert model.config.to_dict() == expected.config.to_dict()
    assert all(torch.equal(model.state_dict()[name], value) for name, value in expected.state_dict().items())
    assert processor.settings() == (
        UniSegmentImageProcessor.from_pretrained(tmp_path, id2label=NAMES, size_divisor=64).settings()
    )
