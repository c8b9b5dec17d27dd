# SPDX-License-Identifier: Apache-2.0
"""Files and folders that are there completely or not at all, even if the disk is full or the machine goes down.

They are written under another name, flushed, and only then given their own.
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from math import isfinite
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from unisegment.data.file_writing import flush, partial_name


class WriteError(OSError):
    """Something could not be written. Everything that was complete before is still there.

    Args:
        path: What was being written.
        error: Why it could not be.
    """

    def __init__(self, path: Path, error: Exception) -> None:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        free = shutil.disk_usage(next(parent for parent in (path, *path.parents) if parent.exists())).free
        super().__init__(
            f"{path} could not be written: {reason} ({free / 2**20:.0f} MiB are free there). Nothing that was complete "
            f"is lost. Make room, or lower run.keep_checkpoints, and give the same command again, with "
            f"run.resume=auto: training goes on from its last state, if there is one."
        )


@contextmanager
def replaced_folder(path: Path) -> Iterator[Path]:
    """Give an empty folder to fill, which takes the place of `path` when it is complete and on disk.

    Raises:
        WriteError: When it cannot be written; what was at `path` is still there.
    """
    partial = partial_name(path)
    shutil.rmtree(partial, ignore_errors=True)
    with writing(partial):
        partial.mkdir(parents=True)
        yield partial
    put_in_place(partial, path)


def write_file(path: Path, text: str) -> None:
    """Write a text file that is there completely or not at all.

    Raises:
        WriteError: When it cannot be written; what was at `path` is still there.
    """
    partial = partial_name(path)
    with writing(partial):
        partial.write_text(text, encoding="utf-8")
    put_in_place(partial, path)


def put_in_place(partial: Path, path: Path) -> None:
    """Flush a file or folder to disk and give it its name; what has that name now is removed.

    Raises:
        WriteError: When it cannot be flushed; what was at `path` is still there.
    """
    with writing(partial):
        for part in (partial, *partial.rglob("*")):
            flush(part)
    old = _old_name(path)
    if path.is_dir():  # which, unlike a file, cannot be replaced at once
        shutil.rmtree(old, ignore_errors=True)
        path.replace(old)
    partial.replace(path)
    flush(path.parent)
    shutil.rmtree(old, ignore_errors=True)


def restore(path: Path) -> None:
    """Remove what was left by a process that was killed while it wrote `path`, and bring back what was there before."""
    old = _old_name(path)
    if old.exists() and not path.exists():
        old.replace(path)
    shutil.rmtree(old, ignore_errors=True)
    _remove(partial_name(path))


def read_lines(log: Path) -> list[dict[str, Any]]:
    """Return the JSON lines of a file, without the half line that a crash may have left."""
    lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    return [json.loads(line) for line in lines if line.endswith("}")]


def cut_log(log: Path, step: int) -> None:
    """Remove the lines of later steps and half a line."""
    if log.exists():
        kept = [json.dumps(line) for line in read_lines(log) if line["step"] <= step]
        write_file(log, "".join(f"{line}\n" for line in kept))


class LogFile:
    """A file that gets one JSON line after the other, each of them on its way to the disk at once.

    Args:
        path: Is appended to; None writes nothing.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._file = None if path is None else path.open("a", encoding="utf-8", buffering=1)

    def write(self, line: dict[str, Any]) -> None:
        """Append a line; numbers that JSON has no word for become null.

        Raises:
            WriteError: When it cannot be written.
        """
        if self._file is None or self._path is None:
            return
        finite = {key: value if _is_json(value) else None for key, value in line.items()}
        try:
            self._file.write(json.dumps(finite) + "\n")
        except OSError as error:
            raise WriteError(self._path, error) from error

    def close(self) -> None:
        """Close the file. What could not be written has been said by then, and is tried once more here."""
        if self._file is not None:
            with suppress(OSError):
                self._file.close()


@contextmanager
def writing(partial: Path) -> Iterator[None]:
    """Remove a file or folder that could not be written to its end, so that its room is free again, and say so.

    Raises:
        WriteError: For the errors that a full or broken disk causes.
    """
    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:
        # What torch.save raises has no type of its own.
        if isinstance(error, RuntimeError) and "inline_container" not in str(error):
            raise
        _remove(partial)
        raise WriteError(partial, error) from error


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _old_name(path: Path) -> Path:
    return path.with_name(f"old-{path.name}")


def _is_json(value: Any) -> bool:
    return not isinstance(value, float) or isfinite(value)
