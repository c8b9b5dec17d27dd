# SPDX-License-Identifier: Apache-2.0
from typing import get_args

import torch

from unisegment.models import choices
from unisegment.models.checkpoints import format_of


def test_the_words_are_known_to_torch_and_to_each_other():
    automatic, *dtypes = get_args(choices.Dtype)
    assert automatic == "auto"
    assert all(isinstance(getattr(torch, name), torch.dtype) for name in dtypes)
    assert {*get_args(choices.Layout)} - {"auto"} == {*get_args(choices.Format)} - {"original"}
    assert {format_of("folder"), format_of("file.pkl")} < {*get_args(choices.Format)}
