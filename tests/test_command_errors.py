# SPDX-License-Identifier: Apache-2.0
"""Words in, exit status and one line out; what the commands do is tested elsewhere."""

import errno
import os
import signal
import time
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader
from typer.testing import CliRunner

from unisegment import cli, training
from unisegment.checking import check, sources
from unisegment.hub import PushError
from unisegment.ops.kernel_backend import BackendError
from unisegment.ops.weight_sources import MissingSourceError
from unisegment.runs.recipe import load_recipe
from unisegment.training import NonFiniteLossError, RecipeError, TrainingInterruptedError, WriteError


def run(*words):
    return CliRunner().invoke(cli.app, words, prog_name="unisegment")


def fail_with(monkeypatch, error):
    def fit(recipe, **overrides):
        raise error

    monkeypatch.setattr(training, "fit", fit)


def test_overrides_reach_the_run(monkeypatch):
    seen = []
    monkeypatch.setattr(training, "fit", seen.append)
    assert run("train", "quickstart", "optim.lr=1e-4", "run.seed=3").exit_code == 0
    assert seen == [load_recipe("quickstart", {"optim.lr": 1e-4, "run.seed": 3})]


def test_a_dry_run_prints_and_runs_nothing(monkeypatch):
    monkeypatch.setattr(training, "fit", None)
    monkeypatch.setattr(training, "dry_run", lambda recipe, memory: f"seed {recipe.run.seed}, memory {memory}")
    assert run("train", "quickstart", "run.seed=3", "--dry-run").output == "seed 3, memory False\n"
    assert run("train", "quickstart", "--dry-run", "--memory").output == "seed 0, memory True\n"
    alone = run("train", "quickstart", "--memory")
    assert (alone.exit_code, "give it with --dry-run" in alone.stderr) == (2, True)


def test_learning_rates_are_tried_and_nothing_is_run(monkeypatch):
    monkeypatch.setattr(training, "fit", None)
    monkeypatch.setattr(training, "find_lr", lambda recipe: f"seed {recipe.run.seed}")
    assert run("train", "quickstart", "run.seed=3", "--find-lr").output == "seed 3\n"


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (TrainingInterruptedError("Stopped after step 3."), 75, "Stopped after step 3."),
        (KeyboardInterrupt(), 75, "Interrupted."),
        (NonFiniteLossError(["a.jpg"]), 1, "error: The loss"),
        (WriteError.of(Path("log.jsonl"), OSError("no room")), 1, "error: log.jsonl could not be written"),
        (RecipeError("there is\n  no key"), 1, "error: there is no key"),
        (PushError("not pushed"), 1, "error: not pushed"),
        (MissingSourceError("/nope does not exist."), 1, "error: /nope does not exist."),
        (BackendError("The kernel is demanded."), 1, "error: The kernel is demanded."),
        (ValueError(), 1, "error: ValueError"),
        (OSError(errno.EACCES, "Denied", "a.json"), 1, "error: a.json cannot be used: Denied. Change its permissions"),
        (
            OSError(errno.ENOSPC, "Full"),
            1,
            "error: The output of this command, or a temporary file (TMPDIR says where)",
        ),
        (OSError(errno.EPROTO, "No words"), 1, f"error: [Errno {errno.EPROTO}] No words"),
        (RuntimeError("[gloo/transport/tcp/pair.cc:537] Read error"), 1, "error: the connection to another process"),
        (RuntimeError("DataLoader worker (pid(s) 7) exited unexpectedly"), 1, "error: a process that loads images was"),
        (RuntimeError("DataLoader timed out after 3 seconds"), 1, "error: a process that loads images was"),
        (torch.distributed.DistBackendError("NCCL error"), 1, "error: the connection to another process"),
    ],
)
def test_errors_become_one_line_and_a_status(monkeypatch, error, status, said):
    fail_with(monkeypatch, error)
    result = run("train", "quickstart")
    assert "fault of unisegment" not in result.stderr
    assert result.exit_code == status
    assert (len(result.stderr.splitlines()), result.stderr[: len(said)]) == (1, said)


def test_help_that_cannot_be_written(monkeypatch):
    def full(*words, **settings):
        raise OSError(errno.ENOSPC, "Full")

    monkeypatch.setattr(cli.Commands.__mro__[1], "main", full)
    result = run("--help")
    assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1)
    assert result.stderr.startswith("error: The output of this command")


def test_ctrl_c_while_words_are_read(monkeypatch):
    def interrupted(*words, **settings):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.Commands.__mro__[1], "make_context", interrupted)
    result = run("info")
    assert (result.exit_code, result.stderr.strip()) == (75, "Interrupted.")


def test_faults_of_the_library_are_one_line_that_asks_for_a_report(monkeypatch):
    fail_with(monkeypatch, KeyError("what"))
    result = run("train", "quickstart")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: KeyError: 'what'. This is a fault of unisegment")
    assert len(result.stderr.splitlines()) == 1
    assert "--debug" in result.stderr


@pytest.mark.parametrize("words", [("--debug", "train", "quickstart"), ("train", "quickstart", "--debug")])
@pytest.mark.parametrize("error", [KeyError("what"), ValueError("what")])
def test_debug_shows_the_traceback_before_the_line(monkeypatch, error, words):
    fail_with(monkeypatch, error)
    lines = run(*words).stderr.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert any("raise error" in line for line in lines)
    assert lines[-1].startswith("error: ")
    assert "--debug" in run("train", "--help").output


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB."),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
    ],
)
def test_too_little_memory_is_no_fault_of_the_library(monkeypatch, error):
    fail_with(monkeypatch, error)
    stderr = run("train", "quickstart").stderr
    assert stderr.startswith("error: there is not enough memory: ")
    assert "report it" not in stderr


def test_a_line_holds_no_control_characters_and_no_megabytes(monkeypatch):
    fail_with(monkeypatch, ValueError("a\x1b[2J\udcff\nb " + "x" * 10**6 + "end"))
    (line,) = run("train", "quickstart").stderr.splitlines()
    assert line.startswith(r"error: a\x1b[2J\udcff b xxx")
    assert line.endswith("xend")
    assert len(line) < 2100


class Unreadable(torch.utils.data.Dataset):
    """A data set whose images cannot be read."""

    def __len__(self):
        return 1

    def __getitem__(self, index):
        raise ValueError("b.jpg: 0\nbytes: none")


def test_what_a_worker_found_is_said_without_its_traceback(monkeypatch):
    with pytest.raises(ValueError, match="Original Traceback") as caught:
        list(DataLoader(Unreadable(), num_workers=1))
    fail_with(monkeypatch, caught.value)
    assert run("train", "quickstart").stderr == "error: b.jpg: 0 bytes: none\n"


def test_what_all_processes_find_is_said_once_for_each_machine(monkeypatch):
    for rank, local_rank, shared, own in (
        ("0", "0", "error: ", "error: "),
        ("3", "1", "", "process 3: error: "),
        ("8", "0", "process 8: error: ", "process 8: error: "),
    ):
        monkeypatch.setenv("RANK", rank)
        monkeypatch.setenv("LOCAL_RANK", local_rank)
        for error, expected in ((RecipeError("x"), shared), (OSError("x"), own)):
            fail_with(monkeypatch, error)
            assert run("train", "quickstart").stderr == (f"{expected}x\n" if expected else "")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["trian"], "error: No such command 'trian'. Did you mean 'train'? See"),
        (["train"], "error: Missing argument"),
        (["--bogus"], "error: No such option: --bogus"),
        (["convert", "a", "b", "--to", "onnx"], "error: Invalid value for '--to'"),
        (["evaluate", "a", "b", "--format", "voc"], "error: Invalid value for '--format'"),
        (["check-data", "a", "--format", "voc"], "error: Invalid value for '--format'"),
        (["predict", "a", "b", "c", "--to", "voc"], "error: Invalid value for '--to': 'voc' is not one of 'pictures'"),
        (["evaluate", "a"], "error: Invalid value: Say where the data are"),
    ],
)
def test_misuse_is_one_line_that_names_the_help(words, said):
    result = run(*words)
    assert result.exit_code == 2
    assert result.stderr.startswith(said)
    (line,) = result.stderr.splitlines()
    known = words[0] if words[0] in ("train", "convert", "evaluate", "check-data", "predict") else ""
    assert ".." not in line
    assert line.endswith(f" See `{f'unisegment {known}'.strip()} --help`.")


def test_without_a_command_all_of_them_are_listed():
    result = run()
    assert result.exit_code == 2
    assert all(word in result.output for word in ("Usage", "train", "predict"))


def test_a_tilde_is_the_users_folder_in_words_and_options(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    seen = []
    monkeypatch.setattr(training, "fit", lambda recipe: seen.append(recipe.run.output_dir))
    (tmp_path / "mine.yaml").write_text("extends: quickstart")
    run("train", "~/mine.yaml", "run.output_dir=~/run")
    monkeypatch.setattr(sources, "find_parts", lambda *words: seen.append(words[0]) or [])
    monkeypatch.setattr(check, "check_data", lambda *_, **words: seen.append(words))
    run("check-data", "~/mine", "--output=~/report")
    assert seen == [f"{tmp_path}/run", [f"{tmp_path}/mine"]]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_interrupt_every_command(monkeypatch, number):
    if number == signal.SIGINT:  # a shell that starts something with & lets it be ignored
        signal.signal(number, signal.default_int_handler)
    before = signal.getsignal(number)
    monkeypatch.setattr(sources, "find_parts", lambda *words: os.kill(os.getpid(), number) or time.sleep(60))
    result = run("check-data", "mine")
    assert (result.exit_code, result.stderr) == (75, "Interrupted.\n")
    assert signal.getsignal(number) == before


def test_what_a_command_has_forked_ends_by_sigterm_without_a_word(monkeypatch):
    def fork(*words):
        begun, says_so = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(says_so, b".")  # a signal before this is lost: Python forgets those that come while it forks
            time.sleep(60)
            os._exit(1)
        os.read(begun, 1)
        os.close(begun)
        os.close(says_so)
        os.kill(child, signal.SIGTERM)
        raise ValueError(f"ended with {os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}")

    monkeypatch.setattr(sources, "find_parts", fork)
    assert run("check-data", "mine").stderr == "error: ended with 75\n"
