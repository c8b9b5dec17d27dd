# SPDX-License-Identifier: Apache-2.0
"""A word that nothing is called by in, the name that was probably meant out."""

import difflib
from collections.abc import Iterable

_ALIKE = 0.6
"""Share of equal letters from which on words are alike, as difflib counts them."""


def near_name(word: str, names: Iterable[str]) -> str | None:
    """Return the name that is most like a word; None when none is."""
    return next(iter(difflib.get_close_matches(word, sorted(names), n=1, cutoff=_ALIKE)), None)


def nearest_valid(word: str, names: Iterable[str]) -> str:
    """Return a sentence with the name that was probably meant, a space first; nothing when no name is like the word."""
    near = near_name(word, names)
    return "" if near is None else f" The nearest valid one is {near!r}."


def did_you_mean(word: str, names: Iterable[str]) -> str:
    """Return a question to end an error with, a space first; nothing when no name is like the word."""
    near = near_name(word, names)
    return "" if near is None else f" Did you mean {near!r}?"
