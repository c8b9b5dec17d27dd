# SPDX-License-Identifier: Apache-2.0
"""A seed in, drawn scenes with perfect annotations out: a data set to try things on without any download.

A scene is 128 pixels high and 160 wide. Two kinds of stuff meet at a horizon, and two to six coloured shapes hide
each other in front of it. Shapes differ from stuff and from each other by colour as well as by form, so that a small
network learns them in minutes.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from PIL import Image
from tqdm import tqdm

from unisegment.data.formats import coco_panoptic
from unisegment.data.formats.format import Format
from unisegment.files import filled_folder
from unisegment.ops.masks import boxes_from_masks, ids_to_rgb
from unisegment.structures import Category, Sample, SegmentationTarget
from unisegment.types import Size

CATEGORIES = [
    Category(1, "disc", True, (220, 40, 40)),
    Category(2, "square", True, (240, 220, 50)),
    Category(3, "diamond", True, (150, 60, 200)),
    Category(4, "triangle", True, (250, 140, 30)),
    Category(5, "ring", True, (240, 240, 240)),
    Category(6, "sky", False, (90, 160, 230)),
    Category(7, "grass", False, (60, 150, 60)),
    Category(8, "soil", False, (170, 130, 90)),
]
"""Sorted by id, things first; the place in this list is the label. Colours are those of the scenes."""

SIZE: Size = (128, 160)
"""Height and width of every scene."""

_NUM_THINGS = (2, 6)
_RADIUS = (9.0, 28.0)
_BRIGHTNESS = (0.8, 1.2)
_HORIZON = (0.3, 0.7)
_NOISE = 14.0
_MAX_ID = 2**24 - 1


def synthetic_scene(generator: np.random.Generator, image_id: int = 0) -> Sample:
    """Draw one scene.

    Every pixel belongs to a segment. Things that are wholly hidden are left out; of the others, what is visible
    counts. Ids are drawn from all that a panoptic PNG file can hold.

    Args:
        generator: Where all random numbers come from.
        image_id: Number of the image in its data set.
    """
    layers = [*_stuff(generator), *_things(generator)]
    ids = generator.choice(_MAX_ID, size=len(layers), replace=False).astype(np.int32) + 1
    image = np.zeros((*SIZE, 3))
    id_map = np.zeros(SIZE, dtype=np.int32)
    for segment_id, (_, mask, color) in zip(ids, layers, strict=True):
        image[mask] = color
        id_map[mask] = segment_id
    image += generator.normal(scale=_NOISE, size=image.shape)
    visible = np.isin(ids, id_map)
    target = SegmentationTarget(
        labels=torch.tensor([label for label, _, _ in layers])[visible],
        id_map=torch.from_numpy(id_map),
        segment_ids=torch.from_numpy(ids[visible]),
    )
    return Sample(image.round().clip(0, 255).astype(np.uint8), image_id, _file_name(image_id), target=target)


_Layer = tuple[int, Bool[np.ndarray, "h w"], Float[np.ndarray, " 3"]]
"""Label, pixels and colour."""


def _stuff(generator: np.random.Generator) -> Iterator[_Layer]:
    labels = [label for label, category in enumerate(CATEGORIES) if not category.is_thing]
    above, below = generator.choice(labels, size=2, replace=False)
    is_above = np.broadcast_to(np.arange(SIZE[0])[:, None] < generator.uniform(*_HORIZON) * SIZE[0], SIZE)
    for label, mask in ((above, is_above), (below, ~is_above)):
        yield int(label), mask, np.array(CATEGORIES[label].color, dtype=np.float64)


def _things(generator: np.random.Generator) -> Iterator[_Layer]:
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    for _ in range(generator.integers(*_NUM_THINGS, endpoint=True)):
        label = int(generator.integers(sum(category.is_thing for category in CATEGORIES)))
        radius = generator.uniform(*_RADIUS)
        # At least half of the radius lies inside the image, so that cut shapes can still be told apart.
        center = [generator.uniform(radius / 2, length - radius / 2) for length in SIZE]
        color = np.array(CATEGORIES[label].color) * generator.uniform(*_BRIGHTNESS)
        yield label, _shape(CATEGORIES[label].name, rows - center[0], columns - center[1], radius), color


def _shape(
    name: str, down: Float[np.ndarray, "h w"], right: Float[np.ndarray, "h w"], radius: float
) -> Bool[np.ndarray, "h w"]:
    """Return the pixels of a shape that fits into a circle.

    Args:
        name: Name of a thing.
        down: Distance of each pixel below the centre of the circle.
        right: Distance of each pixel to the right of the centre.
        radius: Radius of the circle in pixels. The corners of the diamond and of the triangle lie on the circle; the
            square has sides of 1.4 radii, and the hole of the ring is half as wide as the ring.
    """
    distance = np.hypot(down, right)
    match name:
        case "disc":
            return distance <= radius
        case "square":
            return np.maximum(abs(down), abs(right)) <= 0.7 * radius
        case "diamond":
            return abs(down) + abs(right) <= radius
        case "triangle":
            return (down <= radius / 2) & (abs(right) * 3**0.5 <= down + radius)
        case _:
            return (distance <= radius) & (distance >= radius / 2)


def write_synthetic(root: str | Path, num_train: int, num_val: int, seed: int = 0, progress: bool = True) -> None:
    """Write a data set in COCO's panoptic layout, with the splits "train" and "val".

    The folder appears under its name when it is complete. The same seed gives the same bytes, and more images leave
    the first ones as they are.

    Args:
        root: The folder to be made.
        num_train: Images of the split "train".
        num_val: Images of the split "val".
        seed: Any whole number that is not negative.
        progress: Whether to show a bar on the terminal.

    Raises:
        FileExistsError: When `root` exists.
        ValueError: When a number is negative.
        WriteError: When it cannot be written.
    """
    root = Path(root)
    counts = {"train": num_train, "val": num_val}
    if min(*counts.values(), seed) < 0:
        raise ValueError(f"num_train, num_val and seed must be 0 or more, got {num_train}, {num_val} and {seed}.")
    if root.exists():
        raise FileExistsError(f"{root} exists; remove it, or choose another folder.")
    with filled_folder(root.parent) as partial:
        for split_number, (split, count) in enumerate(counts.items()):
            _write_split(partial / root.name, split, count, [seed, split_number], progress)


def _write_split(root: Path, split: str, count: int, seed: list[int], progress: bool) -> None:
    image_dir, panoptic_dir = root / split, root / "annotations" / f"panoptic_{split}"
    image_dir.mkdir(parents=True)
    panoptic_dir.mkdir(parents=True)
    images, annotations = [], []
    for image_id in tqdm(range(1, count + 1), desc=f"draw {split} scenes", disable=not progress):
        # One generator an image, so that an image depends neither on the other split nor on how many there are.
        scene = synthetic_scene(np.random.default_rng([*seed, image_id]), image_id)
        assert scene.target.id_map is not None
        Image.fromarray(scene.image).save(image_dir / scene.file_name)
        Image.fromarray(ids_to_rgb(scene.target.id_map.numpy())).save(panoptic_dir / scene.file_name)
        images.append({"id": image_id, "file_name": scene.file_name, "height": SIZE[0], "width": SIZE[1]})
        annotations.append(_annotation(scene))
    content = {"images": images, "annotations": annotations, "categories": [_category(entry) for entry in CATEGORIES]}
    panoptic_dir.with_suffix(".json").write_text(json.dumps(content), encoding="utf-8")


def _annotation(scene: Sample) -> dict[str, Any]:
    masks = scene.target.binary_masks()
    assert scene.target.segment_ids is not None
    segments = [
        {
            "id": segment_id,
            "category_id": CATEGORIES[label].id,
            "area": area,
            "bbox": [x0, y0, x1 - x0, y1 - y0],
            "iscrowd": 0,
        }
        for segment_id, label, area, (x0, y0, x1, y1) in zip(
            scene.target.segment_ids.tolist(),
            scene.target.labels.tolist(),
            masks.sum(dim=(1, 2)).tolist(),
            boxes_from_masks(masks).tolist(),
            strict=True,
        )
    ]
    return {"image_id": scene.image_id, "file_name": scene.file_name, "segments_info": segments}


def _category(category: Category) -> dict[str, Any]:
    return {
        "id": category.id,
        "name": category.name,
        "supercategory": "shape" if category.is_thing else "ground",
        "isthing": int(category.is_thing),
        "color": list(category.color),
    }


def _file_name(image_id: int) -> str:
    return f"{image_id:012d}.png"


FORMATS = (
    Format(
        name="synthetic",
        summary="drawn scenes in the layout of `coco_panoptic`, made where the folder does not exist",
        layouts=coco_panoptic.LAYOUTS,
        open=coco_panoptic.open_found,
        tasks=("panoptic", "instance", "semantic"),
        labels="the JSON file",
        is_guessed=False,
    ),
)
