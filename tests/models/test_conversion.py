# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from transformers import Mask2FormerForUniversalSegmentation

from tests.models.unisegment.original_files import original_state_dict, stock_model, write_pickle
from unisegment import UniSegmentForUniversalSegmentation, UniSegmentImageProcessor
from unisegment.models.conversion import convert

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
