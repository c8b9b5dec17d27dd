# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import torch

from tests.visualization.pictures import HEIGHT, WIDTH, id_map_of, image_of, infos_of, predictions_of_all_kinds
from unisegment.structures import PanopticPrediction, SegmentationTarget
from unisegment.visualization import draw, names


def written(monkeypatch, prediction, id2label=None, image=None, **keywords):
    """Return the texts of all names and where their plates are: top, left, bottom and right."""
    plates = []
    write_plate = names._write_plate

    def watch(canvas, text, size, lettering, corner, color):
        height, width = names._plate_size(text, size, lettering)
        plates.append((text, (corner[1], corner[0], corner[1] + height, corner[0] + width)))
        write_plate(canvas, text, size, lettering, corner, color)

    monkeypatch.setattr(names, "_write_plate", watch)
    keywords = {"scores": True, "min_side": 6 * WIDTH} | keywords
    picture = draw(image_of() if image is None else image, prediction, id2label, **keywords)
    for _, (top, left, bottom, right) in plates:
        assert 0 <= top < bottom <= picture.height
        assert 0 <= left < right <= picture.width
    covered = np.zeros((picture.height, picture.width), int)
    for _, (top, left, bottom, right) in plates:
        covered[top:bottom, left:right] += 1
    assert covered.max(initial=0) <= 1
    return plates


def test_names_and_scores_are_written_on_their_segments(monkeypatch):
    plates = dict(written(monkeypatch, predictions_of_all_kinds()["panoptic"], {0: "car", 4: "sky"}))
    assert set(plates) == {"sky 0.60", "car 0.70", "car 0.80"}
    id_map = np.kron(id_map_of().numpy(), np.ones((6, 6), int))
    for text, segment_id in (("sky 0.60", 1), ("car 0.70", 2), ("car 0.80", 3)):
        top, left, bottom, right = plates[text]
        assert (id_map[top:bottom, left:right] == segment_id).all()
        # In the middle of its rectangle, give or take the tenth that the search allows.
        rows, columns = np.nonzero(id_map == segment_id)
        assert (top + bottom) / 2 == pytest.approx((rows.min() + rows.max()) / 2, abs=15)
        assert (left + right) / 2 == pytest.approx((columns.min() + columns.max()) / 2, abs=15)


def test_targets_have_no_scores_and_crowds_are_marked(monkeypatch):
    target = SegmentationTarget(
        labels=[4, 0, 0], id_map=id_map_of(), segment_ids=[1, 2, 3], is_crowd=torch.tensor([False, True, False])
    )
    assert {text for text, _ in written(monkeypatch, target, {4: "sky"})} == {"sky", "0 (crowd)", "0"}


def test_small_segments_are_not_named(monkeypatch):
    id_map = torch.ones(HEIGHT, WIDTH, dtype=torch.int32)
    id_map[5:7, 5:7] = 2
    plates = written(monkeypatch, PanopticPrediction(id_map, infos_of(0, 1)), {0: "sky", 1: "car"})
    assert [text for text, _ in plates] == ["sky 0.60"]


def test_names_do_not_overlap(monkeypatch):
    id_map = torch.zeros(HEIGHT, WIDTH, dtype=torch.int32)
    for segment_id in (1, 2, 3):
        # A little lower than a name is.
        id_map[17 + 3 * segment_id : 20 + 3 * segment_id, 30:60] = segment_id
    plates = written(monkeypatch, PanopticPrediction(id_map, infos_of(0, 1, 2)))
    assert {text for text, _ in plates} == {"0 0.60", "1 0.70", "2 0.80"}


@pytest.mark.parametrize(
    ("name", "expected", "height"),
    [
        ("cat", "cat 0.60", 19),
        ("hippopotamus", "hippopotamus", 19),
        ("hippopotamuses!!", "hippopotamuses!!", 15),
        ("hippopotamuses in a row", None, None),
    ],
)
def test_long_names_lose_their_score_then_shrink_then_go(monkeypatch, name, expected, height):
    id_map = torch.zeros(HEIGHT, WIDTH, dtype=torch.int32)
    id_map[20:28, 30:44] = 1
    plates = written(monkeypatch, PanopticPrediction(id_map, infos_of(0)), {0: name})
    assert [(text, bottom - top) for text, (top, _, bottom, _) in plates] == ([(expected, height)] if expected else [])


def test_names_on_large_images_are_placed_on_their_segments(monkeypatch):
    id_map = id_map_of(1201, 2003)
    prediction = PanopticPrediction(id_map, infos_of(4, 0, 0))
    plates = dict(written(monkeypatch, prediction, image=image_of(1201, 2003)))
    for text, segment_id in (("4 0.60", 1), ("0 0.70", 2), ("0 0.80", 3)):
        top, left, bottom, right = plates[text]
        assert (id_map[top:bottom, left:right] == segment_id).all()
        assert bottom - top > 40
