# SPDX-License-Identifier: Apache-2.0
"""Keywords of EoMT's processor without the processor; what they do is in `test_image_processing_eomt.py`."""

import json

import pytest

from unisegment.models.eomt.image_processing_eomt import UniSegmentEomtImageProcessor
from unisegment.models.eomt.image_processor_settings import EomtImageProcessorSettings
from unisegment.models.image_processor_settings import ImageProcessorSettings, read_settings

STOCK = {
    "do_normalize": True, "do_pad": True, "do_rescale": True, "do_resize": True, "do_split_image": False,
    "ignore_index": None, "image_mean": [0.485, 0.456, 0.406], "image_processor_type": "EomtImageProcessor",
    "image_std": [0.229, 0.224, 0.225], "resample": 2, "rescale_factor": 0.00392156862745098,
    "size": {"longest_edge": 640, "shortest_edge": 640},
}  # fmt: skip
OWN = {"do_split_image": True, "do_pad": True, "mask_stride": 8}


@pytest.mark.parametrize("keywords", [{}, OWN, STOCK, {"size": 37}, {"ignore_index": 7}, {"size_divisor": 12}])
def test_they_are_those_of_the_processor(keywords):
    assert EomtImageProcessorSettings(**keywords).settings() == UniSegmentEomtImageProcessor(**keywords).settings()


def test_they_are_those_of_all_families_and_three_more():
    assert EomtImageProcessorSettings.keywords() == [*ImageProcessorSettings.keywords(), *OWN]
    settings = EomtImageProcessorSettings().settings()
    assert settings["size"] == {"shortest_edge": 640, "longest_edge": 640}
    assert (settings["size_divisor"], settings["mask_stride"]) == (16, 4)
    assert not settings["do_split_image"]
    assert not settings["do_pad"]
    assert EomtImageProcessorSettings(size=37).size == {"shortest_edge": 37}


def test_labels_are_reduced_where_files_of_transformers_say_what_to_ignore():
    for keywords, expected in (
        ({}, False),
        ({"ignore_index": 255}, True),
        ({"ignore_index": 0}, True),
        ({"ignore_index": 255, "do_reduce_labels": False}, False),
        ({"do_reduce_labels": True}, True),
    ):
        assert EomtImageProcessorSettings(**keywords).do_reduce_labels is expected


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"do_split_image": "yes"}, "do_split_image: 'yes', expected"),
        ({"do_pad": 2}, "do_pad: 2, expected"),
        ({"mask_stride": 0}, "mask_stride: 0, expected"),
        ({"mask_stride": 3}, "size_divisor must be a multiple of 3, got 16"),
        ({"do_pad": True, "size": {"shortest_edge": 8, "longest_edge": 10**6}}, "size.width: 1000000, expected"),
    ],
)
def test_what_makes_no_sense(keywords, message):
    with pytest.raises(ValueError, match=message):
        EomtImageProcessorSettings(**keywords)


def test_what_follows_from_the_model(tmp_path):
    def read(content, **config):
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(content))
        (tmp_path / "config.json").write_text(json.dumps(config))
        settings = read_settings(tmp_path, {}, EomtImageProcessorSettings)
        processor = UniSegmentEomtImageProcessor.from_pretrained(tmp_path)
        assert processor.settings() == EomtImageProcessorSettings.from_dict(settings).settings()
        return processor

    found = read(STOCK, patch_size=14, num_upscale_blocks=1, image_size=70)
    assert (found.mask_stride, found.size_divisor, found.size["shortest_edge"]) == (7, 14, 640)
    assert read(STOCK | {"size_divisor": 64, "mask_stride": 32}, patch_size=8, num_upscale_blocks=2).mask_stride == 2
    assert read(STOCK | {"size_divisor": 64}, patch_size=8, num_upscale_blocks=2).size_divisor == 64
    assert read(STOCK, id2label={"0": "sky"}).settings() == {
        **EomtImageProcessorSettings(**STOCK).settings(), "id2label": {0: "sky"}, "stuff_label_ids": [0],
    }  # fmt: skip
    with pytest.raises(ValueError, match="num_upscale_blocks: 'two', expected"):
        read(STOCK, patch_size=8, num_upscale_blocks="two")


def test_a_new_model_sees_squares_of_the_size_that_it_is_made_for():
    of_model = EomtImageProcessorSettings.of_model
    config = {"patch_size": 16, "image_size": 512, "num_upscale_blocks": 1}
    assert of_model(config, {"range": "dtype"}) == {
        "size": {"shortest_edge": 512, "longest_edge": 512}, "size_divisor": 16, "do_pad": True, "range": "dtype",
        "mask_stride": 8,
    }  # fmt: skip
    assert "do_pad" not in of_model(config, {"do_split_image": True})
    assert of_model({}, {"range": "dtype"}) == {"range": "dtype"}
