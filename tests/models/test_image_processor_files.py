# SPDX-License-Identifier: Apache-2.0
import json

import numpy as np
import pytest
from transformers import Mask2FormerImageProcessorPil
from transformers.image_processing_base import ImageProcessingMixin

from unisegment.models.unisegment.image_processing_unisegment import UniSegmentImageProcessor

SETTINGS = {
    "do_resize": False,
    "size": {"shortest_edge": 37, "longest_edge": 53},
    "size_divisor": 64,
    "resample": 3,
    "do_rescale": False,
    "rescale_factor": 0.5,
    "do_normalize": False,
    "image_mean": [0.1, 0.2, 0.3],
    "image_std": [0.4, 0.5, 0.6],
    "ignore_index": 254,
    "do_reduce_labels": True,
    "num_labels": 7,
    "pad_size": {"height": 64, "width": 128},
    "range": [47, 1027.5],
    "stuff_label_ids": [1, 3],
    "id2label": {0: "cat", 1: "sky", 2: "dog", 3: "sea"},
}

# As checkpoints on the Hub have them: Mask2Former of transformers 4, MaskFormer, and the fast processors of 4.5x.
STOCK_FILES = [
    {
        "_max_size": 1333, "do_normalize": True, "do_rescale": True, "do_resize": True, "ignore_index": 255,
        "image_mean": [0.48500001430511475, 0.4560000002384186, 0.4059999883174896],
        "image_processor_type": "Mask2FormerImageProcessor",
        "image_std": [0.2290000021457672, 0.2239999920129776, 0.22499999403953552], "num_labels": 80,
        "reduce_labels": False, "resample": 2, "rescale_factor": 0.00392156862745098,
        "size": {"height": 384, "width": 384}, "size_divisor": 32,
    },
    {
        "do_normalize": True, "do_resize": True, "feature_extractor_type": "MaskFormerFeatureExtractor",
        "ignore_index": 255, "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225],
        "max_size": 2560, "reduce_labels": True, "resample": 2, "size": 640, "size_divisibility": 0,
    },
    {
        "crop_size": None, "data_format": "channels_first", "default_to_square": False, "device": None,
        "disable_grouping": None, "do_center_crop": None, "do_convert_rgb": None, "do_normalize": True, "do_pad": None,
        "do_reduce_labels": False, "do_rescale": True, "do_resize": True, "ignore_index": 255,
        "image_mean": [0.485, 0.456, 0.406], "image_processor_type": "Mask2FormerImageProcessorFast",
        "image_std": [0.229, 0.224, 0.225], "input_data_format": None, "num_labels": None, "pad_size": None,
        "resample": 2, "rescale_factor": 0.00392156862745098, "return_tensors": None,
        "size": {"longest_edge": 1333, "shortest_edge": 800}, "size_divisor": 32,
    },
]  # fmt: skip
STOCK_SETTINGS = [
    {"size": {"height": 384, "width": 384}, "do_reduce_labels": False, "num_labels": 80, "size_divisor": 32},
    {"size": {"shortest_edge": 640, "longest_edge": 2560}, "do_reduce_labels": True, "size_divisor": 32},
    {"size": {"shortest_edge": 800, "longest_edge": 1333}, "do_reduce_labels": False, "size_divisor": 32},
]


def write(folder, content, names=None):
    (folder / "preprocessor_config.json").write_text(json.dumps(content))
    if names is not None:
        config = {"id2label": {str(label): name for label, name in enumerate(names)}}
        (folder / "config.json").write_text(json.dumps(config))


def test_every_keyword_is_in_the_tests():
    processor = UniSegmentImageProcessor()
    assert processor.keywords() == list(SETTINGS)
    for name, value in SETTINGS.items():
        assert getattr(processor, name) != value


def test_round_trip(tmp_path):
    (file,) = UniSegmentImageProcessor(**SETTINGS).save_pretrained(tmp_path / "new")
    content = json.loads((tmp_path / "new" / "preprocessor_config.json").read_text())
    assert file == str(tmp_path / "new" / "preprocessor_config.json")
    in_text = {"id2label": {str(label): name for label, name in SETTINGS["id2label"].items()}}
    assert content == SETTINGS | in_text | {"image_processor_type": "UniSegmentImageProcessor"}
    for path in (tmp_path / "new", str(tmp_path / "new"), file):
        assert UniSegmentImageProcessor.from_pretrained(path).settings() == SETTINGS


def test_round_trip_of_defaults(tmp_path):
    processor = UniSegmentImageProcessor()
    processor.save_pretrained(tmp_path)
    assert UniSegmentImageProcessor.from_pretrained(tmp_path).settings() == processor.settings()


@pytest.mark.parametrize(("content", "expected"), list(zip(STOCK_FILES, STOCK_SETTINGS, strict=True)))
def test_stock_files_are_read_as_they_are(tmp_path, content, expected):
    write(tmp_path, content)
    settings = UniSegmentImageProcessor.from_pretrained(tmp_path).settings()
    assert settings | expected == settings
    assert settings["ignore_index"] == 255
    assert settings["stuff_label_ids"] is None
    assert settings["image_mean"] == pytest.approx([0.485, 0.456, 0.406])


def test_stuff_is_recognised_by_the_names_beside(tmp_path):
    write(tmp_path, STOCK_FILES[0], ["person", "sky-other-merged", "car", "road"])
    for path in (tmp_path, str(tmp_path), tmp_path / "preprocessor_config.json"):
        assert UniSegmentImageProcessor.from_pretrained(path).stuff_label_ids == [1, 3]
    assert UniSegmentImageProcessor.from_pretrained(tmp_path, stuff_label_ids=[2]).stuff_label_ids == [2]
    write(tmp_path, STOCK_FILES[0], ["person", "car"])
    assert UniSegmentImageProcessor.from_pretrained(tmp_path).stuff_label_ids == []
    write(tmp_path, STOCK_FILES[0], ["LABEL_0", "LABEL_1"])
    assert UniSegmentImageProcessor.from_pretrained(tmp_path).stuff_label_ids is None


def test_what_is_written_about_stuff_goes_before_names(tmp_path):
    for stuff in ([], [0]):
        write(tmp_path, STOCK_FILES[0] | {"stuff_label_ids": stuff}, ["person", "sky-other-merged"])
        assert UniSegmentImageProcessor.from_pretrained(tmp_path).stuff_label_ids == stuff


def test_stuff_labels_follow_the_names_of_the_model_beside(tmp_path):
    def open_beside(**config):
        (tmp_path / "config.json").write_text(json.dumps(config))
        return UniSegmentImageProcessor.from_pretrained(tmp_path)

    # 0 is stuff, as in ADE20K; then a model with other classes was saved over the one before.
    UniSegmentImageProcessor(id2label={0: "wall", 1: "cow", 2: "soil"}, stuff_label_ids=[0, 2]).save_pretrained(
        tmp_path
    )
    assert open_beside(id2label={"0": "cow", "1": "Soil"}).stuff_label_ids == [1]
    with pytest.raises(ValueError, match=r"Which of cow, pen are stuff\? .* stuff_label_ids=\[0, 2\] for other labels"):
        open_beside(id2label={"0": "cow", "1": "pen"})
    categories = [{"id": 3, "name": "cow", "isthing": 1}, {"id": 4, "name": "pen", "isthing": 0}]
    assert open_beside(id2label={"0": "cow", "1": "pen"}, categories=categories).stuff_label_ids == [1]
    # Other classes may be named at opening, too.
    (tmp_path / "config.json").unlink()
    for names, stuff in (({0: "soil"}, [0]), ({0: "cow"}, [])):
        assert UniSegmentImageProcessor.from_pretrained(tmp_path, id2label=names).stuff_label_ids == stuff
    opened = UniSegmentImageProcessor.from_pretrained(tmp_path, id2label={0: "pen"}, stuff_label_ids=[])
    assert opened.stuff_label_ids == []


def test_names_are_those_of_the_model_beside(tmp_path):
    write(tmp_path, STOCK_FILES[0], ["person", "car"])
    assert UniSegmentImageProcessor.from_pretrained(tmp_path).id2label == {0: "person", 1: "car"}
    # A model with other classes was saved over the old one.
    UniSegmentImageProcessor(id2label={0: "cat"}).save_pretrained(tmp_path)
    assert UniSegmentImageProcessor.from_pretrained(tmp_path).id2label == {0: "person", 1: "car"}
    assert UniSegmentImageProcessor.from_pretrained(tmp_path, id2label={0: "dog"}).id2label == {0: "dog"}
    (tmp_path / "config.json").unlink()
    assert UniSegmentImageProcessor.from_pretrained(tmp_path).id2label == {0: "cat"}


def test_keywords_go_before_the_file(tmp_path):
    write(tmp_path, STOCK_FILES[1])
    processor = UniSegmentImageProcessor.from_pretrained(
        tmp_path, do_reduce_labels=False, size_divisor=128, size=(37, 53), use_fast=True
    )
    assert processor.do_reduce_labels is False
    assert processor.size_divisor == 128
    assert processor.size == {"height": 37, "width": 53}


def test_unknown_keywords(tmp_path):
    write(tmp_path, STOCK_FILES[1])
    with pytest.raises(TypeError, match=r"'do_normalise' is not a keyword .* 'do_normalize'"):
        UniSegmentImageProcessor.from_pretrained(tmp_path, do_normalise=False)
    processor, unused = UniSegmentImageProcessor.from_pretrained(
        tmp_path, do_normalise=False, do_resize=False, return_unused_kwargs=True
    )
    assert unused == {"do_normalise": False}
    assert processor.do_resize is False
    processor = UniSegmentImageProcessor.from_pretrained(
        tmp_path, _from_pipeline="image-segmentation", low_cpu_mem_usage=True, do_resize=False
    )
    assert processor.do_resize is False
    with pytest.raises(TypeError, match="'do_normalise' is not a keyword"):
        processor(np.zeros((32, 32, 3), np.uint8), do_normalise=False)


def test_unknown_keys_of_a_file_are_kept(tmp_path, caplog):
    further = {"tool_version": "1.2", "do_thicken": [2, 3], "area": {"least": 5}}
    (tmp_path / "in").mkdir()
    write(tmp_path / "in", STOCK_FILES[1] | further)
    processor = UniSegmentImageProcessor.from_pretrained(tmp_path / "in")
    by_file = UniSegmentImageProcessor.from_json_file(tmp_path / "in" / "preprocessor_config.json")
    (line,) = [record.getMessage() for record in caplog.records if "does not know" in record.getMessage()]
    assert line.startswith("preprocessor_config.json has keys that this release does not know: 'area', 'do_thicken', ")
    assert processor.settings() == by_file.settings()
    pixel_values = processor(np.zeros((32, 32, 3), np.uint8), do_resize=False).pixel_values  # makes another processor
    assert pixel_values.shape == (1, 3, 32, 32)
    processor.save_pretrained(tmp_path / "ours")
    processor.save_pretrained(tmp_path / "stock", format="transformers")
    again = UniSegmentImageProcessor.from_pretrained(tmp_path / "stock")
    for found in (processor, by_file, again, Mask2FormerImageProcessorPil.from_pretrained(tmp_path / "stock")):
        assert {key: getattr(found, key) for key in further} == further
    for folder in ("ours", "stock"):
        written = json.loads((tmp_path / folder / "preprocessor_config.json").read_text())
        assert written.items() >= further.items()
    assert again.settings() == processor.settings()


def test_no_files(tmp_path):
    with pytest.raises(OSError, match=r"preprocessor_config.json"):
        UniSegmentImageProcessor.from_pretrained(tmp_path)


def test_unknown_format(tmp_path):
    with pytest.raises(ValueError, match="format must be 'unisegment' or 'transformers', got 'onnx'"):
        UniSegmentImageProcessor().save_pretrained(tmp_path, format="onnx")


@pytest.mark.parametrize(
    ("format", "name"), [("unisegment", "UniSegmentImageProcessor"), ("transformers", "Mask2FormerImageProcessor")]
)
def test_upload(monkeypatch, tmp_path, format, name):
    uploads = []

    def push_to_hub(self, repo_id, **kwargs):
        self.save_pretrained(tmp_path)
        uploads.append((repo_id, json.loads((tmp_path / "preprocessor_config.json").read_text()), kwargs))

    monkeypatch.setattr(ImageProcessingMixin, "push_to_hub", push_to_hub)
    UniSegmentImageProcessor(stuff_label_ids=[1]).push_to_hub("someone/something", format=format, private=True)
    ((repo_id, content, kwargs),) = uploads
    assert (repo_id, kwargs) == ("someone/something", {"private": True})
    assert content["image_processor_type"] == name
    assert content["stuff_label_ids"] == [1]
