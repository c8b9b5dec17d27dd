# SPDX-License-Identifier: Apache-2.0
from dataclasses import fields

import pytest
from transformers import EomtConfig, EomtDinov3Config

from tests.models.test_config_values import HOSTILE
from unisegment.models.config_values import KINDS as SHARED_KINDS
from unisegment.models.eomt.configuration_eomt import KINDS, UniSegmentEomtConfig, feed_forward_width
from unisegment.models.eomt.stock_checkpoints import read_eomt_config, read_eomt_dinov3_config

_NOT_OURS = {"architectures", "transformers_version", "rope_parameters"}


def test_there_is_a_kind_for_every_field():
    known = {*SHARED_KINDS, *KINDS}
    for kind in (UniSegmentEomtConfig, EomtConfig, EomtDinov3Config):
        assert {item.name for item in fields(kind)} - {"rope_parameters"} <= known


@pytest.mark.parametrize(
    ("kind", "keys"),
    [(EomtConfig, {}), (EomtDinov3Config, {"position_encoding": "rope"})],
)
def test_defaults_are_those_of_transformers(kind, keys):
    ours, theirs = UniSegmentEomtConfig(**keys), kind()
    for item in fields(kind):
        if item.name not in {*_NOT_OURS, "intermediate_size"}:
            assert getattr(ours, item.name) == getattr(theirs, item.name), item.name
    assert ours.feed_forward_dim == getattr(theirs, "intermediate_size", 4096)
    assert ours.rope_theta == EomtDinov3Config().rope_parameters["rope_theta"]


def test_a_config_survives_a_round_trip(tmp_path):
    config = UniSegmentEomtConfig(
        hidden_size=48, num_attention_heads=3, position_encoding="rope", intermediate_size=80, num_register_tokens=0,
        id2label={0: "sky", 1: "car"}, attn_mask_annealing_start=[0, 0.1, 0.2, 0.3], num_queries=7,
        categories=[{"id": 7, "name": "sky", "isthing": 0}, {"id": 3, "name": "car", "isthing": 1}],
    )  # fmt: skip
    config.save_pretrained(tmp_path)
    again = UniSegmentEomtConfig.from_pretrained(tmp_path)
    assert again.to_dict() == {**config.to_dict(), "transformers_version": again.transformers_version}
    assert (again.key_bias, again.query_bias, again.num_labels) == (False, True, 2)
    wider = UniSegmentEomtConfig.from_pretrained(tmp_path, hidden_size=60, intermediate_size=None)
    assert (wider.hidden_size, wider.feed_forward_dim) == (60, 240)


def test_a_backbone_that_a_file_names_is_kept_and_not_looked_at():
    file = {**UniSegmentEomtConfig(hidden_size=48, num_attention_heads=3).to_dict(), "backbone": "someone/model"}
    config = UniSegmentEomtConfig.from_dict({**file, "use_pretrained_backbone": True})
    assert (config.backbone, config.hidden_size, config.use_pretrained_backbone) == ("someone/model", 48, False)
    assert UniSegmentEomtConfig.from_dict(config.to_dict()).to_dict() == config.to_dict()
    assert UniSegmentEomtConfig.from_dict({"backbone": "someone/model"}).hidden_size == 1024
    made, unused = UniSegmentEomtConfig.from_dict(file, backbone="other/model", x=1, return_unused_kwargs=True)
    assert (made.backbone, made.hidden_size, unused) == ("other/model", 48, {"x": 1})
    with pytest.raises(ValueError, match="backbone: 5, expected a text"):
        UniSegmentEomtConfig.from_dict({"backbone": 5})


@pytest.mark.parametrize(
    ("keys", "width", "activation"),
    [
        ({"mlp_ratio": 3}, 144, "gelu"),
        ({"mlp_ratio": 2.5, "hidden_act": "relu"}, 120, "relu"),
        ({"intermediate_size": 50, "use_gated_mlp": True}, 50, "gelu"),
        ({"use_swiglu_ffn": True}, 128, "silu"),
        ({"use_swiglu_ffn": True, "mlp_ratio": 3}, 96, "silu"),
    ],
)
def test_the_feed_forward_networks_follow_from_the_keys(keys, width, activation):
    config = UniSegmentEomtConfig(hidden_size=48, num_attention_heads=3, **keys)
    assert (config.feed_forward_dim, config.feed_forward_activation) == (width, activation)
    assert config.is_gated is bool(keys.keys() & {"use_gated_mlp", "use_swiglu_ffn"})


def test_the_gated_width_is_that_of_the_giant_dinov2():
    assert feed_forward_width(1536, 4, is_swiglu=True) == 4096


def test_masks_disappear_in_the_steps_of_the_paper():
    # The steps of the authors' configs of COCO: 12 epochs of 7391 steps, 4 and 5 blocks.
    starts = {4: [14782, 29564, 44346, 59128], 5: [14782, 25869, 36955, 48042, 59128]}
    for num_blocks, wanted in starts.items():
        shares = UniSegmentEomtConfig(num_blocks=num_blocks).annealing_shares
        assert [round(start * 88692) for start, _ in shares] == pytest.approx(wanted, abs=1)
        assert [round(end * 88692) for _, end in shares] == pytest.approx([step + 14782 for step in wanted], abs=1)
    assert UniSegmentEomtConfig(num_blocks=1).annealing_shares == [(1 / 6, 2 / 6)]
    given = UniSegmentEomtConfig(num_blocks=2, attn_mask_annealing_start=[0, 0.2], attn_mask_annealing_end=[0.1, 1])
    assert given.annealing_shares == [(0, 0.1), (0.2, 1)]
    # Masks are gone when the run is over, however late they begin to disappear.
    assert UniSegmentEomtConfig(num_blocks=1, attn_mask_annealing_start=[0.9]).annealing_shares == [(0.9, 1)]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"hiden_size": 8},
            "'hiden_size' is not a key of UniSegmentEomtConfig. The nearest valid one is 'hidden_size'",
        ),
        ({"hidden_size": 50}, r"hidden_size must be a multiple of num_attention_heads, got 50 for 16 heads\."),
        (
            {"hidden_size": 48, "num_attention_heads": 8, "position_encoding": "rope"},
            r"hidden_size must be a multiple of 4 times num_attention_heads \(rope\), got 48 for 8 heads\.",
        ),
        ({"num_blocks": 25}, r"num_blocks must be at most num_hidden_layers \(24\), got 25"),
        ({"num_blocks": 0}, "num_blocks: 0, expected a whole number from 1 to 500"),
        ({"patch_size": 14}, r"patch_size must be a multiple of 2\*\*num_upscale_blocks \(4\).*, got 14"),
        ({"image_size": 8}, r"image_size must be at least patch_size \(16\), got 8"),
        ({"image_size": [640, 640]}, r"image_size: \[640, 640\], expected a whole number from 1 to 16384"),
        ({"use_swiglu_ffn": True, "use_gated_mlp": True}, "use_swiglu_ffn and use_gated_mlp exclude each other"),
        ({"mlp_ratio": 1e-4}, r"mlp_ratio: 0\.0001 leaves the feed-forward networks no width"),
        ({"mlp_ratio": 0}, "mlp_ratio: 0, expected a number above 0"),
        ({"position_encoding": "sine"}, "position_encoding: 'sine', expected one of learned, rope or null"),
        ({"drop_path_rate": 1.0}, r"drop_path_rate: 1\.0, expected a number from 0 to 0\.999"),
        ({"pos_embed_rescale": 0.5}, r"pos_embed_rescale: 0\.5, expected a number from 1 to 1000"),
        ({"attn_mask_annealing_start": [0.1, 0.2]}, r"_start must have num_blocks \(4\) entries, got 2"),
        ({"attn_mask_annealing_end": [0.1] * 4}, r"_end must not lie before .*, got 0\.1 after 0\.166667 for block 0"),
        ({"attn_mask_annealing_start": [0.1, 0.2, 0.3, 2]}, "attn_mask_annealing_start: .*, expected a list of 1 to"),
        ({"num_hidden_layers": 10**7}, "num_hidden_layers: 10000000, expected a whole number from 1 to 500"),
        ({"loss_normalization": "none"}, "loss_normalization: 'none', expected one of global, rank"),
    ],
)
def test_impossible_values_are_named(keys, message):
    with pytest.raises(ValueError, match=message):
        UniSegmentEomtConfig(**keys)


def test_a_size_that_was_taken_away_later_is_named():
    config = UniSegmentEomtConfig()
    config.hidden_size = None
    with pytest.raises(ValueError, match=r"^hidden_size: None, expected a whole number from 1 to 32768\.$"):
        config.check_sizes()


@pytest.mark.parametrize("key", sorted({*KINDS, "rope_parameters", "backbone"}))
def test_a_value_of_any_kind_is_taken_or_refused(key):
    said = []
    for value in HOSTILE:
        for read in (UniSegmentEomtConfig.from_dict, read_eomt_config, read_eomt_dinov3_config):
            try:
                read({key: value})
            except ValueError as error:  # nothing else
                said.append(str(error))
    assert said
    assert [text for text in said if len(text) > 700 or "\n" in text] == []
