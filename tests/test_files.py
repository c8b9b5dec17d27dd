# SPDX-License-Identifier: Apache-2.0
import errno
import os
import pickle
import re
import sys
from pathlib import Path

import pytest

from tests.warm_processes import run_code, run_warm
from unisegment import files
from unisegment.files import (
    WriteError,
    check_name,
    filled_folder,
    inside,
    is_named_within,
    make_folder,
    restore,
    whole_file,
    whole_folder,
    write_text,
)

SMALL_FILES_ONLY = """
import resource, sys, torch
from pathlib import Path
from safetensors.torch import save_file
from unisegment.files import WriteError, filled_folder, whole_folder, write_text
_, most = resource.getrlimit(resource.RLIMIT_FSIZE)
folder = Path(sys.argv[1])

def text():
    write_text(folder / "text", "x" * 5000)

def pickled_tensors():
    with whole_folder(folder / "model") as partial:
        torch.save(torch.zeros(5000), partial / "weights")

def safetensors():
    with filled_folder(folder / "model") as partial:
        (partial / "before").write_text("after")
        save_file({"a": torch.zeros(5000)}, partial / "weights")

for write in (text, pickled_tensors, safetensors):
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, most))
    try:
        write()
    except WriteError as error:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
        print(write.__name__, error)
"""


def replace_with(path, name):
    with whole_folder(path) as partial:
        (partial / name).write_text(name)


def fill_with(path, name):
    with filled_folder(path) as partial:
        (partial / name).write_text(name)


def break_off(whole, path, error):
    with whole(path) as partial:
        (partial if whole is whole_file else partial / "old").write_text("half")
        raise error


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_when_it_is_complete(tmp_path):
    file = tmp_path / "folder" / "name.txt"
    with whole_file(file) as partial:
        partial.write_text("new")
        assert not file.exists()
        assert partial.parent == file.parent
    assert file.read_text() == "new"
    assert names(file.parent) == ["name.txt"]
    write_text(file, "é")
    assert file.read_bytes() == "é".encode()


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), ValueError("wrong"), KeyboardInterrupt()])
def test_what_was_there_stays(tmp_path, error):
    write_text(tmp_path / "name.txt", "old")
    replace_with(tmp_path / "folder", "old")
    for whole in (whole_file, whole_folder, filled_folder):
        path = tmp_path / ("name.txt" if whole is whole_file else "folder")
        with pytest.raises(WriteError if isinstance(error, OSError) else type(error)):
            break_off(whole, path, error)
    assert (tmp_path / "name.txt").read_text() == (tmp_path / "folder" / "old").read_text() == "old"
    assert names(tmp_path) == ["folder", "name.txt"]


def test_a_folder_is_replaced_only_when_it_is_complete(tmp_path):
    replace_with(tmp_path / "model", "old")
    replace_with(tmp_path / "model", "new")
    assert names(tmp_path / "model") == ["new"]
    assert names(tmp_path) == ["model"]


def test_a_filled_folder_keeps_what_else_is_in_it(tmp_path):
    for content in ("one", "two"):
        with filled_folder(tmp_path / "model") as partial:
            (partial / "weights").write_text(content)
        (tmp_path / "model" / "notes").write_text("mine")
    assert names(tmp_path / "model") == ["notes", "weights"]
    assert (tmp_path / "model" / "weights").read_text() == "two"


def test_neighbours_are_left_alone(tmp_path):
    """Whatever people call their files, they are no rests of ours."""
    for name in ("partial-a", "old-a", "a.old", "a.part", "a~", "a.bak"):
        (tmp_path / name).write_text(name)
    replace_with(tmp_path / "a", "one")
    replace_with(tmp_path / "a", "two")
    restore(tmp_path / "a")
    assert len(names(tmp_path)) == 7


def test_a_link_is_replaced_and_not_followed(tmp_path):
    (tmp_path / "photo").write_text("mine")
    for name in ("a", "a.partial~", "b", "b.partial~"):
        (tmp_path / name).symlink_to(tmp_path / "photo")
    write_text(tmp_path / "a", "result")
    with pytest.raises(WriteError, match="Not a directory"):
        replace_with(tmp_path / "b", "result")
    assert (tmp_path / "photo").read_text() == "mine"
    assert (tmp_path / "a").read_text() == "result"


@pytest.mark.parametrize("moment", range(4))
def test_whenever_it_is_killed_one_of_both_is_there(tmp_path, monkeypatch, moment):
    target = tmp_path / "model"
    replace_with(target, "old")
    moments = iter(range(100))

    def killed_at(function):
        def run(*arguments, **settings):
            if next(moments) >= moment:
                raise KeyboardInterrupt
            return function(*arguments, **settings)

        return run

    monkeypatch.setattr(files, "flush", killed_at(files.flush))
    monkeypatch.setattr(files, "restore", lambda path: None)
    monkeypatch.setattr(files.Path, "replace", killed_at(files.Path.replace))
    with pytest.raises(KeyboardInterrupt):
        replace_with(target, "new")
    monkeypatch.undo()
    restore(target)
    assert names(tmp_path) == ["model"]
    assert names(target) in (["old"], ["new"])
    restore(target)
    assert names(tmp_path) == ["model"]


def test_a_folder_that_cannot_be_moved_in_brings_the_old_one_back(tmp_path, monkeypatch):
    target = tmp_path / "model"
    replace_with(target, "old")
    replace = Path.replace

    def failing(self, to):
        if self.name == "model.partial~":
            raise OSError(errno.EIO, "broken")
        return replace(self, to)

    monkeypatch.setattr(Path, "replace", failing)
    with pytest.raises(WriteError, match="model could not be written: Input/output error"):
        replace_with(target, "new")
    assert names(target) == ["old"]
    assert names(tmp_path) == ["model"]


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit of file sizes")
def test_what_does_not_fit_is_an_error_that_leaves_nothing_behind(tmp_path):
    (tmp_path / "text").write_text("before")
    replace_with(tmp_path / "model", "before")
    status, output, errors = run_warm(run_code, SMALL_FILES_ONLY, tmp_path)
    assert status == 0, errors
    messages = output.splitlines()
    assert [message.split()[0] for message in messages] == ["text", "pickled_tensors", "safetensors"]
    assert all("could not be written" in message and "Make room" not in message for message in messages)
    assert all("File too large" in message and "ulimit -f" in message for message in (messages[0], messages[2]))
    assert (tmp_path / "text").read_text() == "before"
    assert (tmp_path / "model" / "before").read_text() == "before"
    assert names(tmp_path) == ["model", "text"]


@pytest.mark.parametrize(
    ("number", "helps"),
    [
        (errno.ENOSPC, r"No space left on device\. .* Make room there \(\d+ MiB are free\), and give the same command"),
        (errno.EDQUOT, r"Disk quota exceeded\. .* Make room in your part"),
        (errno.EROFS, r"Read-only file system\. .* not read-only\.$"),
        (errno.EACCES, r"Permission denied\. .* you may write to"),
        (errno.ENAMETOOLONG, r"File name too long\. .* shorter name\.$"),
        (errno.EIO, r"Input/output error\. .* in order"),
    ],
)
def test_the_reason_and_what_helps(tmp_path, number, helps):
    file = tmp_path / "a"
    for error in (OSError(number, os.strerror(number), f"{file}.partial~"), ValueError(f"I/O (os error {number})")):
        said = str(WriteError.of(file, error))
        assert re.search(rf"^{file} could not be written: {helps}", said)
        assert ("Make room" in said) == (number in (errno.ENOSPC, errno.EDQUOT))


@pytest.mark.parametrize("name", [3, b"/x/b", "/x/b"])
def test_the_file_that_the_system_names(name):
    said = str(WriteError.of(Path("a"), OSError(errno.EIO, "broken", name)))
    assert ("error: /x/b. " in said) == (name != 3)


def test_room_is_what_lacks_where_nothing_is_free(monkeypatch):
    error = RuntimeError("inline_container: file write failed\nmore")
    assert "file write failed. Nothing" in str(WriteError.of(Path("a"), error))
    assert "Make room" not in str(WriteError.of(Path("a"), error))
    monkeypatch.setattr(files, "_free_bytes", lambda path: 0)
    said = str(WriteError.of(Path("/nowhere/a"), error))
    assert re.search(r"could not be written: No space left on device\. .* Make room there \(0 MiB are free\)", said)


def test_the_error_can_be_sent_to_another_process():
    error = WriteError.of(Path("a"), OSError(errno.EIO, "broken"))
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


@pytest.mark.parametrize(
    "write", [make_folder, lambda path: write_text(path / "a", ""), lambda path: replace_with(path / "a", "b")]
)
def test_a_folder_that_cannot_be_made(tmp_path, write):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(WriteError, match=r"could not be written: (Not a directory|File exists).* A file is in the way"):
        write(tmp_path / "file")
    with pytest.raises(WriteError, match=r"could not be written: (Not a directory|File exists).* A file is in the way"):
        write(tmp_path / "file" / "sub")
    with pytest.raises(WriteError, match=r"could not be written: File name too long.* shorter name"):
        write(tmp_path / ("x" * 300))
    assert names(tmp_path) == ["file"]


def test_a_folder_of_the_name_of_a_file_stays(tmp_path):
    (tmp_path / "report.json").mkdir()
    with pytest.raises(WriteError, match=r"Is a directory\. .* A folder has that name"):
        write_text(tmp_path / "report.json", "")
    assert names(tmp_path) == ["report.json"]


def test_a_folder_is_made_and_tried(tmp_path, monkeypatch):
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")
    assert names(tmp_path / "a" / "b") == []

    def read_only(**settings):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), settings["dir"])

    monkeypatch.setattr(files.tempfile, "TemporaryFile", read_only)
    with pytest.raises(WriteError, match=r"Read-only file system\. "):
        make_folder(tmp_path / "a")


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit of file sizes")
def test_a_full_disk_is_found_out_first_and_nothing_that_was_made_stays(tmp_path):
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    (tmp_path / "mine").mkdir()
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
        for folder in (tmp_path / "new" / "sub", tmp_path / "mine"):
            for write in (make_folder, lambda path: write_text(path / "a", "b"), lambda path: fill_with(path, "a")):
                with pytest.raises(WriteError, match="File too large"):
                    write(folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert names(tmp_path) == ["mine"]
    assert names(tmp_path / "mine") == []


@pytest.mark.parametrize("name", ["a.png", "sub/a.png", "a b/ü.png", "..a/b..", "sub/./a"])
def test_names_inside(tmp_path, name):
    assert inside(tmp_path, name) == tmp_path / name
    assert inside(tmp_path / "new", name) == tmp_path / "new" / name
    assert inside(Path("relative"), name) == Path("relative") / name


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("", "empty"),
        (".", "empty"),
        ("/etc/passwd", "absolute"),
        ("//server/share/a", "absolute"),
        ("C:\\a", "absolute"),
        ("C:a", "absolute"),
        ("\\\\server\\a", "absolute"),
        ("..", r"\.\."),
        ("a/../../b", r"\.\."),
        ("..\\b", "backslash"),
        ("a\0b", "NUL"),
        ("\udcff.png", "not in UTF-8"),
        (3, "no text"),
        (None, "no text"),
        ("link/a", "symbolic link"),
        ("link/sub/a", "symbolic link"),
    ],
)
def test_names_that_lead_elsewhere(tmp_path, name, problem):
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    (folder / "link").symlink_to(tmp_path)
    with pytest.raises(
        ValueError, match=rf"is no name of a file in a folder: it .*{problem}|leads out of {folder} through a {problem}"
    ) as error:
        inside(folder, name)
    assert str(error.value).isprintable()


@pytest.mark.parametrize("name", ["con", "a/AUX.png", "nul .png", "a.png:stream", "LPT1"])
def test_names_that_are_no_files_on_windows(name, monkeypatch):
    check_name(name)
    check_name("console/auxiliary.com1.png")
    with monkeypatch.context() as pretence:
        pretence.setattr(os, "name", "nt")
        with pytest.raises(ValueError, match="names a device"):
            check_name(name)
        check_name("console/auxiliary.com1.png")


def test_links_that_stay_inside(tmp_path):
    (tmp_path / "folder" / "a").mkdir(parents=True)
    (tmp_path / "folder" / "link").symlink_to("a")
    (tmp_path / "other").symlink_to("folder")
    assert inside(tmp_path / "folder", "link/x") == tmp_path / "folder" / "link" / "x"
    assert inside(tmp_path / "other", "link/x") == tmp_path / "other" / "link" / "x"


def test_names_lie_in_folders_as_they_are_written(tmp_path, monkeypatch):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/link").symlink_to("/")
    monkeypatch.chdir(tmp_path)
    for folder in (tmp_path, Path(), tmp_path / "folder/.."):
        for name in ("", "folder", "a/../b", "folder/link/tmp"):
            assert is_named_within(tmp_path / name, folder)
    for name in ("..", "folder/../../x", "folders"):
        assert not is_named_within(tmp_path / name, tmp_path / "folder")
    assert is_named_within(tmp_path, Path("/"))
