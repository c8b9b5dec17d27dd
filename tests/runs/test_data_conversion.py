# SPDX-License-Identifier: Apache-2.0
"""Data sets go there and back: what the format can hold is equal, what it cannot is counted, and nothing is lost."""

import json
import os
import signal
import subprocess
import sys
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.broken_off import break_off
from tests.data.rows import save, semantic_rows
from tests.data.writing.scenes import CATEGORIES, SIZES, Scenes, mask_of, segments, target_of
from unisegment.data.formats import open_data_set
from unisegment.data.reading.image_reading import ImageReading
from unisegment.data.writing import WRITERS
from unisegment.data.writing.coco import CocoInstanceWriter
from unisegment.files import WriteError
from unisegment.runs.data_conversion import REPORT, convert_data
from unisegment.runs.folder_lock import FolderInUseError, locked
from unisegment.runs.part_folder import OtherRunError

THINGS = [category for category in CATEGORIES if category.is_thing]
HOLDS_STUFF = {"coco_panoptic", "png_semantic", "png_instance"}
HOLDS_OVERLAPS = {"coco_instance", "yolo_segmentation", "labelme"}


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def splits(folder):
    """Return two splits, of which the second one has its own images, one of them of the same name."""
    val = Scenes(folder / "val", Scenes(folder / "train").targets[::3], ["a.png", "e.jpg"])
    return {"train": Scenes(folder / "train"), "val": val}


def by_name(images):
    return {Path(sample.file_name).stem: sample for sample in images}


@pytest.mark.parametrize("to", WRITERS)
def test_there_and_back(tmp_path, to):
    source = splits(tmp_path / "source")
    summary = convert_data(source, tmp_path / "out", to)
    assert summary["images"] == {"train": 4, "val": 2}
    assert summary["new"] == 6
    assert not (tmp_path / "out/conversion.parts").exists()
    for split, images in source.items():
        read = by_name(open_data_set(tmp_path / "out", None, split))
        opened = open_data_set(tmp_path / "out", to, split)
        names = {category.name for category in opened.categories}
        assert names == {category.name for category in (CATEGORIES if to in HOLDS_STUFF else THINGS)}
        assert len(opened) == len(read) == len(images)
        for sample in images:
            found = read[Path(sample.file_name).stem]
            np.testing.assert_array_equal(found.image, sample.image)
            if sample.target.has_overlaps() and to not in HOLDS_OVERLAPS:
                continue
            expected = segments(sample.target, CATEGORIES)
            if to not in HOLDS_STUFF:
                expected = [item for item in expected if item[0] in names]
            if to in ("yolo_segmentation", "labelme"):
                expected = [item for item in expected if not item[1]]
            if to == "png_semantic":
                expected = merged(expected)
            assert segments(found.target, opened.categories) == expected


def merged(items):
    masks = {}
    for name, _, mask in items:
        masks[name] = np.frombuffer(mask, np.bool_) | masks.get(name, False)
    return sorted((name, False, mask.tobytes()) for name, mask in masks.items())


def test_a_chain_of_conversions_ends_where_it_began(tmp_path):
    """Through every format that holds objects, and back to the first."""
    convert_data({"train": Scenes(tmp_path / "source")}, tmp_path / "0", "coco_instance")
    chain = ["labelme", "yolo_segmentation", "coco_instance"]
    for number, to in enumerate(chain):
        convert_data({"train": open_data_set(tmp_path / f"{number}")}, tmp_path / f"{number + 1}", to)
    first, last = (by_name(open_data_set(tmp_path / name, "coco_instance")) for name in ("0", "3"))
    categories = open_data_set(tmp_path / "3", "coco_instance").categories
    for name, sample in first.items():
        objects = [item for item in segments(sample.target, THINGS) if not item[1]]
        assert segments(last[name].target, categories) == objects
        np.testing.assert_array_equal(last[name].image, sample.image)


KILLED = """
import sys
from pathlib import Path
from tests.data.rows import save, semantic_rows
from tests.data.writing.scenes import Scenes
from unisegment.runs import data_conversion
write, written = data_conversion.PartFolder.write, []
def dying(self, number, content):
    write(self, number, content)
    written.append(number)
    if len(written) == 2:
        print("written", flush=True)
        sys.stdin.read()
data_conversion.PartFolder.write = dying
data_conversion.convert_data({"train": Scenes(Path(sys.argv[1]))}, sys.argv[2], "coco_panoptic", source="s")
"""


def test_a_killed_conversion_goes_on_to_the_same_bytes(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, tmp_path / "source", tmp_path / "broken"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout.readline() == "written\n"
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert len(list((tmp_path / "broken/conversion.parts").glob("0*.json"))) == 2
    images = Scenes(tmp_path / "source")
    summary = convert_data({"train": images}, tmp_path / "broken", "coco_panoptic", source="s")
    assert summary == {"images": {"train": 4}, "new": 2, "lost": {"covered": 310}, "left_out": []}
    convert_data({"train": images}, tmp_path / "whole", "coco_panoptic", source="s")
    assert contents(tmp_path / "broken") == contents(tmp_path / "whole")
    # Finished, it says so, and does nothing.
    before = contents(tmp_path / "whole")
    again = convert_data({"train": images}, tmp_path / "whole", "coco_panoptic", source="s")
    assert again == summary | {"new": 0}
    assert contents(tmp_path / "whole") == before


@pytest.mark.parametrize("to", ["coco_instance", "yolo_segmentation"])
@pytest.mark.parametrize("call", [1, 2, 3, 6, 10, 11])
def test_broken_off_at_any_file_it_goes_on(tmp_path, monkeypatch, to, call):
    images = {"train": Scenes(tmp_path / "source")}
    convert_data(images, tmp_path / "whole", to)
    with monkeypatch.context() as patched:
        break_off(patched, call)
        with pytest.raises(KeyboardInterrupt):
            convert_data(images, tmp_path / "broken", to)
    convert_data(images, tmp_path / "broken", to)
    found = {name: content for name, content in contents(tmp_path / "broken").items() if "partial~" not in name.name}
    assert found == contents(tmp_path / "whole")


def test_workers_write_the_same(tmp_path):
    source = splits(tmp_path / "source")
    convert_data(source, tmp_path / "alone", "labelme")
    convert_data(source, tmp_path / "shared", "labelme", workers=2)
    assert contents(tmp_path / "alone") == contents(tmp_path / "shared")


def test_a_full_disk_is_said_and_the_next_run_goes_on(tmp_path, monkeypatch):
    images = {"train": Scenes(tmp_path / "source")}
    save = Image.Image.save

    def full(self, file, *arguments, **keywords):
        if "d.png" in str(file):
            raise OSError(28, "No space left on device", str(file))
        save(self, file, *arguments, **keywords)

    with monkeypatch.context() as patched:
        patched.setattr("PIL.Image.Image.save", full)
        with pytest.raises(WriteError, match=r"d\.png could not be written: No space left .*same command again"):
            convert_data(images, tmp_path / "out", "png_semantic")
    assert convert_data(images, tmp_path / "out", "png_semantic")["new"] == 1


def test_other_folders_are_refused(tmp_path):
    images = {"train": Scenes(tmp_path / "source")}
    before = contents(tmp_path / "source")
    with pytest.raises(OtherRunError, match=r"source holds other files, such as .*: choose a new or an empty folder"):
        convert_data(images, tmp_path / "source", "labelme")
    assert contents(tmp_path / "source") == before
    convert_data(images, tmp_path / "out", "labelme")
    for changes, said in (
        ({"to": "coco_instance"}, r"format='coco_instance' \(before: 'labelme'\)"),
        ({"source": "other"}, r"source='other' \(before: ''\)"),
        ({"images": "link"}, r"image_files='link' \(before: 'copy'\)"),
        ({"splits": {"val": Scenes(tmp_path / "source")}}, r"splits=\{'val': 4\} \(before: \{'train': 4\}\)"),
        ({"splits": {"train": Scenes(tmp_path / "other")}}, "other names of images"),
    ):
        arguments = {"splits": images, "to": "labelme"} | changes
        with pytest.raises(OtherRunError, match=f"holds results of another run, and this one differs in .*{said}"):
            convert_data(output=tmp_path / "out", **arguments)
    with locked(tmp_path / "out"), pytest.raises(FolderInUseError, match="is in use by process"):
        convert_data(images, tmp_path / "out", "labelme")


@pytest.mark.parametrize("to", WRITERS)
def test_images_of_one_name_do_not_take_each_others_place(tmp_path, to):
    names = ["x/a.jpg", "y/a.jpg", "y/a.png", "A.jpg"]
    images = Scenes(tmp_path / "source", names=names)
    convert_data({"train": images}, tmp_path / "out", to)
    read = by_name(open_data_set(tmp_path / "out", to, "train"))
    assert {*read} == {"x_a", "y_a", "y_a_2", "A"}
    for name, sample in zip(["x_a", "y_a", "y_a_2", "A"], images, strict=True):
        np.testing.assert_array_equal(read[name].image, sample.image)


def test_images_that_stay_are_named_from_their_common_folder(tmp_path):
    images = Scenes(tmp_path / "source", names=["x/a.jpg", "y/a.jpg", "y/b.png", "c.jpg"])
    instances, panoptic = "annotations/instances_train.json", "annotations/panoptic_train"
    for to, places in (
        ("coco_instance", {"annotations": instances}),
        ("coco_panoptic", {"annotations": f"{panoptic}.json", "segments": panoptic}),
    ):
        convert_data({"train": images}, tmp_path / to, to, images="none")
        assert not (tmp_path / to / "train").exists()
        read = open_data_set(tmp_path / to, to, images=str(tmp_path / "source"), **places)
        assert [sample.file_name for sample in read] == [str(path) for path in images.paths]
        assert len(read[3].target) == len(images[3].target) - 2 * (to == "coco_instance")
    with pytest.raises(ValueError, match="A data set of labelme has the images in its own folders: copy or link"):
        convert_data({"train": images}, tmp_path / "out", "labelme", images="none")


def test_linked_images_are_the_same_files(tmp_path):
    images = Scenes(tmp_path / "source")
    convert_data({"train": images}, tmp_path / "out", "yolo_segmentation", images="link")
    for path in images.paths:
        assert os.path.samefile(path, tmp_path / "out/images/train" / path.name)


def test_images_without_files_become_png_files_with_numbers(tmp_path):
    images = Scenes(tmp_path / "source")
    images.files = lambda index: None
    convert_data({"train": images}, tmp_path / "out", "coco_panoptic")
    read = open_data_set(tmp_path / "out", "coco_panoptic")
    assert [Path(sample.file_name).name for sample in read] == [f"{number:09d}.png" for number in range(4)]
    for sample, original in zip(read, images, strict=True):
        np.testing.assert_array_equal(sample.image, original.image)
    with pytest.raises(ValueError, match="Images of the split 'train' are no files that could stay where"):
        convert_data({"train": images}, tmp_path / "other", "coco_panoptic", images="none")


def test_image_files_in_rows_keep_their_bytes(tmp_path):
    rows = semantic_rows()
    save(tmp_path / "rows", rows)
    images = open_data_set(str(tmp_path / "rows/parquet"), "hugging_face", "train", void_ids=[0])
    convert_data({"train": images}, tmp_path / "out", "png_semantic")
    for number in range(len(rows)):
        file = tmp_path / f"out/images/train/{number:09d}.png"
        assert file.read_bytes() == rows.with_format("arrow")[number]["image"][0].as_py()["bytes"]


@pytest.mark.parametrize("to", WRITERS)
@pytest.mark.parametrize("exif", ["upright", "stored"])
def test_annotations_fit_images_that_exif_data_turn(tmp_path, to, exif):
    size = (9, 13)
    turned = size[::-1] if exif == "upright" else size
    target = target_of(turned, (0, False, mask_of(turned, (1, 2, 5, 8))))
    images = Scenes(tmp_path / "source", [target], ["a.jpg"])
    data = Image.Exif()
    data[0x0112] = 6
    pixels = np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(images.paths[0], exif=data)
    content = images.paths[0].read_bytes()
    images.reading = ImageReading(exif)
    convert_data({"train": images}, tmp_path / "out", to)
    (sample,) = read = open_data_set(tmp_path / "out", to)
    assert segments(sample.target, read.categories) == segments(target, CATEGORIES)
    np.testing.assert_array_equal(sample.image, images[0].image)
    if exif == "upright":
        assert Path(sample.file_name).read_bytes() == content


def test_unreadable_images_raise_or_are_left_out_and_tried_again(tmp_path):
    images = Scenes(tmp_path / "source")
    content = images.paths[1].read_bytes()
    images.paths[1].write_bytes(content[:200])
    with pytest.raises(ValueError, match=r"a\.png cannot be read"):
        convert_data({"train": images}, tmp_path / "out", "labelme")
    summary = convert_data({"train": images}, tmp_path / "out", "labelme", skip_unreadable=True)
    assert (summary["images"], summary["new"], len(summary["left_out"])) == ({"train": 3}, 2, 1)
    assert "a.png cannot be read" in summary["left_out"][0]
    assert len(open_data_set(tmp_path / "out", "labelme")) == 3
    images.paths[1].write_bytes(content)
    summary = convert_data({"train": images}, tmp_path / "out", "labelme")
    assert (summary["images"], summary["new"]) == ({"train": 4}, 1)
    convert_data({"train": images}, tmp_path / "whole", "labelme")
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_what_differs_when_it_is_read_back_is_an_error(tmp_path, monkeypatch):
    write = CocoInstanceWriter.write

    def forgetful(self, *arguments):
        content = write(self, *arguments)
        return content | {"objects": content["objects"][1:]}

    monkeypatch.setattr(CocoInstanceWriter, "write", forgetful)
    said = r"out/train/b\.jpg: 4 segments were written and 3 read back.* 2 other images differ, too\. Remove .*out"
    with pytest.raises(ValueError, match=said):
        convert_data({"train": Scenes(tmp_path / "source")}, tmp_path / "out", "coco_instance")
    assert not (tmp_path / "out" / REPORT).exists()


def test_images_that_are_not_read_back_are_missed(tmp_path, monkeypatch):
    finish = CocoInstanceWriter.finish
    monkeypatch.setattr(
        CocoInstanceWriter, "finish", lambda self, split, parts: finish(self, split, lambda: islice(parts(), 3))
    )
    with pytest.raises(ValueError, match=r"out: 4 images of 'train' were written, but 3 are read back"):
        convert_data({"train": Scenes(tmp_path / "source")}, tmp_path / "out", "coco_instance")


def test_splits_with_other_lists_of_labels_are_brought_together_by_name(tmp_path):
    size = SIZES[2]
    target = target_of(size, (0, False, mask_of(size, (1, 1, 4, 5))))
    source = {
        "train": Scenes(tmp_path / "train", [target], ["a.png"]),
        "val": Scenes(tmp_path / "val", [target], ["b.png"], [CATEGORIES[1]]),
    }
    convert_data(source, tmp_path / "out", "yolo_segmentation")
    read = open_data_set(tmp_path / "out", "yolo_segmentation", "val")
    assert read.categories[read[0].target.labels[0]].name == "zebra crossing"
    with pytest.raises(ValueError, match=r"The split 'val' lacks 3 of the 4 labels of the split 'train'.*labels first"):
        convert_data({"val": source["val"], "train": source["train"]}, tmp_path / "other", "yolo_segmentation")


@pytest.mark.parametrize("to", ["coco_instance", "labelme"])
def test_what_is_left_behind_is_not_mixed_up_with_a_split(tmp_path, to):
    convert_data({"parts": Scenes(tmp_path / "source")}, tmp_path / "out", to)
    assert len([sample.image for sample in open_data_set(tmp_path / "out", to, "parts")]) == 4


def test_without_splits_there_is_nothing_to_do(tmp_path):
    with pytest.raises(ValueError, match="There is no split to convert"):
        convert_data({}, tmp_path / "out", "labelme")


def test_the_report_says_what_could_not_be_written(tmp_path):
    convert_data({"train": Scenes(tmp_path / "source")}, tmp_path / "out", "yolo_segmentation", source="mine")
    report = json.loads((tmp_path / "out" / REPORT).read_text())
    assert report["lost"] == {"stuff": 3, "crowds": 1}
    assert report["images"] == {"train": 4}
    assert report["settings"]["source"] == "mine"
    with pytest.raises(ValueError, match="no writer of data sets for 'voc', only for coco_panoptic, coco_instance,"):
        convert_data({"train": Scenes(tmp_path / "source")}, tmp_path / "out", "voc")
