# SPDX-License-Identifier: Apache-2.0
"""Images of many forms and results of transformers are drawn as ours; what cannot be drawn is refused."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import Mask2FormerImageProcessorPil

from tests.pretended_device import DEVICE, Record
from tests.visualization.pictures import HEIGHT, WIDTH, id_map_of, image_of, infos_of, predictions_of_all_kinds
from unisegment.structures import InstancePrediction, PanopticPrediction, SegmentationTarget
from unisegment.visualization import draw, draw_sheet
from unisegment.visualization.drawables import segments_of

TURNS_BACK = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""What a camera does to an upright image before it writes each EXIF orientation."""


@pytest.mark.parametrize("orientation", TURNS_BACK)
def test_images_of_pillow_are_drawn_upright(orientation):
    image = Image.fromarray(image_of())
    stored = image.transpose(TURNS_BACK[orientation])
    stored.getexif()[0x0112] = orientation
    prediction = predictions_of_all_kinds()["panoptic"]
    assert draw(stored, prediction).tobytes() == draw(image, prediction).tobytes()


def test_scans_of_16_bits_are_not_white(tmp_path):
    scan = np.random.default_rng(0).integers(3000, 9000, (HEIGHT, WIDTH), dtype=np.uint16)
    Image.fromarray(scan).save(tmp_path / "scan.png")
    low, high = np.percentile(scan, [0.5, 99.5])
    levels = np.rint((scan.clip(low, high) - low) / (high - low) * 255).astype(np.uint8)
    nothing = PanopticPrediction(torch.zeros(HEIGHT, WIDTH, dtype=torch.int32), [])
    expected = draw(Image.fromarray(levels), nothing).tobytes()
    for form in (tmp_path / "scan.png", Image.fromarray(scan), Image.fromarray(scan.astype(np.int32))):
        assert draw(form, nothing).tobytes() == expected


@pytest.mark.parametrize("kind", ["pillow", "grey", "tensor", "float tensor", "mirrored"])
def test_images_come_in_many_forms(kind):
    image = image_of()
    forms = {
        "pillow": Image.fromarray(image),
        "grey": Image.fromarray(image).convert("L"),
        "tensor": torch.from_numpy(image).permute(2, 0, 1),
        "float tensor": torch.from_numpy(image).permute(2, 0, 1) / 255,
        "mirrored": image[:, ::-1],
    }
    expected = {"grey": np.asarray(forms["grey"].convert("RGB")), "mirrored": np.ascontiguousarray(image[:, ::-1])}
    prediction = predictions_of_all_kinds()["panoptic"]
    np.testing.assert_array_equal(draw(forms[kind], prediction), draw(expected.get(kind, image), prediction))


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((3, HEIGHT, WIDTH), np.uint8), "image must be"),
        (np.zeros((HEIGHT, WIDTH, 3), np.float32), "image must be"),
        (torch.zeros(HEIGHT, WIDTH, 3, dtype=torch.uint8), "image must be"),
        (torch.full((3, HEIGHT, WIDTH), -2.0), "before normalisation"),
        (b"not a picture", "a file; got <class 'bytes'>"),
        (np.zeros((HEIGHT, WIDTH + 1, 3), np.uint8), "prediction is 61x97 .* image is 61x98"),
    ],
)
def test_bad_images_are_refused(image, message):
    with pytest.raises(ValueError, match=message):
        draw(image, predictions_of_all_kinds()["panoptic"])
    with pytest.raises(ValueError, match=message):
        draw_sheet(image, {"panoptic": predictions_of_all_kinds()["panoptic"]})


def test_files_are_drawn_upright(tmp_path):
    image = Image.fromarray(image_of())
    stored = image.transpose(TURNS_BACK[6])
    stored.getexif()[0x0112] = 6
    stored.save(tmp_path / "photo.png", exif=stored.getexif())
    prediction = predictions_of_all_kinds()["panoptic"]
    for file in (tmp_path / "photo.png", str(tmp_path / "photo.png")):
        assert draw(file, prediction).tobytes() == draw(image, prediction).tobytes()
    with pytest.raises(FileNotFoundError, match=r"none\.png"):
        draw(tmp_path / "none.png", prediction)


def blocks_of_logits():
    """Return an output in which three queries see the segments of `id_map_of`, sure of the labels 4, 0 and 0."""
    id_map = id_map_of(96, 96)
    id_map[:, -8:] = 0
    masks = torch.stack([id_map == number for number in (1, 2, 3)]).float() * 20 - 10
    classes = torch.nn.functional.one_hot(torch.tensor([4, 0, 0]), 6).float() * 15
    return SimpleNamespace(class_queries_logits=classes[None], masks_queries_logits=masks[None])


def expected_of(result, task):
    """Return what a result of transformers says, as one of ours, written out."""
    if task == "semantic":
        labels = getattr(result, "segmentation", result)
        return SegmentationTarget(labels=labels.unique(), id_map=labels, segment_ids=labels.unique())
    infos, segmentation = result["segments_info"], result["segmentation"]
    if segmentation.ndim == 3:
        return InstancePrediction(
            sum((mask * number for number, mask in enumerate(segmentation, start=1)), torch.zeros(384, 384)),
            [info | {"id": number} for number, info in enumerate(infos, start=1)],
            segmentation > 0.5,
        )
    # Void is -1 and the first object 0; or void is 0 and what was fused is listed again.
    ids = (segmentation + (task == "instance")).int().clamp(min=0)
    last = {info["id"] + (task == "instance"): info for info in infos}
    return PanopticPrediction(ids, [info | {"id": number} for number, info in last.items()])


@pytest.mark.parametrize(
    ("task", "keywords", "number"),
    [
        ("panoptic", {"label_ids_to_fuse": {0}}, 2),
        ("panoptic", {"threshold": 1.0}, 0),
        ("instance", {}, 3),
        ("instance", {"return_binary_maps": True}, 3),
        ("instance", {"return_binary_maps": True, "threshold": 1.1}, 0),
        ("semantic", {}, 2),
        ("semantic", {"return_segmentation_scores": True}, 2),
    ],
)
def test_results_of_transformers_are_drawn(task, keywords, number):
    post_process = getattr(Mask2FormerImageProcessorPil(), f"post_process_{task}_segmentation")
    (result,) = post_process(blocks_of_logits(), target_sizes=[(384, 384)], **keywords)
    image = image_of(384, 384)
    drawn, expected = draw(image, result), draw(image, expected_of(result, task))
    np.testing.assert_array_equal(drawn, expected)
    assert len(segments_of(result).names) == number
    pixels = np.asarray(drawn)
    assert (pixels == pixels[..., :1]).all() == (number == 0)


def test_names_come_with_the_prediction_or_from_outside():
    infos = [{**info, "label": name} for info, name in zip(infos_of(4, 0, 7), ["sky", "cat", None], strict=True)]
    segments = segments_of({"segmentation": id_map_of(), "segments_info": infos})
    assert segments.labels_and_names(None) == [(4, "sky"), (0, "cat"), (7, "7")]
    assert segments.labels_and_names({0: 5}) == [(4, "sky"), (0, "5"), (7, "7")]
    assert segments.labels_and_names({0: "dog"}) == [(4, "sky"), (0, "dog"), (7, "7")]
    assert segments.scores == [0.6, 0.7, 0.8]
    target = predictions_of_all_kinds()["masks"]
    assert segments_of(target).labels_and_names({4: "sea"}) == [(4, "sea"), (0, "0"), (0, "0")]


@pytest.mark.parametrize(
    ("prediction", "message"),
    [
        ({"masks": id_map_of()}, r"one of unisegment's predictions or targets, or a result of transformers, .*dict"),
        (3, r"or a result of transformers, with `segmentation` and `segments_info`; got <class 'int'>"),
        ({"segmentation": [[1, 4]], "segments_info": infos_of(4)}, r"Run lengths are not drawn: .* return_binary_maps"),
        (torch.zeros(1, 2, HEIGHT, WIDTH), r"segmentation must be a map \(height, width\) of ids"),
        ({"segmentation": torch.zeros(2, HEIGHT, WIDTH), "segments_info": infos_of(4)}, "masks must be"),
    ],
)
def test_what_is_no_prediction_is_refused(prediction, message):
    with pytest.raises(ValueError, match=message):
        draw(image_of(), prediction)


@pytest.mark.parametrize("kind", ["panoptic", "instance", "id map", "masks", "bool"])
def test_predictions_may_be_on_another_device(kind):
    prediction = predictions_of_all_kinds()["masks"].masks if kind == "bool" else predictions_of_all_kinds()[kind]
    expected = np.asarray(draw(image_of(), prediction))
    with Record():
        if isinstance(prediction, SegmentationTarget | torch.Tensor):
            moved = prediction.to(DEVICE)
        else:
            names = [name for name in ("segmentation", "masks") if name in prediction]
            moved = replace(prediction, **{name: prediction[name].to(DEVICE) for name in names})
        drawn = np.asarray(draw(image_of(), moved))
    np.testing.assert_array_equal(drawn, expected)
