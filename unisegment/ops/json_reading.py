# SPDX-License-Identifier: Apache-2.0
"""JSON files in, their content out, whole or entry by entry."""

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from json import JSONDecodeError
from pathlib import Path
from typing import Any, TextIO

_CHUNK = 2**20
_DECODE = json.JSONDecoder().raw_decode
_WHITE_SPACE = re.compile(r"[ \t\n\r]*").match


def read_json(file: Path, name: str | None = None) -> Any:
    """Return the content of a file.

    Args:
        file: The file.
        name: What a message calls it that goes on with what to do; None is its path, and that it is to be corrected.

    Raises:
        FileNotFoundError: When there is no such file.
        ValueError: When it is not valid JSON.
    """
    with _open(file) as stream:
        try:
            return json.load(stream)
        except (ValueError, RecursionError) as error:
            raise (_broken(file, error) if name is None else _not_json(name, error)) from error


def parse_json(content: str | bytes, name: str) -> Any:
    """Return what a text holds; bytes are UTF-8.

    Raises:
        ValueError: When it is not valid JSON; calls it by its name.
    """
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise _not_json(name, error) from error


def read_json_lists(
    file: Path,
    readers: Mapping[str, Callable[[Any], None]],
    *,
    data_format: str,
    hint: str,
    optional: Collection[str] = (),
) -> None:
    """Hand each entry of the lists in a file to the reader of its list, one at a time.

    Args:
        file: As for `iterate_json_lists`; the lists may come in any order.
        readers: What takes the entries of a list, by the key of the list. Other lists are passed over.
        data_format: What the file should be in, for messages.
        hint: What else messages say about entries that a reader refuses.
        optional: Keys of the lists that may be missing or empty.

    Raises:
        FileNotFoundError: When there is no such file.
        ValueError: When it is not valid JSON, lacks a list, or has an entry for which a reader raises a ValueError;
            says which.
    """
    counts = dict.fromkeys(readers, 0)
    for key, entry in iterate_json_lists(file):
        if key not in readers:
            continue
        try:
            readers[key](entry)
        except ValueError as error:
            raise ValueError(
                f"{file} is not in {data_format}: {key}[{counts[key]}]: {error}. {hint}".rstrip()
            ) from error
        counts[key] += 1
    missing = [key for key, count in counts.items() if count == 0 and key not in optional]
    if missing:
        raise ValueError(f"{file} is not in {data_format}: it lists no {', '.join(missing)}.")


def iterate_json_lists(file: Path, others: dict[str, Any] | None = None) -> Iterator[tuple[str, Any]]:
    """Go through the lists in a file one entry at a time.

    The file holds one object. Of its values that are lists, each entry is returned with the key of its list, in the
    order of the file. Only one entry and about a megabyte of text exist at a time.

    Args:
        file: The file.
        others: Where to put values that are no lists, by their key; None passes them over.

    Raises:
        FileNotFoundError: When there is no such file.
        ValueError: When it is not valid JSON, or another thing than an object.
    """
    with _open(file) as stream:
        text = _Text(stream)
        try:
            if text.peek() != "[":
                yield from _lists(text, others)
                return
        except (ValueError, RecursionError) as error:
            raise _broken(file, error) from error
    raise ValueError(f"{file} must hold one JSON object with lists in it, but holds a list.")


def _lists(text: "_Text", others: dict[str, Any] | None) -> Iterator[tuple[str, Any]]:
    for _ in _items(text, "{", "}"):
        key = text.key()
        text.expect(":")
        if text.peek() == "[":
            for _ in _items(text, "[", "]"):
                yield key, text.value()
        else:
            value = text.value()
            if others is not None:
                others[key] = value
    text.expect_end()


def _items(text: "_Text", opening: str, closing: str) -> Iterator[None]:
    """Stop in front of each item between two brackets, and go on behind it."""
    text.expect(opening)
    if text.skip(closing):
        return
    yield
    while text.skip(","):
        yield
    text.expect(closing)


class _Text:
    """The text of a file, of which only a piece is in memory.

    Args:
        stream: The file, opened.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._piece = ""
        self._place = 0
        self._num_before = 0

    def peek(self) -> str:
        """Go on to the next character that is no white space, and return it; "" at the end."""
        while True:
            self._place = _WHITE_SPACE(self._piece, self._place).end()  # type: ignore[union-attr]  # it always matches
            if self._place < len(self._piece) or not self._read_on():
                return self._piece[self._place : self._place + 1]

    def skip(self, character: str) -> bool:
        """Go on behind a character, if it is the next one; tell whether it is."""
        is_next = self.peek() == character
        self._place += is_next
        return is_next

    def expect(self, character: str) -> None:
        """Go on behind a character, which must be the next one."""
        if not self.skip(character):
            raise self._error(f"expecting {character!r}", self._place)

    def expect_end(self) -> None:
        """Check that nothing but white space is left."""
        if self.peek():
            raise self._error("expecting nothing more", self._place)

    def key(self) -> str:
        """Go on behind the next value, which must be a text, and return it."""
        if self.peek() != '"':
            raise self._error("expecting a key, a text in double quotes,", self._place)
        return self.value()

    def value(self) -> Any:
        """Go on behind the next value, and return it."""
        self.peek()
        while True:
            try:
                value, end = _DECODE(self._piece, self._place)
            except JSONDecodeError as error:
                if not self._read_on():
                    raise self._error(error.msg, error.pos) from error
                continue
            # A number at the end of the piece may go on behind it: of "1e+5" there may be "1e+".
            if end + 2 < len(self._piece) or not self._read_on():
                self._place = end
                return value

    def _read_on(self) -> bool:
        """Take more of the file into memory, at least as much as there is; tell whether there was more."""
        more = self._stream.read(max(_CHUNK, len(self._piece) - self._place))
        if more:
            self._num_before += self._place
            self._piece = self._piece[self._place :] + more
            self._place = 0
        return bool(more)

    def _error(self, message: str, place: int) -> ValueError:
        return ValueError(f"{message} at character {self._num_before + place}")


def _open(file: Path) -> TextIO:
    if not file.is_file():
        raise FileNotFoundError(f"{file}: there is no such file.")
    return file.open(encoding="utf-8-sig", newline="")


def _broken(file: Path, error: Exception) -> ValueError:
    return ValueError(f"{_not_json(str(file), error)}: correct it, or fetch it again.")


def _not_json(name: str, error: Exception) -> ValueError:
    if isinstance(error, UnicodeDecodeError):
        reason = f"the byte 0x{error.object[error.start]:02x} is not UTF-8"
    elif isinstance(error, RecursionError):
        reason = "too many lists and objects are inside each other"
    elif isinstance(error, JSONDecodeError):
        reason = f"{error.msg} at line {error.lineno}, column {error.colno}" if error.doc else "it is empty"
    else:
        reason = str(error)
    return ValueError(f"{name} is not valid JSON ({reason})")
