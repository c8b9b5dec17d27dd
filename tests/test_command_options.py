# SPDX-License-Identifier: Apache-2.0
import pytest
import typer

from unisegment.command_options import share


def test_a_share_is_from_0_to_1():
    assert [share(value) for value in (None, 0.0, 0.5, 1.0)] == [None, 0.0, 0.5, 1.0]
    for value in (-0.1, 1.1, float("nan")):
        with pytest.raises(typer.BadParameter, match="is not from 0 to 1"):
            share(value)
