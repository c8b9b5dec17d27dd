# SPDX-License-Identifier: Apache-2.0
"""Names are written in a font that has their characters, or as numbers, never as boxes."""

import logging

import numpy as np
import pytest
from PIL import Image, ImageFont

from tests.visualization.pictures import image_of, predictions_of_all_kinds
from tests.visualization.tiny_font import write_font
from unisegment.visualization import draw, draw_sheet, fonts
from unisegment.visualization.fonts import Lettering

CARS, GANA, ENGLISH = "汽车", "가나", "0123456789.abcdefghijklmnopqrstuvwxyz()"


@pytest.fixture(autouse=True)
def font_folder(tmp_path, monkeypatch):
    """A folder that is the only one of the system with fonts."""
    monkeypatch.setattr(fonts, "_font_folders", lambda: [tmp_path / "fonts", tmp_path / "missing"])
    for cached in (fonts._file_with, fonts._system_fonts, fonts._font, fonts._warn_once):
        cached.cache_clear()
    yield tmp_path / "fonts"
    for cached in (fonts._file_with, fonts._system_fonts, fonts._font):
        cached.cache_clear()


def test_a_tiny_font_is_a_font(tmp_path):
    font = ImageFont.truetype(write_font(tmp_path / "a.ttf", CARS + ENGLISH), 20)
    drawn = {bytes(font.getmask(character)) for character in CARS}
    assert len(drawn) == 2
    assert font.getmask("가").getbbox() == font.getmask(fonts._NO_CHARACTER).getbbox() != font.getmask("汽").getbbox()


def test_a_font_of_the_system_with_all_characters_is_found(font_folder):
    write_font(font_folder / "a.ttf", CARS)  # but no digits, for the score
    write_font(font_folder / "b-Bold.ttf", CARS + ENGLISH)
    write_font(font_folder / "sub" / "longer.TTF", CARS + ENGLISH)
    (font_folder / "broken.otf").write_bytes(b"no font")
    (font_folder / "list.txt").write_text("no font")
    assert Lettering().font(f"{CARS} 0.93", 20).path == str(font_folder / "sub" / "longer.TTF")
    assert Lettering().legible(CARS, 3) == CARS
    # Pillow's own goes before those of the system.
    assert Lettering().font("car 0.93", 20).getname() == ImageFont.load_default(20).getname()


def test_fonts_of_the_system_are_not_listed_where_they_are_not_needed(monkeypatch):
    monkeypatch.setattr(fonts, "_font_folders", None)
    assert Lettering().legible("car", 1) == "car"


def test_the_chosen_font_goes_first(font_folder, tmp_path):
    write_font(font_folder / "system.ttf", GANA + ENGLISH)
    lettering = Lettering(str(write_font(tmp_path / "chosen.ttf", CARS + ENGLISH)))
    assert lettering.font("car", 20).path == str(tmp_path / "chosen.ttf")
    assert lettering.font(CARS, 20).path == str(tmp_path / "chosen.ttf")
    assert lettering.font(GANA, 20).path == str(font_folder / "system.ttf")
    # Pillow's own stands in for what it lacks, too.
    few = Lettering(str(write_font(tmp_path / "few.ttf", CARS)))
    assert few.font("car", 20).getname() == ImageFont.load_default(20).getname()
    with pytest.raises(ValueError, match=r"font=.*none\.ttf cannot be opened as a font: give a \.ttf, \.otf or \.ttc"):
        Lettering(str(tmp_path / "none.ttf"))


def test_without_a_font_the_number_is_written(font_folder, caplog):
    write_font(font_folder / "a.ttf", CARS + ENGLISH)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert Lettering().legible(GANA, 17) == "17"
            assert Lettering().legible("Möwe", 5) == "5"  # Pillow's own has the letters of English alone
            assert Lettering().legible("sea gull (other)", 6) == "sea gull (other)"
    assert [record.getMessage().split("that")[0] for record in caplog.records] == [
        f"No font of this system has the characters of '{name}', so " for name in (GANA, "Möwe")
    ]


def test_two_names_that_a_font_lacks_do_not_look_alike(font_folder, tmp_path):
    prediction = predictions_of_all_kinds()["panoptic"]
    chosen = write_font(tmp_path / "chosen.ttf", CARS + GANA + ENGLISH)

    def drawn(name, draw=draw, **keywords):
        own = {0: (200, 20, 20)}  # else the name has a colour, too
        return np.asarray(draw(image_of(), prediction, {0: name, 4: "sky"}, palette=own, **keywords))

    # The label's number is 0.
    np.testing.assert_array_equal(drawn(CARS), drawn("0"))
    assert (drawn(CARS, font=chosen) != drawn(GANA, font=str(chosen))).any()

    def sheet(image, prediction, names, **keywords):
        return draw_sheet(image, {"": prediction}, names, **keywords)

    np.testing.assert_array_equal(drawn(GANA, sheet), drawn("0", sheet))
    assert (drawn(CARS, sheet, font=chosen) != drawn(GANA, sheet, font=chosen)).any()
    write_font(font_folder / "system.ttf", CARS + GANA + ENGLISH)
    for cached in (fonts._file_with, fonts._system_fonts):
        cached.cache_clear()
    assert (drawn(CARS) != drawn(GANA)).any()


@pytest.mark.parametrize(
    ("platform", "names", "expected"),
    [
        ("win32", {"WINDIR": "W", "LOCALAPPDATA": "L"}, ["W/Fonts", "L/Microsoft/Windows/Fonts"]),
        ("darwin", {}, ["/System/Library/Fonts", "/Library/Fonts", "H/Library/Fonts"]),
        ("linux", {"XDG_DATA_HOME": "X", "XDG_DATA_DIRS": "a:b"}, ["H/.fonts", "X/fonts", "a/fonts", "b/fonts"]),
        ("linux", {}, ["H/.fonts", "H/.local/share/fonts", "/usr/local/share/fonts", "/usr/share/fonts"]),
    ],
)
def test_where_fonts_are(platform, names, expected, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(fonts.sys, "platform", platform)
    monkeypatch.setenv("HOME", "H")
    for name in ("XDG_DATA_HOME", "XDG_DATA_DIRS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in names.items():
        monkeypatch.setenv(name, value)
    assert [folder.as_posix() for folder in fonts._font_folders()] == expected


def test_pictures_of_pillow_are_not_written_to():
    image = Image.fromarray(image_of())
    before = image.tobytes()
    draw(image, predictions_of_all_kinds()["panoptic"])
    assert image.tobytes() == before
