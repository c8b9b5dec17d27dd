# SPDX-License-Identifier: Apache-2.0
"""Predictions in the formats of Cityscapes' evaluation server: pixel-level, instance-level and panoptic.

Source: the submission page of cityscapes-dataset.com and cityscapesScripts' evaluation scripts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from unisegment.data.export.categories import known_ids
from unisegment.data.export.coco import panoptic_annotation, panoptic_colors
from unisegment.data.export.format import ExportedImage, ExportFormat, Parts, save_png, stream_json
from unisegment.data.export.label_png import category_map
from unisegment.files import check_name, write_text
from unisegment.structures import Category, InstancePrediction

_IMAGE_ENDING = "_leftImg8bit"


class CityscapesServer(ExportFormat):
    """What each of the three tasks takes, in a folder of its own, to be zipped and uploaded.

    * `semantic/{image}.png`: a label id for each pixel, 8 bits.
    * `instance/{image}_pred.txt`: a line "mask label_id score" for each object; masks in `instance/masks/`, 255 inside.
    * `cityscapes_panoptic.json` and `cityscapes_panoptic/{image}_panoptic.png`: COCO's panoptic format.

    `{image}` is city, sequence and frame, without the ending `_leftImg8bit`. Label ids are Cityscapes' own,
    whatever the categories' are.

    Raises:
        ValueError: When a category has no name of Cityscapes.
    """

    tasks = ("semantic", "instance", "panoptic")
    part_kinds: ClassVar[Mapping[str, type]] = {"panoptic": dict}

    def __init__(self, output: Path, categories: Sequence[Category], run_name: str = "unisegment") -> None:
        names = [category.name for category in categories]
        ids = known_ids(names, "cityscapes")
        if ids is None:
            raise ValueError(
                f"Files for Cityscapes' server need labels of Cityscapes, got {len(names)} such as {names[:5]}."
            )
        numbered = [replace(category, id=number) for category, number in zip(categories, ids, strict=True)]
        super().__init__(output, numbered, run_name)

    def stem(self, file_name: str) -> str:
        """Return the name of an image without folders, `_leftImg8bit` and the ending; see `ExportFormat`."""
        check_name(file_name)
        return Path(file_name).stem.removesuffix(_IMAGE_ENDING)

    def write(self, image: ExportedImage, predictions: Mapping[str, Any]) -> dict[str, Any]:
        """See `ExportFormat`."""
        name = self.stem(image.file_name)
        ids = [category.id for category in self.categories]
        save_png(self.place(f"semantic/{name}.png"), category_map(predictions["semantic"], ids))
        self._write_instances(name, predictions["instance"])
        file_name, found = f"{name}_panoptic.png", predictions["panoptic"]
        save_png(self.place(f"cityscapes_panoptic/{file_name}"), panoptic_colors(found))
        return {"panoptic": panoptic_annotation(name, file_name, found, self.categories)}

    def finish(self, parts: Parts) -> None:
        """See `ExportFormat`."""
        stream_json(self.output / "cityscapes_panoptic.json", {"annotations": (part["panoptic"] for part in parts())})

    def _write_instances(self, name: str, prediction: InstancePrediction) -> None:
        lines = []
        for info, mask in zip(prediction.segments_info, prediction.masks.cpu().numpy(), strict=True):
            file = f"masks/{name}_{info['id']:03d}.png"
            save_png(self.place(f"instance/{file}"), np.where(mask, np.uint8(255), np.uint8(0)))
            lines.append(f"{file} {self.categories[info['label_id']].id} {info['score']:.9g}\n")
        write_text(self.place(f"instance/{name}_pred.txt"), "".join(lines))
