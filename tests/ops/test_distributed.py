# SPDX-License-Identifier: Apache-2.0
import torch
import torch.distributed as dist

from tests.two_processes import run_in_two_processes
from unisegment.ops.distributed import mean_over_processes


def test_one_process_keeps_its_value():
    value = torch.tensor([3.0, 5.0])
    assert mean_over_processes(value) is value


def _mean(rank: int) -> tuple[list[float], list[float], int]:
    own = torch.tensor([1.0 + rank, 10.0 * rank])
    return mean_over_processes(own).tolist(), own.tolist(), dist.get_world_size()


def test_two_processes_share_their_mean(tmp_path):
    found = run_in_two_processes(_mean, tmp_path)
    assert found == [([1.5, 5.0], [1.0, 0.0], 2), ([1.5, 5.0], [2.0, 10.0], 2)]
