# SPDX-License-Identifier: Apache-2.0
"""A TrueType font with few characters, written out: each is a bar of its own height, and a missing one a low bar."""

import struct
from pathlib import Path

_EM, _WIDTH = 1000, 600


def write_font(path: Path, characters: str) -> Path:
    """Write a font that has these characters and no others, not even a space."""
    codes = sorted({ord(character) for character in characters})
    glyphs = [_bar(100 + 700 * place // len(codes)) for place in range(len(codes) + 1)]
    offsets = [sum(map(len, glyphs[:place])) for place in range(len(glyphs) + 1)]
    groups = [struct.pack(">3I", code, code, place) for place, code in enumerate(codes, start=1)]
    cmap = struct.pack(">2H2HI", 0, 1, 3, 10, 12) + struct.pack(">2H3I", 12, 0, 16 + 12 * len(codes), 0, len(codes))
    tables = {
        b"cmap": cmap + b"".join(groups),
        b"glyf": b"".join(glyphs),
        b"head": struct.pack(
            ">2I2I2H2q4h2H3h", 0x10000, 0, 0, 0x5F0F3CF5, 0, _EM, 0, 0, 0, 0, _WIDTH, _EM, 0, 8, 2, 1, 0
        ),
        b"hhea": struct.pack(">I3hH11hH", 0x10000, 800, -200, 0, _WIDTH, *[0] * 11, len(glyphs)),
        b"hmtx": struct.pack(">Hh", _WIDTH, 0) * len(glyphs),
        b"loca": struct.pack(f">{len(offsets)}I", *offsets),
        b"maxp": struct.pack(">I14H", 0x10000, len(glyphs), 4, 1, *[0] * 11),
    }
    directory, body, begin = b"", b"", 12 + 16 * len(tables)
    for tag, content in tables.items():
        directory += tag + struct.pack(">3I", 0, begin + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack(">I4H", 0x10000, len(tables), 0, 0, 0) + directory + body)
    return path


def _bar(height: int) -> bytes:
    """Return a glyph of four corners: one contour, no instructions, all points on the curve."""
    xs, ys = (50, 0, 500, 0), (0, height, 0, -height)
    outline = struct.pack(">5hHH4B", 1, 50, 0, 550, height, 3, 0, 1, 1, 1, 1) + struct.pack(">8h", *xs, *ys)
    return outline + bytes(-len(outline) % 4)
