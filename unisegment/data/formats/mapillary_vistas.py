# SPDX-License-Identifier: Apache-2.0
"""Mapillary Vistas 1.2, semantic. For panoptic see `CocoPanoptic.from_folder`."""

from collections.abc import Collection
from pathlib import Path

from unisegment.data.annotated_images import categories_from_table, long_split_name
from unisegment.data.categories import MAPILLARY_VISTAS
from unisegment.data.reading.label_maps import LabelMaps, pair_files


class MapillaryVistasSemantic(LabelMaps):
    """The 65 labels that are judged, as they are numbered in the PNG files; 65 is unlabelled."""

    @classmethod
    def from_folder(cls, root: str | Path, split: str, void_ids: Collection[int] = ()) -> "MapillaryVistasSemantic":
        """Open `training/images/` and `training/labels/` ("train"), or the same of `validation` ("val").

        PNG files may also lie in `training/v1.2/labels/`, as in later editions.

        Args:
            root: The folder of the data set.
            split: Name of the part.
            void_ids: See `LabelMaps`.

        Raises:
            FileNotFoundError: When images are missing, or PNG files of images.
        """
        folder = long_split_name(split)
        edition = "v1.2/" if (Path(root) / folder / "v1.2").is_dir() else ""
        files = pair_files(Path(root), f"{folder}/images", f"{folder}/{edition}labels", (".jpg",))
        return cls(root, files, categories_from_table(range(65), MAPILLARY_VISTAS), void={65}, void_ids=void_ids)
