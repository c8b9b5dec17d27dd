# SPDX-License-Identifier: Apache-2.0
"""Entries of a JSON file in, values of the kind that is expected out: the one place that says what may stand in a file.

Each function takes an entry (an object of the file) and a key, and raises a ValueError that says which key, what it
must be, and what it is. Who goes through a list says which entry of which file that is.
"""

import reprlib
from collections.abc import Callable, Mapping
from math import isfinite
from typing import Any

LONGEST_TEXT = 1024
"""Characters that a name, an id or the path of a file may have."""

INT32, INT64 = (-(2**31), 2**31 - 1), (-(2**63), 2**63 - 1)
"""The smallest and the largest whole number of 32 and of 64 bits."""

_REQUIRED: Any = object()
_LONGEST_SHOWN = 200

_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxlist, _SHORT.maxdict, _SHORT.maxstring, _SHORT.maxother = 2, 4, 3, 60, 60


def shown(value: Any) -> str:
    """Return a value for a message: as it is written in Python, cut to a line, however long or deep it is."""
    try:
        text = _SHORT.repr(value)
    except ValueError:  # a whole number of thousands of digits
        return f"a {type(value).__name__} too long to show"
    return text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "…"


def value_of(entry: Any, key: str, default: Any = _REQUIRED) -> Any:
    """Return what an entry has for a key, whatever it is; the default where it has nothing or null.

    Raises:
        ValueError: When it has nothing and there is no default, or when it is no object.
    """
    if not isinstance(entry, dict):
        raise ValueError(f"it must be an object with {key}, got {shown(entry)}")
    if key not in entry and default is _REQUIRED:
        raise ValueError(f"{key} is missing")
    value = entry.get(key)
    return default if value is None and default is not _REQUIRED else value


def read_whole_number(entry: Any, key: str, low: int = INT64[0], high: int = INT64[1]) -> int:
    """Return a whole number; 3.0 is one, a text of digits or a truth is none.

    Args:
        entry: The object.
        key: The key.
        low: The smallest one that is allowed.
        high: The largest one.

    Raises:
        ValueError: When it is none, or out of range.
    """
    value = value_of(entry, key)
    if type(value) is int and low <= value <= high:  # nearly always
        return value
    return whole_number(value, key, low, high)


def whole_number(value: Any, name: str, low: int = INT64[0], high: int = INT64[1]) -> int:
    """Return a value that is a whole number; see `read_whole_number`.

    Raises:
        ValueError: When it is none, or out of range; calls it by its name.
    """
    is_whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    if not is_whole or isinstance(value, bool) or not low <= value <= high:
        bits = {INT32: "of 32 bits", INT64: "of 64 bits"}.get((low, high), f"from {low} to {high}")
        raise ValueError(f"{name} must be a whole number {bits}, got {shown(value)}")
    return int(value)


def number_of_key(key: Any) -> int:
    """Return the whole number that a key of an object stands for; in JSON keys are texts.

    Raises:
        ValueError: When it stands for none.
    """
    try:
        return int(key)
    except (TypeError, ValueError) as error:
        raise ValueError(f"the key {shown(key)} is no whole number") from error


def read_number(entry: Any, key: str, default: Any = _REQUIRED) -> float:
    """Return a finite number.

    Raises:
        ValueError: When it is none.
    """
    value = value_of(entry, key, default)
    if value is default:
        return value
    if not is_number(value):
        raise ValueError(f"{key} must be a finite number, got {shown(value)}")
    return float(value)


def is_number(value: Any) -> bool:
    """Tell whether a value is a number that floats can hold, neither infinite nor a truth."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return isfinite(value)
    except OverflowError:
        return False


def read_text(entry: Any, key: str) -> str:
    """Return a text that can be a name or a path.

    Raises:
        ValueError: See `text`.
    """
    return text(value_of(entry, key), key)


def text(value: Any, name: str, shortest: int = 1) -> str:
    """Return a value that is a text, of no more than `LONGEST_TEXT` characters, that can stand in names of files.

    Raises:
        ValueError: When it is none, is too short or too long, or has a NUL or half a character; calls it by name.
    """
    if not isinstance(value, str) or not shortest <= len(value) <= LONGEST_TEXT or "\0" in value or not _is_text(value):
        raise ValueError(
            f"{name} must be a text of {shortest} to {LONGEST_TEXT} characters without NUL, got {shown(value)}"
        )
    return value


def read_id(entry: Any, key: str = "id") -> int | str:
    """Return what entries are told apart by: a whole number of 64 bits, or a text.

    Raises:
        ValueError: When it is neither.
    """
    value = value_of(entry, key)
    if isinstance(value, str):
        return text(value, key)
    if type(value) is int and INT64[0] <= value <= INT64[1]:
        return value
    if isinstance(value, float) and value.is_integer():
        return whole_number(value, key)
    raise ValueError(f"{key} must be a whole number of 64 bits or a text, got {shown(value)}")


def read_flag(entry: Any, key: str, default: bool | None = False) -> bool:
    """Return what an entry says by 0 or 1, or by false or true.

    Args:
        entry: The object.
        key: `iscrowd` or `isthing`.
        default: What it is where the entry does not say, or says null; None means that it must.

    Raises:
        ValueError: When it is missing, or anything else, such as the text "0".
    """
    value = value_of(entry, key, _REQUIRED if default is None else default)
    if not isinstance(value, int | float) or value not in (0, 1):
        raise ValueError(f"{key} must be 0 or 1, or false or true, got {shown(value)}")
    return bool(value)


def read_each(entries: Any, name: str, reader: Callable[[Mapping[str, Any]], None]) -> None:
    """Hand each object of a list to its reader.

    Args:
        entries: The list.
        name: What messages call it.
        reader: Takes an object; raises a ValueError where it is not as it must be.

    Raises:
        ValueError: When it is no list, or a reader refuses an entry; says which.
    """
    if not isinstance(entries, list):
        raise ValueError(f"{name} must be a list, got {shown(entries)}")
    place = 0
    try:
        for place, entry in enumerate(entries):  # noqa: B007  # its last value is used
            reader(entry)
    except ValueError as error:
        raise ValueError(f"{name}[{place}]: {error}") from error


def _is_text(value: str) -> bool:
    if value.isascii():
        return True
    try:
        value.encode("utf-8", "surrogateescape")  # as Python has names of files that are not UTF-8
    except UnicodeEncodeError:
        return False
    return True
