# SPDX-License-Identifier: Apache-2.0
"""Columns of the table that a data set is, in as few bytes as they fit in, in arrays that worker processes share.

Arrays rather than lists: worker processes would copy the memory of every Python object that they touch.
"""

from array import array
from collections.abc import Collection, Iterable, Iterator

import numpy as np
from jaxtyping import Int64, Integer


def smallest(numbers: Int64[np.ndarray, "*shape"]) -> Integer[np.ndarray, "*shape"]:
    """Return whole numbers in the smallest type that holds all of them."""
    lowest, highest = numbers.min(initial=0), numbers.max(initial=0)
    kinds = (np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32, np.int64)
    return numbers.astype(
        next(kind for kind in kinds if np.iinfo(kind).min <= lowest and highest <= np.iinfo(kind).max)
    )


class PackedTexts:
    """A growing list of texts, such as names of files, in UTF-8; arrays of numpy take four bytes a character.

    Args:
        texts: The first texts, each as names of files can be: perhaps with bytes that are not UTF-8.
    """

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self._content = bytearray()
        self._bounds = array("q", [0])
        for text in texts:
            self.append(text)

    def __len__(self) -> int:
        return len(self._bounds) - 1

    def __iter__(self) -> Iterator[str]:
        return (self[place] for place in range(len(self)))

    def append(self, text: str) -> None:
        """Add a text."""
        self._content += text.encode("utf-8", "surrogateescape")
        self._bounds.append(len(self._content))

    def __getitem__(self, place: int) -> str:
        """Return one text."""
        place = range(len(self))[place]
        return self._content[slice(*self._bounds[place : place + 2])].decode("utf-8", "surrogateescape")


class PackedIds:
    """A growing list of ids, numbers or texts, of which many are the same: numbers of 32 bits that stand for them.

    None stands for what has no id.
    """

    def __init__(self) -> None:
        self._number_of: dict[int | str | None, int] = {}
        self._distinct: list[int | str | None] = []
        self._numbers = array("i")

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, place: int) -> int | str | None:
        """Return one id."""
        if len(self._distinct) < len(self._number_of):
            self._distinct = list(self._number_of)
        return self._distinct[self._numbers[place]]

    def append(self, item: int | str | None) -> None:
        """Add an id."""
        self._numbers.append(self._number_of.setdefault(item, len(self._number_of)))

    def distinct(self) -> Collection[int | str | None]:
        """Return each of the ids once, in the order in which they first came."""
        return self._number_of.keys()

    def look_up(self, values: Iterable[int]) -> Int64[np.ndarray, " n"]:
        """Return for each id in the list the value that belongs to it.

        Args:
            values: The value of each of the `distinct` ids.
        """
        return np.fromiter(values, np.int64, len(self._number_of))[np.asarray(self._numbers)]
