# SPDX-License-Identifier: Apache-2.0
import pytest
import typer

from unisegment.command_options import run_name, share


def test_a_share_is_from_0_to_1():
    assert [share(value) for value in (None, 0.0, 0.5, 1.0)] == [None, 0.0, 0.5, 1.0]
    for value in (-0.1, 1.1, float("nan")):
        with pytest.raises(typer.BadParameter, match="is not from 0 to 1"):
            share(value)


def test_the_name_of_a_run_is_part_of_a_name():
    assert run_name("Swin-L 2.0+") == "Swin-L 2.0+"
    for value in ("", "a/b", "../x", "x\n"):
        with pytest.raises(typer.BadParameter, match="name of the algorithm is part of names of files"):
            run_name(value)
