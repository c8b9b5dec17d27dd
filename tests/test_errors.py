# SPDX-License-Identifier: Apache-2.0
import pickle

import pytest

from unisegment.errors import ForeseenError
from unisegment.hub import PushError
from unisegment.ops.kernel_backend import BackendError
from unisegment.ops.weight_sources import MissingSourceError
from unisegment.runs.folder_lock import FolderInUseError
from unisegment.runs.settings import RecipeError
from unisegment.training import TrainingInterruptedError


@pytest.mark.parametrize(
    ("kind", "base", "status", "by_all"),
    [
        (PushError, Exception, 1, False),
        (BackendError, RuntimeError, 1, False),
        (MissingSourceError, FileNotFoundError, 1, True),
        (FolderInUseError, ValueError, 1, True),
        (RecipeError, ValueError, 1, True),
        (TrainingInterruptedError, Exception, 75, True),
    ],
)
def test_errors_go_between_processes_and_say_how_the_command_ends(kind, base, status, by_all):
    error = pickle.loads(pickle.dumps(kind("what is wrong")))
    assert isinstance(error, base)
    assert isinstance(error, ForeseenError)
    assert (str(error), error.exit_status, error.found_by_all) == ("what is wrong", status, by_all)
