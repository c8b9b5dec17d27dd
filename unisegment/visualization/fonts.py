# SPDX-License-Identifier: Apache-2.0
"""Names in, fonts that can write them out: one that was chosen, Pillow's own, or one of the system.

Pillow's own has the letters of English and no others. A character that a font lacks is drawn as a box, the same one for
all of them.
"""

import logging
import os
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from PIL import ImageFont

_PILLOWS_OWN = ""
_NO_CHARACTER = "\U0010ffff"
"""Of which Unicode says that it will never be one."""
_NUMBERS = "0123456789."
_ENDINGS = (".ttf", ".otf", ".ttc")
_STYLES = ("bold", "italic", "oblique", "light", "thin", "black", "mono", "serif", "condensed")


def letter_size(picture: tuple[int, int]) -> int:
    """Return the usual height of letters in pixels, for a picture of a width and height."""
    # A narrow strip is no reason for large letters.
    return max(14, round(min(max(picture), 4 * min(picture)) / 42))


@dataclass(frozen=True)
class Lettering:
    """Writes names, each in a font that has all of its characters.

    Args:
        file: A TrueType or OpenType font that goes before all others; None for no wish.

    Raises:
        ValueError: When the file is no font.
    """

    file: str | None = None

    def __post_init__(self) -> None:
        if self.file is not None and _font(self.file, 20) is None:
            raise ValueError(f"font={self.file} cannot be opened as a font: give a .ttf, .otf or .ttc file.")

    def legible(self, name: str, label: int) -> str:
        """Return the name, or the number of the label where no font has the characters of the name."""
        if _file_with(_characters(name), self.file) is not None:
            return name
        _warn_once(
            f"No font of this system has the characters of {name!r}, so that the number of the label is written. Give "
            "`draw` a file that has them: font=FILE."
        )
        return str(label)

    def font(self, text: str, size: int) -> ImageFont.FreeTypeFont:
        """Return a font of a size in pixels that has the characters of a text, or Pillow's own if there is none."""
        file = _file_with(_characters(text), self.file)
        font = _font(_PILLOWS_OWN if file is None else file, size)
        assert font is not None
        return font

    def shortened(self, text: str, size: int, width: float) -> str:
        """Return a text, or as much of it as fits into a width in pixels, and three points."""
        font = self.font(text, size)
        if font.getlength(text) <= width:
            return text
        fitting = range(len(text), 0, -1)
        return next((f"{text[:end]}..." for end in fitting if font.getlength(f"{text[:end]}...") <= width), "...")


def _characters(text: str) -> frozenset[str]:
    """Return what a font must have: the characters of a text and of any score, which may be written behind it."""
    return frozenset(_NUMBERS).union(character for character in text if not character.isspace())


@cache
def _file_with(characters: frozenset[str], chosen: str | None) -> str | None:
    """Return the first font that has all characters: of the chosen one, Pillow's own, and those of the system."""
    for file in (chosen, _PILLOWS_OWN):
        if file is not None and _has_characters(file, characters):
            return file
    # Those of the system are only listed where they are needed.
    return next((file for file in _system_fonts() if _has_characters(file, characters)), None)


def _has_characters(file: str, characters: frozenset[str]) -> bool:
    font = _font(file, 20)
    if font is None:
        return False
    box = _drawn(font, _NO_CHARACTER)
    return all(_drawn(font, character) != box for character in characters)


def _drawn(font: ImageFont.FreeTypeFont, character: str) -> tuple[tuple[int, int], bytes]:
    mask = font.getmask(character)
    return mask.size, bytes(mask)


@cache
def _font(file: str, size: int) -> ImageFont.FreeTypeFont | None:
    if file == _PILLOWS_OWN:
        font = ImageFont.load_default(size)
        assert isinstance(font, ImageFont.FreeTypeFont)
        return font
    try:
        return ImageFont.truetype(file, size)
    except OSError:  # no font, or one of pictures in other sizes
        return None


@cache
def _system_fonts() -> list[str]:
    """Return the font files of the system, plain ones with short names first."""
    files = {file for folder in _font_folders() for file in folder.rglob("*") if file.suffix.lower() in _ENDINGS}
    return [str(file) for file in sorted(files, key=_rank)]


def _rank(file: Path) -> tuple[bool, int, str]:
    stem = file.stem.lower()
    return any(style in stem for style in _STYLES), len(stem), str(file)


def _font_folders() -> list[Path]:
    home = Path.home()
    if sys.platform == "win32":
        own = Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
        return [Path(os.environ.get("WINDIR") or r"C:\Windows") / "Fonts", own / "Microsoft" / "Windows" / "Fonts"]
    if sys.platform == "darwin":
        return [Path("/System/Library/Fonts"), Path("/Library/Fonts"), home / "Library" / "Fonts"]
    shares = [os.environ.get("XDG_DATA_HOME") or home / ".local" / "share"]
    shares += (os.environ.get("XDG_DATA_DIRS") or "/usr/local/share:/usr/share").split(":")
    return [home / ".fonts", *(Path(share) / "fonts" for share in shares)]


@cache
def _warn_once(message: str) -> None:
    logging.getLogger(__name__).warning(message)
