# SPDX-License-Identifier: Apache-2.0
"""JSON files in, their content out, whole or entry by entry."""

import json
import re
from collections.abc import Iterator
from json import JSONDecodeError
from pathlib import Path
from typing import Any

# Each with the white space around it.
_TOKENS = {character: re.compile(rf"[ \t\n\r]*{re.escape(character)}[ \t\n\r]*").match for character in "{}[]:,"}


def read_json(file: Path) -> Any:
    """Return the content of a file.

    Raises:
        FileNotFoundError: When there is no such file.
        ValueError: When it is not valid JSON.
    """
    text = _read_text(file)
    try:
        return json.loads(text)
    except ValueError as error:
        raise _broken(file, error) from error


def iterate_json_lists(file: Path) -> Iterator[tuple[str, Any]]:
    """Go through the lists in a file one entry at a time.

    The file holds one object. Of its values that are lists, each entry is returned with the key of its list, in the
    order of the file; other values are passed over. Only one entry exists at a time, beside the text: of a file with a
    million annotations, a tenth of what the whole content would take.

    Raises:
        FileNotFoundError: When there is no such file.
        ValueError: When it is not valid JSON, or another thing than an object.
    """
    text = _read_text(file)
    try:
        yield from _lists(text)
    except JSONDecodeError as error:
        raise _broken(file, error) from error


def _lists(text: str) -> Iterator[tuple[str, Any]]:
    decode = json.JSONDecoder().raw_decode
    place = _behind(text, 0, "{")
    end = _end_of_empty(text, place, "}")
    while end is None:
        key, place = decode(text, place)
        place = _behind(text, place, ":")
        if text[place : place + 1] == "[":
            place = _behind(text, place, "[")
            end_of_list = _end_of_empty(text, place, "]")
            while end_of_list is None:
                entry, place = decode(text, place)
                yield key, entry
                place, end_of_list = _go_on(text, place, "]")
            place = end_of_list
        else:
            _, place = decode(text, place)
        place, end = _go_on(text, place, "}")
    if end != len(text):
        raise JSONDecodeError("Extra data", text, end)


def _go_on(text: str, place: int, closing: str) -> tuple[int, int | None]:
    """Return the place of the next entry, and the place behind all of them if there is none."""
    comma = _TOKENS[","](text, place)
    return (place, _behind(text, place, closing)) if comma is None else (comma.end(), None)


def _end_of_empty(text: str, place: int, closing: str) -> int | None:
    found = _TOKENS[closing](text, place)
    return None if found is None else found.end()


def _behind(text: str, place: int, character: str) -> int:
    found = _TOKENS[character](text, place)
    if found is None:
        raise JSONDecodeError(f"Expecting {character!r}", text, place)
    return found.end()


def _read_text(file: Path) -> str:
    if not file.is_file():
        raise FileNotFoundError(f"{file}: there is no such annotation file.")
    try:
        return file.read_text(encoding="utf-8-sig")
    except ValueError as error:
        raise _broken(file, error) from error


def _broken(file: Path, error: Exception) -> ValueError:
    return ValueError(f"{file} is not valid JSON ({error}); fetch it again.")
