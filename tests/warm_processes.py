# SPDX-License-Identifier: Apache-2.0
"""Processes that need not import anything: a server has done so once, and forks one whenever it is asked.

A new interpreter takes seconds until PyTorch and transformers are imported, which is most of what a short run costs.
"""

import multiprocessing
import os
import runpy
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

_SERVES = "forkserver" in multiprocessing.get_all_start_methods()
context = multiprocessing.get_context("forkserver" if _SERVES else "spawn")
if _SERVES:
    context.set_forkserver_preload(
        [
            *(
                "pytest",
                "unisegment.cli",
                "unisegment.training",
                "unisegment.checking",
                "accelerate.checkpointing",
                "torch.distributed.fsdp",
                "datasets",
            ),
            *("transformers.models.resnet.modeling_resnet", "transformers.models.mask2former.modeling_mask2former"),
        ]
    )


NEVER = 600
"""Seconds after which a test that waits for something has found that it hangs, however busy the machine is."""


class WarmProcess:
    """A function in a process of its own, with as much of `subprocess.Popen` as tests need."""

    def __init__(self, function: Callable[..., Any], *arguments: Any, environment: Mapping[str, str] | None = None):
        self._files = [tempfile.NamedTemporaryFile("r+", encoding="utf-8") for _ in range(2)]  # noqa: SIM115
        self._said: tuple[str, ...] | None = None
        names = [file.name for file in self._files]
        # The server has the environment of the moment when it was started.
        variables = dict(os.environ if environment is None else environment)
        self._process = context.Process(target=_begin, args=(function, arguments, variables, names))
        self._process.start()
        self.pid: int = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def communicate(self, timeout: float = NEVER) -> tuple[str, str]:
        """Wait for the end, and return what was written to standard output and standard error."""
        self._process.join(timeout)
        assert self.returncode is not None, f"no end after {timeout} seconds"
        if self._said is None:
            self._said = tuple(file.seek(0) or file.read() for file in self._files)
            for file in self._files:
                file.close()
        return self._said


def _begin(
    function: Callable[..., Any], arguments: tuple[Any, ...], environment: dict[str, str], names: list[str]
) -> None:
    os.environ.clear()
    os.environ.update(environment)
    for number, name in enumerate(names, start=1):
        os.dup2(os.open(name, os.O_WRONLY | os.O_APPEND), number)
    torch.set_num_threads(1)
    if _SERVES:
        multiprocessing.set_start_method("fork", force=True)  # or else workers import everything anew
    function(*arguments)


def run_warm(
    function: Callable[..., Any], *arguments: Any, environment: Mapping[str, str] | None = None
) -> tuple[int, str, str]:
    """Return exit status, standard output and standard error of a function."""
    process = WarmProcess(function, *arguments, environment=environment)
    output, errors = process.communicate()
    return process.returncode, output, errors


def run_script(path: Path, *words: Any) -> None:
    """Do what `python path words` does."""
    sys.argv = [str(path), *map(str, words)]
    runpy.run_path(str(path), run_name="__main__")


def run_code(code: str, *words: Any) -> None:
    """Do what `python -c code words` does."""
    sys.argv = ["-c", *map(str, words)]
    exec(code, {"__name__": "__main__"})


def run_in_two(function: Callable[..., Any], *arguments: Any) -> None:
    """Do what torchrun does for two processes on this machine, which are forked."""
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=2,
        run_id=str(os.getpid()),
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        start_method="fork",
        max_restarts=0,
    )
    elastic_launch(config, function)(*arguments)
