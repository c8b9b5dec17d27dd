# SPDX-License-Identifier: Apache-2.0
"""What is right, missed, false or of the wrong class is shown where it is."""

import numpy as np
import pytest
import torch

from tests.visualization.eyes import NO_GREEN, NO_RED, closest
from tests.visualization.pictures import HEIGHT, WIDTH, columns, image_of, panoptic_of, target_of
from unisegment.structures import InstancePrediction, PanopticPrediction, SegmentationTarget, SemanticPrediction
from unisegment.visualization import draw_errors, errors
from unisegment.visualization.fonts import Lettering
from unisegment.visualization.matching import Verdict

RIGHT, WRONG, MISSED, FALSE, IGNORED = Verdict


def shown(monkeypatch, prediction, target, **keywords):
    """Return the pixels of the picture, and what the legend says."""
    entries = []
    with_legend = errors.with_legend
    monkeypatch.setattr(errors, "with_legend", lambda *a: entries.extend(a[1]) or with_legend(*a))
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    picture = draw_errors(image, prediction, target, {0: "car", 1: "bus"}, min_side=10 * WIDTH, **keywords)
    return np.asarray(picture), [entry.name for entry in entries]


def tint(verdict):
    _, color, strength = errors._LOOKS[verdict]
    return np.array(color) * strength


def test_segments_are_shown_where_they_are(monkeypatch):
    target = target_of(columns(20, 40, 60, 70), [0, 1, 2, 3])
    pixels, legend = shown(monkeypatch, panoptic_of(columns(20, 40, 45, 70, 83), [0, 7, 2, 5, 3]), target)
    assert legend == ["right 1", "wrong class 1", "missed 2", "false 2", "ignored"]
    np.testing.assert_allclose(pixels[20, 100], tint(RIGHT), atol=1)
    np.testing.assert_allclose(pixels[20, 300], tint(WRONG), atol=1)
    # Missed and false at once has stripes of both.
    region = pixels[15:150, 480:580].reshape(-1, 3)
    for color in (tint(FALSE), 0.1 * tint(FALSE) + 0.9 * np.array(errors._LOOKS[MISSED][1])):
        assert (np.abs(region - color).max(axis=1) < 3).mean() > 0.1


def test_what_was_missed_is_seen_through_what_is_right(monkeypatch):
    target = target_of(columns(60, WIDTH), [0, 1])
    pixels, legend = shown(monkeypatch, panoptic_of(columns(WIDTH), [0]), target)
    assert legend == ["right 1", "wrong class 0", "missed 1", "false 0"]
    np.testing.assert_allclose(pixels[20, 300], tint(RIGHT), atol=1)
    np.testing.assert_allclose(pixels[20, 700], tint(MISSED), atol=1)


@pytest.mark.parametrize("form", ["prediction", "labels"])
def test_semantic_predictions_are_compared_by_pixel(monkeypatch, form):
    labels = columns(20, 83) - 1
    labels[:30, :10] = -1
    labels[:, 60:] = 5
    prediction = labels
    if form == "prediction":
        prediction = SemanticPrediction(labels, [{"id": n, "label_id": n} for n in (0, 1, 5)])
    target = target_of(columns(20, 40, 70), [0, 0, 1])
    pixels, legend = shown(monkeypatch, prediction, target)
    compared = HEIGHT * 70
    wrong, missed = HEIGHT * 20 + HEIGHT * 10, 30 * 10
    parts = [100 * count / compared for count in (compared - wrong - missed, wrong, missed)]
    assert legend == [
        f"right {parts[0]:.1f} %",
        f"wrong class {parts[1]:.1f} %",
        f"missed {parts[2]:.1f} %",
        "ignored",
    ]
    np.testing.assert_allclose(pixels[20, 50], tint(MISSED), atol=1)
    np.testing.assert_allclose(pixels[20, 150], tint(RIGHT), atol=1)
    np.testing.assert_allclose(pixels[20, 230], tint(WRONG), atol=1)
    assert np.ptp(pixels[20:60, 720:800]) > 60  # hatched


def test_only_some_labels_may_be_compared(monkeypatch):
    target = target_of(columns(20, 40, 83), [0, 1, 7])
    instances = InstancePrediction(
        columns(20), [{"id": 1, "label_id": 0, "score": 0.9}], torch.stack([columns(20) == 1])
    )
    _, legend = shown(monkeypatch, instances, target, labels={0, 1})
    assert legend == ["right 1", "wrong class 0", "missed 1", "false 0"]


@pytest.mark.parametrize("size", [(1, 1), (2, 5000), (61, 97)])
def test_nothing_found_or_annotated_is_drawn(size):
    nothing = torch.zeros(size, dtype=torch.int32)
    empty = SegmentationTarget(labels=[], id_map=nothing, segment_ids=[])
    full = SegmentationTarget(labels=[3], id_map=nothing + 1, segment_ids=[1])
    none, all_ = PanopticPrediction(nothing, []), panoptic_of(nothing + 1, [3])
    objects = InstancePrediction(nothing, [], torch.zeros(0, *size) > 0)
    semantic = SemanticPrediction(nothing + 3, [{"id": 3, "label_id": 3}])
    for target in (empty, full):
        for prediction in (none, all_, objects, semantic):
            assert draw_errors(image_of(*size), prediction, target).width == max(size[1], size[1] * 800 // max(size))


def test_the_four_colours_differ_for_all_eyes():
    colors = [color for _, color, _ in errors._LOOKS.values()][:4]
    for eyes in (None, NO_GREEN, NO_RED):
        assert closest(colors, eyes) > 25


def test_bad_input_is_refused():
    target = target_of(columns(20), [0])
    with pytest.raises(ValueError, match=r"prediction is 61x97 .* image is 61x98"):
        draw_errors(np.zeros((HEIGHT, WIDTH + 1, 3), np.uint8), panoptic_of(columns(20), [0]), target)
    smaller = target_of(columns(20)[1:], [0])
    with pytest.raises(ValueError, match=r"annotation is 60x97 .* image is 61x97"):
        draw_errors(np.zeros((HEIGHT, WIDTH, 3), np.uint8), panoptic_of(columns(20), [0]), smaller)


def test_a_name_that_no_font_can_write_is_the_number_of_its_label(monkeypatch):
    written = []
    monkeypatch.setattr(errors, "write_names", lambda *given: written.append(given[2]))
    monkeypatch.setattr(Lettering, "legible", lambda self, name, label: str(label) if name == "가나" else name)
    for prediction in (panoptic_of(columns(WIDTH), [7]), columns(WIDTH) + 6):
        draw_errors(image_of(), prediction, target_of(columns(WIDTH), [3]), {3: "가나", 7: "bus"})
    assert written[0] == ["3 as bus", "3", ""]
    assert written[1] == ["3 as bus"]
