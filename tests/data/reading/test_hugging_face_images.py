# SPDX-License-Identifier: Apache-2.0
"""Rows in every coding become the targets worked out by hand, and are the same wherever they lie."""

import io
import json

import datasets
import numpy as np
import pytest
import torch
from datasets import Array2D, Array3D, ClassLabel, Dataset, Features, Image, List, Sequence, Value, concatenate_datasets
from PIL import Image as PillowImage
from torch.utils.data import ConcatDataset, DataLoader

from tests.data.map_files import segments
from tests.data.rows import SIZES, file_of, same, save, semantic_rows
from tests.warm_processes import context
from unisegment.data.annotated_images import AnnotatedImages
from unisegment.data.formats import open_data_set
from unisegment.data.reading.hugging_face_images import HuggingFaceImages
from unisegment.data.reading.image_reading import ImageReading
from unisegment.structures import Category


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


CATEGORIES = [Category(0, "tree", False, (0, 0, 0)), Category(3, "cow", True, (0, 0, 0))]


def row_of(role, feature, annotation, *, categories=CATEGORIES, **more):
    """Return the only row of a data set, whose image has two rows of three pixels."""
    columns = {"image": (Image(), {"bytes": file_of([[[1, 2, 3]] * 3] * 2), "path": None}), role: (feature, annotation)}
    columns |= more
    rows = Dataset.from_dict(
        {name: [value] for name, (_, value) in columns.items()},
        features=Features({name: kind for name, (kind, _) in columns.items()}),
    )
    roles = {name: name for name in columns if name != "unused"}
    (sample,) = HuggingFaceImages(rows, roles, categories, "cows[train]")
    return sample


TWO_SEGMENTS = [(0, False, [[1, 0, 0], [0, 0, 0]]), (1, False, [[0, 1, 1], [0, 0, 0]])]


@pytest.mark.parametrize(
    ("feature", "annotation"),
    [
        (Image(), file_of([[0, 3, 3], [255, 255, 255]])),
        (Image(), file_of([[0, 3, 3], [65535, 255, 255]], np.uint16)),
        (Image(), file_of([[0, 3, 3], [65535, 255, 255]], np.int32, "TIFF")),
        (Image(), file_of([[0, 3, 3], [65535, 255, 255]], np.float32, "TIFF")),
        (Image(), file_of([[[0, 0, 0], [3, 0, 0], [3, 0, 0]], [[255, 0, 0]] * 3])),
        (Array2D((2, 3), "uint16"), [[0, 3, 3], [65535, 255, 255]]),
        (Array3D((1, 2, 3), "uint8"), [[[0, 3, 3], [255, 255, 255]]]),
        (List(List(ClassLabel(num_classes=4))), [[0, 3, 3], [3, 3, 3]]),
    ],
)
def test_semantic_maps(feature, annotation):
    if isinstance(annotation, bytes):
        annotation = {"bytes": annotation, "path": None}
    sample = row_of("semantic", feature, annotation)
    below = [0, 0, 0] if not isinstance(feature, List) else [1, 1, 1]
    assert segments(sample.target) == [TWO_SEGMENTS[0], (1, False, [[0, 1, 1], below])]
    assert sample.image.tolist() == [[[1, 2, 3]] * 3] * 2


def test_instance_maps():
    annotation = {"bytes": file_of([[3001, 3999, 0], [3, 3, 255]], np.uint16), "path": None}
    assert segments(row_of("instance", Image(), annotation).target) == [
        (0, False, [[0, 0, 1], [0, 0, 0]]),
        (1, True, [[0, 0, 0], [1, 1, 0]]),
        (1, False, [[1, 0, 0], [0, 0, 0]]),
        (1, False, [[0, 1, 0], [0, 0, 0]]),
    ]
    with pytest.raises(ValueError, match=r"ids \[1000\], .* below 1000"):
        row_of("instance", Image(), annotation, categories=[Category(1000, "cow", True, (0, 0, 0))])


@pytest.mark.parametrize("categories", [CATEGORIES, CATEGORIES[1:]])
def test_maps_of_class_and_instance(categories):
    colors = [[[3, 1, 0], [3, 255, 0], [0, 4, 0]], [[3, 0, 0], [3, 0, 0], [0, 0, 0]]]
    cow = len(categories) - 1
    trees = [(0, False, [[0, 0, 0], [0, 0, 1]]), (0, False, [[0, 0, 1], [0, 0, 0]])]
    cows = [
        (cow, False, [[0, 0, 0], [1, 1, 0]]),
        (cow, False, [[1, 0, 0], [0, 0, 0]]),
        (cow, False, [[0, 1, 0], [0, 0, 0]]),
    ]
    for feature, annotation in (
        (Image(), {"bytes": file_of(colors), "path": None}),
        (Array3D((2, 3, 3), "uint8"), colors),
    ):
        target = row_of("class_and_instance", feature, annotation, categories=categories).target
        assert segments(target) == trees * (len(categories) == 2) + cows


@pytest.mark.parametrize("root", ["saved", "parquet"])
def test_data_sets_of_the_example_of_transformers(tmp_path, root):
    image, colors = (
        {"bytes": file_of(pixels), "path": None} for pixels in ([[[1, 2, 3]] * 3], [[[2, 9, 0]] * 2 + [[0] * 3]])
    )
    ids = {"background": 0, "cow": 2, "pig": 5}
    rows = Dataset.from_dict(
        {"image": [image], "annotation": [colors], "semantic_class_to_id": [ids]},
        features=Features(
            {"image": Image(), "annotation": Image(), "semantic_class_to_id": dict.fromkeys(ids, Value("int64"))}
        ),
    )
    save(tmp_path, concatenate_datasets([rows] * 7))
    for file in tmp_path.glob("*/id2label.json"):
        file.unlink()
    images = HuggingFaceImages.open(str(tmp_path / root), "train", streaming=True)
    assert images.id2label == {0: "cow", 1: "pig"}
    assert segments(images[6].target) == [(0, False, [[1, 1, 0]])]


@pytest.mark.parametrize("listed", [3, 2**24 - 1])
@pytest.mark.parametrize("form", ["colors", "tiff", "list"])
def test_panoptic_maps(form, listed):
    ids = np.array([[listed, 70000, 70000], [0, 256, 256]])
    feature, annotation = Image(), None
    if form == "colors":
        annotation = {"bytes": file_of(np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1)), "path": None}
    elif form == "tiff":
        annotation = {"bytes": file_of(ids, np.int32, "TIFF"), "path": None}
    else:
        feature, annotation = List(List(Value("int32"))), ids.tolist()
    infos = [
        {"id": 256, "category_id": 3, "iscrowd": 1},
        {"id": listed, "category_id": 0, "iscrowd": 0},
        {"id": 12, "category_id": 3, "iscrowd": 0},
        {"id": 70000, "category_id": 3, "iscrowd": None},
    ]
    kind = List({key: Value("int64") for key in infos[0]})
    assert segments(row_of("panoptic", feature, annotation, segments_info=(kind, infos)).target) == [
        (1, True, [[0, 0, 0], [0, 1, 1]]),
        (0, False, [[1, 0, 0], [0, 0, 0]]),
        (1, False, [[0, 1, 1], [0, 0, 0]]),
    ]


RIGHT, LEFT = [[1.0, 0.0, 3.0, 0.0, 3.0, 2.0, 1.0, 2.0]], [[0, 0, 1, 0, 1, 2, 0, 2], [1, 1, 2, 1, 2, 2, 1, 2]]
POLYGONS = List(List(Value("float32")))
RUN_LENGTHS = {"size": List(Value("int32")), "counts": List(Value("int32"))}


@pytest.mark.parametrize(
    ("feature", "objects"),
    [
        (
            List({"category": ClassLabel(num_classes=4), "segmentation": POLYGONS, "iscrowd": Value("int8")}),
            [
                {"category": 3, "segmentation": RIGHT, "iscrowd": 0},
                {"category": 0, "segmentation": LEFT, "iscrowd": 1},
            ],
        ),
        (
            Sequence({"category_id": Value("int64"), "segmentation": POLYGONS, "iscrowd": Value("bool")}),
            {"category_id": [3, 0], "segmentation": [RIGHT, LEFT], "iscrowd": [False, True]},
        ),
        (
            List({"category_id": Value("int64"), "segmentation": RUN_LENGTHS, "iscrowd": Value("bool")}),
            [
                {"category_id": 3, "segmentation": {"size": [2, 3], "counts": [2, 4]}},
                {"category_id": 0, "segmentation": {"size": [2, 3], "counts": [0, 2, 1, 1, 2]}, "iscrowd": True},
            ],
        ),
        (
            Value("string"),
            json.dumps(
                [
                    {"category_id": 3, "segmentation": RIGHT},
                    {"category_id": 0, "segmentation": {"size": [2, 3], "counts": [0, 2, 1, 1, 2]}, "iscrowd": 1},
                ]
            ),
        ),
    ],
)
def test_objects_that_overlap(feature, objects):
    target = row_of("objects", feature, objects).target
    assert target.has_overlaps()
    assert segments(target) == [(1, False, [[0, 1, 1], [0, 1, 1]]), (0, True, [[1, 0, 0], [1, 1, 0]])]


def test_a_row_without_objects():
    feature = List({"category": Value("int64"), "segmentation": POLYGONS})
    target = row_of("objects", feature, []).target
    assert (len(target), target.size) == (0, (2, 3))


def test_pictures_are_turned_upright_and_scaled_by_our_own_rules():
    content = io.BytesIO()
    exif = PillowImage.Exif()
    exif[274] = 6  # a quarter turn to the right
    PillowImage.fromarray(np.array([[1], [2]], dtype=np.uint8).repeat(3, 1)).save(content, "PNG", exif=exif)
    for image, first in ((content.getvalue(), [2, 1]), (file_of([[257, 514]] * 3, np.uint16), [1, 2])):
        rows = Dataset.from_dict(
            {"image": [{"bytes": image, "path": None}], "label": [[[3, 3]] * 3]},
            features=Features({"image": Image(), "label": Array2D((3, 2), "int32")}),
        )
        (sample,) = HuggingFaceImages(rows, {"image": "image", "semantic": "label"}, CATEGORIES, "cows")
        assert sample.image.tolist() == [[[value] * 3 for value in first]] * 3


def test_rows_are_read_as_the_data_set_is_told_to():
    scan = np.array([[47, 1027], [300, 500], [47, 47]], np.uint16)
    content = io.BytesIO()
    exif = PillowImage.Exif()
    exif[274] = 6
    PillowImage.fromarray(scan).save(content, "PNG", exif=exif)
    rows = Dataset.from_dict(
        {"image": [{"bytes": content.getvalue(), "path": None}], "label": [[[3, 0]] * 3]},
        features=Features({"image": Image(), "label": Array2D((3, 2), "int32")}),
    )
    samples = HuggingFaceImages(rows, {"image": "image", "semantic": "label"}, CATEGORIES, "cows")
    samples.reading = ImageReading("stored", (47, 1027))
    assert samples[0].image[..., 0].tolist() == [[0, 255], [66, 118], [0, 0]]
    samples.reading = ImageReading()
    with pytest.raises(ValueError, match=r"cows\[0\]: the image is 2x3 .*set data\.exif=stored"):
        samples[0]


@pytest.mark.parametrize(
    ("role", "feature", "annotation", "message"),
    [
        ("semantic", List(List(Value("int32"))), [[7, 0, 3]] * 2, r"column 'semantic': it has .* numbers \[7\], which"),
        ("semantic", List(List(Value("int32"))), [[0, 3]] * 3, r"image is 2x3 .* annotation is 3x2"),
        ("semantic", List(List(Value("float32"))), [[0.5, 3, 3]] * 2, r"must hold whole numbers"),
        ("semantic", Image(), {"bytes": b"none", "path": None}, r"column 'semantic' cannot be read as an image"),
        ("class_and_instance", List(List(Value("int32"))), [[7, 0, 3]] * 2, r"must have colours, got \(2, 3\)"),
        (
            "objects",
            Value("string"),
            '[{"category_id": 3, "segmentation": [[0, 0, 2, 0, 2, 2]], "iscrowd": "0"}]',
            r"iscrowd must be 0 or 1, or false or true, got '0'",
        ),
        (
            "objects",
            List({"id": Value("int32")}),
            [{"id": 1}],
            r"category is missing",
        ),
        (
            "objects",
            List({"category": Value("int32")}),
            [{"category": 3}],
            "an object cannot be drawn, .*: segmentation is missing",
        ),
        ("objects", List({"category": Value("int32")}), [{"category": 7}], r"category 7 is not listed, only \[0, 3\]"),
        (
            "objects",
            List({"category": Value("int32"), "segmentation": RUN_LENGTHS}),
            [{"category": 3, "segmentation": {"size": [3, 2], "counts": [6]}}],
            r"run lengths are of size \[3, 2\], but the image is \[2, 3\]",
        ),
    ],
)
def test_rows_that_cannot_be_read_are_named(role, feature, annotation, message):
    with pytest.raises(ValueError, match=rf"^cows\[train\]\[0\]: .*{message}"):
        row_of(role, feature, annotation)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([1, 2], r"Not listed: \[3\]; listed more than once: \[\]"),
        ([1, 2, 3, 2], r"Not listed: \[\]; listed more than once: \[2\]"),
        ([1, None], r"id must be a whole number of 64 bits, got None"),
    ],
)
def test_segments_that_do_not_agree_with_their_map_are_refused(ids, message):
    infos = List({"id": Value("int64"), "category_id": Value("int64")}), [{"id": i, "category_id": 3} for i in ids]
    with pytest.raises(ValueError, match=rf"^cows\[train\]\[0\]: .*{message}"):
        row_of("panoptic", List(List(Value("int32"))), [[0, 1, 2], [3, 3, 3]], segments_info=infos)


def test_missing_files_are_named_with_their_row():
    rows = Dataset.from_dict({"image": ["none.png"], "label": [[[1]]]})
    images = HuggingFaceImages(rows, {"image": "image", "semantic": "label"}, CATEGORIES, "cows")
    with pytest.raises(FileNotFoundError, match=r"^cows\[0\]: column 'image' names none\.png"):
        images[0]
    with pytest.raises(IndexError):
        images[1]


def test_names_of_images():
    image = {"bytes": file_of([[[1, 2, 3]] * 3] * 2), "path": None}
    annotation = [[3] * 3] * 2
    for more, wanted in (
        ({}, 0),
        ({"image_id": (Value("string"), "a7")}, "a7"),
        ({"image_id": (Value("int64"), 9)}, 9),
        ({"id": (Value("int64"), None)}, 0),
    ):
        sample = row_of("semantic", List(List(Value("int32"))), annotation, image=(Image(), image), **more)
        assert (sample.image_id, sample.file_name) == (wanted, "cows[train][0]")


def check_semantic(images, count):
    assert isinstance(images, AnnotatedImages)
    assert len(images) == count
    assert images.id2label[8] == "class 9"
    assert images.stuff_label_ids == list(range(9))
    for number, sample in enumerate(images):
        assert sample.image.tolist() == np.full((*SIZES[number], 3), number).tolist()
        assert sample.target.labels.tolist() == ([8] if number == 0 else [number - 1, 8])
        first = sample.target.binary_masks()[0]
        assert first.sum() == (np.prod(SIZES[number]) - 1 if number == 0 else 1)
        assert (sample.image_id, sample.file_name) == (number, f"{number}.png")


@pytest.mark.parametrize(
    ("root", "options"),
    [
        ("saved", {}),
        ("saved", {"columns": {"semantic": "label"}}),
        ("parquet", {}),
        ("parquet", {"streaming": True}),
        ("parquet/data/{split}-*.parquet", {"categories": "saved/id2label.json"}),
    ],
)
def test_every_source_gives_the_same(tmp_path, monkeypatch, root, options):
    save(tmp_path, semantic_rows())
    monkeypatch.chdir(tmp_path)
    check_semantic(HuggingFaceImages.open(root, "train", **options), 7)
    check_semantic(HuggingFaceImages.open(root, "val", **options), 3)
    part = open_data_set(root, "hugging_face", "val", splits={"train": "train[:90%]", "val": "train[90%:]"}, **options)
    assert [sample.file_name for sample in part] == ["6.png"]


def test_folders_of_images(tmp_path):
    for split in ("train", "validation"):
        folder = tmp_path / split
        folder.mkdir()
        lines = []
        for number, (height, width) in enumerate(SIZES[:3]):
            label = np.full((height, width), 9)
            label[0, 0] = number
            (folder / f"{number}.png").write_bytes(file_of(np.full((height, width, 3), number)))
            (folder / f"{number}_label.png").write_bytes(file_of(label))
            lines.append(json.dumps({"file_name": f"{number}.png", "label_file_name": f"{number}_label.png"}))
        (folder / "metadata.jsonl").write_text("\n".join(lines))
    (tmp_path / "id2label.json").write_text(json.dumps({number: f"class {number}" for number in range(1, 10)}))
    images = HuggingFaceImages.open(str(tmp_path), "val")
    assert [sample.file_name for sample in images] == [f"{tmp_path}/validation/{number}.png" for number in range(3)]
    assert [sample.target.labels.tolist() for sample in images] == [[8], [0, 8], [1, 8]]


@pytest.mark.parametrize("start", ["fork", context.get_start_method()])
def test_worker_processes(tmp_path, start):
    save(tmp_path, semantic_rows())
    roots = [str(tmp_path / name) for name in ("saved", "parquet")]
    images = ConcatDataset([HuggingFaceImages.open(root, "train", streaming=True) for root in roots])
    wanted = [images[index] for index in range(len(images))]
    loader = DataLoader(images, batch_size=None, num_workers=2, multiprocessing_context=start)
    assert all(same(ours, theirs) for ours, theirs in zip(loader, wanted, strict=True))


def test_nothing_is_decoded_before_it_is_asked_for(tmp_path, monkeypatch):
    save(tmp_path, semantic_rows())
    monkeypatch.setattr(PillowImage, "open", None)
    for root in ("saved", "parquet"):
        images = HuggingFaceImages.open(str(tmp_path / root), "train")
        with pytest.raises(ValueError, match="cannot be read as an image"):
            images[0]


def test_blocks_are_row_groups(tmp_path):
    save(tmp_path, semantic_rows(), row_group=3)
    images = HuggingFaceImages.open(str(tmp_path / "parquet"), "train", streaming=True)
    assert images.block_bounds.tolist() == [0, 3, 4, 7]
    assert HuggingFaceImages.open(str(tmp_path / "saved"), "train").block_bounds is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "test"}, r"no split 'test', only train, validation"),
        ({"columns": {"semantic": "unsued"}}, r"no column 'unsued', .*Did you mean 'unused'"),
        ({"columns": {"instance": "label", "semantic": "label"}}, r"leave one"),
    ],
)
def test_what_cannot_be_opened(tmp_path, options, message):
    save(tmp_path, semantic_rows())
    with pytest.raises(ValueError, match=rf"saved: .*{message}"):
        HuggingFaceImages.open(str(tmp_path / "saved"), **{"split": "train", **options})


def test_ids_of_16_bits_and_more_reach_the_target():
    categories = [Category(40000, "cow", True, (0, 0, 0)), Category(2**24 - 1, "pig", True, (0, 0, 0))]
    target = row_of(
        "semantic", List(List(Value("int64"))), [[40000] * 3, [2**24 - 1] * 3], categories=categories
    ).target
    assert target.segment_ids.tolist() == [40000, 2**24 - 1]
    assert target.binary_masks().equal(torch.tensor([[[1] * 3, [0] * 3], [[0] * 3, [1] * 3]]).bool())
