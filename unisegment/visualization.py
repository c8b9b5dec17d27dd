# SPDX-License-Identifier: Apache-2.0
"""An image and what was found in it in, a picture for people out.

All is drawn on the grid of the picture, which is larger than a small image so that names can be read.
"""

from collections import Counter
from collections.abc import Mapping
from functools import cache, reduce
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, UInt8
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import distance_transform_edt, find_objects, maximum_filter
from torch import Tensor

from unisegment.ops.masks import segment_areas, segment_index_map, segment_index_maps
from unisegment.ops.orientation import upright
from unisegment.structures import InstancePrediction, PanopticPrediction, SegmentationTarget, SemanticPrediction
from unisegment.types import Size

Drawable: TypeAlias = SemanticPrediction | InstancePrediction | PanopticPrediction | SegmentationTarget
"""What can be drawn on an image."""

Picture: TypeAlias = Image.Image | np.ndarray | Tensor
"""Pillow's image, an array (h, w, 3) of uint8, or a tensor (3, h, w) of uint8 or of floats in [0, 1]."""

_SMALLEST_PICTURE, _LARGEST_PANEL = 640, 1024
"""Limits of the long side in pixels."""
_TITLE_SIZE, _LEGEND_SIZE, _MARGIN, _GAP = 26, 20, 32, 20
_INK, _PAPER, _PLATE = (30, 32, 38), (255, 255, 255), (16, 18, 24, 175)
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
_ENOUGH_COVER = 0.75
"""Part of a name's plate that must lie on its segment."""
_FIRST_COLOR = (0.65, 0.16, -1.7)
"""A blue, in OKLab's lightness, chroma and hue."""
# From OKLab to the responses of the eye's cones (their cubic roots), and from these to linear red, green and blue.
_CONES_FROM_LAB = np.array([[1, 0.39633778, 0.21580376], [1, -0.10556135, -0.06385417], [1, -0.08948418, -1.29148555]])
_LIGHT_FROM_CONES = np.array(
    [[4.0767417, -3.3077116, 0.2309699], [-1.268438, 2.6097574, -0.3413194], [-0.0041961, -0.7034186, 1.7076147]]
)


def draw(
    image: Picture, prediction: Drawable, id2label: Mapping[int, str] | None = None, opacity: float = 0.55
) -> Image.Image:
    """Colour and outline the segments, and name those that are large enough to carry their name.

    The colour tells the label; segments of the same label have shades of it. Void is left as it is.

    Args:
        image: The image that was segmented. Images of Pillow are turned upright as their EXIF data say.
        prediction: What was found, or is to be found, on the pixel grid of the image.
        id2label: Name of each label; labels without a name are written as numbers.
        opacity: Strength of the colours, in [0, 1].

    Returns:
        A picture of the size of the image, or a whole number of times larger when the image is small.

    Raises:
        ValueError: When `image` is none, or when `prediction` has another size.
    """
    original = _to_pillow(image)
    factor = max(_SMALLEST_PICTURE // max(original.size), 1)
    return _draw(original, prediction, id2label, opacity, (original.height * factor, original.width * factor))


def draw_sheet(
    image: Picture,
    predictions: Mapping[str, Drawable],
    id2label: Mapping[int, str] | None = None,
    opacity: float = 0.55,
) -> Image.Image:
    """Show the image and several drawings of it side by side, with titles above and the colours of the labels below.

    Args:
        image: The image that was segmented.
        predictions: What to draw beside it, by title.
        id2label: Name of each label; labels without a name are written as numbers.
        opacity: Strength of the colours, in [0, 1].

    Raises:
        ValueError: As for `draw`.
    """
    original = _to_pillow(image)
    longest = max(original.size)
    scale = max(_SMALLEST_PICTURE // longest, 1) if longest <= _LARGEST_PANEL else _LARGEST_PANEL / longest
    size = (round(original.height * scale), round(original.width * scale))
    panels = [("image", _resize(original, size))]
    for title, prediction in predictions.items():
        panels.append((title, _draw(original, prediction, id2label, opacity, size)))
    labels = {label for prediction in predictions.values() for label in _as_target(prediction)[0].labels.tolist()}
    return _sheet(panels, {label: _name(label, id2label) for label in sorted(labels)})


def _draw(
    original: Image.Image, prediction: Drawable, id2label: Mapping[int, str] | None, opacity: float, size: Size
) -> Image.Image:
    target, scores = _as_target(prediction)
    if target.size != (original.height, original.width):
        raise ValueError(
            f"prediction is {target.size[0]}x{target.size[1]} (height x width), but the image is "
            f"{original.height}x{original.width}: give post-processing the image's size in target_sizes."
        )
    index_map = _resize_nearest(_index_map(target), size)
    colors = _segment_colors(target.labels.tolist())
    picture = _paint(np.asarray(_resize(original, size)), index_map, colors, opacity)
    names = [
        _name(label, id2label) + (" (crowd)" if is_crowd else "")
        for label, is_crowd in zip(target.labels.tolist(), target.is_crowd.tolist(), strict=True)
    ]
    return _write_names(picture, index_map, names, scores)


def _to_pillow(image: Picture) -> Image.Image:
    if isinstance(image, Image.Image):
        return upright(image).convert("RGB")
    if isinstance(image, Tensor):
        image = _tensor_to_array(image)
    if image.ndim != 3 or image.shape[-1] != 3 or image.dtype != np.uint8:
        raise ValueError(
            f"image must be (height, width, 3) of uint8 as an array, (3, height, width) as a tensor, or an image of "
            f"Pillow; got shape {image.shape} of {image.dtype} (channels last)."
        )
    return Image.fromarray(np.ascontiguousarray(image))


def _tensor_to_array(image: Tensor) -> np.ndarray:
    if image.is_floating_point():
        if image.numel() and not 0 <= image.min() <= image.max() <= 1:
            raise ValueError(
                f"image as a tensor of floats must be in [0, 1], got {image.min():.2f} to {image.max():.2f}: "
                "give the image as it was before normalisation."
            )
        image = (image * 255).round().to(torch.uint8)
    return image.movedim(0, -1).cpu().numpy()


def _as_target(prediction: Drawable) -> tuple[SegmentationTarget, list[float | None]]:
    """Return the segments, and the score of each where there is one."""
    if isinstance(prediction, SegmentationTarget):
        return prediction.to("cpu"), [None] * len(prediction)
    if not isinstance(prediction, SemanticPrediction | InstancePrediction | PanopticPrediction):
        raise ValueError(f"prediction must be one of unisegment's predictions or targets, got {type(prediction)}.")
    infos = prediction.segments_info
    target = SegmentationTarget(
        labels=torch.tensor([info["label_id"] for info in infos], dtype=torch.int64),
        id_map=prediction.segmentation.cpu(),
        segment_ids=torch.tensor([info["id"] for info in infos], dtype=torch.int64),
    )
    return target, [info.get("score") for info in infos]


def _index_map(target: SegmentationTarget) -> Int64[np.ndarray, "h w"]:
    if target.masks is None and target.layers is None:
        return segment_index_map(target).numpy()
    # Segments may overlap: small ones come last, so that they are not hidden.
    order = segment_areas(target).argsort(descending=True, stable=True)
    # The last rank is that of void, whose index is -1 in both directions.
    order, ranks = torch.cat([order, order.new_tensor([-1])]), torch.cat([order.argsort(), order.new_tensor([-1])])
    tops = (ranks[index_map] for index_map in segment_index_maps(target))
    return order[reduce(torch.maximum, tops)].numpy()


def _resize_nearest(index_map: Int64[np.ndarray, "_ _"], size: Size) -> Int64[np.ndarray, "h w"]:
    rows, columns = (
        (2 * np.arange(new) + 1) * old // (2 * new) for old, new in zip(index_map.shape, size, strict=True)
    )
    return index_map[rows[:, None], columns]


def _resize(image: Image.Image, size: Size) -> Image.Image:
    return image.resize((size[1], size[0]), Image.Resampling.LANCZOS)


def _name(label: int, id2label: Mapping[int, str] | None) -> str:
    return (id2label or {}).get(label, str(label))


def distinct_colors(count: int) -> UInt8[np.ndarray, "n 3"]:
    """Return colours that differ from each other as much as can be, always the same ones.

    More colours leave the first ones as they are. They repeat only after some thousand.

    Source:
        Each colour is the farthest from all before it in OKLab (B. Ottosson, "A perceptual color space for image
        processing", 2020).
    """
    return _to_rgb(_distinct_lch(count))


@cache
def _distinct_lch(count: int) -> Float[np.ndarray, "n 3"]:
    """Return lightness, chroma and hue in radians."""
    grid = np.meshgrid(
        np.linspace(0.55, 0.85, 9), np.linspace(0.07, 0.2, 9), np.linspace(-np.pi, np.pi, 73)[1:], indexing="ij"
    )
    candidates = np.stack(grid, axis=-1).reshape(-1, 3)
    candidates = candidates[((_to_light(candidates) >= 0) & (_to_light(candidates) <= 1)).all(axis=1)]
    points = _to_lab(candidates)
    chosen = [int(np.abs(candidates - _FIRST_COLOR).sum(axis=1).argmin())]
    distance = np.full(len(points), np.inf)
    while len(chosen) < min(count, len(points)):
        distance = np.minimum(distance, ((points - points[chosen[-1]]) ** 2).sum(axis=1))
        chosen.append(int(distance.argmax()))
    return candidates[np.resize(chosen, count)]


def _segment_colors(labels: list[int]) -> UInt8[np.ndarray, "n 3"]:
    """Return the colour of the label for its first segment, and shades of it for the others."""
    seen: Counter[int] = Counter()
    shades = np.zeros((len(labels), 3))
    for index, label in enumerate(labels):
        # Multiples of these fractions spread evenly over a square however many there are. Source: M. Roberts, "The
        # unreasonable effectiveness of quasirandom sequences", 2018.
        across = (0.5 + seen[label] * np.array([0.7548777, 0.5698403])) % 1 - 0.5
        shades[index] = _distinct_lch(max(labels) + 1)[label] + [0.34 * across[0], 0, 0.9 * across[1]]
        seen[label] += 1
    return _to_rgb(shades)


def _to_lab(lch: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
    lightness, chroma, hue = lch.T
    return np.stack([lightness, chroma * np.cos(hue), chroma * np.sin(hue)], axis=1)


def _to_light(lch: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
    """Return linear red, green and blue; outside of [0, 1] no screen shows them."""
    cones = (_to_lab(lch) @ _CONES_FROM_LAB.T) ** 3
    return cones @ _LIGHT_FROM_CONES.T


def _to_rgb(lch: Float[np.ndarray, "n 3"]) -> UInt8[np.ndarray, "n 3"]:
    light = _to_light(lch).clip(0, 1)
    encoded = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return (255 * encoded).round().astype(np.uint8)


def _paint(
    image: UInt8[np.ndarray, "h w 3"],
    index_map: Int64[np.ndarray, "h w"],
    colors: UInt8[np.ndarray, "n 3"],
    opacity: float,
) -> Image.Image:
    # The last row is for void, which has the index -1 and is not painted.
    colors = np.concatenate([colors, np.zeros((1, 3), np.uint8)])
    # Colours are laid over grey, so that they look as in the legend.
    grey = image @ _LUMA
    painted = grey[..., None] * np.float32(1 - opacity) + colors[index_map] * np.float32(opacity)
    painted[index_map == -1] = image[index_map == -1]
    outline = _outline(index_map)
    painted[outline] = 0.45 * painted[outline] + 0.55 * 255
    return Image.fromarray(painted.round().astype(np.uint8))


def _outline(index_map: Int64[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Return the pixels on both sides of the borders between segments."""
    outline = np.zeros(index_map.shape, dtype=np.bool_)
    for axis in (0, 1):
        before, after = (np.moveaxis(outline, axis, 0)[part] for part in (slice(None, -1), slice(1, None)))
        differs = np.diff(index_map, axis=axis) != 0
        before |= np.moveaxis(differs, axis, 0)
        after |= np.moveaxis(differs, axis, 0)
    return maximum_filter(outline, size=max(max(index_map.shape) // 800, 1))


def _write_names(
    picture: Image.Image, index_map: Int64[np.ndarray, "h w"], names: list[str], scores: list[float | None]
) -> Image.Image:
    # Places are looked for on every `step`th pixel: a finer grid shows no difference and takes much longer.
    step = max(max(picture.size) // _SMALLEST_PICTURE, 1)
    index_map = index_map[::step, ::step]
    is_free = np.ones(index_map.shape, dtype=np.bool_)
    areas = np.bincount(index_map[index_map >= 0], minlength=len(names))
    boxes = find_objects(index_map + 1, max_label=len(names))
    canvas = ImageDraw.Draw(picture, "RGBA")
    large = max(14, round(max(picture.size) / 45))
    # Small segments go first: large ones have other places left.
    for index in areas.argsort(kind="stable").tolist():
        with_score = names[index] if scores[index] is None else f"{names[index]} {scores[index]:.2f}"
        for text, size in ((with_score, large), (names[index], large), (names[index], large * 4 // 5)):
            height, width = (-(-length // step) for length in _plate_size(text, size))
            if boxes[index] is None or areas[index] < _ENOUGH_COVER * height * width:
                continue
            window = _widened(boxes[index], (height, width))
            corner = _place(index_map[window] == index, is_free[window], (height, width))
            if corner is not None:
                top, left = window[0].start + corner[0], window[1].start + corner[1]
                is_free[top : top + height, left : left + width] = False
                _write_plate(canvas, text, size, (left * step, top * step))
                break
    return picture


def _write_plate(canvas: ImageDraw.ImageDraw, text: str, size: int, corner: tuple[int, int]) -> None:
    left, top = corner
    height, width = _plate_size(text, size)
    canvas.rounded_rectangle((left, top, left + width - 1, top + height - 1), radius=height // 4, fill=_PLATE)
    canvas.text((left + width / 2, top + height / 2), text, fill=_PAPER, font=_font(size), anchor="mm")


def _plate_size(text: str, size: int) -> Size:
    return round(1.35 * size), round(_font(size).getlength(text) + 0.7 * size)


def _widened(box: tuple[slice, slice], plate: Size) -> tuple[slice, slice]:
    # A plate may reach over the edge of its segment.
    rows, columns = (
        slice(max(side.start - length, 0), side.stop + length) for side, length in zip(box, plate, strict=True)
    )
    return rows, columns


def _place(mask: Bool[np.ndarray, "h w"], is_free: Bool[np.ndarray, "h w"], size: Size) -> tuple[int, int] | None:
    """Return the top and left of a rectangle of this size that lies well on the mask and is free, or None."""
    height, width = size
    if height > mask.shape[0] or width > mask.shape[1]:
        return None
    # One taken pixel outweighs all others.
    weights = np.where(is_free, mask, -height * width).astype(np.int64)
    sums = np.pad(weights.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    cover = sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
    if cover.max() < _ENOUGH_COVER * height * width:
        return None
    # Of the best places, one that is far from all others, and in the middle of those.
    depth = distance_transform_edt(np.pad(cover >= 0.98 * cover.max(), 1))[1:-1, 1:-1]
    places = np.argwhere(depth >= 0.9 * depth.max())
    top, left = places[((places - places.mean(axis=0)) ** 2).sum(axis=1).argmin()]
    return int(top), int(left)


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)
    return font


def _sheet(panels: list[tuple[str, Image.Image]], legend: Mapping[int, str]) -> Image.Image:
    width, height = panels[0][1].size
    sheet_width = len(panels) * (width + _GAP) - _GAP + 2 * _MARGIN
    top = _MARGIN + round(1.6 * _TITLE_SIZE)
    places, legend_bottom = _legend_places(legend, sheet_width, top + height + _MARGIN)
    sheet = Image.new("RGB", (sheet_width, legend_bottom + _MARGIN), _PAPER)
    canvas = ImageDraw.Draw(sheet)
    for number, (title, panel) in enumerate(panels):
        left = _MARGIN + number * (width + _GAP)
        canvas.text((left, _MARGIN), title, fill=_INK, font=_font(_TITLE_SIZE), anchor="lt")
        sheet.paste(panel, (left, top))
    colors = distinct_colors(max(legend, default=0) + 1)
    for label, (left, row) in places.items():
        box = (left, row, left + _LEGEND_SIZE, row + _LEGEND_SIZE)
        canvas.rounded_rectangle(box, radius=_LEGEND_SIZE // 5, fill=tuple(colors[label].tolist()))
        middle = (left + 1.5 * _LEGEND_SIZE, row + _LEGEND_SIZE / 2)
        canvas.text(middle, legend[label], fill=_INK, font=_font(_LEGEND_SIZE), anchor="lm")
    return sheet


def _legend_places(legend: Mapping[int, str], width: int, top: int) -> tuple[dict[int, tuple[int, int]], int]:
    """Return the left and top of each entry, laid out line by line, and the bottom of the last line."""
    places, left = {}, _MARGIN
    for label, name in legend.items():
        length = round(3 * _LEGEND_SIZE + _font(_LEGEND_SIZE).getlength(name))
        if left > _MARGIN and left + length > width - _MARGIN:
            left, top = _MARGIN, top + round(1.8 * _LEGEND_SIZE)
        places[label] = (left, top)
        left += length
    return places, top + _LEGEND_SIZE
