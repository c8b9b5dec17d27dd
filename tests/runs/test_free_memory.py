# SPDX-License-Identifier: Apache-2.0
import psutil
import pytest
import torch

from unisegment.runs import free_memory as module
from unisegment.runs.free_memory import free_memory

CPU = torch.device("cpu")
GIB = 2**30


@pytest.fixture
def groups(tmp_path, monkeypatch):
    """Return a function that lays out control groups; the machine has 64 GiB free."""
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    monkeypatch.setattr(module, "_GROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(module, "_OWN_GROUP", tmp_path / "own")
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Memory", (), {"available": 64 * GIB}))

    def lay_out(own, files):
        (tmp_path / "own").write_text(own)
        for name, content in files.items():
            file = tmp_path / "cgroup" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"{content}\n")

    return lay_out


def test_the_machine_s_memory_is_shared_by_the_processes_on_it(groups, monkeypatch):
    assert free_memory(CPU) == 64 * GIB
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert free_memory(CPU) == 16 * GIB


def test_what_this_machine_says_is_used():
    assert 0 < free_memory(CPU) <= psutil.virtual_memory().total


def test_a_container_of_version_2_and_those_around_it_limit(groups):
    files = {
        "memory.max": "max", "memory.current": 50 * GIB, "memory.stat": "inactive_file 0",
        "job/memory.max": 20 * GIB, "job/memory.current": 9 * GIB, "job/memory.stat": f"anon 7\ninactive_file {GIB}",
        "job/step/memory.max": 16 * GIB, "job/step/memory.current": 2 * GIB, "job/step/memory.stat": "inactive_file 0",
    }  # fmt: skip
    groups("0::/job/step\n", files)
    assert free_memory(CPU) == 12 * GIB  # of the job, of which the step could have 14
    groups("0::/job/step\n", {"job/memory.max": "max"})
    assert free_memory(CPU) == 14 * GIB


def test_version_1_limits(groups):
    files = {
        "memory/box/memory.limit_in_bytes": 8 * GIB, "memory/box/memory.usage_in_bytes": 3 * GIB,
        "memory/box/memory.stat": f"inactive_file 5\ntotal_inactive_file {GIB}",
    }  # fmt: skip
    groups("9:memory:/box\n3:cpu,cpuacct:/box\n0::/box\n", files)
    assert free_memory(CPU) == 6 * GIB


def test_a_group_that_is_over_its_limit_leaves_nothing(groups):
    files = {"memory.max": GIB, "memory.current": 2 * GIB, "memory.stat": "inactive_file 0"}
    groups("0::/\n", files)
    assert free_memory(CPU) == 0


def test_a_gpu_says_it_itself(monkeypatch):
    monkeypatch.setattr(torch, "get_device_module", lambda device: type("M", (), {"mem_get_info": lambda _: (7, 9)}))
    assert free_memory(torch.device("cuda")) == 7
