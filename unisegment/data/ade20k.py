# SPDX-License-Identifier: Apache-2.0
"""ADE20K's scene parsing challenge (ADEChallengeData2016), semantic.

For instances see `CocoInstance.from_folder`, for panoptic `CocoPanoptic.from_folder`.
"""

from pathlib import Path

from unisegment.data.annotated_images import categories_from_table, long_split_name
from unisegment.data.categories import ADE20K
from unisegment.data.label_maps import LabelMaps, pair_files


class Ade20kSemantic(LabelMaps):
    """The 150 labels of SceneParse150: number 1 in a PNG file is label 0, and so on; 0 is unlabelled."""

    @classmethod
    def from_folder(cls, root: str | Path, split: str) -> "Ade20kSemantic":
        """Open `images/training/` and `annotations/training/` ("train"), or the same of `validation` ("val").

        Raises:
            FileNotFoundError: When images are missing, or PNG files of images.
        """
        folder = long_split_name(split)
        files = pair_files(Path(root), f"images/{folder}", f"annotations/{folder}", (".jpg",))
        return cls(root, files, categories_from_table(range(1, 151), ADE20K), void={0})
