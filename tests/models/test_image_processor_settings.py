# SPDX-License-Identifier: Apache-2.0
"""The settings of an image processor without the processor; its files are in `test_image_processor_files`."""

import json

import pytest

from tests.models.test_image_processor_files import SETTINGS, STOCK_FILES
from unisegment.models.image_processor_settings import ImageProcessorSettings, read_settings
from unisegment.models.unisegment.image_processing_unisegment import UniSegmentImageProcessor


@pytest.mark.parametrize("keywords", [{}, SETTINGS, *STOCK_FILES])
def test_they_are_those_of_the_processor(keywords):
    assert ImageProcessorSettings(**keywords).settings() == UniSegmentImageProcessor(**keywords).settings()


@pytest.mark.parametrize(
    "keywords", [{"image_std": 0}, {"size": [7]}, {"range": [5, 3]}, {"pad_size": {"shortest_edge": 7}}]
)
def test_what_is_wrong_is_said_in_the_same_words(keywords):
    said = []
    for kind in (ImageProcessorSettings, UniSegmentImageProcessor):
        with pytest.raises(ValueError, match=next(iter(keywords))) as caught:
            kind(**keywords)
        said.append(str(caught.value))
    assert said[0] == said[1]


def test_they_are_read_of_both_kinds_of_files(tmp_path):
    assert read_settings(tmp_path, {}) is None
    own, whole = tmp_path / "preprocessor_config.json", tmp_path / "processor_config.json"
    own.write_text(json.dumps({"size": 37}))
    assert read_settings(tmp_path, {}) == read_settings(own, {}) == {"size": 37}
    whole.write_text(json.dumps({"image_processor": {"size": 41}}))
    assert read_settings(tmp_path, {}) == {"size": 41}
    assert UniSegmentImageProcessor.from_pretrained(tmp_path).size["shortest_edge"] == 41
    whole.write_text(json.dumps({"image_processor": {"size": -1}}))
    with pytest.raises(ValueError, match=r"/processor_config\.json, size\.shortest_edge: -1, expected"):
        read_settings(tmp_path, {})
    whole.write_text(json.dumps({"tokenizer": {}}))
    assert read_settings(tmp_path, {"id2label": {0: "sky"}}) == {
        "size": 37, "id2label": {0: "sky"}, "stuff_label_ids": [0],
    }  # fmt: skip


class Tiled(ImageProcessorSettings):
    """A family with a keyword of its own, which follows from the model."""

    def __init__(self, *, size=37, tile=7, **others):
        super().__init__(size=size, **others)
        self.tile = tile

    @classmethod
    def of_model(cls, config, content):
        return {**content, "tile": config.get("tile_size", 11)}


def test_a_family_adds_keywords_and_defaults(tmp_path):
    assert Tiled.keywords() == [*ImageProcessorSettings.keywords(), "tile"]
    assert Tiled().settings() == ImageProcessorSettings(size=37).settings() | {"tile": 7}
    assert Tiled(tile=8, do_resize=False).settings()["tile"] == 8
    with pytest.raises(TypeError, match=r"'tiles' is not a keyword of Tiled\..* 'tile'"):
        Tiled(tiles=8)
    with pytest.raises(TypeError, match="'tile' is not a keyword of ImageProcessorSettings"):
        ImageProcessorSettings(tile=8)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"do_resize": False}))
    assert read_settings(tmp_path, {}, Tiled) == {"do_resize": False, "tile": 11}
    (tmp_path / "config.json").write_text(json.dumps({"tile_size": 5}))
    assert read_settings(tmp_path, {}, Tiled) == {"do_resize": False, "tile": 5}
    assert read_settings(tmp_path, {}) == {"do_resize": False}
