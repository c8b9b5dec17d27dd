# SPDX-License-Identifier: Apache-2.0
"""Every keyword of an image processor with values of every wrong kind: a ValueError that names it, or a processor."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from tests.models.test_config_values import HOSTILE
from unisegment import UniSegmentImageProcessor
from unisegment.models.processor_values import KINDS

SETTINGS = UniSegmentImageProcessor(size=40).to_dict()
IMAGE = np.zeros((31, 37, 3), np.uint8)


def test_there_is_a_kind_for_every_keyword():
    assert {*UniSegmentImageProcessor.keywords()} - KINDS.keys() == {"size", "pad_size"}


@pytest.mark.parametrize("key", sorted({*KINDS, *SETTINGS, "no_key", "preprocess", "__class__"}))
def test_a_value_of_any_kind_is_taken_or_refused(key):
    said = []
    for value in [*HOSTILE, {"shortest_edge": -1}, {"height": 10**6, "width": 10**6}, [10**9, 10**9], [10**6, 1]]:
        try:
            processor = UniSegmentImageProcessor.from_dict({**SETTINGS, key: value})
            processor.to_json_string()
            processor(Image.fromarray(IMAGE))
        except ValueError as error:  # nothing else
            said.append(str(error))
    assert [text for text in said if len(text) > 700 or "\n" in text] == []


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"size_divisor": 1_000_000}, "size_divisor: 1000000, expected a whole number from 0 to 2048"),
        ({"size": {"shortest_edge": 10**9}}, "size.shortest_edge: 1000000000, expected a whole number"),
        ({"size": {"height": 16_000, "width": 16_000}}, "size: 16000 x 16000 pixels, expected at most 134217728"),
        ({"pad_size": {"height": 64, "width": True}}, "pad_size.width: True, expected a whole number"),
        ({"image_mean": [0.5, float("nan"), 0.5]}, r"image_mean: \[0.5, nan, 0.5\], expected a number"),
        ({"image_std": [0.5, 0.5, 0]}, r"image_std: \[0.5, 0.5, 0\], expected a number above 0"),
        ({"image_mean": [0.5] * 4}, "image_mean and image_std must have one number for each channel"),
        ({"do_resize": "yes"}, "do_resize: 'yes', expected true or false"),
        ({"rescale_factor": -1}, "rescale_factor: -1, expected a number above 0"),
        ({"resample": 99}, "resample: 99, expected a whole number from 0 to 5"),
        ({"stuff_label_ids": [[1]]}, r"stuff_label_ids: \[\[1\]\], expected a list of labels"),
        ({"id2label": ["cat"]}, r"id2label: \['cat'\], expected a mapping of labels to names"),
        ({"range": [0, True]}, r"range: \[0, True\], expected"),
    ],
)
def test_what_makes_no_sense_is_named_with_its_file(tmp_path, keys, message):
    with pytest.raises(ValueError, match=rf"^{message}"):
        UniSegmentImageProcessor(**keys)
    with pytest.raises(ValueError, match=rf"^{message}"):
        UniSegmentImageProcessor()(IMAGE, **keys)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(SETTINGS | keys))
    with pytest.raises(ValueError, match=rf"preprocessor_config\.json, {message}"):
        UniSegmentImageProcessor.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("keys", "kept"),
    [
        ({"do_resize": 0}, {"do_resize": 0}),  # as some files have it
        ({"do_normalize": np.False_}, {"do_normalize": False}),
        ({"stuff_label_ids": torch.tensor([2, 1])}, {"stuff_label_ids": [1, 2]}),
        ({"stuff_label_ids": np.array([2, 1])}, {"stuff_label_ids": [1, 2]}),
    ],
)
def test_other_spellings_of_a_value_are_taken(keys, kept):
    processor = UniSegmentImageProcessor(**keys)
    assert processor(IMAGE).keys() == {"pixel_values", "pixel_mask"}
    assert kept.items() <= json.loads(processor.to_json_string()).items()


def test_an_image_is_not_enlarged_beyond_the_limit():
    processor = UniSegmentImageProcessor(size={"shortest_edge": 16_000, "longest_edge": 1_000_000})
    with pytest.raises(ValueError, match="size: 16000 x 19097 pixels, expected at most 134217728"):
        processor(IMAGE)


@pytest.mark.parametrize("content", ["[]", "null", "{", '{"image_processor": 5}', '{"preprocess": 5}'])
def test_files_that_hold_no_processor_are_named(tmp_path, content):
    name = "processor_config.json" if "image_processor" in content else "preprocessor_config.json"
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=r"processor_config\.json"):
        UniSegmentImageProcessor.from_pretrained(tmp_path)


@pytest.mark.parametrize("beside", ["[]", '{"id2label": [1]}', '{"id2label": {"x": "y"}}', '{"categories": [5]}'])
def test_a_wrong_config_beside_is_named(tmp_path, beside):
    UniSegmentImageProcessor().save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(beside)
    with pytest.raises(ValueError, match=r"[^r_]config\.json"):
        UniSegmentImageProcessor.from_pretrained(tmp_path)
