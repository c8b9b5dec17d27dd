# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import torch
from PIL import Image
from transformers.image_utils import infer_channel_dimension_format

from unisegment.data.image_reading import as_list, has_unit_range, read_image, to_numpy


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
        lambda colors: np.dstack([colors, colors[..., 0]]),
        lambda colors: np.dstack([colors, colors[..., 0]]).transpose(2, 0, 1),
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
        lambda grey: Image.fromarray(grey.astype(np.float32)),
        lambda grey: Image.fromarray((grey / 255).astype(np.float32)),
        lambda grey: Image.fromarray(grey).convert("LA"),
    ],
)
def test_forms_of_grey(colors, form):
    grey = colors[..., 0]
    assert_image(read_image(form(grey)), grey[..., None].repeat(3, axis=2))


def test_sixteen_bits_are_rounded():
    values = np.array([[0, 128, 129, 386, 65407, 65535]], dtype=np.uint16)
    assert read_image(values)[0, :, 0].tolist() == [0, 0, 1, 2, 255, 255]
    assert read_image(values)[0, :, 0].tolist() == np.rint(values / 257)[0].tolist()


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
        (np.zeros((5, 7, 2), np.uint8), r"have 1, 3 or 4 channels .* got shape \(5, 7, 2\)"),
        (np.zeros((5, 7, 5), np.uint8), "have 1, 3 or 4 channels"),
        (np.zeros((2, 3, 5, 7), np.uint8), "have 1, 3 or 4 channels"),
        (np.zeros(5, np.uint8), "have 1, 3 or 4 channels"),
        (np.zeros((0, 7, 3), np.uint8), r"empty: its shape is \(0, 7, 3\)"),
        (np.zeros((5, 0), np.uint8), "empty"),
        (torch.zeros(3, 0, 7), "empty"),
        (Image.new("RGB", (0, 5)), "empty"),
        (np.full((5, 7, 3), np.nan), "numbers of an image must be .* got float64 from nan"),
        (np.full((5, 7, 3), np.inf), "numbers of an image must be"),
        (np.full((5, 7, 3), -0.5), "numbers of an image must be .* got float64 from -0.5 to -0.5"),
        (np.full((5, 7, 3), 256.0), "numbers of an image must be"),
        (np.full((5, 7, 3), 256), "numbers of an image must be .* got int64 from 256"),
        (np.full((5, 7, 3), -1), "numbers of an image must be"),
        (np.zeros((5, 7, 3), bool), "numbers of an image must be .* got bool"),
        (Image.fromarray(np.full((5, 7), 65536, np.int32)), "mode 'I' must hold 0 to 65535"),
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


def test_unit_range(colors):
    assert has_unit_range(colors / 255)
    assert has_unit_range(torch.from_numpy(colors) / 255)
    assert has_unit_range(Image.fromarray((colors[..., 0] / 255).astype(np.float32)))
    assert not has_unit_range(colors)
    assert not has_unit_range(colors.astype(np.float32))
    assert not has_unit_range(np.zeros((5, 7), np.uint8))
    assert not has_unit_range(Image.fromarray(colors))
    assert not has_unit_range("image.png")


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
