# SPDX-License-Identifier: Apache-2.0
"""ADE20K's scene parsing challenge (ADEChallengeData2016), semantic.

For instances see `CocoInstance.from_folder`, for panoptic `CocoPanoptic.from_folder`.
"""

from collections.abc import Collection
from pathlib import Path

from unisegment.data.annotated_images import categories_from_table, long_split_name
from unisegment.data.categories import ADE20K
from unisegment.data.reading.label_maps import LabelMaps, pair_files


class Ade20kSemantic(LabelMaps):
    """The 150 labels of SceneParse150: number 1 in a PNG file is label 0, and so on; 0 is unlabelled."""

    @classmethod
    def from_folder(cls, root: str | Path, split: str, void_ids: Collection[int] = ()) -> "Ade20kSemantic":
        """Open `images/training/` and `annotations/training/` ("train"), or the same of `validation` ("val").

        Args:
            root: The folder of the data set.
            split: Name of the part.
            void_ids: See `LabelMaps`.

        Raises:
            FileNotFoundError: When images are missing, or PNG files of images.
        """
        folder = long_split_name(split)
        files = pair_files(Path(root), f"images/{folder}", f"annotations/{folder}", (".jpg",))
        return cls(root, files, categories_from_table(range(1, 151), ADE20K), void={0}, void_ids=void_ids)
