# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import torch

from tests.visualization.eyes import NAMES, colors_of
from tests.visualization.pictures import HEIGHT, WIDTH, id_map_of, image_of, infos_of, predictions_of_all_kinds
from unisegment.structures import PanopticPrediction, SegmentationTarget
from unisegment.visualization import draw, label_colors, names


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
    assert {text[0] for text, _ in plates} == {"0", "1", "2"}


@pytest.mark.parametrize(
    ("name", "expected", "height"),
    [
        ("cat", "cat 0.60", 19),
        ("hippopot", "hippopot", 19),
        ("hippopotamus", "hippopotamus", 15),
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


def _luminance(color):
    """Return relative luminance as WCAG 2.2 defines it."""
    encoded = np.asarray(color) / 255
    light = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    return light @ [0.2126, 0.7152, 0.0722]


@pytest.mark.parametrize("palette", ["natural", "colorblind"])
def test_letters_are_read_on_every_ground(palette):
    opacity = names._PLATE_OPACITY / 255
    for color in colors_of([*NAMES["COCO"], *NAMES["ADE20K"]], palette):
        for ground in (0, 255):
            plate = opacity * np.array(names.plate_color(color)) + (1 - opacity) * ground
            # WCAG asks 7 for its highest level.
            assert 1.05 / (_luminance(plate) + 0.05) > 7


def test_plates_have_the_colour_that_is_promised():
    prediction = PanopticPrediction(torch.ones(HEIGHT, WIDTH, dtype=torch.int32), infos_of(0))
    picture = np.asarray(draw(np.full((HEIGHT, WIDTH, 3), 255, np.uint8), prediction, {0: "W"}, 0.0))
    opacity, color = names._PLATE_OPACITY / 255, label_colors({0: "W"})[0]
    expected = opacity * np.array(names.plate_color(color)) + (1 - opacity) * 255
    assert (np.abs(picture - expected).max(axis=-1) < 2).sum() > 100


def test_names_stand_where_a_segment_is_widest(monkeypatch):
    id_map = torch.zeros(HEIGHT, WIDTH, dtype=torch.int32)
    # A thin arm to the left, whose box has its middle and its corners outside of the body.
    id_map[2:5, :70] = 1
    id_map[2:55, 70:95] = 1
    ((_, (top, left, bottom, right)),) = written(monkeypatch, PanopticPrediction(id_map, infos_of(0)), {0: "car"})
    assert 70 * 6 < left < right < 95 * 6
    assert (top + bottom) / 2 == pytest.approx(6 * 57 / 2, abs=40)


@pytest.mark.parametrize(("height", "width"), [(61, 97), (401, 803), (1201, 1803), (97, 11)])
def test_many_names_never_overlap_nor_leave_the_picture(monkeypatch, height, width):
    generator = np.random.default_rng(0)
    id_map = torch.from_numpy(generator.integers(1, 40, (7, 5))).repeat_interleave(height // 7 + 1, 0)
    id_map = id_map.repeat_interleave(width // 5 + 1, 1)[:height, :width]
    infos = [info | {"label": "label" * (1 + info["id"] % 3)} for info in infos_of(*range(39))]
    plates = written(monkeypatch, PanopticPrediction(id_map, infos), image=image_of(height, width), min_side=800)
    assert len(plates) > 5 or width == 11


def test_scores_are_written_on_request_only(monkeypatch):
    prediction = predictions_of_all_kinds()["panoptic"]
    plates = written(monkeypatch, prediction, {0: "car", 4: "sky-other-merged"}, scores=False)
    assert sorted(text for text, _ in plates) == ["car", "car", "sky"]
