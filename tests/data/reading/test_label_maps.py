# SPDX-License-Identifier: Apache-2.0
"""PNG files of labels or objects become targets; what is missing or does not fit is said with the name of the file."""

import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from tests.data.map_files import segments, write_image, write_map
from unisegment.data.problems import CollectedProblems, DataError, Problems
from unisegment.data.reading.label_maps import LabelMaps, MapCoding, Pairs, pair_files
from unisegment.structures import Category

CAR, SKY = Category(4, "car", True, (1, 2, 3)), Category(9, "sky", False, (4, 5, 6))
FILES = [("a.jpg", "a.png", "a")]


def _open(root, rows, dtype=np.uint8, **settings):
    write_image(root / "a.jpg", (2, 3))
    write_map(root / "a.png", rows, dtype)
    return LabelMaps(Pairs(root, root, FILES), [CAR, SKY], **settings)


def test_a_semantic_map_has_one_segment_for_each_label(tmp_path):
    dataset = pickle.loads(pickle.dumps(_open(tmp_path, [[9, 4, 9], [9, 0, 4]], void={0})))
    (sample,) = dataset
    assert (sample.image_id, sample.file_name) == ("a", str(tmp_path / "a.jpg"))
    assert type(sample.image_id) is str
    assert sample.image.shape == (2, 3, 3)
    assert segments(sample.target) == [
        (0, False, [[0, 1, 0], [0, 0, 1]]),
        (1, False, [[1, 0, 1], [1, 0, 0]]),
    ]
    assert sample.target.id_map.dtype == torch.int32
    assert (dataset.id2label, dataset.stuff_label_ids) == ({0: "car", 1: "sky"}, [1])


def test_an_instance_map_has_objects_crowds_and_stuff(tmp_path):
    rows = [[4001, 4, 9], [4065, 9001, 0]]
    dataset = _open(tmp_path, rows, np.uint16, void={0}, label_divisor=1000)
    (sample,) = dataset
    (tmp_path / "a.jpg").unlink()
    assert dataset.labels_in(0) == {0, 1}
    assert _open(tmp_path, [[4, 4, 0]] * 2, np.uint16, void={0}, label_divisor=1000).labels_in(0) == set()
    assert segments(sample.target) == [
        (0, True, [[0, 1, 0], [0, 0, 0]]),
        (1, False, [[0, 0, 1], [0, 0, 0]]),
        (0, False, [[1, 0, 0], [0, 0, 0]]),
        (0, False, [[0, 0, 0], [1, 0, 0]]),
        (1, False, [[0, 0, 0], [0, 1, 0]]),
    ]


def test_ids_of_24_bits_are_colours(tmp_path):
    number = 4_999_999
    color = [number % 256, number // 256 % 256, number // 65536]
    (sample,) = _open(tmp_path, [[color] * 3, [[9, 0, 0]] * 3], label_divisor=1_000_000)
    assert sample.target.segment_ids.tolist() == [9, number]
    assert sample.target.labels.tolist() == [1, 0]


def test_places_in_a_palette_count(tmp_path):
    write_image(tmp_path / "a.jpg", (2, 3))
    image = Image.fromarray(np.array([[4, 9, 9], [4, 4, 9]], dtype=np.uint8))
    image.putpalette([200, 100, 50] * 256)
    image.save(tmp_path / "a.png")
    (sample,) = LabelMaps(Pairs(tmp_path, tmp_path, FILES), [CAR, SKY])
    assert sample.target.id_map.tolist() == [[4, 9, 9], [4, 4, 9]]


def test_a_map_of_nothing_but_void_has_no_segments(tmp_path):
    (sample,) = _open(tmp_path, [[255] * 3] * 2, void={255})
    assert len(sample.target) == 0
    assert sample.target.size == (2, 3)


def test_a_listed_id_is_never_void(tmp_path):
    (sample,) = _open(tmp_path, [[4] * 3] * 2, void={4})
    assert sample.target.labels.tolist() == [0]


def test_ids_far_apart_are_listed_in_a_line():
    """All numbers between the smallest and the largest were made a list of: of 2**62 there is no end."""
    categories = [Category(number, "x", True, (1, 2, 3)) for number in (3, 2**62)]
    with pytest.raises(ValueError, match=r"ids of categories \(3, 4611686018427387904\)"):
        MapCoding(categories).target(np.ones((2, 3), dtype=np.int32), "a.png")


@pytest.mark.parametrize(
    ("number", "settings", "message"),
    [
        (5, {"void": {0, 255}}, r"numbers \[5\], which belong .*categories \(4, 9\), or void \(0, 255\)"),
        (5, {}, r"numbers \[0, 5\], .*or void \(none\)"),
        (4, {"void": {1, 2, 3}}, r"numbers \[0\], .*or void \(1 to 3\)"),
        (5001, {"void": {0}, "label_divisor": 1000}, r"numbers \[5001\], .*\(4, 9\), or 1000 times such an id plus"),
    ],
)
def test_unknown_numbers_are_named(tmp_path, number, settings, message):
    dataset = _open(tmp_path, [[0, 4, 9], [number, 4, 4]], np.uint16, **settings)
    with pytest.raises(ValueError, match=rf"{tmp_path}/a\.png: it has pixels with the {message}"):
        dataset[0]


def test_sizes_that_disagree_are_named(tmp_path):
    dataset = _open(tmp_path, [[4, 4], [4, 4], [4, 4]])
    with pytest.raises(ValueError, match=r"a\.png: it is 3x2 .*a\.jpg says 2x3"):
        dataset[0]


@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
def test_missing_and_broken_files_are_named(tmp_path, name):
    dataset = _open(tmp_path, [[4] * 3] * 2)
    file = tmp_path / name
    whole = file.read_bytes()
    for content in (b"", b"not an image", whole[: len(whole) // 2]):
        file.write_bytes(content)
        with pytest.raises(ValueError, match=rf"{file}: it (cannot be read as an image|is empty)"):
            dataset[0]
    file.unlink()
    with pytest.raises(FileNotFoundError, match=rf"{file}: there is no such file"):
        dataset[0]


def test_a_map_of_other_channels_is_refused(tmp_path):
    dataset = _open(tmp_path, [[[4, 4, 4, 255]] * 3] * 2)
    with pytest.raises(ValueError, match=r"a\.png: A segmentation map must be \(height, width\)"):
        dataset[0]


def test_no_files_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"no annotated images"):
        LabelMaps(Pairs(tmp_path, tmp_path, []), [CAR])


def _touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def _paired(root, maps="m", endings=(".jpg", ".png"), problems=None):
    return pair_files(root / "i", root / maps, endings, problems=problems or Problems())


def test_files_are_paired_by_folder_and_name(tmp_path):
    _touch(tmp_path, "i/z/b.JPG", "i/a.png", "i/notes.txt", "m/z/b.png", "m/a.png", "m/more.png")
    (tmp_path / "i" / "folder.jpg").mkdir()
    files = [("a.png", "a.png", "a"), ("z/b.JPG", "z/b.png", "b")]
    assert _paired(tmp_path) == Pairs(tmp_path / "i", tmp_path / "m", files)


def test_missing_maps_are_named(tmp_path):
    _touch(tmp_path, "i/a.jpg", "i/b.jpg", "m/a.png")
    with pytest.raises(FileNotFoundError, match=r"m/b\.png: there is no such file for the image \S+i/b\.jpg: add it"):
        _paired(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"none/a\.png: there is no such file"):
        _paired(tmp_path, "none")


def test_folders_without_images_and_doubtful_names_are_refused(tmp_path):
    _touch(tmp_path, "i/a.jpg", "i/a.png", "m/a.png")
    with pytest.raises(FileNotFoundError, match=r"none does not exist\."):
        pair_files(tmp_path / "none", tmp_path / "m", (".jpg",), problems=Problems())
    with pytest.raises(FileNotFoundError, match=r"i has no images; their names must end in \.bmp, \.tif"):
        _paired(tmp_path, endings=(".bmp", ".tif"))
    with pytest.raises(ValueError, match=r"i/a\.jpg: a\.png has the same name, and whose the PNG file is"):
        _paired(tmp_path)


def test_all_that_does_not_fit_can_be_listed_and_left_out(tmp_path):
    _touch(
        tmp_path,
        "i/a.jpg",
        "i/a.png",
        "i/z/b.jpg",
        "i/c.jpg",
        "i/d.jpg",
        "m/a.png",
        "m/d.png",
        "m/more.png",
        "m/notes.txt",
    )
    (tmp_path / "i" / "folder.JPG").mkdir()
    problems = CollectedProblems()
    assert _paired(tmp_path, problems=problems).files == [("d.jpg", "d.png", "d")]
    found = {kind["kind"]: [item["file"] for item in kind["listed"]] for kind in problems.as_dicts()}
    assert found == {
        "missing-label-map": [f"{tmp_path}/m/c.png", f"{tmp_path}/m/z/b.png"],
        "same-name-images": [f"{tmp_path}/i/a.jpg"],
        "folder-named-as-image": [f"{tmp_path}/i/folder.JPG"],
        "unlisted-label-map": [f"{tmp_path}/m/more.png"],
    }


def test_a_map_that_went_through_jpeg_is_refused(tmp_path):
    dataset = _open(tmp_path, [[4, 4, 4], [4, 4, 4]])
    write_image(tmp_path / "b.jpg", (2, 3), value=4)
    (tmp_path / "b.jpg").replace(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"a\.png: it is a JPEG file, which does not keep numbers"):
        dataset[0]


@pytest.mark.parametrize(
    ("numbers", "hint"),
    [
        (np.asarray(Image.fromarray(np.array([[0, 80, 20], [120, 0, 180]], np.uint8)).resize((97, 61), 2)),
         "resize labels to the nearest"),
        (np.full((5, 7), 128 * 65793), "turn colours into ids"),
        (np.full((5, 7), 3), "change the pixels."),
    ],
)  # fmt: skip
def test_where_wrong_numbers_may_come_from(numbers, hint):
    coding = MapCoding([Category(1, "cow", True, (0, 0, 0))])
    with pytest.raises(DataError) as error:
        coding.target(numbers.astype(np.int32), "a.png")
    assert error.value.problem[:2] == ("unknown-id", "a.png")
    assert hint in error.value.problem.detail
    assert ("change the pixels." in hint) == error.value.problem.detail.endswith("change the pixels.")
