# SPDX-License-Identifier: Apache-2.0
"""Every test starts from the same random numbers and never reaches for the network."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"

import pytest
import torch


@pytest.fixture(autouse=True)
def _same_random_numbers():
    torch.manual_seed(0)
