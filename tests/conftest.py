# SPDX-License-Identifier: Apache-2.0
"""Every test starts from the same random numbers and never reaches for the network."""

import os
import re
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import pytest
import torch

# The models of the tests are tiny: more threads would only wait for each other.
torch.set_num_threads(1)

# Files whose tests need what Windows does not have: signals, forks, links that anybody may make, modes of files.
_NOT_OF_WINDOWS = re.compile(
    r"\bos\.(kill|killpg|mkfifo|uname|geteuid)\b|SIGKILL|symlink|fcntl|import resource|chmod|/dev/|/proc/|"
    r"warm_processes|two_processes|quick_compiler|emulation"
)
collect_ignore = [
    path.relative_to(Path(__file__).parent).as_posix()
    for path in Path(__file__).parent.rglob("test_*.py")
    if os.name == "nt" and _NOT_OF_WINDOWS.search(path.read_text(encoding="utf-8"))
]


@pytest.fixture(autouse=True)
def _same_random_numbers():
    torch.manual_seed(0)
