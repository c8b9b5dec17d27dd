# SPDX-License-Identifier: Apache-2.0
"""Samples that problems are about are drawn, with frames where the problem says; what cannot be drawn says why."""

import io

import numpy as np
import pytest
from PIL import Image

from tests.checking.data_sets import WRITERS, edit_json
from unisegment.checking import check_data, concerned
from unisegment.checking.concerned import draw_concerned
from unisegment.checking.opening import open_part
from unisegment.checking.sources import find_parts
from unisegment.data.problems import CollectedProblems, Problem


@pytest.fixture
def opened(tmp_path):
    WRITERS["coco_instance"](tmp_path)
    return open_part(find_parts([str(tmp_path)], None, ["train"])[0], CollectedProblems())


def about(opened, *indices, kind="wrong-size", box=None):
    return [Problem(kind, "some.json", f"no. {index}", opened.name_of(index), box) for index in indices]


def test_samples_are_drawn_once_with_frames_around_all_their_boxes(opened, monkeypatch):
    monkeypatch.setattr(
        concerned, "run_parallel", lambda task, numbers, *_: [(number, task(number)) for number in numbers]
    )
    seen = []
    draw = concerned.draw_tile
    monkeypatch.setattr(concerned, "draw_tile", lambda *words: seen.append(words[2]) or draw(*words))
    first, second = (2, 3, 13, 14), (1, 15, 18, 22)
    problems = [*about(opened, 0, 1), *about(opened, 0, box=first), *about(opened, 0, box=second)]
    drawn = draw_concerned(opened, {"wrong-size": problems, "leak": about(opened, 1)}, 1, 60)
    assert [picture.name for picture in drawn["wrong-size"]] == ["1, 3, 4: a.jpg", "2: b.jpg"]
    assert [picture.name for picture in drawn["leak"]] == ["1: b.jpg"]
    assert drawn["leak"][0].jpeg is drawn["wrong-size"][1].jpeg
    assert seen == [(first, second), ()]
    tile = np.asarray(Image.open(io.BytesIO(drawn["wrong-size"][0].jpeg))).astype(int)
    # The left edge of the first box, in the image and in its target.
    for left in (0, 366):
        strip = tile[60:120, left + 2 * 360 // 37 - 6 : left + 2 * 360 // 37 + 2]
        assert ((strip[..., 0] - strip[..., 1]) > 100).any()


def test_ten_samples_of_each_kind(opened):
    problems = [Problem("leak", "a", "", f"{number}.jpg") for number in range(30) for _ in range(7)]
    drawn = draw_concerned(opened, {"leak": problems, "unused-category": [Problem("unused-category", "a", "")]}, 1, 60)
    assert list(drawn) == ["leak"]
    assert [picture.name for picture in drawn["leak"]][8:] == [
        "57, 58, 59, 60, 61, …: 8.jpg",
        "64, 65, 66, 67, 68, …: 9.jpg",
    ]


def test_what_cannot_be_drawn_says_why(opened, tmp_path):
    (tmp_path / "train/b.jpg").write_bytes(b"")
    Image.new("RGB", (5, 3)).save(tmp_path / "train/c.jpg")  # of another size than its annotation says
    drawn = draw_concerned(opened, {"wrong-size": about(opened, 1, 2)}, 1, 60)["wrong-size"]
    assert (drawn[0].jpeg, drawn[0].reason) == (None, "no. 1")
    with Image.open(io.BytesIO(drawn[1].jpeg)) as alone:  # without a target
        assert alone.size == (360, 216)


def test_what_hung_is_not_tried_again(opened, monkeypatch):
    monkeypatch.setattr(concerned, "draw_tile", None)
    for kind in ("too-slow", "process-died"):
        (picture,) = draw_concerned(opened, {kind: about(opened, 0, kind=kind)}, 1, 60)[kind]
        assert (picture.jpeg, picture.reason) == (None, "no. 0")


def test_a_check_draws_what_it_finds(tmp_path):
    WRITERS["coco_panoptic"](tmp_path)
    (tmp_path / "train/b.jpg").unlink()
    edit_json(
        tmp_path / "annotations/panoptic_train.json",
        lambda content: content["annotations"][2]["segments_info"].pop(),
    )
    report = check_data(find_parts([str(tmp_path)], None, ["train"]), tmp_path / "out", workers=1, pictures=1)
    names = {kind: [(item.name, item.jpeg is None) for item in items] for kind, items in report.concerned[0].items()}
    assert names == {"missing-image": [("1: b.jpg", True)], "unlisted-segment": [("1: c.jpg", False)]}
    page = (tmp_path / "out/report.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 2
    assert page.count('class="grey"') == 1
    assert check_data(
        find_parts([str(tmp_path)], None, ["train"]), tmp_path / "out", workers=1, pictures=0
    ).concerned == [{}]
