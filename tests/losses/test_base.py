# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from unisegment.losses.base import NonFiniteLoss, term_names


def test_the_final_prediction_s_terms_come_first_and_have_no_number():
    assert term_names(2) == [
        "loss_cross_entropy", "loss_mask", "loss_dice", "loss_cross_entropy_0", "loss_mask_0", "loss_dice_0"
    ]  # fmt: skip
    assert term_names(1) == ["loss_cross_entropy", "loss_mask", "loss_dice"]


def test_a_loss_that_is_not_finite_is_a_runtime_error_with_what_a_loop_needs():
    weight = torch.tensor([2.0], requires_grad=True)
    error = NonFiniteLoss("what, and what to do", touching=[weight * 3], terms=["loss_mask"])
    with pytest.raises(RuntimeError, match="what, and what to do"):
        raise error
    (float("nan") * error.touching[0].sum()).backward()
    assert weight.grad.isnan().all()
    assert error.terms == ["loss_mask"]
