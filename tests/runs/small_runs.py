# SPDX-License-Identifier: Apache-2.0
"""Folders of runs, with the files that say how far they have come."""

import json


def write_unfinished(folder):
    for step in (2, 1_000_000, 999_999):
        (folder.states / f"step-{step:06d}").mkdir(parents=True)
    (folder.states / "step-1000001.partial~").mkdir()
    folder.recipe.write_text("run: {}")
    folder.metrics.write_text(json.dumps({"step": 10, "finished": False}))
    return folder


def write_finished(folder):
    write_unfinished(folder).metrics.write_text(json.dumps({"step": 12, "finished": True}))
    return folder
