# SPDX-License-Identifier: Apache-2.0
"""A run that is broken off while it puts a file in its place."""

import os


def break_off(monkeypatch, call):
    """Let the n-th file that is to get its name, from 1, not get it: the run is interrupted there."""
    rename, calls = os.replace, []

    def dying(source, target):
        calls.append(1)
        if len(calls) == call:
            raise KeyboardInterrupt
        return rename(source, target)

    monkeypatch.setattr("pathlib.os.replace", dying)
