# SPDX-License-Identifier: Apache-2.0
"""The library in one class, on a checkpoint trained here and on random ones of transformers' Mask2Former."""

import inspect
import json
import pickle
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import Mask2FormerImageProcessorPil

from tests.models.unisegment.original_files import original_state_dict, stock_model, write_pickle
from tests.training.tiny_run import RECIPE
from unisegment import InstancePrediction, PanopticPrediction, Segmenter, SemanticPrediction
from unisegment.data.formats.synthetic import write_synthetic
from unisegment.runs.part_folder import OtherRunError
from unisegment.structures import NamedImage
from unisegment.training import fit


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A folder with drawn scenes, and one with a run on them."""
    root = tmp_path_factory.mktemp("segmenter")
    write_synthetic(root / "scenes", num_train=8, num_val=3, progress=False)
    (root / "recipe.yaml").write_text(RECIPE.format(root=root / "scenes", output=root / "run"))
    fit(root / "recipe.yaml")
    return root


@pytest.fixture(scope="module")
def segmenter(run):
    return Segmenter.from_pretrained(run / "run")


@pytest.fixture(scope="module")
def scenes(run):
    return sorted((run / "scenes" / "val").glob("*.png"))


def lenient(segmenter, **options):
    """The same, so that a network that was trained for three steps finds something."""
    return lambda images: segmenter(images, threshold=0.0, panoptic_threshold=0.0, **options)


def test_one_image_gives_three_predictions_of_its_own_size_from_one_forward_pass(segmenter, scenes, monkeypatch):
    passes = []
    forward = type(segmenter.predictor).forward
    monkeypatch.setattr(
        type(segmenter.predictor), "forward", lambda self, batch: passes.append(1) or forward(self, batch)
    )
    result = lenient(segmenter)(scenes[0])
    image = np.asarray(Image.open(scenes[0]).convert("RGB"))
    assert np.array_equal(result.image, image)
    for prediction, kind in (
        (result.panoptic, PanopticPrediction),
        (result.instance, InstancePrediction),
        (result.semantic, SemanticPrediction),
    ):
        assert isinstance(prediction, kind)
        assert tuple(prediction.segmentation.shape) == image.shape[:2]
        assert all(info["label"] == segmenter.labels[info["label_id"]] for info in prediction.segments_info)
    assert result.panoptic is result.panoptic
    assert passes == [1]


def test_a_call_passes_five_files_before_it_reads_the_image(segmenter, scenes):
    library, functions = Path(inspect.getfile(Segmenter)).parent, {}

    def note(frame, event, _):
        code = frame.f_code
        file = Path(code.co_filename)
        # Bodies of modules and classes are no functions.
        if event == "call" and code.co_flags & inspect.CO_OPTIMIZED and file.is_relative_to(library):
            if code.co_name == "open_image":
                sys.setprofile(None)
            else:
                functions.setdefault(file.relative_to(library).as_posix(), set()).add(code.co_name)

    sys.setprofile(note)
    try:
        segmenter(str(scenes[0]))
        assert sys.getprofile() is None
    finally:
        sys.setprofile(None)
    assert "segmenter.py" in functions
    assert len(functions) <= 5, f"{len(functions)} files: {functions}"


def test_results_are_those_of_model_and_processor(segmenter, scenes):
    image = Image.open(scenes[0])
    inputs = segmenter.processor(image, return_tensors="pt")
    with torch.inference_mode():
        outputs = segmenter.model(**inputs)
    result = lenient(segmenter)(image)
    sizes = {"target_sizes": [(image.height, image.width)]}
    panoptic = segmenter.processor.post_process_panoptic_segmentation(outputs, threshold=0.0, **sizes)[0]
    semantic = segmenter.processor.post_process_semantic_segmentation(outputs, **sizes)[0]
    assert torch.equal(result.panoptic.segmentation, panoptic.segmentation)
    assert result.panoptic.segments_info == panoptic.segments_info
    assert torch.equal(result.semantic.segmentation, semantic.segmentation)


def test_an_image_alone_in_a_list_and_in_a_batch_gives_the_same(segmenter, scenes):
    # Another canvas between two of one size: never in one batch with them.
    images = [*map(Image.open, scenes[:2]), Image.open(scenes[2]).resize((61, 97)), Image.open(scenes[0]).rotate(180)]
    alone = [lenient(segmenter)(image) for image in images]
    for batch_size in (1, 4):
        together = lenient(segmenter, batch_size=batch_size)(images)
        for one, other in zip(alone, together, strict=True):
            assert torch.equal(one.panoptic.segmentation, other.panoptic.segmentation)
            assert torch.allclose(one.outputs.masks_queries_logits, other.outputs.masks_queries_logits, atol=1e-4)
    storage = together[0].outputs.masks_queries_logits.untyped_storage()
    assert storage.nbytes() == together[0].outputs.masks_queries_logits.nbytes


def test_a_result_keeps_nothing_that_only_the_network_needs(segmenter, scenes):
    for result in (segmenter(scenes[0]), *segmenter(scenes[:2], batch_size=2)):
        kept = [result.item.pixel_values, result.item.pixel_mask]
        assert [tensor.untyped_storage().nbytes() for tensor in kept] == [0, 0]
        assert result.semantic.segmentation.shape == result.image.shape[:2]
        pickled = pickle.dumps(replace(result))  # without the predictions that were made
        copy = pickle.loads(pickled)
        assert torch.equal(copy.semantic.segmentation, result.semantic.segmentation)
        assert (copy.panoptic.segments_info, copy.to_coco()) == (result.panoptic.segments_info, result.to_coco())
        logits = sum(getattr(result.outputs, name).nbytes for name in ("class_queries_logits", "masks_queries_logits"))
        assert len(pickled) < logits + result.image.nbytes + 30_000


def test_augmented_results_are_those_of_the_predictor(run, scenes):
    segmenter = Segmenter.from_pretrained(run / "run", augment=True)
    ((batch, outputs),) = segmenter.predictor.stream([NamedImage(segmenter(scenes[0]).image, 1, "scene")], [0])
    (expected,) = segmenter.predictor.semantic(batch, outputs)
    assert torch.equal(segmenter(scenes[0]).semantic.segmentation, expected.segmentation)


def test_a_list_gives_a_list_and_no_images_none(segmenter, scenes):
    assert [result.name for result in segmenter(scenes[:2])] == [str(scene) for scene in scenes[:2]]
    assert len(segmenter([scenes[0]])) == 1
    for nothing in ([], (), iter([]), np.zeros((0, 9, 9, 3), np.uint8)):
        assert [*segmenter.stream(nothing)] == []
    assert segmenter([]) == segmenter(()) == []


def test_images_without_names_are_numbered_in_a_call_and_in_a_stream(segmenter, scenes):
    images = [np.asarray(Image.open(scene).convert("RGB")) for scene in scenes]
    names = [f"image_{number:06d}.png" for number in range(1, 4)]
    for results in (segmenter(images), segmenter.stream(images), segmenter.stream(iter(images))):
        assert [result.name for result in results] == names


def test_a_stream_asks_for_images_as_it_goes(segmenter, scenes):
    asked = []

    def images():
        for number in range(1000):
            asked.append(number)
            yield scenes[number % 3]

    stream = segmenter.stream(images(), batch_size=2)
    names = [next(stream).name for _ in range(4)]
    assert names == [str(scenes[number % 3]) for number in range(4)]
    assert len(asked) <= 5
    assert [result.name for result in segmenter.stream(scenes[0].parent)] == [str(scene) for scene in scenes]


def test_a_stream_leaves_out_what_cannot_be_read_where_somebody_is_told(segmenter, scenes, tmp_path):
    (tmp_path / "notes.png").write_text("hello")
    images, problems = [scenes[0], tmp_path / "notes.png", scenes[1]], []
    for given in (images, iter(images)):
        results = [*segmenter.stream(given, on_unreadable=problems.extend)]
        assert [result.name for result in results] == [str(scene) for scene in scenes[:2]]
        assert "notes.png cannot be read" in problems.pop()
    with pytest.raises(ValueError, match=r"notes\.png cannot be read"):
        [*segmenter.stream(images)]


def test_predictions_go_to_files_and_go_on_where_they_stopped(segmenter, scenes, tmp_path):
    told = []
    summary = segmenter.predict(
        scenes[0].parent,
        tmp_path / "out",
        on_image=lambda image, predictions: told.append((image.file_name, *predictions)),
    )
    assert summary == {"images": 3, "new": 3, "unreadable_images": []}
    assert told == [(scene.name, "panoptic") for scene in scenes]
    assert (tmp_path / "out" / scenes[0].name).is_file()
    listed = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert [entry["name"] for entry in listed] == [scene.name for scene in scenes]
    assert segmenter.predict(scenes[0].parent, tmp_path / "out")["new"] == 0
    with pytest.raises(OtherRunError, match="task='semantic'"):
        segmenter.predict(scenes[0].parent, tmp_path / "out", task="semantic")
    with pytest.raises(ValueError, match="iterator"):
        segmenter.predict(iter(scenes), tmp_path / "other")
    assert segmenter.predict(scenes, tmp_path / "coco", to="coco_panoptic", limit=2)["images"] == 2
    assert any((tmp_path / "coco").glob("*.json"))


def test_evaluation_finds_out_the_format_and_gives_the_scores_of_training(segmenter, run):
    report = segmenter.evaluate(run / "scenes", split="val")
    trained = json.loads((run / "run" / "metrics.json").read_text())
    for name in ("pq", "sq", "rq", "mask_ap", "miou"):
        assert report[name] == pytest.approx(trained[name], abs=1e-9, nan_ok=True), name
    assert report["images"] == 3
    assert segmenter.evaluate(run / "scenes", limit=1)["images"] == 1


def test_fit_opens_what_it_has_trained(run, scenes, tmp_path):
    settings = {"schedule.max_steps": 1, "data.shortest_edge": 64, "data.longest_edge": 80, "run.threads": 1}
    trained = Segmenter.fit(run / "scenes", start=run / "run", output_dir=tmp_path / "mine", **settings)
    assert trained.labels == Segmenter.from_pretrained(run / "run").labels
    saved = load_file(tmp_path / "mine" / "checkpoint" / "model.safetensors")
    assert all(torch.equal(trained.model.state_dict()[name], weight) for name, weight in saved.items())
    assert trained(scenes[0]).semantic.segmentation.shape == trained(scenes[0]).image.shape[:2]


@pytest.mark.parametrize("backbone", ["resnet", "swin"])
def test_stock_checkpoints_of_transformers_open_as_they_are(backbone, tmp_path, scenes):
    stock = stock_model(backbone)
    stock.save_pretrained(tmp_path)
    Mask2FormerImageProcessorPil(size={"shortest_edge": 64, "longest_edge": 96}).save_pretrained(tmp_path)
    segmenter = Segmenter.from_pretrained(tmp_path, device="cpu", dtype="float32")
    result = segmenter(scenes[0], panoptic_threshold=0.0)
    assert result.semantic.segmentation.shape == result.image.shape[:2]
    inputs = segmenter.processor(result.image, return_tensors="pt")
    with torch.inference_mode():
        logits = stock(pixel_values=inputs["pixel_values"]).class_queries_logits
    assert torch.allclose(result.outputs.class_queries_logits, logits, atol=1e-4)


def test_files_of_the_original_open(tmp_path, scenes):
    file = write_pickle(tmp_path / "model_final.pkl", original_state_dict(stock_model("resnet")))
    segmenter = Segmenter.from_pretrained(file, size=64)
    assert segmenter.processor.size["shortest_edge"] == 64
    assert segmenter(scenes[0]).panoptic.segmentation.shape == segmenter(scenes[0]).image.shape[:2]


def test_bfloat16_and_compilation_are_asked_of_the_model(run, scenes, monkeypatch):
    segmenter = Segmenter.from_pretrained(run / "run", dtype="bfloat16")
    assert segmenter.model.dtype == torch.bfloat16
    same = Segmenter.from_pretrained(run / "run", dtype=torch.bfloat16)
    assert (same.model.dtype, same.predictor.dtype) == (torch.bfloat16, "bfloat16")
    assert segmenter(scenes[0]).panoptic.segmentation.shape == segmenter(scenes[0]).image.shape[:2]
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda model, **options: compiled.append(type(model).__name__))
    Segmenter.from_pretrained(run / "run", compile=True)
    assert compiled == ["UniSegmentForUniversalSegmentation"]


def test_a_segmenter_leaves_out_decoder_layers(run, scenes):
    full = Segmenter.from_pretrained(run / "run").model
    segmenter = Segmenter.from_pretrained(run / "run", decoder_layers=full.config.decoder_layers - 1)
    assert len(segmenter.model.transformer_decoder.layers) == len(full.transformer_decoder.layers) - 1
    assert segmenter(scenes[0]).panoptic.segmentation.shape == segmenter(scenes[0]).image.shape[:2]


def test_bad_values_are_named(segmenter, run, scenes, tmp_path):
    for arguments, message in (
        ({"threshold": 1.5}, "threshold"),
        ({"panoptic_threshold": -0.1}, "panoptic_threshold"),
    ):
        with pytest.raises(ValueError, match=message):
            segmenter(scenes[0], **arguments)
    for options, message in (
        ({"task": "cows"}, "The task must be one of panoptic, instance, semantic, got 'cows'"),
        ({"limit": 0}, "limit must be 1 or more"),
        ({"on_error": "ignore"}, "on_error must be 'raise' or 'skip'"),
    ):
        with pytest.raises(ValueError, match=message):
            segmenter.predict(scenes, tmp_path / "out", **options)
        assert not (tmp_path / "out").exists()
    with pytest.raises(ValueError, match="batch_size must be 1 or more"):
        segmenter(scenes[0], batch_size=-1)
    with pytest.raises(ValueError, match=r"is a folder: segmenter\.stream"):
        segmenter(scenes[0].parent)
    with pytest.raises(ValueError, match=r"matches 3 files: segmenter\.stream"):
        segmenter(f"{scenes[0].parent}/*.png")
    with pytest.raises(ValueError, match=r"take segmenter\.stream"):
        segmenter(iter(scenes))
    for arguments in ({"tasks": ("panoptic", "boxes")}, {"tasks": "panoptic"}):
        with pytest.raises(ValueError, match="tasks must be a list of some of panoptic, instance, semantic, got"):
            segmenter.evaluate(run / "scenes", **arguments)
    for limit in (0, -1):
        with pytest.raises(ValueError, match=f"limit must be 1 or more, got {limit}"):
            segmenter.evaluate(run / "scenes", limit=limit)
    with pytest.raises(ValueError, match="matching must be one of name, order, got 'number'"):
        segmenter.evaluate(run / "scenes", matching="number")
    with pytest.raises(FileNotFoundError):
        segmenter(tmp_path / "missing.jpg")
    with pytest.raises(FileNotFoundError):
        Segmenter.from_pretrained(tmp_path / "missing")
    with pytest.raises(ValueError, match="dtype must be one of"):
        Segmenter.from_pretrained(run / "run", dtype="int8")
    with pytest.raises(ValueError, match="device='warp' cannot be used"):
        Segmenter.from_pretrained(run / "run", device="warp")
    with pytest.raises(ValueError, match="device='meta' cannot be used"):
        Segmenter.from_pretrained(run / "run", device="meta")


def test_of_a_model_without_a_folder_all_is_pushed(segmenter, monkeypatch, run):
    pushed = []
    monkeypatch.setattr(
        "unisegment.hub.push", lambda folder, repo, **options: pushed.append((str(folder), repo, options)) or "address"
    )
    assert segmenter.push("me/mine", private=True) == "address"
    assert pushed.pop() == (str(run / "run" / "checkpoint"), "me/mine", {"private": True})
    seen = []
    monkeypatch.setattr(
        "unisegment.hub.push", lambda folder, repo: seen.extend(file.name for file in Path(folder).iterdir())
    )
    Segmenter(replace(segmenter.predictor, checkpoint="me/of-the-hub")).push("me/mine")
    assert {"config.json", "model.safetensors", "preprocessor_config.json"} <= set(seen)
