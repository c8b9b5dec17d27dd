# SPDX-License-Identifier: Apache-2.0
"""Checkpoints that replace earlier ones when they are complete, although transformers writes where it is told."""

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from unisegment.files import filled_folder

_WEIGHTS = re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors(\.index\.json)?")


def save_whole(
    save: Callable[..., list[str] | None], directory: str | os.PathLike[str], *args: Any, **kwargs: Any
) -> list[str] | None:
    """Let a `save_pretrained` of transformers write into a folder.

    Files there of the same names are replaced when all of them are on the disk, and weights in other files are removed,
    which would be found first; other files stay. Uploads, and checkpoints that several processes write together, are
    transformers' own matter.

    Args:
        save: Writes into the folder that it is told, and returns the files that it has written, or None.
        directory: The folder, made when it is missing.
        *args: Given to `save`.
        **kwargs: Given to `save`.

    Returns:
        What `save` does.

    Raises:
        WriteError: When something cannot be written; what was there is still there.
    """
    if args or kwargs.get("push_to_hub") or kwargs.get("distributed_checkpoint"):
        return save(directory, *args, **kwargs)
    folder = Path(directory)
    with filled_folder(folder) as partial:
        found = save(partial, **kwargs)
        written = {path.name for path in partial.iterdir()}
    if any(map(_WEIGHTS.fullmatch, written)):
        for old in folder.iterdir():
            if _WEIGHTS.fullmatch(old.name) and old.name not in written:
                old.unlink()
    return None if found is None else [str(folder / Path(file).name) for file in found]


def require_not_quantised(weights: Mapping[str, Tensor]) -> None:
    """Raise a ValueError for weights such as those of 8 bits by torchao: whoever opens a checkpoint refuses them."""
    for name, weight in weights.items():
        if type(weight).dequantize is not Tensor.dequantize:
            raise ValueError(
                f"{name} is quantised (a {type(weight).__name__}), and a checkpoint holds plain weights alone. Save "
                "the model before it is quantised, and quantise it each time after loading."
            )
