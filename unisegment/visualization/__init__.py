# SPDX-License-Identifier: Apache-2.0
"""An image and what was found in it in, a picture for people out."""

from unisegment.visualization.colors import distinct_colors
from unisegment.visualization.drawables import Drawable, Picture
from unisegment.visualization.drawing import draw
from unisegment.visualization.sheet import draw_sheet

__all__ = ["Drawable", "Picture", "distinct_colors", "draw", "draw_sheet"]
