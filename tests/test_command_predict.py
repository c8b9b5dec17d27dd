# SPDX-License-Identifier: Apache-2.0
import io
import itertools
import json
import re
from pathlib import Path

import pytest
import torch
import typer

from unisegment.command_predict import Inputs, print_image
from unisegment.data.export.format import ExportedImage
from unisegment.structures import InstancePrediction, PanopticPrediction


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    for name in ("a.jpg", "b.jpg", "photos/c.jpg"):
        (tmp_path / name).touch()
    return tmp_path


def test_the_last_of_several_names_is_the_folder_for_the_results():
    for words, names, output in (
        (["a.jpg"], ["a.jpg"], None),
        (["a.jpg", "out"], ["a.jpg"], Path("out")),
        (["a.jpg", "photos", "*.jpg", "out"], ["a.jpg", "photos", "*.jpg"], Path("out")),
        (["a.jpg", "photos"], ["a.jpg"], Path("photos")),
    ):
        read = Inputs.of_words(words, is_data_set=False)
        assert (read.names, read.output, read.of_data_set) == (names, output, False)
    for last in ("b.jpg", "missing.JPG", "missing.mp4", "https://host/b", "*.png", "-"):
        with pytest.raises(typer.BadParameter, match=f"but {re.escape(last)} is not a folder: add one"):
            Inputs.of_words(["a.jpg", last], is_data_set=False)
    Path("shots.jpg").mkdir()
    assert Inputs.of_words(["a.jpg", "shots.jpg"], is_data_set=False).output == Path("shots.jpg")


def test_paths_are_read_from_standard_input(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("b.jpg\r\n\n a name.jpg\n"))
    with pytest.raises(FileNotFoundError, match=r" a name\.jpg does not exist"):
        Inputs.of_words(["a.jpg", "-", "out"], is_data_set=False)
    monkeypatch.setattr("sys.stdin", io.StringIO("b.jpg\nphotos/c.jpg\n"))
    assert Inputs.of_words(["a.jpg", "-", "out"], is_data_set=False).names == ["a.jpg", "b.jpg", "photos/c.jpg"]
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    with pytest.raises(typer.BadParameter, match="names no image"):
        Inputs.of_words(["-"], is_data_set=False)


def test_recipes_and_data_sets_are_told_from_images():
    assert Inputs.of_words(["quickstart"], is_data_set=False).of_recipe
    assert Inputs.of_words(["hf://datasets/user/cows"], is_data_set=False).of_data_set
    assert Inputs.of_words(["photos"], is_data_set=True).of_data_set
    assert not Inputs.of_words(["https://example.org/a.jpg"], is_data_set=False).of_data_set
    with pytest.raises(typer.BadParameter, match="One data set is segmented at a time"):
        Inputs.of_words(["photos", "a.jpg", "out"], is_data_set=True)


def test_one_image_is_told_from_several():
    for words, expected in ((["a.jpg"], True), (["a.jpg", "out"], True), (["photos"], False), (["*.jpg"], False)):
        assert Inputs.of_words(words, is_data_set=False).is_one_image is expected


def test_places_are_whole_paths(folder):
    read = Inputs.of_words(["a.jpg", "https://example.org/b.jpg", "out"], is_data_set=False)
    assert read.places == f"{folder / 'a.jpg'} https://example.org/b.jpg"


def test_without_a_folder_the_first_free_one_of_predictions_is_tried():
    folders = itertools.islice(Inputs.of_words(["a.jpg"], is_data_set=False).outputs(), 3)
    assert [*map(str, folders)] == ["predictions", "predictions-2", "predictions-3"]
    assert [*Inputs.of_words(["a.jpg", "out"], is_data_set=False).outputs()] == [Path("out")]


def test_what_was_found_is_printed(capsys):
    segmentation = torch.zeros(3, 5, dtype=torch.int32)
    segmentation[1:, 2:] = 1
    infos = [{"id": 1, "label_id": 4, "label": "cow", "score": 0.9, "was_fused": False}]
    found = {"panoptic": PanopticPrediction(segmentation, infos)}
    image = ExportedImage(1, "a.jpg", (3, 5))
    print_image(image, found, as_json=False, as_table=False)
    assert capsys.readouterr().out == "a.jpg, 5x3: 1 cow\n"
    print_image(image, found, as_json=False, as_table=True)
    assert capsys.readouterr().out.splitlines()[0] == "a.jpg, 5x3:"
    print_image(image, found, as_json=True, as_table=False)
    (segment,) = (printed := json.loads(capsys.readouterr().out)).pop("segments")
    assert printed == {"image": "a.jpg", "height": 3, "width": 5, "task": "panoptic"}
    assert (segment["label"], segment["area"], segment["box"]) == ("cow", 6, [2, 1, 5, 3])
    print_image(image._replace(file_name="a\udcff.jpg"), {"panoptic": PanopticPrediction(segmentation)}, False, False)
    assert capsys.readouterr().out == "a\\udcff.jpg, 5x3: nothing found\n"
    print_image(image._replace(file_name="a\nb.jpg"), {"panoptic": PanopticPrediction(segmentation)}, False, False)
    assert capsys.readouterr().out == "a\\nb.jpg, 5x3: nothing found\n"


def test_objects_of_low_scores_are_printed_only_where_they_were_asked_for(capsys):
    masks = torch.ones(2, 3, 5, dtype=torch.bool)
    infos = [{"id": n, "label_id": 4, "label": "cow", "score": score} for n, score in ((1, 0.9), (2, 0.1))]
    found = {"instance": InstancePrediction(masks[0].int(), infos, masks)}
    image = ExportedImage(1, "a.jpg", (3, 5))
    print_image(image, found, as_json=False, as_table=False)
    print_image(image, found, as_json=False, as_table=False, threshold=0.0)
    assert capsys.readouterr().out == "a.jpg, 5x3: 1 cow\na.jpg, 5x3: 2 cow\n"
    print_image(image, found, as_json=True, as_table=False)
    assert len(json.loads(capsys.readouterr().out)["segments"]) == 2
