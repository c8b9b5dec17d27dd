# SPDX-License-Identifier: Apache-2.0
"""Where compiled kernels are kept, and who can have put them there. The compiler only pretends, see conftest.py."""

import os
import resource
from pathlib import Path

import pytest

from tests.ops.conftest import commands
from unisegment.ops.kernel_build import KernelUnavailableError, cached_library

pytestmark = pytest.mark.skipif(
    not (os.uname().sysname == "Linux" and os.uname().machine in ("x86_64", "aarch64")), reason="nothing is built here"
)


def test_a_cache_that_cannot_be_used(folder, monkeypatch):
    cache = folder.parent / "file"
    cache.touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    with pytest.raises(KernelUnavailableError, match=r"cannot be used .*file.*XDG_CACHE_HOME"):
        cached_library(folder)
    assert not commands(folder)

    def full(self, target):
        raise OSError(28, "No space left on device", str(target))

    monkeypatch.setenv("XDG_CACHE_HOME", str(folder.parent))
    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(KernelUnavailableError, match="No space left on device"):
        cached_library(folder)


def test_a_cache_without_room_is_found_out_before_anything_is_compiled(folder):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**19, before[1]))
    try:
        with pytest.raises(KernelUnavailableError, match=r"cannot be used .*too large.*XDG_CACHE_HOME"):
            cached_library(folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not commands(folder)
    library = cached_library(folder)
    assert sorted(path.name for path in library.parent.iterdir()) == ["lock", library.name]


def test_the_cache_is_in_the_home_folder_if_there_is_one(folder, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", str(folder.parent / "home"))
    assert cached_library(folder).is_relative_to(folder.parent / "home" / ".cache" / "unisegment-kernels")

    def nobody():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", nobody)
    with pytest.raises(KernelUnavailableError, match=r"Could not determine home directory.*XDG_CACHE_HOME"):
        cached_library(folder)


def test_a_relative_cache_is_ignored(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    monkeypatch.setenv("XDG_CACHE_HOME", "cache")
    monkeypatch.setenv("HOME", str(folder.parent / "home"))
    assert cached_library(folder).is_relative_to(folder.parent / "home" / ".cache" / "unisegment-kernels")


@pytest.mark.parametrize(
    ("level", "change"),
    [(level, change) for level in range(3) for change in ("given away", 0o775, 0o777)] + [(3, 0o777)],
)
def test_what_another_user_can_have_put_into_the_cache_is_not_taken(folder, monkeypatch, level, change):
    """Levels: the library, its folder, that of all, and what XDG_CACHE_HOME names."""
    library = cached_library(folder)
    place = [library, *library.parents][level]
    if change != "given away":
        place.chmod(change)
    elif os.geteuid() == 0:
        os.chown(place, 4321, 4321)
    else:
        monkeypatch.setattr("os.geteuid", lambda: 4321)
    before = commands(folder)
    for compiler in (str(folder.parent / "compiler"), "no-such-compiler"):
        monkeypatch.setenv("CXX", compiler)
        way_out = rf"chmod o-w {place}\)" if level == 3 else rf"Remove {library.parents[1]} \(it is made anew\)"
        with pytest.raises(
            KernelUnavailableError, match=rf"can have put .*{place} belongs .* mode \d+, .*{way_out}, or"
        ):
            cached_library(folder)
    if level:
        monkeypatch.setenv("CXX", str(folder.parent / "compiler"))
        library.unlink()
        with pytest.raises(KernelUnavailableError, match="another user can"):
            cached_library(folder)
    assert commands(folder) == before


def test_the_cache_may_stand_where_everybody_owns_what_is_theirs(folder):
    """As in /tmp, and as in a folder that belongs to a group."""
    library = cached_library(folder)
    for mode in (0o1777, 0o775):
        library.parents[2].chmod(mode)
        assert cached_library(folder) == library


def test_a_cache_that_release_0_1_left_open_to_a_group_is_in_nobodys_way(folder):
    old = folder.parent / "cache" / "unisegment" / "kernels"
    old.mkdir(parents=True)
    for place in (old, old.parent, old.parent.parent):
        place.chmod(0o775)
    assert cached_library(folder).is_file()


def test_nobody_else_can_write_to_a_new_cache_whatever_the_users_files_are_like(folder):
    before = os.umask(0)
    try:
        assert cached_library(folder) == cached_library(folder)
    finally:
        os.umask(before)


def test_a_lock_is_not_emptied_and_no_link_is_followed_to_one(folder):
    library = cached_library(folder)
    lock, letter = library.parent / "lock", folder.parent / "letter"
    for file in (lock, letter):
        file.write_text("dear")
    library.unlink()
    cached_library(folder).unlink()
    assert lock.read_text() == "dear"
    lock.unlink()
    lock.symlink_to(letter)
    with pytest.raises(KernelUnavailableError, match=r"cannot be used .*lock"):
        cached_library(folder)
    assert letter.read_text() == "dear"
