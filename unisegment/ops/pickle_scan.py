# SPDX-License-Identifier: Apache-2.0
"""A pickle in, an error out when it would grow: small files that fill memory or never end when they are read.

Nothing of the pickle is built or called. Its instructions are followed on a stack of sizes: a value is as large as all
that lies in it, counted as often as it is referred to.
"""

import pickle
from collections.abc import Iterator
from mmap import mmap
from pickletools import (
    TAKEN_FROM_ARGUMENT1,
    TAKEN_FROM_ARGUMENT4,
    TAKEN_FROM_ARGUMENT4U,
    TAKEN_FROM_ARGUMENT8U,
    UP_TO_NEWLINE,
    OpcodeInfo,
    markobject,
    opcodes,
)
from typing import Any, BinaryIO

_OPCODES = {opcode.code.encode("latin-1"): opcode for opcode in opcodes}
_PUTS = frozenset(("PUT", "BINPUT", "LONG_BINPUT"))
_GETS = frozenset(("GET", "BINGET", "LONG_BINGET"))
_FILLS = frozenset(("APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS", "BUILD"))
"""They put values into one that is there already."""
_LENGTHS = {TAKEN_FROM_ARGUMENT1: 1, TAKEN_FROM_ARGUMENT4: 4, TAKEN_FROM_ARGUMENT4U: 4, TAKEN_FROM_ARGUMENT8U: 8}
"""Bytes of the length that stands before an argument, by the kind of the argument."""
_FILLER = b"bytearray"
"""What torch allows in a file, and makes as long as a number says that comes with it."""
_FEWEST, _GROWTH = 10**6, 100
"""Values that any pickle may hold, and how many more each of its instructions may add by referring to others."""


class _Sized:
    """Stands for a value of a pickle.

    Args:
        size: How many values lie in it, itself included.
    """

    def __init__(self, size: int) -> None:
        self.size = size


def require_bounded(file: BinaryIO | mmap, length: int) -> None:
    """Follow the instructions of a pickle, from where a file stands to the end of the pickle.

    Args:
        file: The file, in memory or mapped, so that reading more than there is takes no memory.
        length: Its length in bytes.

    Raises:
        UnpicklingError: When its values are referred to so often that hashing or copying them would not end, or when it
            asks for room for more values, or for longer texts, than it has.
        Exception: Whatever a damaged pickle leads to.
    """
    stack: list[_Sized] = []
    memo: dict[int, _Sized] = {}
    mark, work = _Sized(0), 0
    for count, (opcode, argument) in enumerate(_instructions(file, length)):
        if opcode.name in _PUTS or opcode.name == "MEMOIZE":
            index = len(memo) if argument is None else argument
            if index > count:
                raise pickle.UnpicklingError(f"it asks for a table of {index} values, but has {count} so far.")
            memo[index] = stack[-1]
            continue
        popped = _pop(stack, opcode.stack_before, mark)
        if opcode.name == "MARK":
            stack.append(mark)
        elif opcode.name in _GETS:
            stack.append(memo[argument])
        elif opcode.name in _FILLS:
            added = sum(value.size for value in popped[:-1])
            popped[-1].size += added
            work += added
            stack.append(popped[-1])
        elif opcode.name == "DUP":
            stack += popped * 2
        else:
            size = 1 + sum(value.size for value in popped)
            work += size
            stack += [_Sized(size) for _ in opcode.stack_after]
        if work > _FEWEST + _GROWTH * count:
            raise pickle.UnpicklingError(f"it refers to the same values so often that they unfold to {work} and more.")


def _instructions(file: BinaryIO | mmap, length: int) -> Iterator[tuple[OpcodeInfo, Any]]:
    """Go through the instructions of a pickle; of their arguments, only short numbers are read."""
    name, frame_end = "", 0
    while name != "STOP":
        start = file.tell()
        code = file.read(1)
        if not code:
            raise EOFError("its pickle has no end.")
        opcode = _OPCODES[code]
        name, argument = opcode.name, None
        if opcode.arg is None:
            pass
        elif opcode.arg.n == UP_TO_NEWLINE:
            lines = [file.readline() for _ in range(2 if name in ("GLOBAL", "INST") else 1)]
            argument = int(lines[0]) if name in ("PUT", "GET") else None
            if len(lines) == 2 and lines[1].strip() == _FILLER:
                raise pickle.UnpicklingError("it asks for a bytearray, expected tensors.")
        else:
            number = int.from_bytes(file.read(_LENGTHS.get(opcode.arg.n, opcode.arg.n)), "little")
            is_length = opcode.arg.n in _LENGTHS
            if (is_length or name == "FRAME") and number > length - file.tell():
                raise pickle.UnpicklingError(f"it has a value of {number} bytes, in a file of {length}.")
            if is_length:
                file.seek(number, 1)
            argument = number
        if start < frame_end:
            _require_framed(name, file.tell(), frame_end)
        if name == "FRAME" and argument is not None:
            frame_end = file.tell() + argument
        yield opcode, argument


def _require_framed(name: str, end: int, frame_end: int) -> None:
    """Refuse an instruction that begins in a frame and ends behind it: Python then goes on behind the frame."""
    if name == "FRAME" or end > frame_end:
        raise pickle.UnpicklingError("it has a frame that does not end between two of its instructions.")


def _pop(stack: list[_Sized], before: list[Any], mark: _Sized) -> list[_Sized]:
    """Take from a stack what an instruction takes, the topmost first, without the mark."""
    popped, count = [], len(before)
    if markobject in before:
        while (value := stack.pop()) is not mark:
            popped.append(value)
        count = before.index(markobject)
    return popped + [stack.pop() for _ in range(count)]
