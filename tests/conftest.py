# SPDX-License-Identifier: Apache-2.0
"""Every test starts from the same random numbers and never reaches for the network."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"

import pytest
import torch

# The models of the tests are tiny: more threads would only wait for each other.
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _same_random_numbers():
    torch.manual_seed(0)
