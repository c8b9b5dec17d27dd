# SPDX-License-Identifier: Apache-2.0
"""EoMT beside transformers' Eomt and EomtDinov3 with the same weights, and what they have not on its own."""

import copy
from dataclasses import fields

import pytest
import torch
from transformers import (
    EomtConfig,
    EomtDinov3Config,
    EomtDinov3ForUniversalSegmentation,
    EomtForUniversalSegmentation,
)

from tests.models.model_tester import assert_close_in_scale, gradients, random_targets, same_points
from unisegment.models.eomt import mask_features
from unisegment.models.eomt.checkpoint_conversion import from_stock, to_stock
from unisegment.models.eomt.configuration_eomt import UniSegmentEomtConfig
from unisegment.models.eomt.modeling_eomt import UniSegmentEomtForUniversalSegmentation
from unisegment.models.eomt.stock_checkpoints import read_eomt_config, read_eomt_dinov3_config
from unisegment.ops.piece_size import PieceSize

SIZES = {
    "hidden_size": 48, "num_hidden_layers": 4, "num_attention_heads": 4, "image_size": 64, "patch_size": 8,
    "num_upscale_blocks": 2, "num_blocks": 3, "num_queries": 11, "num_labels": 5, "num_register_tokens": 2,
    "train_num_points": 113, "layerscale_value": 0.8,
}  # fmt: skip
LEARNED = {
    "registers": {"mlp_ratio": 2},
    "no registers": {"mlp_ratio": 2, "num_register_tokens": 0, "hidden_act": "relu", "layer_norm_eps": 1e-5},
    "swiglu": {"use_swiglu_ffn": True, "num_blocks": 2, "num_hidden_layers": 2},
    "one doubling": {"mlp_ratio": 2, "num_upscale_blocks": 1, "patch_size": 16},
}
ROPE = {
    "rope": {"intermediate_size": 80, "pos_embed_rescale": None},
    "gated": {"intermediate_size": 80, "use_gated_mlp": True, "hidden_act": "silu", "pos_embed_rescale": None},
    "no biases": {
        "intermediate_size": 80, "query_bias": False, "value_bias": False, "proj_bias": False, "mlp_bias": False,
        "num_register_tokens": 0, "pos_embed_rescale": None,
    },
    "moved": {"intermediate_size": 80, "pos_embed_shift": 0.2, "pos_embed_jitter": 1.3, "pos_embed_rescale": 2.0},
}  # fmt: skip
CASES = {**LEARNED, **ROPE}
PROBABILITIES = {
    "masked": [1.0, 1.0, 1.0],
    "partly": [0.4, 0.4, 0.4],
    "free": [0.0, 0.0, 0.0],
    "mixed": [0.0, 0.4, 1.0],
}


def twins(case="registers", probabilities="masked", **keys):
    """Return the stock model and ours with the same weights, none of which is at a special value."""
    torch.manual_seed(1)
    if case in LEARNED:
        stock = EomtForUniversalSegmentation(EomtConfig(**{**SIZES, **CASES[case], **keys}))
        config = read_eomt_config(stock.config.to_dict())[1]
    else:
        stock = EomtDinov3ForUniversalSegmentation(EomtDinov3Config(**{**SIZES, **CASES[case], **keys}))
        config = read_eomt_dinov3_config(stock.config.to_dict())[1]
    with torch.no_grad():
        for parameter in stock.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
        stock.attn_mask_probs.copy_(torch.tensor(PROBABILITIES[probabilities])[-stock.config.num_blocks :])
    ours = UniSegmentEomtForUniversalSegmentation(config)
    ours.load_state_dict(from_stock(stock.state_dict(), config))
    return stock, ours


def blobs(counts):
    return random_targets(counts, 64, 64)


def images(count=2, height=64, width=64, dtype=torch.float32):
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(5)).to(dtype)


def predictions(models, pixel_values, train=False, **keys):
    """Return what models predict with the same draws: masks are dropped, and positions moved."""
    outputs = []
    for model in models:
        torch.manual_seed(3)
        with torch.no_grad():
            outputs.append(model.train(train)(pixel_values, **keys))
    return outputs


LOGITS = ("class_queries_logits", "masks_queries_logits")


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("probabilities", PROBABILITIES)
def test_logits_equal_those_of_transformers(monkeypatch, case, train, probabilities):
    same_points(monkeypatch, torch.float32)  # they draw where nothing comes of it, too
    theirs, mine = predictions(twins(case, probabilities), images(), train)
    for name in (*LOGITS, "last_hidden_state"):
        assert_close_in_scale(mine[name], theirs[name], 1e-5)


@pytest.mark.parametrize("case", ["registers", "gated"])
def test_images_need_not_be_squares(case):
    stock, ours = twins(case)
    # 64 patches for the table of 8 x 8 as well, which neither resizes.
    stock.grid_size = ours.backbone.grid_size = (4, 16)
    theirs, mine = predictions((stock, ours), images(2, 32, 128))
    for name in LOGITS:
        assert_close_in_scale(mine[name], theirs[name], 1e-5)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_hidden_states_and_attentions_equal_those_of_transformers(attention):
    stock, ours = twins()
    stock.set_attn_implementation("eager")  # else it has no attentions
    ours.set_attn_implementation(attention)
    given = {"output_hidden_states": True, "output_attentions": True, "patch_offsets": [torch.tensor([0, 0, 64])]}
    theirs, mine = predictions((stock, ours), images(), **given)
    assert set(theirs) == set(mine) - {"image_sizes"}
    assert mine.patch_offsets is given["patch_offsets"]
    assert len(mine.hidden_states) == 5
    assert len(mine.attentions) == 4
    for name in ("hidden_states", "attentions"):
        for one, other in zip(mine[name], theirs[name], strict=True):
            assert_close_in_scale(one, other, 1e-5)
    plain = predictions((ours,), images())[0]
    assert list(plain) == [*LOGITS, "last_hidden_state", "image_sizes"]
    torch.testing.assert_close(plain.masks_queries_logits, mine.masks_queries_logits, rtol=1e-4, atol=1e-5)


def test_a_tuple_begins_as_that_of_transformers():
    stock, ours = twins()
    theirs, mine = predictions((stock, ours), images(), return_dict=False)
    for one, other in zip(mine, theirs, strict=False):
        assert_close_in_scale(one, other, 1e-5)
    assert mine[-1].tolist() == [[64, 64], [64, 64]]


# In double precision no point and no mask logit is so near to another one's place that rounding decides.
@pytest.mark.parametrize("case", ["registers", "swiglu", "gated", "no biases"])
@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("probabilities", ["masked", "mixed"])
def test_losses_and_gradients_equal_those_of_transformers(monkeypatch, case, train, probabilities):
    stock, ours = (model.to(torch.float64) for model in twins(case, probabilities))
    stock.set_attn_implementation("eager")  # torch's fused function takes their float32 masks for other numbers
    masks, labels = blobs([4, 17])
    same_points(monkeypatch, torch.float64)
    losses = []
    for model, given in ((stock, [mask.to(torch.float64) for mask in masks]), (ours, masks)):
        output = model.train(train)(images(dtype=torch.float64), mask_labels=given, class_labels=labels)
        output.loss.backward()
        losses.append(output.loss)
    torch.testing.assert_close(losses[1], losses[0].to(torch.float64), rtol=1e-5, atol=0)
    assert len(output.loss_dict) == 3 * (1 + (ours.config.num_blocks if train else sum(ours.attn_mask_probs > 0)))
    torch.testing.assert_close(sum(output.loss_dict.values()), output.loss)
    mine, theirs = to_stock(gradients(ours), ours.config), gradients(stock)
    assert mine.keys() == theirs.keys()
    whole = torch.cat([gradient.flatten() for gradient in theirs.values()]).norm()
    for name, gradient in mine.items():
        difference = (gradient - theirs[name]).norm()
        assert difference <= 1e-4 * max(theirs[name].norm(), 1e-4 * whole), name


# On its own


def model(**keys):
    torch.manual_seed(2)
    return UniSegmentEomtForUniversalSegmentation(UniSegmentEomtConfig(**{**SIZES, "mlp_ratio": 2, **keys}))


def test_every_parameter_gets_a_gradient():
    for ours in (model(), model(position_encoding="rope", use_gated_mlp=True)):
        masks, labels = blobs([3, 2])
        ours(images(), mask_labels=masks, class_labels=labels).loss.backward()
        assert [name for name, parameter in ours.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize("position_encoding", ["learned", "rope"])
def test_sizes_that_no_patch_divides_are_those_of_the_padded_image(position_encoding):
    ours = model(position_encoding=position_encoding).eval()
    small = images(1, 45, 83)
    masks, labels = random_targets([3], 88, 88)
    with torch.no_grad():
        padded = ours(torch.nn.functional.pad(small, (0, 5, 0, 3)))
        output = ours(small, mask_labels=[masks[0][:, :45, :83]], class_labels=labels)
    assert output.masks_queries_logits.shape == (1, 11, 23, 42)
    assert output.image_sizes.tolist() == [[45, 83]]
    torch.testing.assert_close(output.masks_queries_logits, padded.masks_queries_logits[:, :, :23, :42])
    torch.testing.assert_close(output.class_queries_logits, padded.class_queries_logits)


def test_a_batch_equals_each_image_alone():
    ours = model().eval()
    with torch.no_grad():
        together = ours(images(3, 48, 80))
        for index in range(3):
            alone = ours(images(3, 48, 80)[index : index + 1])
            for name in LOGITS:
                assert_close_in_scale(together[name][index], alone[name][0], 1e-5)


def test_inner_predictions_are_given_where_asked_for():
    ours = model().eval()
    with torch.no_grad():
        ours.attn_mask_probs.copy_(torch.tensor([0.0, 1.0, 1.0]))
        output = ours(images(), output_auxiliary_logits=True)
        first = ours(images(), output_hidden_states=True).hidden_states[1]
        queries = ours.backbone.norm(ours.queries.weight)
    assert len(output.auxiliary_logits) == 3
    assert output.auxiliary_logits[0]["masks_queries_logits"].shape == (2, 11, 32, 32)
    expected = ours.predictor(queries)[0].expand(2, -1, -1)
    torch.testing.assert_close(output.auxiliary_logits[0]["class_queries_logits"], expected)
    assert first.shape == (2, 67, 48)


def test_the_loss_does_not_depend_on_what_else_is_asked_for():
    ours, (masks, labels) = model().eval(), blobs([3, 2])
    with torch.no_grad():
        ours.attn_mask_probs.copy_(torch.tensor([0.0, 1.0, 0.0]))
        found = []
        for asked in (False, True):
            torch.manual_seed(2)
            found.append(ours(images(), masks, labels, output_auxiliary_logits=asked))
    assert found[0].loss_dict.keys() == found[1].loss_dict.keys()
    assert len(found[0].loss_dict) == 6
    assert torch.equal(found[0].loss, found[1].loss)


def test_outputs_come_in_the_order_of_their_fields():
    ours, (masks, labels) = model().eval(), blobs([3, 2])
    given = {"output_auxiliary_logits": True, "output_hidden_states": True, "patch_offsets": [torch.tensor([0, 0, 64])]}
    with torch.no_grad():
        output = ours(images(), masks, labels, **given)
        free = ours(images(), **given)
        as_tuple = ours(images(), **given, return_dict=False)
    order = [field.name for field in fields(output)]
    assert [*output] == [name for name in order if name != "attentions"]
    assert [*free] == [name for name in order if name not in ("attentions", "loss", "loss_dict")]
    assert as_tuple[4] is given["patch_offsets"]


@pytest.mark.parametrize("keys", [{}, {"num_upscale_blocks": 0}, {"num_upscale_blocks": 1}])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_masks_that_are_made_piece_by_piece_equal_those_that_are_made_at_once(monkeypatch, keys, dtype):
    monkeypatch.setattr(mask_features, "MAX_ELEMENTS", PieceSize(cpu=1, accelerator=1))  # a row at a time
    ours = model(**keys).eval().to(dtype)
    pixel_values = images(2, 53, 75, dtype)
    whole = ours(pixel_values).masks_queries_logits.detach()  # with a gradient
    with torch.no_grad():
        pieces = ours(pixel_values).masks_queries_logits
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2
    assert_close_in_scale(pieces.float(), whole.float(), tolerance)


@pytest.mark.parametrize("mode", ["bfloat16 weights", "autocast"])
def test_half_precision_trains(mode):
    ours = model(position_encoding="rope")
    if mode == "bfloat16 weights":
        ours = ours.to(torch.bfloat16)
    masks, labels = blobs([3, 2])
    with torch.autocast("cpu", torch.bfloat16, enabled=mode == "autocast"):
        output = ours(images(), mask_labels=masks, class_labels=labels)
    assert output.loss.dtype == torch.float32
    output.loss.backward()
    assert all(bool(torch.isfinite(p.grad).all()) for p in ours.parameters())


def test_gradient_checkpointing_changes_nothing():
    masks, labels = blobs([3, 2])
    found = []
    for checkpoints in (False, True):
        ours = model(drop_path_rate=0.3)
        if checkpoints:
            getattr(ours, "activation_checkpointing_enable", ours.gradient_checkpointing_enable)()
            assert all(part.gradient_checkpointing for part in (*ours.backbone.layers, *ours.upscale))
        torch.manual_seed(4)
        loss = ours(images(), mask_labels=masks, class_labels=labels).loss
        loss.backward()
        found.append((loss, gradients(ours)))
    torch.testing.assert_close(found[0], found[1])


def test_masks_go_layer_by_layer_while_training_runs():
    # The steps of eomt_base_640.yaml of the authors' code, whose three layers are these.
    starts, ends, steps = (14782, 36955, 59128), (29564, 51737, 73910), 88692
    ours = model()
    for step in (0, 14782, 20000, 29564, 40000, 51737, 60000, 70000, 73910, 88692):
        ours.at_step(step, steps)
        shares = [(step - start) / (end - start) for start, end in zip(starts, ends, strict=True)]
        expected = [1.0 if share < 0 else max(1 - share, 0.0) ** 0.9 for share in shares]
        assert ours.attn_mask_probs.tolist() == pytest.approx(expected, abs=1e-4)


def test_without_annealing_masks_stay():
    ours = model(attn_mask_annealing=False)
    ours.at_step(100, 100)
    assert ours.attn_mask_probs.tolist() == [1, 1, 1]


def test_masks_are_looked_up_again_when_they_change():
    ours = model().eval()
    with torch.no_grad():
        masked = ours(images()).masks_queries_logits
        ours.at_step(1, 1)
        free = ours(images()).masks_queries_logits
        assert (masked - free).abs().max() > 1e-4
        ours.load_state_dict({**ours.state_dict(), "attn_mask_probs": torch.ones(3)})
        assert torch.equal(ours(images()).masks_queries_logits, masked)
        other = copy.deepcopy(ours)
        other.attn_mask_probs.zero_()
        assert torch.equal(other(images()).masks_queries_logits, free)
        assert torch.equal(ours(images()).masks_queries_logits, masked)
        # What is compiled or exported is made for what is known, which new weights may change.
        other.load_state_dict(ours.state_dict())
        assert other._known_masking[2] == ((True, False),) * 3


def test_without_masks_evaluation_makes_no_inner_predictions(monkeypatch):
    ours = model().eval()
    calls = []
    hook = ours.predictor.register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        ours(images())
        assert len(calls) == 4
        ours.attn_mask_probs.zero_()
        ours(images())
    hook.remove()
    assert len(calls) == 5


def test_the_probabilities_are_saved_and_loaded(tmp_path):
    ours = model().eval()
    ours.at_step(60, 120)
    ours.save_pretrained(tmp_path)
    loaded = UniSegmentEomtForUniversalSegmentation.from_pretrained(tmp_path)
    for name, value in ours.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name
    assert 0 < loaded.attn_mask_probs[1] < 1


@pytest.mark.parametrize(
    ("name", "above"),
    [
        ("queries.weight", 0), ("predictor.class_head.weight", 0), ("upscale.0.deconv.weight", 0),
        ("backbone.norm.weight", 0), ("backbone.layers.3.norm1.weight", 0), ("backbone.layers.1.norm1.weight", 2),
        ("backbone.layers.0.layer_scale1", 3), ("backbone.patch_proj.weight", 3),
        ("backbone.cls_token", 3), ("backbone.position_embeddings", 3),
    ],
)  # fmt: skip
def test_it_knows_the_layers_above_a_weight(name, above):
    ours = model()
    assert name in dict(ours.named_parameters())
    assert ours.layers_above(name) == above


@pytest.mark.filterwarnings("ignore:The following device_map keys")
@pytest.mark.parametrize("share", [0.3, 0.7])
def test_parts_can_lie_on_disk(tmp_path, share):
    ours = model().eval()
    ours.save_pretrained(tmp_path / "saved")
    size = sum(value.numel() * 4 for value in ours.state_dict().values())
    parts = UniSegmentEomtForUniversalSegmentation.from_pretrained(
        tmp_path / "saved",
        device_map="auto",
        max_memory={"cpu": int(share * size)},
        offload_folder=tmp_path / "offloaded",
    )
    with torch.no_grad():
        torch.testing.assert_close(parts(images()).masks_queries_logits, ours(images()).masks_queries_logits)
