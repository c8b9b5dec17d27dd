# SPDX-License-Identifier: Apache-2.0
"""An image, what was found in it and its annotation in, a picture of what is right and what is wrong out."""

from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Int64
from PIL import Image

from unisegment.structures import SegmentationTarget, SemanticPrediction
from unisegment.types import Size
from unisegment.visualization.colors import Color
from unisegment.visualization.drawables import Drawable, Picture, Segments, open_picture, segments_of
from unisegment.visualization.drawing import README_WIDTH, check_size, lettering_of, resize, size_of_picture
from unisegment.visualization.fonts import Lettering
from unisegment.visualization.index_maps import resize_map, visible_segments
from unisegment.visualization.legend import Entry, with_legend
from unisegment.visualization.matching import Verdict, match_segments
from unisegment.visualization.names import write_names
from unisegment.visualization.painting import paint, stripes

_LOOKS: dict[Verdict, tuple[str, Color, float]] = {
    Verdict.RIGHT: ("right", (0, 158, 115), 0.4),
    Verdict.WRONG_CLASS: ("wrong class", (240, 228, 66), 0.75),
    Verdict.MISSED: ("missed", (0, 114, 178), 0.75),
    Verdict.FALSE: ("false", (213, 94, 0), 0.75),
    Verdict.IGNORED: ("ignored", (128, 128, 128), 0),
}
"""Name, colour and opacity. The colours are those of M. Okabe and K. Ito, "Color universal design", 2008."""


def draw_errors(
    image: Picture,
    prediction: Drawable,
    target: SegmentationTarget,
    id2label: Mapping[int, str] | None = None,
    font: str | Path | None = None,
    *,
    labels: Collection[int] | None = None,
    min_side: int = README_WIDTH,
) -> Image.Image:
    """Show where a prediction is right, and where it misses, is false or has the wrong class.

    A semantic prediction is compared pixel by pixel, all others segment by segment as in panoptic quality: a predicted
    and an annotated segment that share more than half of their union match. If their labels differ, too, the name
    written is "truck as car": the annotation comes first. Segments that were missed have stripes where something false
    covers them. The legend below counts segments, or tells the part of pixels.

    Args:
        image: As in `draw`.
        prediction: What was found.
        target: The annotation of the image. Its void is not compared, as in the metrics: semantic predictions have none
            that are false. For an instance prediction it is background, where objects are false.
        id2label: As in `draw`.
        font: As in `draw`.
        labels: Labels that are compared: for an instance prediction, those of things. None compares all.
        min_side: As in `draw`.

    Raises:
        ValueError: As `draw` does.
        OSError: As `draw` does.
    """
    original, lettering = open_picture(image), lettering_of(font)
    size = size_of_picture(original, min_side)
    picture, entries = draw_compared(original, prediction, target, id2label, labels, size, lettering)
    return with_legend(picture, entries, lettering)


def draw_compared(
    original: Image.Image,
    prediction: Drawable,
    target: SegmentationTarget,
    id2label: Mapping[int, str] | None,
    labels: Collection[int] | None,
    size: Size,
    lettering: Lettering,
    text_scale: float = 1,
) -> tuple[Image.Image, list[Entry]]:
    """Draw errors at any size, see `draw_errors`, and return what stands in the legend, too."""
    found, annotated = segments_of(prediction, with_hidden=True), segments_of(target)
    check_size(found, original)
    check_size(annotated, original, "annotation")
    if labels is not None:
        found, annotated = found.select(labels), annotated.select(labels)
    is_semantic = isinstance(prediction, SemanticPrediction) or (
        isinstance(prediction, torch.Tensor) and prediction.dtype != torch.bool
    )
    names_of = partial(_legible_names, id2label=id2label, lettering=lettering)
    compare = _compare_pixels if is_semantic else _compare_segments
    index_map, verdicts, names, striped, amounts = compare(found, annotated, names_of, size)
    colors = np.array([_LOOKS[verdict][1] for verdict in verdicts], dtype=np.uint8).reshape(-1, 3)
    opacity = np.array([_LOOKS[verdict][2] for verdict in verdicts])
    has_void = found.is_rest_void and bool((index_map == -1).any())
    picture = paint(resize(original, size), index_map, colors, opacity, has_void)
    if striped.any():
        strength = Image.fromarray((230 * stripes(size) * striped).astype(np.uint8))
        picture.paste(_LOOKS[Verdict.MISSED][1], (0, 0), strength)
    write_names(picture, index_map, names, [None] * len(names), colors, lettering, text_scale)
    entries = [Entry(f"{_LOOKS[verdict][0]} {amounts[verdict]}", _LOOKS[verdict][1]) for verdict in amounts]
    return picture, entries + [Entry("ignored", None)] * has_void


_Compared: TypeAlias = tuple[Int64[np.ndarray, "h w"], list[Verdict], list[str], np.ndarray, dict[Verdict, str]]
"""Map of regions, -1 for what is ignored; verdict and name of each region; where stripes are; text of the legend."""


def _legible_names(segments: Segments, id2label: Mapping[int, str] | None, lettering: Lettering) -> list[str]:
    return [lettering.legible(name, label) for label, name in segments.labels_and_names(id2label)]


_NamesOf: TypeAlias = Callable[[Segments], list[str]]


def _compare_segments(found: Segments, annotated: Segments, names_of: _NamesOf, size: Size) -> _Compared:
    matches = match_segments(found, annotated)
    names, true_names = names_of(found), names_of(annotated)
    for index, partner in matches.partners.items():
        if matches.found[index] == Verdict.WRONG_CLASS:
            names[index] = f"{true_names[partner]} as {names[index]}"
    verdicts = matches.found + matches.annotated
    nothing = len(verdicts)
    is_missed = np.array([*(verdict == Verdict.MISSED for verdict in matches.annotated), False])
    is_error = np.array([*(v in (Verdict.FALSE, Verdict.WRONG_CLASS) for v in matches.found), False])
    above, below = (resize_map(visible_segments(one.target), size) for one in (found, annotated))
    missed, error = is_missed[below], is_error[above]
    is_compared = np.array([*(verdict != Verdict.IGNORED for verdict in matches.found), False])
    index_map = np.where(is_compared[above], above, np.where(below >= 0, nothing, -1))
    index_map = np.where(missed & ~error, len(names) + below, index_map)
    counts = {
        Verdict.RIGHT: matches.found,
        Verdict.WRONG_CLASS: matches.found,
        Verdict.MISSED: matches.annotated,
        Verdict.FALSE: matches.found,
    }
    amounts = {verdict: str(those.count(verdict)) for verdict, those in counts.items()}
    return index_map, [*verdicts, Verdict.IGNORED], [*names, *true_names, ""], missed & error, amounts


def _compare_pixels(found: Segments, annotated: Segments, names_of: _NamesOf, size: Size) -> _Compared:
    above, below = _label_map(found), _label_map(annotated)
    names: dict[int, str] = {}
    for one in (found, annotated):
        names |= zip(one.target.labels.tolist(), names_of(one), strict=True)
    is_labelled = below >= 0
    pairs, regions = np.unique(np.stack([above[is_labelled], below[is_labelled]]), axis=1, return_inverse=True)
    index_map = np.full(below.shape, -1, dtype=np.int64)
    index_map[is_labelled] = regions
    verdicts, texts = [], []
    for label, true_label in pairs.T.tolist():
        is_right = label == true_label
        verdicts.append(Verdict.RIGHT if is_right else Verdict.MISSED if label < 0 else Verdict.WRONG_CLASS)
        true_name = names[true_label]
        texts.append(true_name if is_right or label < 0 else f"{true_name} as {names[label]}")
    pixels = np.bincount(np.array(verdicts, dtype=np.int64)[regions], minlength=3) / max(len(regions), 1)
    kinds = (Verdict.RIGHT, Verdict.WRONG_CLASS, Verdict.MISSED)
    amounts = {verdict: f"{100 * pixels[verdict]:.1f} %" for verdict in kinds}
    return resize_map(index_map, size), verdicts, texts, np.zeros(size, dtype=np.bool_), amounts


def _label_map(segments: Segments) -> Int64[np.ndarray, "h w"]:
    """Return the label of each pixel, -1 for void."""
    return np.append(segments.target.labels.numpy(), -1)[visible_segments(segments.target)]
