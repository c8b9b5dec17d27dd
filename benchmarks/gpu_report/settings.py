# SPDX-License-Identifier: Apache-2.0
"""What a stage is told, in its process of its own."""

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """What a stage is to do, and until when.

    Args:
        device: "cuda", or "cpu" where there is no GPU.
        small: Tiny sizes and few repeats, to try the report itself; always so on the CPU.
        part: Which of a stage's parts, for stages that have several.
        output: Folder of the report.
        deadline: When this process is killed, by the clock of `time.monotonic`, which all processes share.
        sensetime: SenseTime's kernel, a library that registers its operators in torch.ops, or "".
    """

    device: str
    small: bool
    part: str
    output: str
    deadline: float
    sensetime: str = ""

    def left(self) -> float:
        """Return the seconds until this process is killed, with all that it has started."""
        return self.deadline - time.monotonic()

    @property
    def folder(self) -> Path:
        """Where a stage may write files; few and small ones, because not every machine gives many back."""
        return Path(self.output)

    def to_json(self) -> str:
        """Return the settings as a word of a command line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Settings":
        """Read them back."""
        return cls(**json.loads(text))
