# SPDX-License-Identifier: Apache-2.0
"""The words that options of data take. They are here, and not beside what they choose, so that help needs no torch."""

import re
from typing import Literal

ExportName = Literal["coco_panoptic", "coco_instance", "coco_test_dev", "label_png", "cityscapes"]
"""The writers of `unisegment.data.export`."""

OutputName = Literal["pictures", ExportName]
"""What `predict` can write."""

Matching = Literal["name", "order"]
"""How labels of two lists are matched: see `unisegment.data.label_spaces.match_labels`."""

OnError = Literal["raise", "skip"]
"""What becomes of images that cannot be read."""

_RUN_NAME = re.compile(r"[\w.+ -]+")


def check_run_name(name: str) -> None:
    """Raise a ValueError when the name of an algorithm cannot be part of a file's name."""
    if not _RUN_NAME.fullmatch(name):
        raise ValueError(
            f"The name of the algorithm is part of names of files: letters, digits, '-', '_', '.', '+' and spaces, "
            f"got {name!r:.200}."
        )
