# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from unisegment.ops.weight_names import WeightNames

NAMES = WeightNames(
    [
        ("head", "predictor.out"),
        ("body.{i}.layers.{j}.norm", "stages.{i}.{j}.bn"),
        ("body.{i}.layers.{j}.conv.weight", "stages.{i}.{j}.weight"),
    ],
    fused=[("attention.{i}.{part}_proj.{leaf}", "blocks.{i}.in_proj_{leaf}")],
    kind="A toy",
)


def foreign():
    return {
        "predictor.out.weight": torch.randn(3, 2),
        "predictor.out": torch.randn(1),
        "stages.2.11.bn.running_mean": torch.randn(5),
        "stages.2.11.weight": torch.randn(5, 7),
        "blocks.13.in_proj_weight": torch.randn(6, 3),
        "blocks.13.in_proj_bias": torch.randn(6),
    }


def test_names_go_both_ways():
    theirs = foreign()
    ours = NAMES.to_ours(theirs)
    assert set(ours) == {
        "head.weight", "head", "body.2.layers.11.norm.running_mean", "body.2.layers.11.conv.weight",
        *(f"attention.13.{part}_proj.{leaf}" for part in "qkv" for leaf in ("weight", "bias")),
    }  # fmt: skip
    assert torch.equal(ours["attention.13.k_proj.weight"], theirs["blocks.13.in_proj_weight"][2:4])
    # Files keep names in alphabetical order, keys before queries.
    back = NAMES.to_theirs(dict(sorted(ours.items())))
    assert back.keys() == theirs.keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in theirs.items())


def test_split_tensors_do_not_share_memory():
    theirs = foreign()
    ours = NAMES.to_ours(theirs)
    theirs["blocks.13.in_proj_bias"].zero_()
    assert ours["attention.13.v_proj.bias"].abs().min() > 0


def test_shapes_alone_can_be_renamed():
    with torch.device("meta"):
        theirs = {name: torch.empty_like(tensor) for name, tensor in foreign().items()}
    assert {name: tensor.shape for name, tensor in NAMES.to_theirs(NAMES.to_ours(theirs)).items()} == {
        name: tensor.shape for name, tensor in theirs.items()
    }


@pytest.mark.parametrize("rename", [NAMES.to_ours, NAMES.to_theirs])
def test_unknown_names_are_listed(rename):
    with pytest.raises(ValueError, match=r"A toy has no weights named 'x0', 'x1', 'x2' and 1 more\."):
        rename({f"x{number}": torch.zeros(1) for number in range(4)})
    with pytest.raises(ValueError, match=r"A toy has no weights named 'body\.a\.norm'\."):
        rename({"body.a.norm": torch.zeros(1)})


def test_a_fused_tensor_that_has_no_three_parts_is_named():
    with pytest.raises(ValueError, match=r"'blocks\.1\.in_proj_bias' holds queries, .* got shape \(7,\)"):
        NAMES.to_ours({"blocks.1.in_proj_bias": torch.zeros(7)})


def test_one_weight_by_two_names_is_named():
    names = WeightNames([("a", "old"), ("a", "new")], kind="A toy")
    with pytest.raises(ValueError, match="'new' stands for a weight that is there already"):
        names.to_ours({"old": torch.zeros(1), "new": torch.zeros(1)})
