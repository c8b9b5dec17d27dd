# SPDX-License-Identifier: Apache-2.0
import math

import pytest
import torch
from torch import nn

from unisegment.runs.recipe import OptimRecipe, ScheduleRecipe
from unisegment.training.optimization import lr_factor, make_optimizer, make_schedule, parameter_groups, take_over


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.project = nn.Linear(3, 3)
        self.relative_position_bias_table = nn.Parameter(torch.zeros(5))


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.ModuleDict({"attn": Attention(), "norm": nn.BatchNorm2d(3), "stem": nn.Conv2d(3, 3, 1)})
        self.norm = nn.LayerNorm(3)
        self.group_norm = nn.GroupNorm(1, 3)
        self.queries = nn.Embedding(7, 3)
        self.level_embed = nn.Parameter(torch.zeros(3, 3))
        self.head = nn.Linear(3, 2)
        self.tied_head = nn.Linear(3, 2)
        self.tied_head.weight = self.head.weight
        self.frozen = nn.Linear(3, 3).requires_grad_(False)


def names_by_group(model, groups):
    name_of = {parameter: name for name, parameter in model.named_parameters()}
    return {
        (group["lr"], group["weight_decay"]): {name_of[parameter] for parameter in group["params"]} for group in groups
    }


def test_groups_follow_the_original_rules():
    model = Model()
    groups = parameter_groups(model, OptimRecipe(lr=1.0, weight_decay=0.05, backbone_lr_factor=0.125))
    assert names_by_group(model, groups) == {
        (0.125, 0.05): {
            *("backbone.attn.project.weight", "backbone.attn.project.bias"),
            *("backbone.stem.weight", "backbone.stem.bias"),
        },
        (0.125, 0.0): {
            *("backbone.attn.relative_position_bias_table", "backbone.norm.weight", "backbone.norm.bias"),
        },
        # Biases are decayed, and so is a level embedding that is a bare parameter.
        (1.0, 0.05): {"level_embed", "head.weight", "head.bias", "tied_head.bias"},
        (1.0, 0.0): {"norm.weight", "norm.bias", "group_norm.weight", "group_norm.bias", "queries.weight"},
    }
    assert sum(len(group["params"]) for group in groups) == 16


class PlainViT(Model):
    """Its blocks are two layers of a backbone, above a stem."""

    def __init__(self):
        super().__init__()
        self.backbone["layers"] = nn.ModuleList(nn.Linear(3, 3) for _ in range(2))

    def layers_above(self, name):
        return {"backbone.layers.0": 1, "backbone.stem": 1}.get(name.rpartition(".")[0], 0)


def test_lower_layers_learn_at_a_lower_rate():
    model = PlainViT()
    groups = parameter_groups(model, OptimRecipe(lr=2.0, weight_decay=0.5, backbone_lr_factor=0.25, layer_decay=0.5))
    found = names_by_group(model, groups)
    lower = {f"backbone.{part}.{name}" for part in ("layers.0", "stem") for name in ("weight", "bias")}
    assert found[0.25, 0.5] == lower
    assert {"backbone.layers.1.weight", "backbone.attn.project.bias"} <= found[0.5, 0.5]
    assert "head.weight" in found[2.0, 0.5]
    assert {rate for rate, _ in found} == {0.25, 0.5, 2.0}


@pytest.mark.parametrize(("full", "rates"), [(0, {0.25, 0.5, 2.0}), (1, {0.25, 0.5, 2.0}), (2, {0.5, 2.0})])
def test_the_last_layers_may_learn_at_the_full_rate(full, rates):
    optim = OptimRecipe(lr=2.0, backbone_lr_factor=0.25, layer_decay=0.5, full_rate_layers=full)
    assert {group["lr"] for group in parameter_groups(PlainViT(), optim)} == rates


def test_all_weights_take_their_step_in_one_kernel():
    optimizer = make_optimizer(Model(), OptimRecipe())
    assert all(group["fused"] for group in optimizer.param_groups)


def test_all_weights_are_decayed_on_request():
    groups = parameter_groups(Model(), OptimRecipe(lr=1.0, weight_decay=0.05, decay_all=True))
    assert sorted((group["lr"], group["weight_decay"], len(group["params"])) for group in groups) == [
        (0.1, 0.05, 7),
        (1.0, 0.05, 9),
    ]


def test_a_backbone_that_rises_later_is_kept_apart_at_an_equal_rate():
    model, optim = Model(), OptimRecipe(lr=1.0, backbone_lr_factor=1.0)
    schedule = ScheduleRecipe(max_steps=5, name="two_stage_poly", warmup_steps=2, backbone_warmup_steps=2, power=1)
    assert len(parameter_groups(model, optim)) == len(parameter_groups(model, optim, ScheduleRecipe(max_steps=5))) == 2
    optimizer = make_optimizer(model, optim, schedule)
    rates = make_schedule(optimizer, schedule)
    names = {name for name, _ in model.named_parameters() if name.startswith("backbone.")}
    for in_backbone, rest in [(0, 0), (0, 1 / 2), (0, 1), (1 / 2, 2 / 3), (1, 1 / 3)]:
        for group in optimizer.param_groups:
            (is_backbone,) = {name in names for name in names_by_group(model, [group]).popitem()[1]}
            assert group["lr"] == pytest.approx(in_backbone if is_backbone else rest)
        optimizer.step()
        rates.step()


def factors(steps, **keys):
    factor = lr_factor(ScheduleRecipe(max_steps=steps, **keys))
    return [factor(step) for step in range(steps)]


def test_poly_by_hand():
    assert factors(4, name="poly", power=2) == [1.0, 0.75**2, 0.5**2, 0.25**2]
    assert factors(10)[5] == pytest.approx(0.5**0.9)


def test_steps_by_hand():
    assert factors(9, name="step", milestones=(1 / 3, 7 / 9), gamma=0.5) == [1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25]
    factor = lr_factor(ScheduleRecipe(max_steps=368750, name="step"))
    assert [factor(step) for step in (327777, 327778, 355000, 355093)] == pytest.approx([1, 0.1, 0.1, 0.01])


# Written out from the formula of the paper's code: 11 steps, of which the rest rises in 2 and the backbone in 3 more.
TWO_STAGES = {
    "rest": [0, 1 / 2, 1, 8 / 9, 7 / 9, 6 / 9, 5 / 9, 4 / 9, 3 / 9, 2 / 9, 1 / 9],
    "backbone": [0, 0, 0, 1 / 3, 2 / 3, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6],
}
AT_ONCE = [1, 10 / 11, 9 / 11, 8 / 11, 7 / 11, 6 / 11, 5 / 11, 4 / 11, 3 / 11, 2 / 11, 1 / 11]


@pytest.mark.parametrize(
    ("warmup", "backbone_warmup", "part", "expected"),
    [
        (2, 3, "rest", TWO_STAGES["rest"]),
        (2, 3, "backbone", TWO_STAGES["backbone"]),
        (2, 0, "backbone", [0, 0, *TWO_STAGES["rest"][2:]]),
        (0, 0, "rest", AT_ONCE),
        (0, 0, "backbone", AT_ONCE),
        (0, 5, "rest", AT_ONCE),
        (0, 5, "backbone", [0, 1 / 5, 2 / 5, 3 / 5, 4 / 5, *TWO_STAGES["backbone"][5:]]),
        (11, 4, "rest", [step / 11 for step in range(11)]),  # nothing is left to fall in
        (11, 4, "backbone", [0] * 11),
    ],
)
@pytest.mark.parametrize("power", [1, 0.9])
def test_the_backbone_rises_in_a_second_stage(warmup, backbone_warmup, part, expected, power):
    schedule = ScheduleRecipe(
        max_steps=11, name="two_stage_poly", warmup_steps=warmup, backbone_warmup_steps=backbone_warmup, power=power
    )
    factor = lr_factor(schedule, part == "backbone")
    # Both parts rise in a line, whatever the power of their fall.
    rising = warmup if part == "rest" else warmup + backbone_warmup
    expected = [value if step < rising else value**power for step, value in enumerate(expected)]
    assert [factor(step) for step in range(11)] == pytest.approx(expected, abs=1e-15)


def test_warm_up_is_a_line_that_ends_at_one():
    assert factors(5, name="constant", warmup_steps=3) == [0.25, 0.5, 0.75, 1.0, 1.0]


@pytest.mark.parametrize(("steps", "rise"), [(23, 0.3), (7, 0.5), (5, 0.0), (5, 1.0), (1, 0.3)])
def test_one_cycle_is_that_of_torch(steps, rise):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 1.0, total_steps=steps, pct_start=rise, cycle_momentum=False
    )
    expected = []
    for step in range(steps):
        expected.append(theirs.get_last_lr()[0])
        optimizer.step()
        if step < steps - 1:
            theirs.step()
    assert factors(steps, name="one_cycle", rise=rise) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", ["poly", "two_stage_poly", "step", "one_cycle", "constant"])
@pytest.mark.parametrize(("steps", "rise"), [(1, 1.0), (3, 1 / 3), (7, 0.3)])
@pytest.mark.parametrize("in_backbone", [False, True])
def test_every_schedule_can_be_asked_for_the_step_after_the_last(name, steps, rise, in_backbone):
    factor = lr_factor(ScheduleRecipe(max_steps=steps, name=name, rise=rise, backbone_warmup_steps=3), in_backbone)
    assert all(0 <= factor(step) <= 1 for step in range(steps + 2))


def test_the_schedule_moves_every_group():
    model = Model()
    optimizer = make_optimizer(model, OptimRecipe(lr=2.0, backbone_lr_factor=0.25))
    schedule = make_schedule(optimizer, ScheduleRecipe(max_steps=2, power=1))
    assert sorted({group["lr"] for group in optimizer.param_groups}) == [0.5, 2.0]
    optimizer.step()
    schedule.step()
    assert sorted({group["lr"] for group in optimizer.param_groups}) == [0.25, 1.0]


def test_the_optimiser_is_adamw():
    parameter = nn.Linear(1, 1, bias=False)
    nn.init.constant_(parameter.weight, 2.0)
    optimizer = make_optimizer(parameter, OptimRecipe(lr=0.1, weight_decay=0.5))
    parameter.weight.grad = torch.full((1, 1), 3.0)
    optimizer.step()
    # Decay by lr * 0.5, then a first step of length lr.
    assert math.isclose(parameter.weight.item(), 2.0 * (1 - 0.05) - 0.1, rel_tol=1e-6)


@pytest.mark.parametrize("name", ["poly", "two_stage_poly"])
def test_rates_of_the_recipe_go_before_those_of_a_state_and_their_schedule_goes_on(name):
    schedule = ScheduleRecipe(max_steps=10, name=name, warmup_steps=2, backbone_warmup_steps=3)

    def make(lr, weight_decay, factor, steps):
        optim = OptimRecipe(lr=lr, weight_decay=weight_decay, backbone_lr_factor=factor)
        optimizer = make_optimizer(Model(), optim, schedule)
        rates = make_schedule(optimizer, schedule)
        for _ in range(steps):
            optimizer.step()
            rates.step()
        return optimizer, rates

    def settings(optimizer):
        return [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]

    old, _ = make(1e-3, 0.05, 0.1, steps=4)
    new, new_rates = make(3e-4, 0.2, 0.5, steps=0)
    asked = settings(new)
    new.load_state_dict(old.state_dict())
    take_over(new, new_rates, asked, step=4)
    expected, expected_rates = make(3e-4, 0.2, 0.5, steps=4)
    for _ in range(2):
        assert settings(new) == settings(expected)
        assert new_rates.get_last_lr() == expected_rates.get_last_lr()
        for optimizer, rates in ((new, new_rates), (expected, expected_rates)):
            optimizer.step()
            rates.step()
