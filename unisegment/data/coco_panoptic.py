# SPDX-License-Identifier: Apache-2.0
"""A folder in COCO's panoptic format in, annotated images out.

The format has one JSON file with the images, the categories and the segments of each image, and for each image a PNG
file whose colours are segment ids: red + 256 green + 65536 blue, 0 for void. ADE20K (as the original's script writes
it), Cityscapes (as cityscapesScripts writes it) and Mapillary Vistas 1.2 come in it, too.
"""

from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Int32

from unisegment.data.annotated_images import (
    AnnotatedImages,
    category_of_entry,
    check_size,
    distinct_ids,
    long_split_name,
    read_listed_image,
)
from unisegment.data.json_reading import read_json
from unisegment.ops.masks import rgb_to_ids
from unisegment.structures import Sample, SegmentationTarget


class CocoPanoptic(AnnotatedImages):
    """The images of a COCO panoptic data set, in the order of its annotations.

    The JSON file is read at once and kept in arrays, a few bytes for each segment, which the worker processes of a
    data loader share. Images are read and checked when they are asked for. Labels are the places of the categories in
    the order of their ids.

    Args:
        annotation_file: The JSON file.
        image_dir: Folder of the images.
        panoptic_dir: Folder of the PNG files.
        images_by_city: Images lie in folders that are named as their file names begin, up to the first `_`.
        void_categories: Ids of categories that are no label; pixels of their segments are void.
        hidden_segments: Segments may be listed of which no pixel is to be seen. They are kept, as in the original.

    Raises:
        FileNotFoundError: When there is no such JSON file.
        ValueError: When it is not in COCO's panoptic format.
    """

    def __init__(
        self,
        annotation_file: str | Path,
        image_dir: str | Path,
        panoptic_dir: str | Path,
        *,
        images_by_city: bool = False,
        void_categories: Collection[int] = (),
        hidden_segments: bool = False,
    ) -> None:
        self.annotation_file = Path(annotation_file)
        self.image_dir = Path(image_dir)
        self.panoptic_dir = Path(panoptic_dir)
        self._images_by_city = images_by_city
        self._hidden_segments = hidden_segments
        content = read_json(self.annotation_file)
        try:
            categories = sorted(map(category_of_entry, content["categories"]), key=lambda category: category.id)
            super().__init__([category for category in categories if category.id not in void_categories])
            self._index_images(content["images"], content["annotations"])
            self._index_segments(content["annotations"], void_categories)
        except (KeyError, TypeError) as error:
            raise ValueError(
                f"{self.annotation_file} is not in COCO's panoptic format ({error!r}); a detection file will not do."
            ) from error

    @classmethod
    def from_folder(cls, root: str | Path, split: str) -> "CocoPanoptic":
        """Find the parts of a split by their names.

        Known are COCO's own layout (`annotations/panoptic_train2017.json`, its PNG files in a folder of that name
        beside it or in `root`, and `train2017/`), the same without the year, a folder with a single split
        (`panoptic.json`, `images/` and `panoptic/`), which is opened whatever `split` is, and those of ADE20K
        (`ade20k_panoptic_train.json`), Cityscapes (`gtFine/cityscapes_panoptic_train.json`) and Mapillary Vistas
        (`training/panoptic/panoptic_2018.json`).

        Args:
            root: The folder of the data set.
            split: Name of the part, such as "train" or "val".

        Raises:
            FileNotFoundError: When none of the layouts is there; lists what was looked for.
        """
        layouts = _layouts(split)
        for layout in layouts:
            if all((Path(root) / part).exists() for part in layout.parts):
                return cls(*(Path(root) / part for part in layout.parts), **layout.settings)
        wanted = "\n".join("  " + ", ".join(layout.parts) for layout in layouts)
        raise FileNotFoundError(
            f"{root} has no COCO panoptic data for the split {split!r}. It must have all parts of one of these lines "
            f"(annotations, images, segments):\n{wanted}"
        )

    def __len__(self) -> int:
        return len(self._image_ids)

    def __getitem__(self, index: int) -> Sample:
        """Return one annotated image.

        Raises:
            FileNotFoundError: When the image or its PNG file is missing.
            ValueError: When one of them cannot be read, or does not agree with the JSON file.
        """
        index = range(len(self))[index]
        image_file = self._image_file(self._image_files[index])
        panoptic_file = self.panoptic_dir / self._panoptic_files[index]
        image, id_map = read_listed_image(image_file), rgb_to_ids(read_listed_image(panoptic_file))
        for file, array in ((image_file, image), (panoptic_file, id_map)):
            check_size(file, array.shape[:2], tuple(self._image_sizes[index]), self.annotation_file)
        segments = slice(*self._segment_bounds[index : index + 2])
        self._check_ids(panoptic_file, id_map, self._segment_ids[segments])
        target = SegmentationTarget(
            labels=torch.tensor(self._labels[segments]),
            id_map=torch.from_numpy(id_map),
            segment_ids=torch.tensor(self._segment_ids[segments]),
            is_crowd=torch.tensor(self._is_crowd[segments]),
        )
        target = target.select(target.labels >= 0)
        return Sample(image, target, image_id=self._image_ids[index].item(), file_name=str(image_file))

    def _image_file(self, name: str) -> Path:
        folder = self.image_dir / name.split("_")[0] if self._images_by_city else self.image_dir
        return folder / name

    def _index_images(self, images: list[dict[str, Any]], annotations: list[dict[str, Any]]) -> None:
        image_of = {image["id"]: image for image in images}
        unknown = [annotation["image_id"] for annotation in annotations if annotation["image_id"] not in image_of]
        if unknown:
            raise ValueError(f"{self.annotation_file} annotates images that it does not list: ids {unknown[:5]}.")
        annotated = [image_of[annotation["image_id"]] for annotation in annotations]
        # Arrays rather than lists: worker processes would copy the memory of every Python object that they touch.
        self._image_ids = np.array([image["id"] for image in annotated])
        self._image_files = np.array([image["file_name"] for image in annotated], dtype=np.str_)
        self._image_sizes = np.array([(image["height"], image["width"]) for image in annotated], dtype=np.int32)
        self._panoptic_files = np.array([annotation["file_name"] for annotation in annotations], dtype=np.str_)

    def _index_segments(self, annotations: list[dict[str, Any]], void_categories: Collection[int]) -> None:
        segments = [segment for annotation in annotations for segment in annotation["segments_info"]]
        label_of = dict.fromkeys(void_categories, -1) | self.label_of
        unknown = {segment["category_id"] for segment in segments} - label_of.keys()
        if unknown:
            raise ValueError(f"{self.annotation_file} has segments of categories that it does not list: {unknown}.")
        self._segment_ids = np.array([segment["id"] for segment in segments], dtype=np.int32)
        self._labels = np.array([label_of[segment["category_id"]] for segment in segments], dtype=np.int32)
        self._is_crowd = np.array([segment.get("iscrowd", 0) for segment in segments], dtype=np.bool_)
        self._segment_bounds = np.cumsum([0] + [len(annotation["segments_info"]) for annotation in annotations])

    def _check_ids(self, file: Path, id_map: Int32[np.ndarray, "h w"], segment_ids: Int32[np.ndarray, " n"]) -> None:
        drawn, listed = distinct_ids(id_map) - {0}, Counter(segment_ids.tolist())
        all_seen = drawn == listed.keys() or (self._hidden_segments and drawn <= listed.keys())
        if all_seen and listed.total() == len(listed):
            return
        repeated = [number for number, count in listed.items() if count > 1]
        raise ValueError(
            f"{file} must have the segment ids that {self.annotation_file} lists for it, each once, and 0 for void. "
            f"Only in the PNG file: {sorted(drawn - listed.keys())[:5]}; only in the JSON file: "
            f"{sorted(listed.keys() - drawn)[:5]}; listed more than once: {repeated[:5]}."
        )


class _Layout(NamedTuple):
    parts: tuple[str, str, str]
    """Annotations, images and PNG files."""
    settings: dict[str, Any]


def _layouts(split: str) -> list[_Layout]:
    coco = [
        (f"annotations/panoptic_{name}.json", name, f"{folder}panoptic_{name}")
        for name in (f"{split}2017", split)
        for folder in ("annotations/", "")
    ]
    long_name = long_split_name(split)
    ade20k = (f"ade20k_panoptic_{split}.json", f"images/{long_name}", f"ade20k_panoptic_{split}")
    cityscapes = f"gtFine/cityscapes_panoptic_{split}"
    mapillary = [
        (f"{folder}/panoptic_2018.json", f"{long_name}/images", folder)
        for folder in (f"{long_name}/panoptic", f"{long_name}/v1.2/panoptic")
    ]
    return [
        *(_Layout(parts, {}) for parts in [*coco, ("panoptic.json", "images", "panoptic")]),
        # The script that writes it lists stuff before it paints things over it.
        _Layout(ade20k, {"hidden_segments": True}),
        _Layout((f"{cityscapes}.json", f"leftImg8bit/{split}", cityscapes), {"images_by_city": True}),
        # The last category is "Unlabeled".
        *(_Layout(parts, {"void_categories": {66}}) for parts in mapillary),
    ]
