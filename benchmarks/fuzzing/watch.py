# SPDX-License-Identifier: Apache-2.0
"""What a process does beyond reading: run what a file asks for, connect, write elsewhere. It ends there and then."""

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fuzzing.hostile import CANARY

_NEVER = (
    *("os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.startfile", "subprocess.Popen", "pty.spawn"),
    *("webbrowser.open", "urllib.Request", "ftplib.connect", "smtplib.connect", "telnetlib.Telnet.open"),
    *("socket.bind", "socket.sendto", "socket.gethostbyaddr"),
)
_CONNECTIONS = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname")
_CHANGES = (
    *("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.symlink", "os.link", "os.chmod", "os.chown", "os.truncate"),
    *("os.utime", "os.setxattr", "shutil.rmtree", "shutil.move", "shutil.copyfile", "shutil.copytree"),
)
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_FREE = ("/dev/null", "/dev/shm", "/proc/self", "/dev/tty")
# What PyTorch's own files name, and plain containers; looking up anything else is the first half of running it.
_PLAIN = {("collections", "OrderedDict"), ("_codecs", "encode"), ("torch._utils", "_rebuild_tensor_v2")}


def watch(folder: Path, report: Callable[[str], Any], may_connect: bool) -> None:
    """From now on, end this process where it does more than read files and write in a folder. It cannot be undone.

    Args:
        folder: Where it may write.
        report: Is told what it did, before it is done.
        may_connect: Whether names that users give may lead to the network; it is then as if there was none.
    """
    found, busy = _deeds(f"{folder.resolve()}{os.sep}", may_connect), False

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal busy
        look = found.get(event)
        if look is None or busy:
            return
        busy = True
        try:
            deed = look(*arguments)
            if deed is not None:
                report(f"{event} {deed}")
                os._exit(99)
        finally:
            busy = False

    tempfile.tempdir, sys.dont_write_bytecode = str(folder), True
    sys.addaudithook(hook)


def _deeds(root: str, may_connect: bool) -> dict[str, Callable[..., str | None]]:
    """Return for each event that is looked at what says whether it is forbidden, in words, and None otherwise."""

    def is_outside(path: Any) -> bool:
        if not isinstance(path, str | bytes | os.PathLike):  # an open file
            return False
        place = os.path.realpath(os.fsdecode(path))
        return not place.startswith((root, *_FREE)) or CANARY in os.path.basename(place)

    def on_open(path: Any, mode: Any, flags: Any) -> str | None:
        return repr(path) if isinstance(flags, int) and flags & _WRITES and is_outside(path) else None

    def on_change(*arguments: Any) -> str | None:
        return next((repr(path) for path in arguments[:2] if is_outside(path)), None)

    def on_find_class(module: str, name: str) -> str | None:
        return None if (module, name) in _PLAIN else f"{module}.{name}"

    def on_exec(code: Any) -> str | None:
        file = getattr(code, "co_filename", "")
        return file if file.startswith(root) or CANARY in file else None

    def on_canary(text: Any, *_: Any) -> str | None:
        return repr(text)[:200] if CANARY in repr(text) else None

    def on_connection(*arguments: Any) -> str | None:
        if may_connect:
            raise OSError("There is no network.")
        return repr(arguments)[:200]

    return {
        **dict.fromkeys(_NEVER, lambda *arguments: repr(arguments)[:200]),
        **dict.fromkeys(_CHANGES, on_change),
        **dict.fromkeys(_CONNECTIONS, on_connection),
        "open": on_open,
        "pickle.find_class": on_find_class,
        "exec": on_exec,
        "compile": on_canary,
        "import": on_canary,
    }
