# SPDX-License-Identifier: Apache-2.0
import re

import pytest
import torch
from transformers import ResNetConfig

from unisegment.backbones.weight_fit import STAGES, layer_counts, require_expressible, require_fit, size_of

OWN = {"a.weight": torch.zeros(3, 5), "b.weight": torch.zeros(7)}


def test_what_fits_passes_and_what_never_matters_may_be_missing_or_left_over():
    require_fit(OWN, OWN, "")
    optional = ("hidden_states_norms.stage1.bias", "swin.layernorm.weight", "x.num_batches_tracked")
    with_optional = OWN | dict.fromkeys(optional, torch.zeros(()))
    require_fit(OWN, with_optional, "")
    require_fit(with_optional, OWN, "")


def test_everything_that_does_not_fit_is_named():
    wrong = {"a.weight": torch.zeros(5, 3), "c.weight": torch.zeros(7)}
    message = (
        "No: 1 weights are missing (first: b.weight), 1 are left over (first: c.weight), 1 have another shape "
        "(first: a.weight (5, 3) instead of (3, 5))."
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        require_fit(wrong, OWN, "No")


def test_a_config_that_says_less_than_the_weights_is_refused():
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1], out_features=STAGES)
    with pytest.raises(ValueError, match=r"Two: \d+ weights are missing .*, 2 are left over \(first: a.weight, b"):
        require_expressible(OWN, config, "Two")


def names(*layers):
    return [f"stages.{stage}.layers.{layer}.weight" for stage, layer in layers]


def test_layers_are_counted_stage_by_stage():
    layer = re.compile(r"stages\.(\d+)\.layers\.(\d+)\.")
    all_stages = [(0, 0), (0, 1), (1, 0), (2, 0), (2, 2), (2, 1), (3, 0)]
    assert layer_counts([*names(*all_stages), "head"], layer, "Net") == [2, 1, 3, 1]
    with pytest.raises(ValueError, match=r"A Net has stages 0 to 3; .* there are stages \[0, 1, 3\]"):
        layer_counts(names((0, 0), (1, 0), (3, 0)), layer, "Net")
    with pytest.raises(ValueError, match=r"there are stages \[\]"):
        layer_counts(["head"], layer, "Net")
    with pytest.raises(ValueError, match=r"Stage 2 of this Net has a layer 2 or above, but no layer 1"):
        layer_counts(names((0, 0), (1, 0), (2, 0), (2, 999), (3, 0)), layer, "Net")


def test_a_size_that_is_not_there_is_named():
    assert size_of(OWN, "a.weight", 1) == 5
    with pytest.raises(ValueError, match=r"The weight 'c.weight' is missing"):
        size_of(OWN, "c.weight")
    with pytest.raises(ValueError, match=r"'b.weight' has shape \(7,\): there is nothing along axis 1"):
        size_of(OWN, "b.weight", 1)
    with pytest.raises(ValueError, match=r"has shape \(0,\): there is nothing along axis 0"):
        size_of({"d": torch.zeros(0)}, "d")
