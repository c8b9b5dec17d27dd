# SPDX-License-Identifier: Apache-2.0
"""An image and its segments in, one picture of both out.

All is drawn on the grid of the picture, which is larger than a small image so that names can be read.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from unisegment.types import Size
from unisegment.visualization.colors import Palette, label_colors, segment_colors
from unisegment.visualization.drawables import Drawable, Picture, Segments, open_picture, segments_of
from unisegment.visualization.fonts import Lettering
from unisegment.visualization.index_maps import resize_map, visible_segments
from unisegment.visualization.legend import Entry, with_legend
from unisegment.visualization.names import write_names
from unisegment.visualization.painting import paint

README_WIDTH = 800
"""Pixels of the longer side that a small image is enlarged to."""


@dataclass(frozen=True)
class Style:
    """How segments are drawn; see `draw`.

    Args:
        lettering: The fonts.
        palette: Which colours.
        opacity: Strength of the colours.
        scores: Whether scores are written behind names.
        text_scale: How much larger than usual names are.
    """

    lettering: Lettering
    palette: Palette = "natural"
    opacity: float = 0.6
    scores: bool = False
    text_scale: float = 1


def draw(
    image: Picture,
    prediction: Drawable,
    id2label: Mapping[int, str] | None = None,
    opacity: float = 0.6,
    font: str | Path | None = None,
    *,
    palette: Palette = "natural",
    legend: bool = False,
    scores: bool = False,
    min_side: int = README_WIDTH,
) -> Image.Image:
    """Colour and outline the segments, and name those that are large enough to carry their name.

    The colour tells the label, and is the same wherever a label has this name; segments of one label are lighter and
    darker shades of it. Void is hatched. Of an instance prediction, what is no object is left as a grey photograph.

    Args:
        image: The image that was segmented. Files and images of Pillow are turned upright as their EXIF data say.
        prediction: What was found, or is to be found, on the pixel grid of the image; transformers' own results, too.
        id2label: Name of each label. Otherwise segments have the name that comes with them, or their label's number.
        opacity: Strength of the colours, in [0, 1].
        font: File of a font for the names. Otherwise, and for names that it lacks characters of, one of the system that
            has them is looked for; a name that none can write is the label's number.
        palette: "natural" (sky is blue, grass is green, roads are grey), "colorblind" (told apart without red and
            green, too), or colours of your own: a dict from label to (red, green, blue), 0 to 255.
        legend: Whether a strip with all labels and their colours is added below.
        scores: Whether the scores of segments are written behind their names.
        min_side: The longer side of the picture, in pixels, that smaller images are enlarged to. 0 keeps their size.

    Returns:
        A picture as large as the image, or larger when the image is small. With a legend it is higher.

    Raises:
        ValueError: When `image` or `font` is none, `prediction` is none or has another size, or there is no such
            palette.
        OSError: When the file of the image cannot be opened.
    """
    original, segments = open_picture(image), segments_of(prediction)
    style = Style(lettering_of(font), palette, opacity, scores)
    picture, has_void = draw_segments(original, segments, id2label, size_of_picture(original, min_side), style)
    if not legend:
        return picture
    return with_legend(picture, legend_entries([segments], has_void, id2label, style), style.lettering)


def lettering_of(font: str | Path | None) -> Lettering:
    """Return the fonts to write with, one of which a user may have chosen."""
    return Lettering(None if font is None else str(Path(font).expanduser()))


def size_of_picture(image: Image.Image, min_side: int) -> Size:
    """Return the height and width of the picture of an image."""
    scale = max(min_side / max(image.size), 1)
    return round(image.height * scale), round(image.width * scale)


def draw_segments(
    original: Image.Image, segments: Segments, id2label: Mapping[int, str] | None, size: Size, style: Style
) -> tuple[Image.Image, bool]:
    """Draw segments at any size, see `draw`, and tell whether there is void."""
    check_size(segments, original)
    target, names = segments.target, segments.labels_and_names(id2label)
    index_map = resize_map(visible_segments(target), size)
    colors = segment_colors([label for label, _ in names], label_colors(dict(names), style.palette))
    picture = paint(resize(original, size), index_map, colors, style.opacity, segments.is_rest_void)
    texts = [
        style.lettering.legible(name, label) + (" (crowd)" if is_crowd else "")
        for (label, name), is_crowd in zip(names, target.is_crowd.tolist(), strict=True)
    ]
    scores = segments.scores if style.scores else [None] * len(texts)
    write_names(picture, index_map, texts, scores, colors, style.lettering, style.text_scale)
    return picture, segments.is_rest_void and bool((index_map == -1).any())


def check_size(segments: Segments, image: Image.Image, what: str = "prediction") -> None:
    """Raise a ValueError when segments are not of the size of their image."""
    height, width = segments.target.size
    if (height, width) != (image.height, image.width):
        raise ValueError(
            f"{what} is {height}x{width} (height x width), but the image is {image.height}x{image.width}: give "
            "post-processing the image's size in target_sizes."
        )


def legend_entries(
    shown: list[Segments], has_void: bool, id2label: Mapping[int, str] | None, style: Style
) -> list[Entry]:
    """Return the labels of all segments, in their order, and at last void where there is any."""
    names = {label: name for segments in shown for label, name in segments.labels_and_names(id2label)}
    colors = label_colors(names, style.palette)
    entries = [Entry(style.lettering.legible(names[label], label), colors[label]) for label in sorted(names)]
    return entries + [Entry("void", None)] * has_void


def resize(image: Image.Image, size: Size) -> Image.Image:
    """Return an image at a size given as height and width."""
    return image.resize((size[1], size[0]), Image.Resampling.LANCZOS)
