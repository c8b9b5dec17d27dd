# SPDX-License-Identifier: Apache-2.0
"""Pictures show the right colours at the right pixels; what cannot be drawn is refused."""

import numpy as np
import pytest
import torch
from PIL import Image

from unisegment import visualization
from unisegment.structures import InstancePrediction, PanopticPrediction, SegmentationTarget, SemanticPrediction
from unisegment.visualization import distinct_colors, draw, draw_sheet

HEIGHT, WIDTH = 61, 97
TURNS_BACK = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""What a camera does to an upright image before it writes each EXIF orientation."""


def _image(height=HEIGHT, width=WIDTH):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def _id_map(height=HEIGHT, width=WIDTH):
    """Return 1 in the upper part, 2 and 3 side by side in the lower part, and void in the last column."""
    id_map = torch.ones(height, width, dtype=torch.int32)
    id_map[height // 2 :, : width // 2] = 2
    id_map[height // 2 :, width // 2 :] = 3
    id_map[:, -1] = 0
    return id_map


def _infos(*labels):
    return [{"id": i, "label_id": label, "score": 0.5 + i / 10} for i, label in enumerate(labels, 1)]


def _predictions():
    """Return the same three segments, of the labels 4, 0 and 0, as every kind of prediction."""
    id_map = _id_map()
    masks = torch.stack([id_map == i for i in (1, 2, 3)])
    labels = torch.tensor([0, 4, 0, 0])[id_map]
    return {
        "panoptic": PanopticPrediction(id_map, _infos(4, 0, 0)),
        "instance": InstancePrediction(id_map, _infos(4, 0, 0), masks),
        "id map": SegmentationTarget(labels=[4, 0, 0], id_map=id_map, segment_ids=[1, 2, 3]),
        "masks": SegmentationTarget(labels=[4, 0, 0], masks=masks),
        "semantic": SemanticPrediction(labels, [{"id": i, "label_id": i, "score": 0.9} for i in (4, 0)]),
    }


def _far_from_names_and_borders(picture):
    """Return the colours in a corner of each segment of `_id_map`, and of void, where no name is written."""
    pixels = np.asarray(picture)
    factor = pixels.shape[0] // HEIGHT
    places = [(2, 2), (HEIGHT // 2 + 2, 2), (HEIGHT // 2 + 2, WIDTH // 2 + 2), (9, WIDTH - 1)]
    return [pixels[int((row + 0.5) * factor), int((column + 0.5) * factor)] for row, column in places]


def test_colours_are_distinct_and_stay():
    colors = distinct_colors(150)
    assert colors.shape == (150, 3)
    assert colors.dtype == np.uint8
    np.testing.assert_array_equal(distinct_colors(5), colors[:5])
    distance = np.abs(colors[:, None].astype(int) - colors[None]).sum(axis=-1) + 999 * np.eye(150, dtype=int)
    assert distance.min() >= 20
    assert distance[:20, :20].min() > 60
    assert len(distinct_colors(5000)) == 5000
    assert distinct_colors(0).shape == (0, 3)


def test_colours_are_those_of_oklab():
    # Source: the table of pure colours in the reference implementation of CSS Color 4: white, red, green, blue. The
    # last is a near black, where the curve of sRGB is a straight line.
    lch = [[1, 0, 0], [0.62796, 0.25768, 29.234], [0.86644, 0.29483, 142.495], [0.45201, 0.31321, 264.052]]
    lch = np.array([*lch, [(5 / 255 / 12.92) ** (1 / 3), 0, 0]]) * [1, 1, np.pi / 180]
    expected = [[255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255], [5, 5, 5]]
    np.testing.assert_allclose(visualization._to_rgb(lch).astype(int), expected, atol=1)


@pytest.mark.parametrize("orientation", TURNS_BACK)
def test_images_of_pillow_are_drawn_upright(orientation):
    image = Image.fromarray(_image())
    stored = image.transpose(TURNS_BACK[orientation])
    stored.getexif()[0x0112] = orientation
    prediction = _predictions()["panoptic"]
    assert draw(stored, prediction).tobytes() == draw(image, prediction).tobytes()


def test_small_images_are_enlarged_by_a_whole_factor():
    prediction = _predictions()["panoptic"]
    assert draw(_image(), prediction).size == (WIDTH * 6, HEIGHT * 6)
    large = PanopticPrediction(_id_map(401, 503), _infos(1, 2, 3))
    assert draw(_image(401, 503), large).size == (503, 401)


@pytest.mark.parametrize("kind", ["panoptic", "instance", "id map", "masks", "semantic"])
def test_segments_have_the_colour_of_their_label(kind):
    picture = draw(np.zeros((HEIGHT, WIDTH, 3), np.uint8), _predictions()[kind], opacity=1.0)
    upper, left, right, _ = _far_from_names_and_borders(picture)
    colors = distinct_colors(5)
    np.testing.assert_array_equal(upper, colors[4])
    np.testing.assert_array_equal(left, colors[0])
    if kind == "semantic":
        np.testing.assert_array_equal(right, colors[0])
    else:
        assert np.abs(right.astype(int) - left).sum() > 40


def test_many_segments_of_one_label_differ():
    colors = visualization._segment_colors([3] * 14).astype(int)
    distance = np.abs(colors[:, None] - colors[None]).sum(axis=-1) + 999 * np.eye(14, dtype=int)
    assert distance.min() > 20


def test_void_is_left_and_segments_keep_their_brightness():
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    image[:, WIDTH // 3 :] = (90, 160, 230)
    picture = draw(image, _predictions()["panoptic"], opacity=0.5)
    dark, _, bright, void = _far_from_names_and_borders(picture)
    np.testing.assert_array_equal(void, (90, 160, 230))
    np.testing.assert_allclose(dark, distinct_colors(5)[4] / 2, atol=1)
    luma = 0.299 * 90 + 0.587 * 160 + 0.114 * 230
    shade = visualization._segment_colors([4, 0, 0])[2]
    np.testing.assert_allclose(bright, (luma + shade) / 2, atol=1)


def test_borders_are_light():
    picture = np.asarray(draw(np.zeros((HEIGHT, WIDTH, 3), np.uint8), _predictions()["panoptic"], opacity=0.0))
    border = HEIGHT // 2 * 6
    assert (picture[border - 1 : border + 1, 6] == 140).all()
    assert (picture[border - 2, 6] == 0).all()
    assert (picture[border + 1, 6] == 0).all()


@pytest.mark.parametrize("kind", ["pillow", "grey", "tensor", "float tensor", "mirrored"])
def test_images_come_in_many_forms(kind):
    image = _image()
    forms = {
        "pillow": Image.fromarray(image),
        "grey": Image.fromarray(image).convert("L"),
        "tensor": torch.from_numpy(image).permute(2, 0, 1),
        "float tensor": torch.from_numpy(image).permute(2, 0, 1) / 255,
        "mirrored": image[:, ::-1],
    }
    expected = {"grey": np.asarray(forms["grey"].convert("RGB")), "mirrored": np.ascontiguousarray(image[:, ::-1])}
    prediction = _predictions()["panoptic"]
    np.testing.assert_array_equal(draw(forms[kind], prediction), draw(expected.get(kind, image), prediction))


def _written(monkeypatch, prediction, id2label=None, image=None):
    plates = []
    write_plate = visualization._write_plate

    def watch(canvas, text, size, corner):
        height, width = visualization._plate_size(text, size)
        plates.append((text, (corner[1], corner[0], corner[1] + height, corner[0] + width)))
        write_plate(canvas, text, size, corner)

    monkeypatch.setattr(visualization, "_write_plate", watch)
    draw(_image() if image is None else image, prediction, id2label)
    return plates


def test_names_and_scores_are_written_on_their_segments(monkeypatch):
    plates = dict(_written(monkeypatch, _predictions()["panoptic"], {0: "car", 4: "sky"}))
    assert set(plates) == {"sky 0.60", "car 0.70", "car 0.80"}
    id_map = np.kron(_id_map().numpy(), np.ones((6, 6), int))
    for text, segment_id in (("sky 0.60", 1), ("car 0.70", 2), ("car 0.80", 3)):
        top, left, bottom, right = plates[text]
        assert (id_map[top:bottom, left:right] == segment_id).all()
        # In the middle of its rectangle, give or take the tenth that the search allows.
        rows, columns = np.nonzero(id_map == segment_id)
        assert (top + bottom) / 2 == pytest.approx((rows.min() + rows.max()) / 2, abs=15)
        assert (left + right) / 2 == pytest.approx((columns.min() + columns.max()) / 2, abs=15)


def test_targets_have_no_scores_and_crowds_are_marked(monkeypatch):
    target = SegmentationTarget(
        labels=[4, 0, 0], id_map=_id_map(), segment_ids=[1, 2, 3], is_crowd=torch.tensor([False, True, False])
    )
    assert {text for text, _ in _written(monkeypatch, target, {4: "sky"})} == {"sky", "0 (crowd)", "0"}


def test_small_segments_are_not_named(monkeypatch):
    id_map = torch.ones(HEIGHT, WIDTH, dtype=torch.int32)
    id_map[5:8, 5:8] = 2
    plates = _written(monkeypatch, PanopticPrediction(id_map, _infos(0, 1)), {0: "sky", 1: "car"})
    assert [text for text, _ in plates] == ["sky 0.60"]


def test_names_do_not_overlap(monkeypatch):
    id_map = torch.zeros(HEIGHT, WIDTH, dtype=torch.int32)
    for segment_id in (1, 2, 3):
        # A little lower than a name is.
        id_map[17 + 3 * segment_id : 20 + 3 * segment_id, 30:60] = segment_id
    plates = _written(monkeypatch, PanopticPrediction(id_map, _infos(0, 1, 2)))
    assert {text for text, _ in plates} == {"0 0.60", "1 0.70", "2 0.80"}
    covered = np.zeros((HEIGHT * 6, WIDTH * 6), int)
    for _, (top, left, bottom, right) in plates:
        covered[top:bottom, left:right] += 1
    assert covered.max() == 1


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
    plates = _written(monkeypatch, PanopticPrediction(id_map, _infos(0)), {0: name})
    assert [(text, bottom - top) for text, (top, _, bottom, _) in plates] == ([(expected, height)] if expected else [])


def test_names_on_large_images_are_placed_on_their_segments(monkeypatch):
    id_map = _id_map(1201, 2003)
    prediction = PanopticPrediction(id_map, _infos(4, 0, 0))
    plates = dict(_written(monkeypatch, prediction, image=_image(1201, 2003)))
    for text, segment_id in (("4 0.60", 1), ("0 0.70", 2), ("0 0.80", 3)):
        top, left, bottom, right = plates[text]
        assert (id_map[top:bottom, left:right] == segment_id).all()
        assert bottom - top > 40


def test_small_masks_are_drawn_over_large_ones():
    masks = torch.zeros(2, HEIGHT, WIDTH, dtype=torch.bool)
    masks[0, :, : WIDTH // 2] = True
    masks[0, :10, :10] = True
    masks[1] = True
    target = SegmentationTarget(labels=[0, 1], masks=masks)
    picture = np.asarray(draw(np.zeros((HEIGHT, WIDTH, 3), np.uint8), target, opacity=1.0))
    np.testing.assert_array_equal(picture[5, 5], distinct_colors(2)[0])
    np.testing.assert_array_equal(picture[5, -5], distinct_colors(2)[1])


def test_nothing_found_leaves_the_image():
    image = _image(401, 653)
    empty = PanopticPrediction(torch.zeros(401, 653, dtype=torch.int32), [])
    np.testing.assert_array_equal(draw(image, empty), image)
    hidden = PanopticPrediction(torch.zeros(401, 653, dtype=torch.int32), _infos(2))
    np.testing.assert_array_equal(draw(image, hidden), image)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((3, HEIGHT, WIDTH), np.uint8), "image must be"),
        (np.zeros((HEIGHT, WIDTH, 3), np.float32), "image must be"),
        (torch.zeros(HEIGHT, WIDTH, 3, dtype=torch.uint8), "image must be"),
        (torch.full((3, HEIGHT, WIDTH), -2.0), "before normalisation"),
        (np.zeros((HEIGHT, WIDTH + 1, 3), np.uint8), "prediction is 61x97 .* image is 61x98"),
    ],
)
def test_bad_images_are_refused(image, message):
    with pytest.raises(ValueError, match=message):
        draw(image, _predictions()["panoptic"])
    with pytest.raises(ValueError, match=message):
        draw_sheet(image, {"panoptic": _predictions()["panoptic"]})


def test_what_is_no_prediction_is_refused():
    with pytest.raises(ValueError, match="one of unisegment's predictions or targets"):
        draw(_image(), {"segmentation": _id_map()})


def test_a_sheet_shows_all_side_by_side_with_a_legend():
    predictions = _predictions()
    shown = {title: predictions[title] for title in ("semantic", "instance", "panoptic")}
    sheet = draw_sheet(_image(), shown, {0: "car", 4: "sky"})
    height, width = HEIGHT * 6, WIDTH * 6
    assert sheet.width > 4 * width
    assert sheet.height > height
    pixels = np.asarray(sheet)
    panels = [np.asarray(draw(_image(), prediction, {0: "car", 4: "sky"})) for prediction in shown.values()]
    top = visualization._MARGIN + round(1.6 * visualization._TITLE_SIZE)
    for number, panel in enumerate(panels, 1):
        left = visualization._MARGIN + number * (width + visualization._GAP)
        np.testing.assert_array_equal(pixels[top : top + height, left : left + width], panel)
        assert (pixels[:top, left : left + width] < 128).any()
    legend = pixels[top + height :].reshape(-1, 3)
    for label in (0, 4):
        assert (legend == distinct_colors(5)[label]).all(axis=1).sum() > 200
    assert not (legend == distinct_colors(5)[2]).all(axis=1).any()


def test_a_long_legend_takes_several_lines():
    id_map = torch.arange(60).reshape(5, 12).repeat_interleave(13, 0).repeat_interleave(11, 1)
    prediction = PanopticPrediction(id_map, [{"id": i, "label_id": i, "score": 1.0} for i in range(60)])
    sheets = [
        draw_sheet(_image(65, 132), {"panoptic": prediction}, dict.fromkeys(range(60), n)) for n in ("i", "long name")
    ]
    assert sheets[1].height > sheets[0].height
    assert sheets[1].width == sheets[0].width
    places, bottom = visualization._legend_places(dict.fromkeys(range(60), "long name"), 700, 11)
    assert len(set(places.values())) == 60
    assert max(left for left, _ in places.values()) < 700 - visualization._MARGIN
    assert max(top for _, top in places.values()) < bottom


def test_large_images_are_shrunk_on_a_sheet():
    large = PanopticPrediction(_id_map(1201, 2003), _infos(1, 2, 3))
    sheet = draw_sheet(_image(1201, 2003), {"panoptic": large})
    assert sheet.width < 2 * 1024 + 200
    assert draw_sheet(_image(), {}).width < 6 * WIDTH + 100
