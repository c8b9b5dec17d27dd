# SPDX-License-Identifier: Apache-2.0
"""What a value in a file or of a keyword may be: kinds with ranges in tables, and one error that says what is wrong."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np

from unisegment.ops.json_values import shown
from unisegment.ops.limits import MAX_DEPTH


@dataclass(frozen=True)
class Kind:
    """What a value may be.

    Args:
        expected: The kind in words, as errors say it behind "expected".
        fits: Whether a value is of the kind; never raises.
    """

    expected: str
    fits: Callable[[Any], bool]

    def __or__(self, other: "Kind") -> "Kind":
        return Kind(f"{self.expected} or {other.expected}", lambda value: self.fits(value) or other.fits(value))


def require(key: str, value: Any, kind: Kind) -> None:
    """Check one value.

    Args:
        key: What the value is called where it comes from.
        value: The value.
        kind: What it may be.

    Raises:
        ValueError: When it is of another kind; says key, value and kind.
    """
    if not kind.fits(value):
        raise ValueError(f"{key}: {shown(value)}, expected {kind.expected}.")


def require_all(values: Mapping[str, Any], kinds: Mapping[str, Kind]) -> None:
    """Check those of the values that a table has a kind for; see `require`."""
    for key, value in values.items():
        if key in kinds:
            require(key, value, kinds[key])


def require_free(keys: Iterable[str], owner: type) -> None:
    """Check that keys of a file can become attributes of an object, and take the place of nothing that it needs.

    Args:
        keys: The keys.
        owner: The object's class; what it lets be set are fields of a dataclass, and properties.

    Raises:
        ValueError: For a key that is the name of something else of the class, such as a method.
    """
    for key in keys:
        taken = inspect.getattr_static(owner, key, None)
        can_be_set = key in getattr(owner, "__dataclass_fields__", {}) or getattr(taken, "fset", None) is not None
        if taken is not None and not can_be_set:
            raise ValueError(
                f"{shown(key)} is the name of a part of {owner.__name__}, expected no such key: remove it."
            )


def whole(least: int, most: int) -> Kind:
    """Return the kind of whole numbers of a range, both ends included."""
    return Kind(f"a whole number from {least} to {most}", lambda value: _is_whole(value) and least <= value <= most)


def number(least: float, most: float, *, above: bool = False) -> Kind:
    """Return the kind of finite numbers of a range, both ends included.

    Args:
        least: The smallest number.
        most: The largest number.
        above: Whether all numbers are above the smallest one.
    """
    words = f"a number above {least}, at most {most:g}" if above else f"a number from {least:g} to {most:g}"
    return Kind(
        words, lambda value: _is_number(value) and (least < value if above else least <= value) and value <= most
    )


FLAG = Kind("true or false", lambda value: isinstance(value, bool | np.bool_))
NOTHING = Kind("null", lambda value: value is None)
TEXT = Kind("a text of at most 10000 characters", lambda value: isinstance(value, str) and len(value) <= 10_000)


def one_of(*values: str) -> Kind:
    """Return the kind of a few texts."""
    return Kind(f"one of {', '.join(values)}", lambda value: isinstance(value, str) and value in values)


def list_of(kind: Kind, least: int, most: int) -> Kind:
    """Return the kind of lists (or tuples) of so many values of a kind."""
    count = f"{least}" if least == most else f"{least} to {most}"
    return Kind(
        f"a list of {count} entries, each {kind.expected}",
        lambda value: isinstance(value, list | tuple) and least <= len(value) <= most and all(map(kind.fits, value)),
    )


def mapping_of(kind: Kind, most: int, *, keys: Kind = TEXT) -> Kind:
    """Return the kind of mappings with at most so many entries of a kind, under keys of a kind."""
    return Kind(
        f"a mapping of at most {most} entries, each {kind.expected}, under {keys.expected}",
        lambda value: (
            isinstance(value, Mapping)
            and len(value) <= most
            and all(keys.fits(key) and kind.fits(entry) for key, entry in value.items())
        ),
    )


def require_shallow(key: str, value: Any) -> None:
    """Raise a ValueError when lists and mappings lie too deep in each other to be copied and written again."""
    if isinstance(value, Mapping | list | tuple):
        for _ in entries_of(value, key, MAX_DEPTH):
            pass


def entries_of(value: Any, name: str, deepest: int) -> Iterable[tuple[str, Any]]:
    """Go through everything that lies in nested lists and mappings.

    Args:
        value: The outermost list or mapping, or a single value.
        name: What it is called.
        deepest: How many lists and mappings may lie in each other.

    Yields:
        Where each list, mapping and single value lies, as in `name.key[0]`, and itself.

    Raises:
        ValueError: When they lie deeper in each other.
    """
    yield name, value
    items: Iterable[tuple[str, Any]] = ()
    if isinstance(value, Mapping):
        items = ((f"{name}.{key}", entry) for key, entry in value.items())
    elif isinstance(value, list | tuple):
        items = ((f"{name}[{index}]", entry) for index, entry in enumerate(value))
    for place, entry in items:
        if deepest == 0:
            raise ValueError(f"{name[:99]}: lists and mappings lie too deep in each other.")
        yield from entries_of(entry, place, deepest - 1)


def _is_whole(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)  # comparisons with a range leave no NaN
