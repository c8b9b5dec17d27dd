# SPDX-License-Identifier: Apache-2.0
import contextlib
import warnings

import pytest
import torch

from unisegment.ops.tf32 import has_tf32, use_tf32

BACKENDS = torch.backends


def switches():
    """Return what each of torch's readers says: code beside ours, such as torch.compile, uses either kind."""
    return {
        "matmul": (BACKENDS.cuda.matmul.allow_tf32, BACKENDS.cuda.matmul.fp32_precision == "tf32"),
        "convolution": (BACKENDS.cudnn.allow_tf32, BACKENDS.cudnn.conv.fp32_precision == "tf32"),
        "in words": torch.get_float32_matmul_precision(),
        "processors": (BACKENDS.mkldnn.matmul.fp32_precision, BACKENDS.mkldnn.conv.fp32_precision),
    }


@pytest.mark.parametrize(("is_allowed", "words"), [(True, "high"), (False, "highest")])
def test_both_kinds_of_torchs_switches_say_the_same(is_allowed, words, monkeypatch):
    monkeypatch.setattr(torch.cuda, "_lazy_init", lambda: pytest.fail("CUDA was started"))
    before = switches()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with use_tf32(is_allowed):
            assert switches() == {
                "matmul": (is_allowed, is_allowed),
                "convolution": (is_allowed, is_allowed),
                "in words": words,
                "processors": before["processors"],
            }
            with use_tf32(not is_allowed):
                assert switches()["matmul"] == (not is_allowed, not is_allowed)
            assert switches()["in words"] == words
    assert switches() == before


@pytest.mark.parametrize("chosen", ["tf32", "ieee"])
def test_what_the_user_has_set_comes_back_also_after_an_error(chosen):
    before = BACKENDS.cuda.matmul.fp32_precision, BACKENDS.cudnn.conv.fp32_precision
    try:
        BACKENDS.cuda.matmul.fp32_precision = BACKENDS.cudnn.conv.fp32_precision = chosen
        with contextlib.suppress(ArithmeticError), use_tf32(chosen == "ieee"):
            assert switches()["matmul"] == switches()["convolution"] == (chosen == "ieee",) * 2
            raise ArithmeticError
        assert (BACKENDS.cuda.matmul.fp32_precision, BACKENDS.cudnn.conv.fp32_precision) == (chosen, chosen)
        assert switches()["matmul"] == switches()["convolution"] == (chosen == "tf32",) * 2
    finally:
        BACKENDS.cuda.matmul.allow_tf32, BACKENDS.cudnn.allow_tf32 = (precision == "tf32" for precision in before)
        BACKENDS.cuda.matmul.fp32_precision, BACKENDS.cudnn.conv.fp32_precision = before


def test_processors_have_none():
    assert not has_tf32(torch.device("cpu"))
