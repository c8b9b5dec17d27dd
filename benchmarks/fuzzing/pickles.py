# SPDX-License-Identifier: Apache-2.0
"""A pickle in, one with other opcodes out: left out, repeated, exchanged, with other arguments, or foreign ones."""

import io
import pickle
import pickletools
import struct
from itertools import pairwise
from random import Random

from fuzzing.hostile import CANARY, INTEGERS, TEXTS

_SHELL = f"touch {CANARY}"
_CALLS = (
    ("os", "system", (_SHELL,)),
    ("posix", "system", (_SHELL,)),
    ("nt", "system", (_SHELL,)),
    ("subprocess", "Popen", (["touch", CANARY],)),
    ("subprocess", "check_output", (["touch", CANARY],)),
    ("builtins", "exec", (f"open('{CANARY}', 'w')",)),
    ("builtins", "eval", (f"open('{CANARY}', 'w')",)),
    ("__builtin__", "eval", (f"open('{CANARY}', 'w')",)),
    ("builtins", "open", (CANARY, "w")),
    ("builtins", "getattr", ("a", "upper")),
    ("builtins", "__import__", (CANARY,)),
    ("builtins", "bytearray", (2**40,)),
    ("builtins", "bytes", (2**40,)),
    ("builtins", "print", (CANARY,)),
    ("shutil", "rmtree", ("../x",)),
    ("socket", "create_connection", (("127.0.0.1", 9),)),
    ("webbrowser", "open", ("http://127.0.0.1:9",)),
    ("runpy", "run_path", (CANARY,)),
    ("importlib", "import_module", (CANARY,)),
    ("operator", "attrgetter", ("__class__",)),
    ("functools", "partial", (print, 1)),
    ("numpy", "load", (CANARY,)),
    ("numpy", "dtype", ("O", False, True)),
    ("numpy", "dtype", ("V9223372036854775807", False, True)),
    ("numpy", "ndarray", ((2**40,),)),
    ("numpy.core.multiarray", "_reconstruct", (1, (2**40,), b"b")),
    ("numpy.core.multiarray", "scalar", (1, b"")),
    ("numpy._core.numeric", "_frombuffer", (b"", 1, (2**62,), "C")),
    ("numpy.testing._private.utils", "runstring", (f"open('{CANARY}', 'w')", {})),
    ("torch", "load", (CANARY,)),
    ("torch", "Size", ((2**40, -1),)),
    ("torch", "device", ("cuda:99",)),
    ("torch.hub", "load", ("a/b", "c")),
    ("torch.storage", "_load_from_bytes", (b"\x80\x04cos\nsystem\n(V" + _SHELL.encode() + b"\ntR.",)),
    ("torch._utils", "_rebuild_tensor_v2", (1, 0, (2**40,), (1,), False, {})),
    ("torch._utils", "_rebuild_parameter", (1, True, {})),
    ("torch._utils", "_rebuild_sparse_tensor", (1, 2)),
    ("torch._tensor", "_rebuild_from_type_v2", (print, print, (), {})),
    ("torch.serialization", "load", (CANARY,)),
    ("torch.jit", "load", (CANARY,)),
    ("collections", "OrderedDict", ([1],)),
    ("collections", "Counter", ({},)),
    ("_codecs", "encode", ("a" * 10, "rot13")),
    ("datetime", "datetime", (1,)),
    ("argparse", "Namespace", ()),
    ("pathlib", "PosixPath", (CANARY,)),
)


def mutate_pickle(content: bytes, rng: Random) -> bytes:
    """Return a pickle that differs by one or a few opcodes, or another one altogether.

    Raises:
        ValueError: When the content is no pickle.
    """
    if rng.random() < 0.25:
        return _whole(rng)
    opcodes = list(pickletools.genops(content))
    bounds = [place for _, _, place in opcodes] + [len(content)]
    parts = [content[start:stop] for start, stop in pairwise(bounds)]
    place = rng.randrange(len(parts))
    match rng.randrange(8):
        case 0:
            del parts[place]
        case 1:
            parts.insert(place, parts[place])
        case 2:
            other = rng.randrange(len(parts))
            parts[place], parts[other] = parts[other], parts[place]
        case 3:
            parts[place] = parts[rng.randrange(len(parts))]
        case 4 | 5:
            parts[place] = _simple(rng)
        case 6:
            parts.insert(place, _simple(rng) + rng.choice((b"", b"0")))
        case _:
            parts.insert(place, _call(rng) + rng.choice((b"", b"0")))
    return b"".join(parts)


def _simple(rng: Random) -> bytes:
    """Return the opcodes of a value, or one that stands where it should not."""
    number = rng.choice(INTEGERS)
    return rng.choice(
        (
            _opcodes(number),
            _opcodes(rng.choice(TEXTS)),
            *(b"N", b"\x88", b"\x89", b"]", b"}", b")", b"\x8f", b"(", b"0", b"2", b"1", b".", b"a", b"e", b"s", b"u"),
            *(b"b", b"R", b"\x81", b"\x92", b"t", b"l", b"d", b"\x85", b"\x86", b"\x87", b"\x90", b"\x91", b"\x93"),
            *(b"h\0", b"q\0", b"\x94", b"\x97", b"\x98", b"Q", b"P1\n", b"\x82\x01", b"\x84\xff\xff\xff\x7f", b"o"),
            b"r" + struct.pack("<I", 2**28),  # a memo of so many places
            b"j" + struct.pack("<I", 2**32 - 1),
            b"p" + str(number).encode()[:20] + b"\n",
            b"\x95" + struct.pack("<Q", 2**62),  # a frame of so many bytes
            b"\x8d" + struct.pack("<Q", 2**40) + b"a",
            b"\x8e" + struct.pack("<Q", 2**40) + b"a",
            b"\x96" + struct.pack("<Q", 2**33),
            b"\x8b" + struct.pack("<i", -1),
            b"I" + b"9" * rng.choice((1, 5000)) + b"\n",
            b"F1e999\n",
            b"S'a\n",
            b"ios\nsystem\n",
        )
    )


def _opcodes(value: object) -> bytes:
    try:
        return pickle.dumps(value, 2)[2:-1]
    except UnicodeEncodeError:
        return b"X\x01\0\0\0\xff"


def _call(rng: Random) -> bytes:
    """Return the opcodes of a call."""
    module, name, arguments = rng.choice(_CALLS)
    plain = tuple(argument for argument in arguments if argument is not print)
    named = b"c" + f"{module}\n{name}\n".encode()
    if rng.random() < 0.3:
        named = _opcodes(module) + _opcodes(name) + b"\x93"
    return named + _opcodes(plain) + rng.choice((b"R", b"R", b"R", b"\x81", b"}\x92", b"b"))


def _whole(rng: Random) -> bytes:
    """Return a pickle of hostile making."""
    stream = io.BytesIO()
    depth = rng.choice((3, 9, 100, 20000))
    match rng.randrange(6):
        case 0:  # lists that share one list, ten times as long at every level
            lists: list = [0.0]
            for _ in range(min(depth, 100)):
                lists = [lists] * 10
            stream.write(b"\x80\x02}X\x05\0\0\0model}X\x01\0\0\0a" + _opcodes(lists) + b"ss.")
        case 1:
            stream.write(b"\x80\x02}X\x01\0\0\0a" + b"]" * depth + b"a" * (depth - 1) + b"s.")
        case 2:  # a list in itself
            stream.write(b"\x80\x02}X\x01\0\0\0a]q\0h\0as.")
        case 3:
            stream.write(b"\x80\x02}X\x05\0\0\0model" + _call(rng) + b"s.")
        case 4:
            stream.write(b"\x80\x02" + _simple(rng) + rng.choice((b".", b"", b"0.")))
        case _:
            stream.write(b"\x80" + bytes([rng.randrange(256)]) + _call(rng) + b".")
    return stream.getvalue()
