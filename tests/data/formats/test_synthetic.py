# SPDX-License-Identifier: Apache-2.0
"""Scenes are as described, the same for the same seed, and written whole or not at all."""

import errno
import json
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from unisegment.data.formats import open_data_set, synthetic
from unisegment.data.formats.synthetic import CATEGORIES, synthetic_scene, write_synthetic
from unisegment.files import WriteError


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("data") / "scenes"
    write_synthetic(root, num_train=5, num_val=3, seed=11, progress=False)
    return root


def _bytes(root):
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_scenes_have_two_kinds_of_stuff_and_some_things():
    counts, things = Counter(), set()
    for seed in range(60):
        scene = synthetic_scene(np.random.default_rng(seed))
        assert scene.image.shape == (128, 160, 3)
        labels = scene.target.labels.tolist()
        is_thing = [CATEGORIES[label].is_thing for label in labels]
        assert is_thing.count(False) == 2
        assert len(set(labels) - set(range(5))) == 2
        assert sorted(scene.target.segment_ids.tolist()) == np.unique(scene.target.id_map).tolist()
        counts[is_thing.count(True)] += 1
        things |= set(labels)
    assert things == set(range(8))
    assert min(counts) >= 1
    assert max(counts) == 6


def test_things_and_horizons_are_spread_over_their_ranges(monkeypatch):
    radii, horizons = [], []
    shape = synthetic._shape

    def watch(name, down, right, radius):
        radii.append(radius)
        return shape(name, down, right, radius)

    monkeypatch.setattr(synthetic, "_shape", watch)
    for seed in range(40):
        target = synthetic_scene(np.random.default_rng(seed)).target
        stuff = target.binary_masks()[target.labels >= 5].any(dim=2).numpy()
        # Things hide parts of the horizon, but never its whole width.
        above, below = sorted(stuff, key=lambda rows: rows.argmax())
        assert not (above & below).any()
        horizons.append(int(below.argmax()))
    assert 9 <= min(radii) < 11
    assert 26 < max(radii) <= 28
    assert 0.3 * 128 <= min(horizons) < 45
    assert 83 < max(horizons) <= 0.7 * 128 + 1


def test_pixels_have_the_colour_of_their_class():
    brightness = []
    for seed in range(40):
        scene = synthetic_scene(np.random.default_rng(seed))
        for label, mask in zip(scene.target.labels.tolist(), scene.target.binary_masks().numpy(), strict=True):
            if mask.sum() < 200:
                continue
            color = np.array(CATEGORIES[label].color)
            pixels = scene.image[mask].astype(float)
            # The weakest channel of a colour is never cut off at 255.
            channel = color.argmin()
            ratio = pixels[:, channel].mean() / color[channel]
            if color[channel] * 1.2 + 3 * 14 < 255 and color[channel] * 0.8 - 3 * 14 > 0:
                assert pixels[:, channel].std() == pytest.approx(14, rel=0.2)
            if CATEGORIES[label].is_thing:
                brightness.append(ratio)
            else:
                assert ratio == pytest.approx(1, abs=0.05)
    assert 0.75 < min(brightness) < 0.88
    assert 1.12 < max(brightness) < 1.25


@pytest.mark.parametrize(
    ("name", "area"),
    [("disc", np.pi), ("square", 1.4**2), ("diamond", 2), ("triangle", 3**0.5 * 3 / 4), ("ring", np.pi * 3 / 4)],
)
def test_shapes_have_the_area_of_geometry(name, area):
    rows, columns = np.mgrid[-64.0:65, -80.0:81]
    mask = synthetic._shape(name, rows, columns, 53.0)
    assert mask.sum() == pytest.approx(area * 53.0**2, rel=0.03)
    assert (mask == mask[:, ::-1]).all()
    assert not mask[np.hypot(rows, columns) > 53].any()
    assert mask[64, 80] == (name != "ring")
    if name == "triangle":
        assert mask.any(axis=1).argmax() == 64 - 53
        assert mask[64 + 26].sum() == mask.sum(axis=1).max() > 0 == mask[64 + 27].sum()


def test_the_same_seed_gives_the_same_bytes(root, tmp_path):
    write_synthetic(tmp_path / "again", num_train=5, num_val=3, seed=11, progress=False)
    assert _bytes(root) == _bytes(tmp_path / "again")


def test_other_numbers_of_images_leave_the_first_ones_as_they_are(root, tmp_path):
    write_synthetic(tmp_path / "less", num_train=2, num_val=1, seed=11, progress=False)
    write_synthetic(tmp_path / "other", num_train=2, num_val=1, seed=12, progress=False)
    more, less, other = _bytes(root), _bytes(tmp_path / "less"), _bytes(tmp_path / "other")
    pictures = [name for name in less if name.endswith(".png")]
    assert len(pictures) == 6
    assert all(less[name] == more[name] for name in pictures)
    assert all(less[name] != other[name] for name in pictures)
    assert less["train/000000000001.png"] != less["val/000000000001.png"]


@pytest.mark.parametrize(("split", "count"), [("train", 5), ("val", 3)])
def test_the_folder_is_in_cocos_format(root, split, count):
    dataset = open_data_set(root, "coco_panoptic", split)
    assert dataset.categories == CATEGORIES
    assert len(dataset) == count
    for sample in dataset:
        assert sample.image.shape == (128, 160, 3)
        assert not sample.target.is_crowd.any()


def test_areas_and_boxes_are_those_of_the_png_files(root):
    content = json.loads((root / "annotations" / "panoptic_val.json").read_text())
    assert [(image["height"], image["width"]) for image in content["images"]] == [(128, 160)] * 3
    for annotation in content["annotations"]:
        with Image.open(root / "annotations" / "panoptic_val" / annotation["file_name"]) as image:
            red, green, blue = np.asarray(image).astype(int).transpose(2, 0, 1)
        ids = red + 256 * green + 65536 * blue
        assert sum(segment["area"] for segment in annotation["segments_info"]) == 128 * 160
        for segment in annotation["segments_info"]:
            rows, columns = np.nonzero(ids == segment["id"])
            assert segment["area"] == len(rows)
            box = [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
            assert segment["bbox"] == box
            assert segment["iscrowd"] == 0


def test_nothing_is_left_when_writing_is_cut_short(tmp_path, monkeypatch):
    def fail_at_third(generator, image_id):
        if image_id == 3:
            assert any(tmp_path.iterdir())
            raise KeyboardInterrupt
        return synthetic_scene(generator, image_id)

    monkeypatch.setattr(synthetic, "synthetic_scene", fail_at_third)
    with pytest.raises(KeyboardInterrupt):
        write_synthetic(tmp_path / "scenes", num_train=5, num_val=2, progress=False)
    assert not any(tmp_path.iterdir())


def test_an_unfinished_data_set_does_not_carry_the_name(tmp_path, monkeypatch):
    seen = []
    write_split = synthetic._write_split

    def watch(*arguments):
        write_split(*arguments)
        seen.append((tmp_path / "scenes").exists())

    monkeypatch.setattr(synthetic, "_write_split", watch)
    write_synthetic(tmp_path / "scenes", num_train=1, num_val=1, progress=False)
    assert seen == [False, False]
    assert [path.name for path in tmp_path.iterdir()] == ["scenes"]


def test_bad_arguments_are_refused(root, tmp_path):
    before = _bytes(root)
    with pytest.raises(FileExistsError, match="exists; remove it"):
        write_synthetic(root, num_train=1, num_val=1)
    assert _bytes(root) == before
    with pytest.raises(ValueError, match="must be 0 or more, got 1, -1 and 0"):
        write_synthetic(tmp_path / "new", num_train=1, num_val=-1)


def test_progress_is_shown_on_request(tmp_path, capfd):
    write_synthetic(tmp_path / "shown", num_train=1, num_val=0, progress=True)
    assert "draw train scenes" in capfd.readouterr().err
    write_synthetic(tmp_path / "hidden", num_train=1, num_val=0, progress=False)
    assert capfd.readouterr().err == ""


def test_what_cannot_be_written_leaves_nothing(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(WriteError, match="A file is in the way"):
        write_synthetic(tmp_path / "file" / "scenes", num_train=1, num_val=1, progress=False)

    def full(self, file, **settings):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(synthetic.Image.Image, "save", full)
    with pytest.raises(WriteError, match=r"No space left on device.* Make room there"):
        write_synthetic(tmp_path / "scenes", num_train=1, num_val=1, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_another_process_may_be_first(tmp_path, monkeypatch):
    annotation = synthetic._annotation

    def second(scene):
        (tmp_path / "scenes").mkdir(exist_ok=True)
        (tmp_path / "scenes" / "first").write_text("there")
        return annotation(scene)

    monkeypatch.setattr(synthetic, "_annotation", second)
    with pytest.raises(WriteError, match="Another process has made it meanwhile"):
        write_synthetic(tmp_path / "scenes", num_train=1, num_val=0, progress=False)
    assert _bytes(tmp_path) == {"scenes/first": b"there"}
