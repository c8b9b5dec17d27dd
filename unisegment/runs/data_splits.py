# SPDX-License-Identifier: Apache-2.0
"""The `data` section of a recipe in, the names of the splits that are there out."""

from pathlib import Path

from unisegment.data.formats import FORMATS
from unisegment.data.formats.format import SPLIT_NAMES
from unisegment.runs.data_recipe import DataRecipe

SPLITS = ("train", "val", "test")
"""What splits are called here, whatever the files call them."""


def splits_of(data: DataRecipe) -> list[str]:
    """Return which of `SPLITS` a data set has; files are looked for, and none is opened.

    Args:
        data: The section; it names its format.

    Raises:
        FileNotFoundError: When an address, or what is there in place of a folder, cannot be opened.
        ValueError: When there is no split of these names; says what to do.
    """
    names = {split: name for split in SPLITS if (name := _name_in_files(data, split)) is not None}
    # "test" stands for "val" where there is none, and is listed once.
    splits = [split for split, name in names.items() if split == "test" or name != names.get("test")]
    if not splits:
        raise ValueError(f"{data.root} has none of the splits {', '.join(SPLITS)}: name those that it has (--split).")
    return splits


def _name_in_files(data: DataRecipe, split: str) -> str | None:
    """Return what the files call a split; None where there is none."""
    if split in data.splits or (data.val_share is not None and split == "val"):
        return split
    given = [places for places in (data.annotations, data.images, data.segments) if places]
    if given:  # a text is all for training
        named = [{"train"} if isinstance(places, str) else places.keys() for places in given]
        return split if all(split in splits for splits in named) else None
    known = FORMATS[data.format]
    if known.is_folder:
        found = known.find(Path(data.root), split)
        return None if found is None else found.split
    # Imported here, because `datasets` takes a second.
    from unisegment.data.reading.hugging_face_sources import open_source

    there = open_source(data.root, data.streaming).splits
    return next((name for name in SPLIT_NAMES.get(split, (split,)) if name in there), None)
