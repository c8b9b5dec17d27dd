# SPDX-License-Identifier: Apache-2.0
from itertools import count, islice

import pytest
import torch
from accelerate import PartialState

from tests.inference.reads_colours import SAMPLES, SIZES, ReadsColours, make_predictor, make_processor
from tests.models.tiny_families import tiny_family
from tests.training.test_assembly import RESNET, SMALL
from unisegment import UniSegmentConfig, UniSegmentForUniversalSegmentation, UniSegmentImageProcessor
from unisegment.inference import predictor as predictor_module
from unisegment.inference.augmentation import AugmentedPredictor
from unisegment.inference.images import load_batches
from unisegment.inference.predictor import Predictor, open_predictor
from unisegment.structures import NamedImage


def test_predictions_have_the_size_of_the_image_and_instances_no_stuff():
    predictor = make_predictor()
    assert (predictor.stuff_label_ids, predictor.thing_label_ids) == ({2}, {0, 1})
    (batch,) = load_batches(SAMPLES, make_processor(), [0, 1], batch_size=2)
    outputs = predictor.forward(batch)
    for task in ("panoptic", "instance", "semantic"):
        found = getattr(predictor, task)(batch, outputs)
        assert [tuple(prediction.segmentation.shape) for prediction in found] == SIZES[:2]
    assert {info["label_id"] for info in predictor.instance(batch, outputs)[0].segments_info} <= {0, 1}
    assert {info["label_id"] for info in predictor.panoptic(batch, outputs)[0].segments_info} == {0, 2}


@pytest.mark.parametrize(("stuff", "task"), [([2], "panoptic"), ([], "instance"), ([0, 1, 2], "semantic")])
def test_labels_say_what_they_are_made_for(stuff, task):
    assert Predictor(ReadsColours(), make_processor(stuff_label_ids=stuff)).task == task


def test_thresholds_are_used():
    (batch,) = load_batches(SAMPLES, make_processor(), [0])
    strict = make_predictor(panoptic_threshold=1.0)
    assert strict.panoptic(batch, strict.forward(batch))[0].segments_info == []
    assert strict.instance(batch, strict.forward(batch), threshold=0.9999)[0].segments_info == []
    few = make_predictor(top_k=2)
    assert len(strict.instance(batch, strict.forward(batch))[0].segments_info) > 1
    assert len(few.instance(batch, few.forward(batch))[0].segments_info) == 1  # and one of stuff
    assert not torch.is_grad_enabled() or not strict.forward(batch).masks_queries_logits.requires_grad


def test_a_stream_gives_outputs_image_by_image_with_a_bar(capsys):
    predictor = make_predictor()
    found = list(predictor.stream(SAMPLES, [0, 1, 2, 5], batch_size=2, description="seen"))
    assert [[item.number for item in batch] for batch, _ in found] == [[0, 1], [2], [5]]
    for batch, outputs in found:
        assert len(outputs.image_sizes) == len(batch)
        for alone, item in enumerate(batch):
            ((_, expected),) = predictor.stream(SAMPLES, [item.number])
            assert torch.equal(outputs.masks_queries_logits[alone], expected.masks_queries_logits[0])
    assert "seen" in capsys.readouterr().err
    list(predictor.stream(SAMPLES, [0]))
    assert capsys.readouterr().err == ""


def test_a_stream_without_end_goes_as_far_as_it_is_followed():
    predictor = make_predictor()
    images = (NamedImage(SAMPLES[number % 2].image, number, "") for number in count())
    followed = islice(predictor.stream(images, batch_size=3), 2)
    assert [[item.image.image_id for item in batch] for batch, _ in followed] == [[0, 1, 2], [3, 4, 5]]
    assert predictor.model.batches == [3, 3]


def test_a_stream_ends_when_it_is_cancelled():
    predictor, answers = make_predictor(), iter([False, True])
    assert len(list(predictor.stream(SAMPLES, range(6), is_cancelled=lambda: next(answers)))) == 1


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("predictor") / "ours"
    model = UniSegmentForUniversalSegmentation(UniSegmentConfig(backbone_config=RESNET, num_labels=3, **SMALL))
    model.save_pretrained(folder)
    UniSegmentImageProcessor(size={"shortest_edge": 64, "longest_edge": 80}, num_labels=3).save_pretrained(folder)
    return folder


def test_a_checkpoint_is_opened_as_asked(checkpoint):
    plain = open_predictor(checkpoint)
    assert type(plain) is Predictor
    assert (plain.checkpoint, plain.dtype, plain.panoptic_threshold, plain.top_k) == (str(checkpoint), "auto", 0.8, 100)
    assert plain.processor.size == {"shortest_edge": 64, "longest_edge": 80}
    assert plain.scales is None
    assert not plain.model.training
    settings = {"panoptic_threshold": 0.5, "top_k": 7, "size": {"shortest_edge": 32, "longest_edge": 64}}
    other = open_predictor(checkpoint, augment=True, dtype="bfloat16", device="cpu", **settings)
    assert type(other) is AugmentedPredictor
    assert (other.model.dtype, other.dtype, other.top_k) == (torch.bfloat16, "bfloat16", 7)
    assert (other.panoptic_threshold, other.processor.size) == (0.5, settings["size"])
    assert len(other.scales) == 6


def test_decoder_layers_are_left_out_where_there_are_such(checkpoint, tmp_path):
    assert len(open_predictor(checkpoint).model.transformer_decoder.layers) == 3
    assert len(open_predictor(checkpoint, decoder_layers=2).model.transformer_decoder.layers) == 1
    with pytest.raises(ValueError, match="decoder_layers=9 is more than the checkpoint has"):
        open_predictor(checkpoint, decoder_layers=9)
    eomt = tiny_family("unisegment_eomt").save(tmp_path)
    with pytest.raises(ValueError, match="decoder_layers: EoMT has no transformer decoder"):
        open_predictor(eomt, decoder_layers=2)


def test_the_device_is_the_one_asked_for_or_that_of_the_process(checkpoint, monkeypatch):
    PartialState(cpu=True)
    monkeypatch.setitem(PartialState._shared_state, "device", torch.device("meta"))
    assert open_predictor(checkpoint).model.device.type == "meta"
    assert open_predictor(checkpoint, device="cpu").model.device.type == "cpu"
    for device in ("tpu9", "cuda:99", "meta"):
        with pytest.raises(ValueError, match=f"device='{device}' cannot be used here: "):
            open_predictor(checkpoint, device=device)


def test_a_processor_is_used_where_a_gpu_may_not_be(monkeypatch):
    seen = []
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(predictor_module, "PartialState", lambda cpu: seen.append(cpu) or PartialState(cpu=True))
    predictor_module._device(None)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    predictor_module._device(None)
    assert seen == [False, True]


def test_compile_compiles_the_forward_pass(checkpoint, monkeypatch):
    compiled = []

    def keep(function, **_):
        compiled.append(function)
        return function

    monkeypatch.setattr(torch, "compile", keep)
    predictor = open_predictor(checkpoint, compile=True)
    ((_, outputs),) = predictor.stream([NamedImage(SAMPLES[0].image, 0, "")])
    assert len(compiled) == 1
    ((_, expected),) = open_predictor(checkpoint).stream([NamedImage(SAMPLES[0].image, 0, "")])
    assert torch.equal(outputs.masks_queries_logits, expected.masks_queries_logits)


def test_bad_settings_are_found_before_the_checkpoint_is_opened(checkpoint):
    for settings, said in (
        ({"dtype": "int8"}, "dtype must be one of auto, float32, bfloat16, float16, got 'int8'"),
        ({"panoptic_threshold": 2}, "panoptic_threshold must be from 0 to 1"),
        ({"top_k": 0}, "top_k must be 1 or more, got 0"),
    ):
        with pytest.raises(ValueError, match=said):
            open_predictor(checkpoint, **settings)
    with pytest.raises(FileNotFoundError):
        open_predictor("no/such/checkpoint")
