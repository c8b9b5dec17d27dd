# SPDX-License-Identifier: Apache-2.0
"""A folder is one run's until that has ended, in whatever way."""

import errno
import multiprocessing
import os
import re
import signal
import socket
import sys
import threading
import time
from contextlib import suppress

import pytest

from tests.warm_processes import WarmProcess
from unisegment.files import WriteError
from unisegment.runs import folder_lock
from unisegment.runs.folder_lock import LOCK, FolderInUseError, locked

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no lock on this system")


def hold(folder, with_child=False):
    """Have the lock until killed, as a run with a process that loads images would."""
    with locked(folder):
        if with_child:
            multiprocessing.get_context("fork").Process(target=live, args=(folder,)).start()
        else:
            (folder / "ready").touch()
        time.sleep(60)


def live(folder):
    """Be a child, and say so only here: its parent may be killed before it has come so far as to let go."""
    (folder / "child").write_text(str(os.getpid()))
    (folder / "ready").touch()
    time.sleep(60)


def held(folder, *arguments):
    process = WarmProcess(hold, folder, *arguments)
    while not (folder / "ready").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    return process


def refused(folder):
    """Return what is said where the lock is another one's."""
    try:
        with locked(folder):
            return ""
    except FolderInUseError as error:
        return str(error)


def test_a_folder_is_made_and_left_as_it_was(tmp_path):
    folder = tmp_path / "runs" / "first"
    with locked(folder):
        assert [path.name for path in folder.iterdir()] == [LOCK]
    assert list(tmp_path.iterdir()) == []
    folder.mkdir(parents=True)
    with locked(folder):
        (folder / "result").touch()
    assert [path.name for path in folder.iterdir()] == ["result"]


def test_the_next_one_is_told_who_is_there_and_since_when(tmp_path):
    process = held(tmp_path)
    try:
        refusal = refused(tmp_path)
        said = (
            rf"{tmp_path} is in use by process {process.pid} on {re.escape(socket.gethostname())} "
            r"since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4}\. Wait until it has ended, .* choose another folder\."
        )
        assert re.fullmatch(said, refusal)
        assert (tmp_path / LOCK).exists()
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()


def test_death_lets_go_of_it_at_once_though_a_child_lives_on(tmp_path):
    process = held(tmp_path, True)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    child = int((tmp_path / "child").read_text())
    try:
        os.kill(child, 0)
        with locked(tmp_path):
            assert f"process {os.getpid()} on" in (tmp_path / LOCK).read_text()
    finally:
        os.kill(child, signal.SIGKILL)
    assert not (tmp_path / LOCK).exists()


def test_it_holds_between_threads_and_not_longer_than_its_run(tmp_path):
    outcomes = []

    def run():
        with suppress(FolderInUseError), locked(tmp_path):
            outcomes.append("in")

    with locked(tmp_path):
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
    assert outcomes == []
    run()
    assert outcomes == ["in"]


def test_of_many_that_come_and_go_there_is_never_more_than_one_and_each_gets_in(tmp_path):
    inside, most, count = [], [], []

    def run():
        mine = 0
        while mine < 10:  # however often the others are in its way
            with suppress(FolderInUseError), locked(tmp_path / "run"):
                inside.append(1)
                most.append(len(inside))
                count.append(1)
                mine += 1
                inside.pop()

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 1
    assert len(count) == 40


def test_a_link_in_its_place_is_not_followed(tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("mine")
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / LOCK).symlink_to(precious)
    said = r"run\.lock could not be written: .*A symbolic link is in the way: remove it"
    with pytest.raises(WriteError, match=said), locked(folder):
        pass
    assert precious.read_text() == "mine"


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    def write(descriptor, content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", write)
    with pytest.raises(WriteError, match=f"{LOCK} could not be written: No space left"), locked(tmp_path / "new"):
        pass
    assert not list(tmp_path.iterdir())


def test_a_file_in_place_of_the_folder_is_one_line(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(WriteError, match=r"run\.lock could not be written"), locked(tmp_path / "run"):
        pass


def test_a_disk_without_locks_is_said_and_used(tmp_path, monkeypatch, capsys):
    def unsupported(descriptor, operation):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(folder_lock.fcntl, "flock", unsupported)
    with locked(tmp_path):
        pass
    assert capsys.readouterr().err.startswith(f"Note: {tmp_path} is on a disk without locks: ")
