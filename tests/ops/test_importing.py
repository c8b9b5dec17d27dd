# SPDX-License-Identifier: Apache-2.0
"""Imports without a search for garbage."""

import gc

import pytest

from unisegment.ops.importing import importing


def fail():
    assert not gc.isenabled()
    raise ImportError


@pytest.mark.parametrize("switch", [gc.enable, gc.disable])
def test_garbage_is_looked_for_afterwards_as_before_whatever_happens(switch):
    before = gc.isenabled()
    try:
        switch()
        expected = gc.isenabled()
        with pytest.raises(ImportError), importing():
            fail()
        assert gc.isenabled() == expected
    finally:
        (gc.enable if before else gc.disable)()
