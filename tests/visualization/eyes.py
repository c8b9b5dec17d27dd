# SPDX-License-Identifier: Apache-2.0
"""How different colours look to eyes, and the names of the labels of well-known data sets."""

import numpy as np

from unisegment.data.categories import ADE20K, CITYSCAPES, COCO_PANOPTIC, MAPILLARY_VISTAS
from unisegment.data.formats.synthetic import CATEGORIES
from unisegment.visualization import label_colors

# Source: G. Machado, M. Oliveira, L. Fernandes, "A physiologically-based model for simulation of color vision
# deficiency", 2009, table of severity 1.0; for linear red, green and blue.
NO_GREEN = [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
NO_RED = [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
NAMES = {
    "COCO": list(COCO_PANOPTIC),
    "ADE20K": list(ADE20K),
    "Cityscapes": list(CITYSCAPES),
    "Vistas": list(MAPILLARY_VISTAS),
    "CamVid": "sky building pole road pavement tree sign fence car pedestrian bicyclist".split(),
    "scenes": [category.name for category in CATEGORIES],
}


def cielab(colors, eyes=None):
    """Return CIELAB under D65, as the CIE defines it, of colours as they look to eyes."""
    encoded = np.asarray(colors) / 255
    light = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    if eyes is not None:
        light = (light @ np.array(eyes).T).clip(0, 1)
    xyz = light @ np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]).T
    ratio = xyz / [0.9505, 1, 1.089]
    x, y, z = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio / 3 * (29 / 6) ** 2 + 4 / 29).T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=1)


def closest(colors, eyes=None):
    """Return the distance in CIELAB of the two colours that are most alike."""
    points = cielab(list(colors), eyes)
    distances = np.linalg.norm(points[:, None] - points, axis=-1)
    return distances[np.triu_indices(len(points), 1)].min()


def colors_of(names, palette="natural"):
    return label_colors(dict(enumerate(names)), palette).values()
