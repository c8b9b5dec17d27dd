# SPDX-License-Identifier: Apache-2.0
"""What benchmarks/training_step.py measures: which model, images, targets and form of the step."""

from dataclasses import dataclass

import inference_rows.cases

KINDS = ("float32", "checkpointing", "bfloat16", "checkpointing_bfloat16")
"""Forms of our step: as it is, with layers computed again, and each under autocast to bfloat16."""


@dataclass(frozen=True)
class Case(inference_rows.cases.Case):
    """A row: a step of ours in one form, of KINDS, beside transformers', which is in float32.

    Args:
        masks: Segments of each image.
    """

    masks: int = 20

    @property
    def work(self) -> str:
        """What both models are given; the rows of it are measured in the same turns."""
        batch = f"-b{self.batch_size}" if self.batch_size > 1 else ""
        return f"{self.model}-{self.side}-m{self.masks}{batch}"


_LARGE = [
    *(Case("R50", 1024, kind) for kind in KINDS),
    *(Case("R50", 1024, masks=masks) for masks in (100, 500)),
]
_MEDIUM = [Case("Swin-T", 512), Case("EoMT-S", 640)]
SIDES, MASKS, BATCH_SIZES = (256, 512, 1024, 1536), (1, 20, 100, 500), (1, 2, 4)
"""Of the curves: of R50, masks and batches at a side of 512."""

TABLE = [*(Case("R50", 512, kind) for kind in KINDS), *_LARGE, *_MEDIUM]
SHORT = [*(Case("R50", 512, kind) for kind in KINDS[:3]), *_LARGE[:2], _LARGE[4], *_MEDIUM]
CURVES = {
    "sides": {side: Case("R50", side) for side in SIDES},
    "masks": {masks: Case("R50", 512, masks=masks) for masks in MASKS},
    "batches": {count: Case("R50", 512, batch_size=count) for count in BATCH_SIZES},
}
FULL = list(dict.fromkeys([*TABLE, *(case for curve in CURVES.values() for case in curve.values())]))
SMALL = [
    *(Case("tiny ResNet", 64, kind, masks=3) for kind in KINDS),
    Case("tiny Swin", 64, masks=30, batch_size=2),
    Case("tiny EoMT", 64, masks=3),
]
