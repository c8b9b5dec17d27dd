# SPDX-License-Identifier: Apache-2.0
"""What tools export is trained on, evaluated on and checked as it lies, by the layout of the folder alone."""

import pytest

from tests.checking.format_trees import hugging_face
from tests.data.exports import labelme_file
from tests.recipes import small_trees
from tests.training.test_assembly import RESNET, SMALL
from unisegment import Segmenter, UniSegmentConfig, UniSegmentForUniversalSegmentation
from unisegment.checking import check, check_data
from unisegment.checking.sources import find_parts
from unisegment.data.formats import open_data_set
from unisegment.data.problems import DataError
from unisegment.training import fit_data

FORMATS = {
    "yolo_segmentation": "yolo_segmentation",
    "labelme": "labelme",
    "cvat": "coco_instance",
    "roboflow": "coco_instance",
    "fifty_one": "coco_instance",
}
"""The format of each export."""
_SETTINGS = {
    "schedule.max_steps": 1,
    "optim.batch_size": 2,
    "optim.accumulation": 1,
    "run.checkpoint_every": 0,
    "run.eval_every": 0,
    "data.workers": 0,
    "evaluation.pictures": 0,
    "run.threads": 1,
}


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """A tiny checkpoint that knows cows."""
    folder = tmp_path_factory.mktemp("start")
    config = UniSegmentConfig(backbone_config=RESNET, id2label={0: "boat", 1: "cow"}, **SMALL)
    UniSegmentForUniversalSegmentation(config).save_pretrained(folder)
    return folder


@pytest.fixture(autouse=True)
def _one_process(monkeypatch):
    """Check images here: what worker processes do has tests of its own."""
    monkeypatch.setattr(check, "run_parallel", lambda task, numbers, *_: ((place, task(place)) for place in numbers))


@pytest.mark.parametrize("export", FORMATS)
def test_an_export_is_used_as_it_lies(tmp_path, start, export):
    root, data_format = tmp_path / "export", FORMATS[export]
    getattr(small_trees, export)(root)
    fitted = fit_data(root, start=start, output_dir=tmp_path / "run", **_SETTINGS)
    segmenter = Segmenter.from_pretrained(fitted.folder / "checkpoint", device="cpu")
    scores = segmenter.evaluate(root, split="val")
    assert (fitted.metrics["images"], scores["images"]) == (1, 1)
    assert scores["mask_ap"] == pytest.approx(fitted.metrics["mask_ap"])
    assert [category["name"] for category in segmenter.model.config.categories] == ["cow", "dog"]
    report = check_data(find_parts([str(root)]), tmp_path / "check", workers=1, pictures=0)
    assert [(part["format"], part["images"], part["opened"]) for part in report.parts] == [
        (data_format, 3, 3), (data_format, 1, 1),
    ]  # fmt: skip
    # The tree has the same picture in both.
    assert [[found["kind"] for found in part["findings"]] for part in report.parts] == [[], ["leak"]]
    assert [category["segments"] for category in report.parts[0]["categories"]] == [3, 3]


def test_an_export_without_splits_is_used_as_it_lies(tmp_path, start):
    small_trees.label_studio(tmp_path / "export")
    split = {"data.val_share": 0.34}
    fitted = fit_data(tmp_path / "export", start=start, output_dir=tmp_path / "run", **_SETTINGS, **split)
    assert fitted.metrics["images"] == 1
    report = check_data(
        find_parts([str(tmp_path / "export")], overrides=split), tmp_path / "check", workers=1, pictures=0
    )
    assert [(part["images"], part["opened"], part["findings"]) for part in report.parts] == [(2, 2, []), (1, 1, [])]
    segmenter = Segmenter.from_pretrained(fitted.folder / "checkpoint", device="cpu")
    assert segmenter.evaluate(tmp_path / "export", split="train")["images"] == 3
    # Nothing is wrong with it.
    report = check_data(find_parts([str(tmp_path / "export")]), tmp_path / "check", workers=1, pictures=0)
    assert [[found["kind"] for found in part["findings"]] for part in report.parts] == [[], ["nothing-held-out"]]
    assert report.num_errors == 0


def test_images_and_maps_of_hugging_face_are_used_as_they_lie(tmp_path, start):
    root = tmp_path / "export"
    hugging_face(root)
    fitted = fit_data(root, start=start, output_dir=tmp_path / "run", **_SETTINGS)
    assert (fitted.metrics["step"], fitted.metrics["images"]) == (1, 2)
    scores = Segmenter.from_pretrained(fitted.folder / "checkpoint", device="cpu").evaluate(root, split="val")
    assert scores["miou"] == pytest.approx(fitted.metrics["miou"])
    report = check_data(find_parts([str(root)]), tmp_path / "check", workers=1, pictures=0)
    assert [(part["format"], part["opened"], part["findings"]) for part in report.parts] == [
        ("hugging_face", 4, []), ("hugging_face", 2, []),
    ]  # fmt: skip


def test_one_set_of_rules_speaks_in_training_and_check_data(tmp_path):
    """An error has one text; a warning is told by check-data alone."""
    small_trees.yolo_segmentation(tmp_path / "yolo")
    (tmp_path / "yolo/train/labels/0.txt").unlink()
    (tmp_path / "yolo/train/labels/1.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    small_trees.labelme(tmp_path / "labelme")
    shape = {"label": "cow", "points": [[0, 0], [9, 900], [9, 9]], "shape_type": "polygon"}
    (tmp_path / "labelme/train/1.json").write_text(labelme_file(shape, path="1.jpg", size=(46, 92)))
    for name, kinds in (
        ("yolo", {"wrong-structure", "unannotated-image"}),
        ("labelme", {"bad-polygon", "outside-image"}),
    ):
        (part,) = check_data(find_parts([str(tmp_path / name)], None, ["train"]), tmp_path / "check", workers=1).parts
        found = {item["kind"]: item["listed"][0] for item in part["findings"]}
        assert found.keys() == kinds
        with pytest.raises(DataError) as caught:
            open_data_set(tmp_path / name)[1]
        (error,) = (found[item["kind"]] for item in part["findings"] if item["severity"] == "error")
        assert str(caught.value) == f"{error['file']}: {error['detail']}"
