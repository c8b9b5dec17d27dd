# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from torch.optim import AdamW
from torch.profiler import ProfilerActivity, profile

from unisegment.models.unisegment.configuration_unisegment import UniSegmentConfig
from unisegment.models.unisegment.modeling_unisegment import UniSegmentForUniversalSegmentation
from unisegment.structures import SegmentationTarget
from unisegment.training.assembly import recompute_layers
from unisegment.training.memory import BETWEEN, step_memory

BACKBONES = {
    "resnet": {
        "model_type": "resnet",
        "embedding_size": 16,
        "hidden_sizes": [16, 16, 32, 32],
        "depths": [1, 1, 1, 1],
        "layer_type": "basic",
    },
    "swin": {"model_type": "swin", "embed_dim": 16, "depths": [1, 1, 1, 1], "num_heads": [1, 2, 4, 8]},
}


def make_model(backbone):
    torch.manual_seed(0)
    config = UniSegmentConfig(
        backbone_config={**BACKBONES[backbone], "out_features": ["stage1", "stage2", "stage3", "stage4"]},
        freeze_backbone_norm=False,
        feature_size=32,
        mask_feature_size=32,
        hidden_dim=32,
        encoder_feedforward_dim=64,
        dim_feedforward=64,
        encoder_layers=1,
        decoder_layers=2,
        num_attention_heads=4,
        num_queries=20,
        train_num_points=1000,
        num_labels=7,
    )
    return UniSegmentForUniversalSegmentation(config).train()


def make_inputs(num_segments, height=160, width=224):
    targets = [
        SegmentationTarget(
            labels=torch.arange(count) % 7,
            id_map=torch.randint(0, count + 1, (height, width)),
            segment_ids=torch.arange(1, count + 1),
        )
        for count in num_segments
    ]
    return {
        "pixel_values": torch.randn(len(targets), 3, height, width),
        "pixel_mask": torch.ones(len(targets), height, width, dtype=torch.int64),
        "mask_labels": targets,
        "class_labels": [target.labels for target in targets],
    }


def allocated(call):
    """Return what torch's allocator handed out: bytes at most, and bytes that are held at the end."""
    # `acc_events`: torch 2.10 warns without.
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as profiler:
        result = call()
    live, peak = 0, 0
    for event in sorted(profiler.profiler.kineto_results.events(), key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            live += event.nbytes()
            peak = max(peak, live)
    del result
    return peak, live


@pytest.mark.parametrize("backbone", list(BACKBONES))
@pytest.mark.parametrize("num_segments", [(3, 0), (19, 11)])
def test_it_is_what_torch_s_allocator_gives(backbone, num_segments):
    model, inputs = make_model(backbone), make_inputs(num_segments)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    expected = step_memory(model, lambda module: AdamW(module.parameters()), inputs)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    of_step, _ = allocated(lambda: model(**inputs).loss.backward())
    assert expected.activations + expected.gradients == pytest.approx(of_step, rel=0.1)
    model.zero_grad()
    _, held = allocated(lambda: model(**inputs).loss)
    assert sum(expected.kept.values()) == pytest.approx(held, rel=0.1)


def test_what_is_kept_is_told_by_part():
    model, inputs = make_model("swin"), make_inputs((3, 5))

    def kept():
        return step_memory(model, lambda module: AdamW(module.parameters()), inputs).kept

    whole = kept()
    recompute_layers(model)
    recomputed = kept()
    assert recomputed["pixel_decoder.layers"] < 0.3 * whole["pixel_decoder.layers"]
    assert recomputed["pixel_decoder.output_convs"] == whole["pixel_decoder.output_convs"]
    model.backbone.requires_grad_(False)
    rest = kept()
    assert {name.split(".")[0] for name in rest} == {"pixel_decoder", "transformer_decoder", "criterion", BETWEEN}
    assert whole.keys() - rest.keys() == {"backbone.body"}


def test_micro_batches_meet_the_gradients_of_those_before():
    model, inputs = make_model("resnet"), make_inputs((3, 5), height=320)
    one, several = (
        step_memory(model, lambda module: AdamW(module.parameters()), inputs, accumulates=accumulates)
        for accumulates in (False, True)
    )
    assert 0.8 * one.gradients < several.peak - one.peak <= one.gradients
    assert several.kept == one.kept


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_forecast_can_be_made_for_a_gpu():
    model, inputs = make_model("resnet"), make_inputs((3, 5))
    on_cpu, on_gpu = (
        step_memory(model, lambda module: AdamW(module.parameters()), inputs, device=device)
        for device in ("cpu", "cuda")
    )
    assert on_gpu.weights == on_cpu.weights
    assert on_gpu.activations == pytest.approx(on_cpu.activations, rel=0.3)


def test_parts_are_counted():
    model, inputs = make_model("resnet"), make_inputs((3, 5))
    weights = sum(weight.numel() for weight in model.parameters()) * 4
    in_full, in_half = (
        step_memory(model, lambda module: AdamW(module.parameters()), inputs, autocast_dtype=dtype).activations
        for dtype in (None, torch.bfloat16)
    )
    assert in_half < 0.95 * in_full
    for weight in model.backbone.parameters():
        weight.requires_grad_(False)
    learning = sum(weight.numel() for weight in model.parameters() if weight.requires_grad) * 4

    def optimizer(module):
        return AdamW([weight for weight in module.parameters() if weight.requires_grad])

    found = step_memory(model, optimizer, inputs, extra_copies=1)
    assert weights <= found.weights < weights * 1.1  # and buffers
    assert found.gradients == found.average == learning
    assert 2 * learning <= found.optimizer < 2 * learning + 10_000  # and numbers of steps
    tensors = [inputs["pixel_values"], inputs["pixel_mask"]]
    tensors += [value for target in inputs["mask_labels"] for value in vars(target).values() if value is not None]
    assert found.inputs == sum(tensor.nbytes for tensor in tensors)
    assert found.peak == sum(found.parts.values())
    larger = step_memory(model, optimizer, make_inputs((3, 5), height=320), extra_copies=1)
    assert 1.7 * found.activations < larger.activations < 2.3 * found.activations
