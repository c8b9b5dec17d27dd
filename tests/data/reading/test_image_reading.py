# SPDX-License-Identifier: Apache-2.0
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image
from transformers.image_utils import infer_channel_dimension_format

from unisegment.data.reading import image_reading
from unisegment.data.reading.image_reading import ImageReading, as_list, read_image, to_numpy


@pytest.fixture
def colors():
    return np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)


def assert_image(image, expected):
    assert image.dtype == np.uint8
    assert image.tolist() == expected.tolist()


@pytest.mark.parametrize(
    "form",
    [
        lambda colors: colors,
        lambda colors: colors.transpose(2, 0, 1),
        lambda colors: torch.from_numpy(colors),
        lambda colors: torch.from_numpy(colors).permute(2, 0, 1),
        lambda colors: colors.astype(np.int64),
        lambda colors: torch.from_numpy(colors).int(),
        lambda colors: colors.astype(np.uint16) * 257,
        lambda colors: colors.astype(np.float32),
        lambda colors: colors.astype(np.float32) + 0.25,
        lambda colors: colors / 255,
        lambda colors: torch.from_numpy(colors).permute(2, 0, 1) / 255,
        lambda colors: (torch.from_numpy(colors) / 255).requires_grad_(),
        lambda colors: torch.from_numpy(colors).bfloat16().requires_grad_(),
        lambda colors: (colors / 255).astype(np.float16),
        lambda colors: Image.fromarray(colors),
        lambda colors: (colors.astype(np.uint16) * 257).astype(">u2"),
        lambda colors: Image.fromarray(np.dstack([colors, colors[..., 0]])),
    ],
)
def test_forms_of_colours(colors, form):
    assert_image(read_image(form(colors)), colors)


@pytest.mark.parametrize(
    "form",
    [
        lambda grey: grey,
        lambda grey: grey[None],
        lambda grey: grey[..., None],
        lambda grey: torch.from_numpy(grey)[None],
        lambda grey: Image.fromarray(grey),
        lambda grey: Image.fromarray(grey.astype(np.uint16) * 257),
        lambda grey: Image.fromarray(grey.astype(np.int32) * 257),
        lambda grey: Image.fromarray(grey.astype(np.int32)),
        lambda grey: Image.fromarray(grey.astype(np.float32)),
        lambda grey: Image.fromarray((grey / 255).astype(np.float32)),
        lambda grey: Image.fromarray(grey).convert("LA"),
    ],
)
def test_forms_of_grey(colors, form):
    grey = colors[..., 0]
    assert_image(read_image(form(grey)), grey[..., None].repeat(3, axis=2))


def test_palette_with_transparency(colors):
    image = Image.fromarray(colors).quantize(5)
    expected = np.asarray(image.convert("RGB"))
    image.info["transparency"] = bytes(range(5))
    assert_image(read_image(image), expected)


def test_black_and_white():
    image = Image.fromarray(np.eye(5, 7, dtype=bool))
    assert_image(read_image(image), np.eye(5, 7)[..., None].repeat(3, axis=2) * 255)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(colors, orientation, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(colors).save(tmp_path / "image.png", exif=exif)
    flipped = colors[:, ::-1] if orientation in (2, 4, 5, 7) else colors
    turns = {1: 0, 2: 0, 3: 2, 4: 2, 5: 1, 6: 3, 7: 3, 8: 1}[orientation]
    expected = np.rot90(flipped, turns)
    with Image.open(tmp_path / "image.png") as image:
        assert_image(read_image(image), expected)
    for path in (tmp_path / "image.png", str(tmp_path / "image.png")):
        assert_image(read_image(path), expected)


@pytest.mark.parametrize(
    "shape", [(3, 5, 7), (5, 7, 3), (1, 5, 7), (5, 7, 1), (3, 7, 1), (1, 7, 3), (3, 7, 3), (3, 7, 4)]
)
def test_the_place_of_channels_is_inferred_as_in_transformers(shape):
    first = infer_channel_dimension_format(np.zeros(shape)).value == "channels_first"
    height, width = shape[1:] if first else shape[:2]
    assert read_image(np.zeros(shape, np.uint8)).shape == (height, width, 3)


def test_the_place_of_channels_can_be_said():
    array = np.random.default_rng(0).integers(0, 256, (3, 7, 3), dtype=np.uint8)
    assert_image(read_image(array, "channels_last"), array)
    assert_image(read_image(array, "channels_first"), array.transpose(1, 2, 0))
    assert_image(read_image(array), array.transpose(1, 2, 0))


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((5, 7, 2), np.uint8), r"have 1 or 3 channels .* got shape \(5, 7, 2\)"),
        (np.zeros((5, 7, 4), np.uint8), "has 4 channels, but is to have 1 or 3, as many as image_mean and image_std"),
        (np.zeros((4, 5, 7), np.uint8), "has 4 channels"),
        (np.zeros((5, 7, 5), np.uint8), "have 1 or 3 channels"),
        (np.zeros((2, 3, 5, 7), np.uint8), "have 1 or 3 channels"),
        (np.zeros(5, np.uint8), "have 1 or 3 channels"),
        (np.zeros((0, 7, 3), np.uint8), r"empty: its shape is \(0, 7, 3\)"),
        (np.zeros((5, 0), np.uint8), "empty"),
        (torch.zeros(3, 0, 7), "empty"),
        (Image.new("RGB", (0, 5)), "empty"),
        (np.full((5, 7, 3), np.nan), "numbers of an image must be .* got float64 from nan"),
        (np.full((5, 7, 3), np.inf), "numbers of an image must be"),
        (
            np.full((5, 7, 3), -0.5),
            r"numbers of an image must be .* got float64 from -0.5 to -0.5: .* range=\[low, high",
        ),
        (np.full((5, 7, 3), 256.0), "numbers of an image must be"),
        (np.full((5, 7, 3), 256), "numbers of an image must be .* got int64 from 256"),
        (np.full((5, 7, 3), -1), "numbers of an image must be"),
        (np.zeros((5, 7, 3), bool), "numbers of an image must be .* got bool"),
        (Image.fromarray(np.full((5, 7), 65536, np.int32)), "mode 'I' must hold 0 to 65535, .* range="),
        (np.zeros((5, 7, 3), complex), "got an array of complex128"),
        (np.array([["a"]]), "got an array of <U1"),
        (None, "got NoneType"),
        ([[1, 2], [3, 4]], "got list"),
    ],
)
def test_what_is_no_image(image, message):
    with pytest.raises(ValueError, match=message):
        read_image(image)


def test_one_number_that_is_none(colors):
    image = colors / 255
    image[3, 2, 1] = np.nan
    with pytest.raises(ValueError, match="numbers of an image"):
        read_image(image)


def test_an_unknown_place_of_channels(colors):
    with pytest.raises(ValueError, match="'channels_first' or 'channels_last'"):
        read_image(colors, "first")


def test_files_that_cannot_be_read(tmp_path, colors):
    with pytest.raises(ValueError, match=r"missing.png cannot be read as an image"):
        read_image(tmp_path / "missing.png")
    (tmp_path / "text.png").write_text("text")
    with pytest.raises(ValueError, match=r"text.png cannot be read as an image"):
        read_image(tmp_path / "text.png")
    Image.fromarray(colors.repeat(50, 0)).save(tmp_path / "cut.png")
    content = (tmp_path / "cut.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"cut.png cannot be read as an image"):
        read_image(tmp_path / "cut.png")


def test_more_channels_where_they_are_wanted(colors):
    reading, four = ImageReading(channels=4), np.dstack([colors, colors[..., :1]])
    for form in (four, four.transpose(2, 0, 1), torch.from_numpy(four), Image.fromarray(four), four / 255):
        assert_image(read_image(form, reading=reading), four)
    for form in (colors[..., 0], Image.fromarray(colors[..., 0])):
        assert_image(read_image(form, reading=reading), colors[..., :1].repeat(4, 2))
    for form in (colors, Image.fromarray(colors)):
        with pytest.raises(ValueError, match="has 3 channels, but is to have 1 or 4"):
            read_image(form, reading=reading)


def test_floats_that_are_kept(colors):
    reading = ImageReading(keeps_floats=True)
    normalised = (colors / 255 - 0.45) / 0.225
    for form in (normalised, torch.from_numpy(normalised).permute(2, 0, 1), normalised.astype(np.float32)):
        kept = read_image(form, reading=reading)
        assert kept.dtype == np.float32
        assert np.array_equal(kept, normalised.astype(np.float32))
    assert_image(read_image(colors, reading=reading), colors)
    plane = normalised[..., 0].astype(np.float32)
    assert np.array_equal(read_image(Image.fromarray(plane), reading=reading), plane[..., None].repeat(3, 2))
    with pytest.raises(ValueError, match="must be finite"):
        read_image(np.full((5, 7, 3), np.nan), reading=reading)


def test_stored_images_stay_as_they_are(colors, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(colors).save(tmp_path / "image.png", exif=exif)
    assert_image(read_image(tmp_path / "image.png", reading=ImageReading(exif="stored")), colors)
    with pytest.raises(ValueError, match="exif must be 'upright' or 'stored', got 'turned'"):
        ImageReading(exif="turned")


class TestRange:
    """Scans of 16 bits that use few of them."""

    def scan(self):
        return np.random.default_rng(0).integers(47, 1028, (5, 7), dtype=np.uint16)

    def forms(self, folder):
        Image.fromarray(self.scan()).save(folder / "scan.png")
        Image.fromarray(self.scan()).save(folder / "scan.tif")
        return [self.scan(), Image.fromarray(self.scan()), folder / "scan.png", str(folder / "scan.tif")]

    def test_two_numbers_are_black_and_white(self, tmp_path):
        expected = np.rint((np.clip(self.scan(), 100, 900) - 100.0) / 800 * 255)
        for form in self.forms(tmp_path):
            assert_image(read_image(form, reading=ImageReading(range=(100, 900))), np.dstack([expected] * 3))

    def test_percentiles_are_those_of_numpy(self, tmp_path):
        low, high = np.percentile(self.scan(), [0.5, 99.5])
        expected = np.rint((np.clip(self.scan(), low, high) - low) / (high - low) * 255)
        for form in self.forms(tmp_path):
            assert_image(read_image(form, reading=ImageReading(range="percentile")), np.dstack([expected] * 3))

    def test_numbers_below_0_and_floats_have_a_place(self):
        hounsfield = np.array([[-1000, -200, 0], [50, 300, 3000]], dtype=np.int16)
        levels = [[0, 0, 102], [128, 255, 255]]
        for form in (hounsfield, hounsfield.astype(np.float64), Image.fromarray(hounsfield.astype(np.int32))):
            assert read_image(form, reading=ImageReading(range=(-200, 300)))[..., 0].tolist() == levels

    @pytest.mark.parametrize("value_range", [(100, 900), "percentile"])
    def test_eight_bits_are_as_they_are_to_be(self, colors, value_range, tmp_path):
        Image.fromarray(colors).save(tmp_path / "image.png")
        for form in (colors, Image.fromarray(colors), tmp_path / "image.png", torch.from_numpy(colors)):
            assert_image(read_image(form, reading=ImageReading(range=value_range)), colors)

    def test_few_levels_are_told_once(self, tmp_path, caplog):
        image_reading._warned.cache_clear()
        for form in self.forms(tmp_path)[2:]:
            assert len(np.unique(read_image(form))) == 5
        assert [record.message for record in caplog.records] == [
            f"{tmp_path}/scan.png: it has 16 bits, of which it uses {self.scan().min()} to {self.scan().max()}: 5 of "
            "256 levels are left. Say what is black and white, range=[low, high] or 'percentile' (data.range in "
            "recipes). This is said of the first such image alone."
        ]

    @pytest.mark.parametrize(
        "image", [np.array([[0, 3277]], np.uint16), np.full((5, 7), 9, np.uint16), np.array([[0, 9]], np.uint8)]
    )
    def test_enough_levels_are_not_told(self, image, caplog):
        image_reading._warned.cache_clear()
        read_image(image)
        read_image(image * 2, reading=ImageReading(range="percentile"))
        assert caplog.records == []

    def test_colours_of_16_bits_of_which_pillow_reads_8(self, tmp_path, caplog):
        image_reading._warned.cache_clear()
        colors = np.random.default_rng(0).integers(47, 1028, (5, 7, 3))
        write_colors_of_16_bits(tmp_path / "scan.png", colors)
        assert_image(read_image(tmp_path / "scan.png"), colors // 256)
        assert "scan.png: it has 16 bits, of which it uses 0 to 1028: 5 of 256 levels" in caplog.text
        with pytest.raises(ValueError, match=r"scan.png .* needs all 16 bits, but Pillow reads 8"):
            read_image(tmp_path / "scan.png", reading=ImageReading(range=(0, 1000)))


def write_colors_of_16_bits(file, colors):
    """Write a PNG file, which Pillow cannot."""

    def chunk(name, content):
        checksum = zlib.crc32(name + content)
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)

    height, width, _ = colors.shape
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in colors)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + parts)


def test_lists(colors):
    assert as_list(colors, ndim=3)[0] is colors
    assert as_list([colors], ndim=3)[0] is colors
    assert as_list((colors, colors), ndim=3)[1] is colors
    assert [image.shape for image in as_list(np.zeros((2, 5, 7, 3)), ndim=3)] == [(5, 7, 3)] * 2
    assert [image.shape for image in as_list(torch.zeros(2, 5, 7), ndim=2)] == [(5, 7)] * 2
    assert as_list(None, ndim=3) == [None]


def test_numpy(colors):
    assert to_numpy(torch.zeros(2, 3, dtype=torch.bfloat16)).dtype == np.float32
    assert to_numpy(Image.fromarray(colors).quantize(5)).shape == (5, 7)


def test_a_file_is_named_whatever_is_wrong_with_it(tmp_path):
    file = tmp_path / "image.tif"
    Image.fromarray(np.full((5, 7), 1000, np.float32)).save(file)
    with pytest.raises(ValueError, match=rf"{file} cannot be read as an image: The numbers of an image must be"):
        read_image(file)
    for content in (b"", b"no image", file.read_bytes()[:60]):
        file.write_bytes(content)
        with pytest.raises(ValueError, match=rf"{file} cannot be read as an image"):
            read_image(str(file))


@pytest.mark.parametrize("error", [Image.DecompressionBombError("too large"), IndexError("where"), SyntaxError("what")])
def test_whatever_pillow_raises_names_the_file(tmp_path, monkeypatch, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(Image, "open", fail)
    with pytest.raises(ValueError, match=rf"{tmp_path}/a\.png cannot be read as an image"):
        read_image(tmp_path / "a.png")
