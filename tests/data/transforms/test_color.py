# SPDX-License-Identifier: Apache-2.0
"""Colours against a naive version, pixel by pixel, against Python's `colorsys`, and against values that OpenCV gave."""

import colorsys

import numpy as np
import pytest

from unisegment.data.transforms.color import hsv_to_rgb, rgb_to_hsv, ssd_color


def _image(height=11, width=17):
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    image[0, :, :] = np.arange(width)[:, None] * 15  # greys
    image[1, ::2] = 255
    image[1, 1::3, 0] = 0
    return image


def test_bytes_are_those_of_opencv():
    # cv2.cvtColor(image, cv2.COLOR_RGB2HSV) and cv2.COLOR_HSV2RGB of opencv-python-headless 4.11 and 5.0.
    rgb = [[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255], [200, 30, 40], [30, 200, 40]]
    rgb += [[30, 40, 200], [36, 3, 0], [255, 254, 253], [17, 99, 58], [250, 1, 249]]
    hsv = [[0, 0, 0], [0, 0, 255], [0, 255, 255], [60, 255, 255], [120, 255, 255], [178, 217, 200], [62, 217, 200]]
    hsv += [[118, 217, 200], [2, 255, 36], [15, 2, 255], [75, 211, 99], [150, 254, 250]]
    np.testing.assert_array_equal(rgb_to_hsv(np.array([rgb], np.uint8))[0], hsv)
    hsv = [[0, 0, 77], [179, 255, 255], [30, 128, 201], [61, 90, 14], [100, 255, 83], [133, 7, 250], [160, 200, 100]]
    rgb = [[77, 77, 77], [255, 0, 8], [201, 201, 100], [9, 14, 9], [0, 55, 83], [246, 243, 250], [100, 21, 73]]
    np.testing.assert_array_equal(hsv_to_rgb(np.array([hsv], np.uint8))[0], rgb)


def test_hue_saturation_and_value_are_those_of_colorsys():
    image = _image()
    exact = np.array([[colorsys.rgb_to_hsv(*(pixel / 255)) for pixel in row] for row in image]) * [180, 255, 255]
    distance = np.abs(rgb_to_hsv(image) - exact)
    distance[..., 0] = np.minimum(distance[..., 0], 180 - distance[..., 0])  # hues lie on a circle
    # Half a step is lost by rounding, and a little more by the fixed point.
    assert distance.max(axis=(0, 1)) == pytest.approx([0.5, 0.5, 0], abs=0.1)
    assert rgb_to_hsv(image)[..., 0].max() < 180


def test_red_green_and_blue_are_those_of_colorsys():
    hsv = np.random.default_rng(0).integers(0, 256, (180, 29, 3), dtype=np.uint8)
    hsv[..., 0] = np.arange(180)[:, None]  # every hue
    hsv[:, 0, 1], hsv[:, 1, 1] = 0, 255
    exact = np.array([[colorsys.hsv_to_rgb(*(pixel / [180, 255, 255])) for pixel in row] for row in hsv]) * 255
    # Errors of float32 carry values below a whole number, which is then rounded down.
    missing = np.floor(exact + 1e-6) - hsv_to_rgb(hsv)
    assert set(np.unique(missing)) <= {0, 1}
    assert missing.mean() < 0.02


def _naive_hsv(red, green, blue):
    value, spread = max(red, green, blue), max(red, green, blue) - min(red, green, blue)
    if spread == 0:
        return 0, 0, value
    if value == red:
        sixths = green - blue
    elif value == green:
        sixths = 2 * spread + blue - red
    else:
        sixths = 4 * spread + red - green
    hue = (sixths * round(180 * 4096 / 6 / spread) + 2048) // 4096
    return hue % 180, (spread * round(255 * 4096 / value) + 2048) // 4096, value


def _naive_rgb(hue, saturation, value):
    sector = hue // 30
    place = np.float32(hue) * np.float32(6 / 180) - sector
    saturation, value = np.float32(saturation) * np.float32(1 / 255), np.float32(value) * np.float32(1 / 255)
    shares = np.array([0, 1, place, 1 - place], np.float32)
    value, low, falling, rising = (int(level) for level in value * (1 - saturation * shares) * 255)
    return [
        (value, rising, low),
        (falling, value, low),
        (low, value, rising),
        (low, falling, value),
        (rising, low, value),
        (value, low, falling),
    ][sector]


def _naive_linear(value, factor, summand):
    return int(min(max(float(np.float32(np.float32(value) * np.float32(factor)) + np.float32(summand)), 0), 255))


def _each(image, function):
    return np.array([[function(*(int(value) for value in pixel)) for pixel in row] for row in image], np.uint8)


def _naive_step(step, image, generator):
    if not generator.integers(2):
        return image
    if step in ("brightness", "contrast"):
        factor = generator.uniform(0.5, 1.5) if step == "contrast" else 1
        summand = generator.uniform(-32, 32) if step == "brightness" else 0
        return _each(image, lambda *rgb: [_naive_linear(value, factor, summand) for value in rgb])
    image = _each(image, _naive_hsv)
    if step == "saturation":
        factor = generator.uniform(0.5, 1.5)
        image = _each(image, lambda hue, saturation, value: (hue, _naive_linear(saturation, factor, 0), value))
    else:
        turn = generator.integers(-18, 19)
        image = _each(image, lambda hue, saturation, value: ((hue + turn) % 180, saturation, value))
    return _each(image, _naive_rgb)


def _naive_ssd(image, generator):
    image = _naive_step("brightness", image, generator)
    steps = ["contrast", "saturation", "hue"] if generator.integers(2) else ["saturation", "hue", "contrast"]
    for step in steps:
        image = _naive_step(step, image, generator)
    return image


@pytest.mark.parametrize("seed", range(24))
def test_steps_ranges_and_order_are_those_of_the_original(seed):
    image = _image()
    before = image.copy()
    ours, naive = np.random.default_rng(seed), np.random.default_rng(seed)
    changed = ssd_color(image, ours)
    assert np.abs(changed.astype(int) - _naive_ssd(image, naive)).max() <= 1
    assert ours.bit_generator.state == naive.bit_generator.state
    np.testing.assert_array_equal(image, before)


def test_a_single_pixel_and_a_view_are_images_too():
    image = _image()
    part = image[5:10, 14:3:-2]
    one_pixel = image[7:8, 4:5]
    for view in (part, one_pixel):
        changed = ssd_color(view, np.random.default_rng(4))
        np.testing.assert_array_equal(changed, ssd_color(view.copy(), np.random.default_rng(4)))
        assert changed.shape == view.shape
        assert changed.dtype == np.uint8
