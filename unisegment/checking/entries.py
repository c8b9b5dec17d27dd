# SPDX-License-Identifier: Apache-2.0
"""Which files make up each sample of a data set, also where no reader can open it."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Int32, Int64, Shaped

from unisegment.data.annotated_images import SampleFiles


@dataclass(frozen=True, kw_only=True)
class Entries:
    """The files of all samples, in the order of the reader, in arrays that worker processes share.

    Args:
        image_dir: Folder of the images.
        images: Their files, relative to it.
        map_dir: Folder of the PNG files.
        label_maps: Their files, relative to it.
        source: The annotation file that says what follows.
        sizes: Height and width of each image.
        segment_ids: Of all images, one behind the other.
        bounds: Where those of each image begin, and the end.
        num_annotations: Of each image.
    """

    image_dir: Path
    images: Shaped[np.ndarray, " n"]
    map_dir: Path | None = None
    label_maps: Shaped[np.ndarray, " n"] | None = None
    source: Path | None = None
    sizes: Int32[np.ndarray, "n 2"] | None = None
    segment_ids: Int64[np.ndarray, " s"] | None = None
    bounds: Int64[np.ndarray, " n+1"] | None = None
    num_annotations: Int64[np.ndarray, " n"] | None = field(default=None)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> SampleFiles:
        """Return the files of one sample."""
        label_map = size = segment_ids = None
        if self.label_maps is not None and self.map_dir is not None:
            label_map = self.map_dir / self.label_maps[index]
        if self.sizes is not None:
            size = (int(self.sizes[index, 0]), int(self.sizes[index, 1]))
        if self.segment_ids is not None and self.bounds is not None:
            segment_ids = self.segment_ids[slice(*self.bounds[index : index + 2])].tolist()
        number = None if self.num_annotations is None else int(self.num_annotations[index])
        return SampleFiles(self.image_dir / self.images[index], label_map, self.source, size, segment_ids, number)
