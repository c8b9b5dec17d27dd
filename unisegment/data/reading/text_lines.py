# SPDX-License-Identifier: Apache-2.0
"""Text files in, their lines out."""

from pathlib import Path

from unisegment.data.problems import Problem

_LARGEST_LIST = 2**27
"""Bytes: room for a million images."""


def read_lines(file: Path, largest: int = _LARGEST_LIST) -> list[tuple[int, str]]:
    """Return the lines of a text file that hold something, each with its number, from 1.

    Args:
        file: The file.
        largest: How many bytes it may have.

    Raises:
        DataError: When it cannot be read, is too large, or not in UTF-8.
    """
    try:
        with file.open("rb") as stream:
            content = stream.read(largest + 1)
        if len(content) > largest:
            raise ValueError(f"it has more than {largest:,} bytes")
        lines = content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        detail = f"line {line}: the byte 0x{content[error.start]:02x} is not UTF-8. Save the file in that encoding."
        raise Problem("wrong-structure", str(file), detail).error() from error
    except (OSError, ValueError) as error:
        raise Problem("unreadable-file", str(file), f"it cannot be read: {error}.").error() from error
    return [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]
