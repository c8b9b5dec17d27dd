# SPDX-License-Identifier: Apache-2.0
"""The one way to write a file or a folder: it is there completely or not at all, and nowhere but where it belongs.

It is written under another name, flushed to the disk, and only then gets its own, so that a full disk, a killed process
and a power cut leave what was there before.
"""

import errno
import json
import os
import re
import shutil
import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath, PureWindowsPath

from safetensors import SafetensorError

PARTIAL = ".partial~"
"""How names end under which something is written; no data set has such names."""
_REPLACED = ".replaced~"
"""How names of folders end that are being replaced."""

_MAKE_ROOM = "Make room there ({free:.0f} MiB are free), and give the same command again."
_NO_ACCESS = "Choose a folder that you may write to, or change its permissions."
_NO_FOLDER = "A file is in the way: choose another folder, or remove that file."
_WHAT_HELPS = {
    errno.ENOSPC: _MAKE_ROOM,
    errno.EDQUOT: "Make room in your part of the disk, and give the same command again.",
    errno.EACCES: _NO_ACCESS,
    errno.EPERM: _NO_ACCESS,
    errno.EROFS: "Choose a folder on a disk that is not read-only.",
    errno.ENOTDIR: _NO_FOLDER,
    errno.EEXIST: _NO_FOLDER,
    errno.ELOOP: "A symbolic link is in the way: remove it.",
    errno.ENOTEMPTY: "Another process has made it meanwhile: give the same command again.",
    errno.EISDIR: "A folder has that name: choose another name, or remove that folder.",
    errno.ENAMETOOLONG: "Choose a shorter name.",
    errno.EFBIG: "Raise the limit of file sizes (ulimit -f), or choose a disk that holds files of this size.",
}
_OF_WINDOWS = re.compile(r":|^(con|prn|aux|nul|com[1-9]|lpt[1-9]) *(\.|$)", re.IGNORECASE)
"""In names that are not of a file there, though they could be."""
_OTHERWISE = "See whether the disk or network share is in order, and give the same command again."


FULL_OR_READ_ONLY = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""What the system says of disks that nothing can be written to, and of nothing else."""


class WriteError(OSError):
    """Something could not be written. Everything that was complete before is still there."""

    @classmethod
    def of(cls, path: Path, error: Exception) -> "WriteError":
        """Return the error that says what could not be written, why, and what helps.

        Args:
            path: What was being written.
            error: What was raised, while everything that was written until then is still on the disk.
        """
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        number, file = (error.errno, error.filename) if isinstance(error, OSError) else (None, None)
        if in_words := re.search(r"\(os error (\d+)\)", said):  # of writers in Rust
            number = int(in_words[1])
        free = _free_bytes(path)
        if number is None and free is not None and free < 2**20:
            number = errno.ENOSPC  # writers in C++ do not hand on the system's number
        reason = os.strerror(number) if number else said
        if isinstance(file, str | bytes) and os.fsdecode(file).removesuffix(PARTIAL) != os.fspath(path):
            reason += f": {os.fsdecode(file)}"
        helps = _WHAT_HELPS.get(number or 0, _OTHERWISE).format(free=(free or 0) / 2**20)
        return cls(f"{path} could not be written: {reason}. Nothing that was complete is lost. {helps}")


def require_folder(folder: Path) -> None:
    """Raise a FileNotFoundError unless there is a folder of a name."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} {'is not a folder' if folder.exists() else 'does not exist'}.")


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give the name to write a file under, which gets the name `path` when it is complete and on the disk.

    Args:
        path: The file; its folder is made when it is missing. A symbolic link is replaced and not followed.

    Raises:
        WriteError: When it cannot be written; what was at `path` is still there.
    """
    partial = partial_name(path)
    with _said(path), _made(path.parent):
        with writing(path):
            _remove(partial)
            yield partial
        put_in_place(path)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Give an empty folder to fill, which replaces `path` and all that is in it when it is complete and on the disk.

    Raises:
        WriteError: When it cannot be written; what was at `path` is still there.
    """
    with whole_file(path) as partial:
        partial.mkdir()
        yield partial


@contextmanager
def filled_folder(path: Path) -> Iterator[Path]:
    """Give an empty folder to fill, whose files then go into `path`, each in place of one of its name; others stay.

    Raises:
        WriteError: When they cannot be written; what was in `path` is still there.
    """
    with _said(path), _made(path):
        with tempfile.TemporaryDirectory(suffix=PARTIAL, dir=path, ignore_cleanup_errors=True) as name:
            yield Path(name)
            _flush_all(Path(name))
            for part in sorted(Path(name).iterdir()):
                part.replace(path / part.name)
        flush(path)


def write_text(path: Path, text: str) -> None:
    """Write a text as a whole file, in UTF-8, the same bytes on every system; see `whole_file`."""
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")


def make_folder(path: Path) -> None:
    """Make a folder unless it is there, and find out whether something can be written into it.

    Raises:
        WriteError: When it cannot be made, or nothing can be written into it; it is then not made.
    """
    with _said(path), _made(path), tempfile.TemporaryFile(dir=path, buffering=0) as file:
        file.write(b"\0")  # a full disk has room for a file without content


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Where `path` is being written under its `partial_name`: remove that if it breaks off, and say why.

    Raises:
        WriteError: For the errors that a full or broken disk causes.
    """
    try:
        with _said(path):
            yield
    except BaseException:
        with suppress(OSError):
            restore(path)
        raise


def put_in_place(path: Path) -> None:
    """Flush what has the `partial_name` of `path` to disk and give it its own; a folder that has that now is removed.

    Raises:
        WriteError: When it cannot be flushed; what was at `path` is still there.
    """
    partial, replaced = partial_name(path), _replaced_name(path)
    is_folder = partial.is_dir()
    with writing(path):
        _flush_all(partial)
        if is_folder and path.is_dir():  # which, unlike a file, cannot be replaced at once
            _remove(replaced)
            path.replace(replaced)
        partial.replace(path)
        if is_folder:
            flush(path.parent)
    _remove(replaced)


def restore(path: Path) -> None:
    """Remove what was left by a process that was killed while it wrote `path`, and bring back what was there before."""
    replaced = _replaced_name(path)
    if os.path.lexists(replaced) and not os.path.lexists(path):
        replaced.replace(path)
    _remove(replaced)
    _remove(partial_name(path))


def partial_name(path: Path) -> Path:
    """Return where something is written that will be at `path`."""
    return path.with_name(path.name + PARTIAL)


def flush(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk itself."""
    if os.name == "nt":
        return  # Windows cannot flush what is open for reading only, folders least of all.
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def inside(folder: Path, name: str) -> Path:
    """Return the path in a folder that a name stands for which comes from a file, and so from anybody.

    Args:
        folder: The folder; it need not exist.
        name: Relative to it, with `/` between folders.

    Raises:
        ValueError: When the path would not be below the folder on every system: the name is absolute, has `..`, a
            backslash, a drive or a NUL, is empty or no text in UTF-8, or leads through a symbolic link to a folder
            elsewhere. The last part may be a link: `whole_file` replaces it.
    """
    check_name(name)
    if not is_within((folder / name).parent, folder):
        raise ValueError(f"{name!r:.200} leads out of {folder} through a symbolic link: remove that.")
    return folder / name


def check_name(name: str) -> None:
    """Raise a ValueError unless a name stands for a path below whatever folder, as for `inside`, on every system."""
    problem = _problem_of(name)
    if problem is not None:
        raise ValueError(
            f"{name!r:.200} is no name of a file in a folder: it {problem}. Expected is one relative to it, such as "
            "'a/b.png'"
        )


def is_within(path: Path, folder: Path) -> bool:
    """Tell whether a path is a folder or anything below it, links followed."""
    root, place = Path(os.path.realpath(folder)), Path(os.path.realpath(path))
    return root == place or root in place.parents


def is_named_within(path: Path, folder: Path) -> bool:
    """Tell whether a path is a folder or anything below it as it is written; links in it may lead elsewhere."""
    return os.path.join(os.path.abspath(path), "").startswith(os.path.join(os.path.abspath(folder), ""))


def require_own(folder: Path, names: Collection[str], marker: str, key: str) -> None:
    """Check that what would be replaced in a folder is of an earlier run of the same command.

    Args:
        folder: The folder; it need not exist.
        names: What would be replaced there.
        marker: The JSON file among them that tells whose they are.
        key: What its object has if they are.

    Raises:
        ValueError: When one of them is there, and the marker is not, or is another file.
    """
    found = [name for name in names if os.path.lexists(folder / name)]
    try:
        content = json.loads((folder / marker).read_bytes()) if found else {key: None}
    except (OSError, ValueError, RecursionError):
        content = None
    if not isinstance(content, dict) or key not in content:
        raise ValueError(
            f"{folder / found[0]} would be replaced, but is not known to be of an earlier run of this command: choose "
            "another folder, or remove it."
        )


def _problem_of(name: str) -> str | None:
    if not isinstance(name, str):
        return "is no text"
    try:
        name.encode()
    except UnicodeEncodeError:
        return "is not in UTF-8"
    parts = PurePosixPath(name).parts
    problems = {
        "is empty": not parts,
        "holds a NUL": "\0" in name,
        "is absolute": PurePosixPath(name).is_absolute() or bool(PureWindowsPath(name).anchor),
        "holds a backslash": "\\" in name,
        "has '..' in it": ".." in parts,
        "names a device, or a part of a file, for Windows": os.name == "nt" and any(map(_OF_WINDOWS.search, parts)),
    }
    return next((problem for problem, is_so in problems.items() if is_so), None)


@contextmanager
def _said(path: Path) -> Iterator[None]:
    """Turn what a full, broken or closed disk causes into a WriteError of `path`."""
    try:
        yield
    except WriteError:
        raise
    except (OSError, SafetensorError, RuntimeError) as error:
        # What torch.save raises has no type of its own.
        if isinstance(error, RuntimeError) and "inline_container" not in str(error):
            raise
        raise WriteError.of(path, error) from error


def missing_folders(folder: Path) -> list[Path]:
    """Return what must be made for a folder to be there: itself and those around it, the innermost first."""
    return [place for place in (folder, *folder.parents) if not os.path.lexists(place)]


def remove_empty(folders: Sequence[Path]) -> None:
    """Remove folders, the innermost first; those that hold something, or were never made, are left."""
    for place in folders:
        with suppress(OSError):
            place.rmdir()


@contextmanager
def _made(folder: Path) -> Iterator[None]:
    """Make a folder, and remove it where what is to come into it breaks off and it was not there before."""
    missing = missing_folders(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        remove_empty(missing)
        raise


def _flush_all(path: Path) -> None:
    for part in (path, *path.rglob("*")):
        flush(part)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _replaced_name(path: Path) -> Path:
    return path.with_name(path.name + _REPLACED)


def _free_bytes(path: Path) -> int | None:
    """Return how much is free where a path is or would be; None where that cannot be told."""
    with suppress(OSError, StopIteration):
        return shutil.disk_usage(next(place for place in (path, *path.parents) if os.path.exists(place))).free
    return None
