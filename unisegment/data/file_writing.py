# SPDX-License-Identifier: Apache-2.0
"""Files that are there completely or not at all, even if the disk is full or the machine goes down."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path


class FileWriteError(OSError):
    """A file could not be written. Everything that was complete before is still there.

    Args:
        path: What was being written.
        error: Why it could not be.
    """

    def __init__(self, path: Path, error: OSError) -> None:
        free = shutil.disk_usage(next(parent for parent in path.parents if parent.exists())).free
        super().__init__(
            f"{path} could not be written: {error.strerror or error} ({free / 2**20:.0f} MiB are free there). What is "
            "complete stays: make room, and give the same command again."
        )


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file under another name, and give it its own when it is complete and on the disk.

    Args:
        path: The file; its folder is made when it is missing.
        write: Writes the file that it is told.

    Raises:
        FileWriteError: When it cannot be written; what was at `path` is still there.
    """
    partial = partial_name(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(partial)
        flush(partial)
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise FileWriteError(path, error) from error


def partial_name(path: Path) -> Path:
    """Return where something is written that will be at `path`."""
    return path.with_name(f"partial-{path.name}")


def flush(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk itself."""
    if os.name == "nt":
        return  # Windows cannot flush what is open for reading only, folders least of all.
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
