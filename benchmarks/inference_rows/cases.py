# SPDX-License-Identifier: Apache-2.0
"""What benchmarks/inference.py measures: which model, images and form of the network."""

from collections.abc import Sequence
from dataclasses import dataclass

KINDS = ("float32", "bfloat16", "autocast", "compiled", "compiled_bfloat16")
"""Forms of our network: as it is, with weights of bfloat16, under autocast to it, and what torch.compile makes."""
TASKS = ("panoptic", "instance", "semantic")


@dataclass(frozen=True)
class Case:
    """A row: our network in one form beside transformers', which is as it is.

    Args:
        model: A key of `gpu_report.model_pair.CONFIGS`.
        side: Of the images, which are squares.
        kind: One of KINDS.
        batch_size: Images at once.
    """

    model: str
    side: int
    kind: str = "float32"
    batch_size: int = 1

    @property
    def name(self) -> str:
        """What the row is called."""
        return f"{self.work}-{self.kind}"

    @property
    def work(self) -> str:
        """What both models are given; the rows of it are measured in the same turns."""
        batch = f"-b{self.batch_size}" if self.batch_size > 1 else ""
        return f"{self.model}-{self.side}{batch}"


SIZES = [("R50", 512), ("R50", 1024), ("Swin-T", 512), ("Swin-T", 1024), ("EoMT-S", 640)]
SIDES, BATCH_SIZES = (256, 512, 1024, 1536, 2048), (1, 2, 4, 8)
"""Of the curves: of R50, batches at a side of 512."""

SHORT = [Case(*size, kind) for size in SIZES for kind in ("float32", "bfloat16")]
CURVES = [*(Case("R50", side) for side in SIDES), *(Case("R50", 512, batch_size=count) for count in BATCH_SIZES)]
FULL = list(dict.fromkeys([*SHORT, *(Case(*size, kind) for size in SIZES for kind in KINDS), *CURVES]))  # each once
SMALL = [
    *(Case("tiny ResNet", 64, kind) for kind in ("float32", "bfloat16", "autocast")),
    Case("tiny Swin", 64, batch_size=2),
    Case("tiny EoMT", 64),
]

TINY = {"R50": "tiny ResNet", "Swin-T": "tiny Swin", "EoMT-S": "tiny EoMT"}
"""The same code with hardly any memory."""


def by_work(cases: Sequence[Case]) -> list[list[Case]]:
    """Return those together that are measured together."""
    found: dict[str, list[Case]] = {}
    for case in cases:
        found.setdefault(case.work, []).append(case)
    return list(found.values())
