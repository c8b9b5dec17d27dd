# SPDX-License-Identifier: Apache-2.0
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from unisegment.ops.distributed import mean_over_processes


def test_one_process_keeps_its_value():
    value = torch.tensor([3.0, 5.0])
    assert mean_over_processes(value) is value


def _worker(rank: int, rendezvous: str, results) -> None:
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
    own = torch.tensor([1.0 + rank, 10.0 * rank])
    results.put((rank, mean_over_processes(own).tolist(), own.tolist(), dist.get_world_size()))
    dist.destroy_process_group()


def test_two_processes_share_their_mean(tmp_path):
    context = mp.get_context("spawn")
    results = context.Queue()
    processes = [context.Process(target=_worker, args=(rank, str(tmp_path / "rendezvous"), results)) for rank in (0, 1)]
    for process in processes:
        process.start()
    found = sorted(results.get(timeout=60) for _ in processes)
    for process in processes:
        process.join(timeout=60)
    assert found == [(0, [1.5, 5.0], [1.0, 0.0], 2), (1, [1.5, 5.0], [2.0, 10.0], 2)]
