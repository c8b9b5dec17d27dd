# SPDX-License-Identifier: Apache-2.0
"""The library needs nothing that Windows does not have, tried on other systems by hiding it from the library."""

from tests.warm_processes import run_code, run_warm

# In a process of its own, which forgets what it has of the library.
PRETENCE = """
import builtins, importlib, os, pathlib, pkgutil, signal, sys, types

for name in [name for name in sys.modules if name.partition(".")[0] == "unisegment"]:
    del sys.modules[name]
MODULES = {"fcntl", "grp", "pty", "pwd", "resource", "syslog", "termios", "tty"}
NAMES = set('''O_CLOEXEC O_DIRECTORY O_NOFOLLOW chown fchmod fork geteuid getgid getpgid getuid killpg lchown mkfifo
pread register_at_fork sched_getaffinity setpgid setsid statvfs uname SIGALRM SIGCHLD SIGHUP SIGKILL SIGPIPE SIGUSR1
SIGUSR2 alarm pause pthread_sigmask'''.split())
on_windows = {}
for module in (os, signal):
    on_windows[module.__name__] = types.ModuleType(module.__name__)
    vars(on_windows[module.__name__]).update({key: value for key, value in vars(module).items() if key not in NAMES})

def find(name, globals=None, locals=None, fromlist=(), level=0, *, found=builtins.__import__):
    if (globals or {}).get("__name__", "").startswith("unisegment"):
        if name in MODULES:
            raise ImportError(f"Windows has no {name}")
        if name in on_windows:
            return on_windows[name]
    return found(name, globals, locals, fromlist, level)

builtins.__import__ = find
import unisegment
for module in pkgutil.walk_packages(unisegment.__path__, "unisegment."):
    importlib.import_module(module.name)

import torch
from unisegment.files import make_folder, write_text
from unisegment.ops import kernel_build
from unisegment.runs import folder_lock, processes

folder = pathlib.Path(sys.argv[1])
assert folder_lock.fcntl is None
with folder_lock.locked(folder), processes.StopSignals():
    make_folder(folder / "run")
    write_text(folder / "run" / "a.txt", "a")
    processes.leave_process_group(0)
    assert processes.num_threads({}, 1) >= 1
sys.platform = "win32"
assert processes.peak_memory_mebibytes(torch.device("cpu")) != 0
try:
    kernel_build.cached_library(folder)
except kernel_build.KernelUnavailableError as error:
    assert "only for Linux" in str(error)
"""


def test_every_module_is_imported_and_runs_begin_without_what_windows_lacks(tmp_path):
    status, _, errors = run_warm(run_code, PRETENCE, tmp_path)
    assert status == 0, errors
