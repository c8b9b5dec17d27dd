# SPDX-License-Identifier: Apache-2.0
"""The name and the content of a file and a source of random numbers in, a damaged or hostile content out.

Half of the changes know the format: values of JSON and YAML, opcodes of pickles, headers of safetensors, members of zip
files, chunks of PNG files. The other half knows bytes alone.
"""

import io
import json
import struct
import warnings
import zipfile
import zlib
from random import Random
from typing import Any

import yaml
from fuzzing.hostile import BYTES, FLOATS, HOSTILE_KEYS, INTEGERS, TEXTS, YAML_TEXTS, hostile_value, nested
from fuzzing.pickles import mutate_pickle

_BOMB = b"a\0\0" + zlib.compress(bytes(2**24), 1)
SPECIAL_FILES = ("missing", "folder", "loop")
"""What may lie in the place of a file: nothing, a folder, or a link to itself."""


def mutate(name: str, content: bytes, rng: Random) -> bytes:
    """Return a changed content of a file.

    Args:
        name: Its name, whose ending says the format.
        content: What is in it.
        rng: Decides everything.
    """
    change = _FORMATS.get(name.rpartition(".")[2])
    # Earlier changes may have made it large, or so that shared parts would be gone through without end.
    if change is None or rng.random() < 0.35 or len(content) > 2**20 or (change is _mutate_yaml and b"&" in content):
        return _mutate_bytes(content, rng)
    try:
        return change(content, rng)
    except Exception:  # they may also have left nothing of the format
        return _mutate_bytes(content, rng)


def _mutate_bytes(content: bytes, rng: Random) -> bytes:
    data = bytearray(content)
    if not data:
        return rng.choice(BYTES)
    place = _place(len(data), rng)
    length = min(rng.choice((1, 1, 2, 4, 8, 16, 64, 1024)), len(data) - place)
    match rng.randrange(9):
        case 0:
            for _ in range(rng.choice((1, 1, 2, 8))):
                data[_place(len(data), rng)] ^= 1 << rng.randrange(8)
        case 1 | 2:
            size = rng.choice((1, 2, 4, 8))
            number = rng.choice(INTEGERS) % (1 << 8 * size)
            data[place : place + size] = number.to_bytes(size, rng.choice(("little", "big")))
        case 3:
            del data[place : place + length]
        case 4:
            data[place:place] = data[place : place + length] * rng.choice((1, 2, 100))
        case 5:
            data[place:place] = rng.choice((rng.randbytes(length), *BYTES))
        case 6:
            del data[place:]
        case 7:
            other = _place(len(data), rng)
            data[place : place + length] = data[other : other + length]
        case _:
            data[place : place + length] = bytes(length)
    return bytes(data)


def _place(length: int, rng: Random) -> int:
    """Choose a place, most often near the beginning or the end, where headers and directories are."""
    near = min(length, rng.choice((16, 64, 512)))
    return rng.choice((rng.randrange(near), length - 1 - rng.randrange(near), rng.randrange(length)))


def mutate_value(value: Any, rng: Random) -> Any:
    """Return nested dicts and lists with one value changed, left out, repeated, renamed or wrapped."""
    places = list(_places(value))
    if not places or rng.random() < 0.03:
        return hostile_value(rng)
    parent, key = rng.choice(places)
    match rng.randrange(10):
        case 0 | 1 | 2:
            is_number = isinstance(parent[key], int | float) and rng.random() < 0.5
            parent[key] = rng.choice((*INTEGERS, *FLOATS)) if is_number else hostile_value(rng)
        case 3 | 4:
            parent[key] = _near(parent[key], rng)
        case 5:
            del parent[key]
        case 6:
            parent[key] = rng.choice(([parent[key]], {"a": parent[key]}, [parent[key]] * rng.choice((2, 3000))))
        case 7:
            other, other_key = rng.choice(places)
            parent[key] = json.loads(json.dumps(other[other_key]))
        case 8 if isinstance(parent, dict):
            parent[rng.choice((*HOSTILE_KEYS, *TEXTS, *parent))] = rng.choice((parent[key], hostile_value(rng)))
        case 8:
            parent.insert(key, parent[key])
        case _:
            parent[key] = nested(rng, parent[key])
    return value


def _places(value: Any) -> Any:
    """Give every container and key in it."""
    for key in list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield value, key
        yield from _places(value[key])


def _near(value: Any, rng: Random) -> Any:
    """Return a value of the same type, or a neighbour of it."""
    if isinstance(value, bool) or value is None:
        return rng.choice((not value, int(bool(value)), str(value)))
    if isinstance(value, int | float):
        return rng.choice((-value, value + 1, value - 1, value * 1000, value + 0.5, str(value), float(value)))
    if isinstance(value, str):
        place, other = rng.randrange(len(value) + 1), chr(rng.randrange(1, 127))
        changed = (value[:place] + other + value[place + 1 :], value[:place] + other + value[place:], value[:place])
        return rng.choice((*changed, value + value, f"../{value}", f"/{value}", value + "\0", [value]))
    return rng.choice((list(value), dict.fromkeys(map(str, value), 1), str(value), len(value)))


def _mutate_json(content: bytes, rng: Random) -> bytes:
    text = json.dumps(mutate_value(json.loads(content), rng))
    match rng.randrange(12):
        case 0:
            return text.encode(rng.choice(("utf-16", "utf-8-sig", "utf-32")))
        case 1:
            place = rng.randrange(len(text) + 1)
            return (
                text[:place] + rng.choice(("1e999", "-", ",", "//", "[" * 9000, "]", "9" * 5000)) + text[place:]
            ).encode()
        case 2:  # one key, twice
            return text.replace("{", rng.choice(('{"id": 0, ', '{"": 1, "": 2, ', '{"images": [], ')), 1).encode()
    return text.encode()


def _mutate_json_lines(content: bytes, rng: Random) -> bytes:
    lines = content.splitlines()
    place = rng.randrange(len(lines))
    lines[place : place + 1] = [_mutate_json(lines[place], rng)] * rng.choice((0, 1, 1, 1, 2))
    return b"\n".join(lines) + rng.choice((b"\n", b"\n", b"", b"\n\n"))


def _mutate_yaml(content: bytes, rng: Random) -> bytes:
    if rng.random() < 0.5:
        value = mutate_value(yaml.safe_load(content), rng)
        text = json.dumps(value) if rng.random() < 0.5 else yaml.safe_dump(value, sort_keys=False)
        return text.encode("utf-8", "surrogatepass")
    lines = content.decode().splitlines()
    places = [number for number, line in enumerate(lines) if ":" in line]
    place = rng.choice(places)
    hostile = rng.choice(YAML_TEXTS)
    match rng.randrange(4):
        case 0:
            lines[place] = f"{lines[place].partition(':')[0]}: {hostile}"
        case 1:
            lines.insert(place, f"{lines[place][: len(lines[place]) - len(lines[place].lstrip())]}{hostile}: 1")
        case 2:
            lines.insert(rng.choice((0, len(lines))), hostile)
        case _:
            head, _, rest = lines[place].partition(":")
            lines[place] = f"{head}: {hostile.split()[0]} {rest.strip()}"
    return "\n".join(lines).encode()


def _mutate_safetensors(content: bytes, rng: Random) -> bytes:
    length = struct.unpack("<Q", content[:8])[0]
    header, data = content[8 : 8 + length], content[8 + length :]
    if rng.random() < 0.8:
        header = _mutate_json(header, rng)
        length = len(header)
    if rng.random() < 0.3:
        data = rng.choice((data[: len(data) // 2], data + bytes(8), b"", data[:-1]))
    if rng.random() < 0.1:
        length = rng.choice(INTEGERS) % 2**64
    return struct.pack("<Q", length) + header + data


def mutate_zip(content: bytes, rng: Random) -> bytes:
    """Return a zip file, as `torch.save` writes them, with one member changed: its pickle, most often."""
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        members = [(name, file.read(name)) for name in file.namelist()]
    method = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    pickled = [number for number, (name, _) in enumerate(members) if name.endswith(".pkl")]
    place = rng.choice((*pickled * 20, *range(len(members))))
    name, data = members[place]
    match rng.randrange(12):
        case 0:
            members[place] = (rng.choice(("../x", "/x", "", name + "x", "data.pkl")), data)
        case 1:
            del members[place]
        case 2:
            members.append(members[place])
        case 3:
            members[place], method = (name, bytes(2**27)), zipfile.ZIP_DEFLATED
        case 4:
            members[place] = (name, _mutate_bytes(data, rng))
        case _:
            members[place] = (name, mutate_pickle(data, rng) if place in pickled else _mutate_bytes(data, rng))
    target = io.BytesIO()
    with warnings.catch_warnings(action="ignore"), zipfile.ZipFile(target, "w", method, compresslevel=1) as file:
        for name, data in members:
            file.writestr(zipfile.ZipInfo(name), data, compress_type=method)
    return target.getvalue()


def _mutate_weights(content: bytes, rng: Random) -> bytes:
    return (mutate_zip if content.startswith(b"PK") else mutate_pickle)(content, rng)


def _mutate_png(content: bytes, rng: Random) -> bytes:
    chunks, place = [], 8
    while place < len(content):
        (length,) = struct.unpack(">I", content[place : place + 4])
        chunks.append((content[place + 4 : place + 8], content[place + 8 : place + 8 + length]))
        place += 12 + length
    number = rng.randrange(len(chunks))
    kind, data = chunks[number]
    match rng.randrange(6):
        case 0:  # height, width, bits, colours, compression, filter, interlacing
            size = [rng.choice((0, 1, 8, 9, 2**15, 2**31 - 1, 2**32 - 1, 10**5)) for _ in range(2)]
            rest = [rng.choice((0, 1, 2, 3, 4, 6, 8, 16, 255)) for _ in range(5)]
            chunks[0] = (b"IHDR", struct.pack(">IIBBBBB", *size, *rest))
        case 1 | 2:
            chunks[number] = (kind, _mutate_bytes(data, rng))
        case 3:
            del chunks[number]
        case 4:
            chunks.insert(rng.randrange(len(chunks)), chunks[number])
        case _:
            kind = rng.choice(
                (b"tEXt", b"zTXt", b"iTXt", b"iCCP", b"eXIf", b"PLTE", b"tRNS", b"acTL", b"fcTL", b"fdAT")
            )
            chunks.insert(1, (kind, rng.choice((_BOMB, data, rng.randbytes(rng.choice((0, 4, 26, 768))), *BYTES))))
    is_right = rng.random() < 0.9
    sums = [zlib.crc32(kind + data) if is_right else rng.randrange(2**32) for kind, data in chunks]
    parts = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)
        for (kind, data), check in zip(chunks, sums, strict=True)
    ]
    return content[:8] + b"".join(parts)


_FORMATS = {
    "json": _mutate_json,
    "jsonl": _mutate_json_lines,
    "yaml": _mutate_yaml,
    "pkl": _mutate_weights,
    "pth": _mutate_weights,
    "bin": _mutate_weights,
    "safetensors": _mutate_safetensors,
    "png": _mutate_png,
}
