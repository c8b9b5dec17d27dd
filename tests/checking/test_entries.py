# SPDX-License-Identifier: Apache-2.0
"""The files of samples come back one by one."""

from pathlib import Path

import numpy as np

from unisegment.checking.entries import Entries
from unisegment.data.annotated_images import SampleFiles


def test_entries_have_what_is_known():
    entries = Entries(image_dir=Path("i"), images=np.array(["a.jpg", "x/b.jpg"]))
    assert len(entries) == 2
    assert entries[1] == SampleFiles(Path("i/x/b.jpg"))
    entries = Entries(
        image_dir=Path("i"),
        images=np.array(["a.jpg", "b.jpg"]),
        map_dir=Path("m"),
        label_maps=np.array(["a.png", "b.png"]),
        source=Path("all.json"),
        sizes=np.array([[5, 7], [11, 13]]),
        segment_ids=np.array([3, 1, 2]),
        bounds=np.array([0, 1, 3]),
        num_annotations=np.array([2, 0]),
    )
    assert entries[0] == SampleFiles(Path("i/a.jpg"), Path("m/a.png"), Path("all.json"), (5, 7), [3], 2)
    assert entries[1] == SampleFiles(Path("i/b.jpg"), Path("m/b.png"), Path("all.json"), (11, 13), [1, 2], 0)
