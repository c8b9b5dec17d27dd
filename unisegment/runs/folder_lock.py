# SPDX-License-Identifier: Apache-2.0
"""One run at a time in a folder: the next one is told who is there, and one that was killed is in nobody's way.

The lock is the system's own (`flock`), which ends with the process that has it, in whatever way that ends. It holds
between all processes of a machine. Between machines it holds where the file system hands it on: NFS 4 (3 with its lock
daemon), CephFS, GPFS, SMB from Linux 5.5, BeeGFS and Lustre where they are mounted for it (Lustre: `-o flock`). On a
disk without locks a run goes on and says so; on Windows there is none.
"""

import errno
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from pathlib import Path

from unisegment.errors import ForeseenError
from unisegment.files import WriteError, missing_folders, remove_empty
from unisegment.runs.processes import decide_once

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK = "run.lock"
"""The file in a folder that a run has. It says who that is."""

_WITHOUT_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)
_ATTEMPTS = 100
_held: set[int] = set()
"""Descriptors of the locks of this process."""


class FolderInUseError(ForeseenError, ValueError):
    """Another run is at work in a folder."""

    found_by_all = True


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other runs out of a folder; all processes of a run call this, and the first one has the lock.

    Args:
        folder: Is made if it is missing, and then removed if nothing is left in it.

    Raises:
        FolderInUseError: When another run has it; says which, and since when.
        WriteError: When nothing can be written there.
    """
    with ExitStack() as stack:
        if fcntl is not None:
            decide_once(lambda: stack.enter_context(_locked_by_this_process(folder)))
        yield


@contextmanager
def _locked_by_this_process(folder: Path) -> Iterator[None]:
    missing = missing_folders(folder)
    try:
        descriptor = _acquire(folder / LOCK)
        try:
            yield
        finally:
            # Before it is let go of: who has opened it sees then that it is no longer the one in the folder.
            with suppress(OSError):
                (folder / LOCK).unlink()
            _held.discard(descriptor)
            os.close(descriptor)
    finally:
        remove_empty(missing)


def _acquire(path: Path) -> int:
    """Return the descriptor of a lock file, which belongs to this process then."""
    reason: OSError = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    for _ in range(_ATTEMPTS):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
            if _locks(descriptor, path):
                _held.add(descriptor)
                return descriptor
        except (FileExistsError, FileNotFoundError) as error:  # perhaps of a run that has just made or removed it
            reason = error
        except OSError as error:
            raise WriteError.of(path, error) from error
    raise WriteError.of(path, reason) from reason


def _locks(descriptor: int, path: Path) -> bool:
    """Lock an open file and write into it who has it; otherwise close it. False when it is not in its folder any more.

    Raises:
        FolderInUseError: When another process has it.
    """
    with ExitStack() as unless_locked:
        unless_locked.callback(os.close, descriptor)
        _lock(descriptor, path.parent)
        if not os.path.samestat(os.fstat(descriptor), os.lstat(path)):
            return False
        unless_locked.callback(path.unlink, missing_ok=True)  # a full disk has room for a file without content
        since = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M:%S %z")
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()} since {since}\n".encode())
        unless_locked.pop_all()
    return True


def _lock(descriptor: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        who = os.read(descriptor, 200).decode("utf-8", "replace").strip() or "another process"
        raise FolderInUseError(
            f"{folder} is in use by {who}. Wait until it has ended, or end it there; or choose another folder."
        ) from error
    except OSError as error:
        if error.errno not in _WITHOUT_LOCKS:
            raise
        print(f"Note: {folder} is on a disk without locks: see to it that no other run uses it.", file=sys.stderr)


def _let_go() -> None:
    """Leave the locks to the process that forked this one: they would outlive it in its children."""
    while _held:
        os.close(_held.pop())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)
