# SPDX-License-Identifier: Apache-2.0
"""A checkpoint in, how to use it out: the same lines in the README, in model cards, and at the end of a run."""

import json
import shlex


def python_usage(checkpoint: str, task: str = "panoptic") -> str:
    """Return Python code that segments a photo.

    Args:
        checkpoint: Folder or Hub id.
        task: What is drawn: "panoptic", "instance" or "semantic".
    """
    return f"""\
from unisegment import Segmenter

segmenter = Segmenter.from_pretrained({json.dumps(checkpoint, ensure_ascii=False)})
result = segmenter("photo.jpg")
result.draw("{task}").save("seen.png")
print(result)
"""


def command_usage(checkpoint: str) -> str:
    """Return the command that segments a photo."""
    return f"unisegment predict {shlex.quote(checkpoint)} photo.jpg"
