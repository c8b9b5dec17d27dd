# SPDX-License-Identifier: Apache-2.0
"""An image and what was found in it in, a picture for people out."""

from unisegment.visualization.colors import Palette, label_colors
from unisegment.visualization.drawables import Drawable, Picture
from unisegment.visualization.drawing import draw
from unisegment.visualization.errors import draw_errors
from unisegment.visualization.sheet import draw_sheet

__all__ = ["Drawable", "Palette", "Picture", "draw", "draw_errors", "draw_sheet", "label_colors"]
