# SPDX-License-Identifier: Apache-2.0
"""The sources of a compiled kernel in, a shared library out, from the cache where an earlier process left it.

The library uses torch's stable C++ interface, so one serves every torch from 2.10 on, and the cache need not know which
it was made with.

setup.py runs this file on its own to build a binary wheel: it imports nothing but torch and the standard library.
"""

import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import torch

NAMESPACE = "unisegment_ms_deform_attn"
"""Of the operators in `torch.ops`, and the name of the Python package that wraps them."""
LIBRARY = "ms_deform_attn.so"

_FLAGS = (
    *("-std=c++17", "-O3", "-fPIC", "-fvisibility=hidden"),
    *("-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast"),
    *("-DCPU_KERNEL", f"-DTORCH_EXTENSION_NAME={NAMESPACE}", "-DTORCH_TARGET_VERSION=0x020a000000000000"),
)
_LINK_FLAGS = ("-shared", "-Wl,--no-as-needed", "-ltorch_cpu", "-ltorch")
# The same loops once more for newer x86-64 processors; which of them runs is decided at run time.
_X86_FLAGS = {
    "loops_avx2.cpp": ("-mavx2", "-mfma"),
    "loops_avx512.cpp": (
        *("-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mfma"),
        "-mprefer-vector-width=256",
    ),
}
_MACHINES = ("x86_64", "aarch64")
_OUTPUT_CHARACTERS = 2000
_NO_COMPILER = "no C++ compiler was found (looked for $CXX, g++ and clang++). Install one, for example g++."


class KernelUnavailableError(RuntimeError):
    """There is no compiled kernel on this machine; the message is the reason, and what helps."""


def cached_library(folder: Path) -> Path:
    """Return the library that this machine's compiler makes of the sources, building it when the cache has none.

    However many processes ask at once, one of them builds and the others wait for it.

    Raises:
        KernelUnavailableError: When it can be neither found nor built.
    """
    _check_machine()
    cache, sources = _cache_folder(), _hash_of_sources(folder)
    compiler = _find_compiler()
    if compiler is None:
        # What another compiler made of these sources does as well: not every machine of a cluster needs to have one.
        libraries = sorted(cache.glob(f"{sources}-*/{LIBRARY}"))
        if not libraries:
            raise KernelUnavailableError(_NO_COMPILER)
        return libraries[-1]
    version = _hash_of(compiler, _run([*compiler, "--version"]))
    library = cache / f"{sources}-{version}" / LIBRARY
    try:
        if not library.is_file():
            library.parent.mkdir(parents=True, exist_ok=True)
            with _locked(library.parent / "lock"):
                if not library.is_file():
                    build(folder, library)
    except OSError as error:
        raise KernelUnavailableError(
            f"the folder for compiled kernels cannot be used ({error}). Let XDG_CACHE_HOME name one that can."
        ) from error
    return library


def build(folder: Path, library: Path) -> None:
    """Compile all sources, each by a process of its own, and link them. The library appears whole or not at all.

    Raises:
        KernelUnavailableError: When there is no compiler, or it fails.
        OSError: When the library cannot be written.
    """
    _check_machine()
    compiler = _find_compiler()
    if compiler is None:
        raise KernelUnavailableError(_NO_COMPILER)
    torch_folder = Path(torch.__file__).parent
    flags = [*_FLAGS, f"-I{folder / 'csrc'}", f"-I{torch_folder / 'include'}"]
    with tempfile.TemporaryDirectory(prefix="building-", dir=library.parent) as name:
        scratch = Path(name)
        commands, objects = [], []
        for source in _sources(folder):
            objects.append(str(scratch / f"{source.stem}.o"))
            special = _X86_FLAGS.get(source.name, ())
            commands.append([*compiler, *flags, *special, "-c", str(source), "-o", objects[-1]])
        with ThreadPoolExecutor() as pool:
            list(pool.map(_run, commands))
        linked = scratch / LIBRARY
        _run([*compiler, *objects, f"-L{torch_folder / 'lib'}", *_LINK_FLAGS, "-o", str(linked)])
        linked.replace(library)


def instruction_sets() -> tuple[str, ...]:
    """Return what a library made here has loops for."""
    further = _X86_FLAGS if platform.machine() == "x86_64" else ()
    return ("default", *(name.removeprefix("loops_").removesuffix(".cpp") for name in further))


def _check_machine() -> None:
    if sys.platform != "linux" or platform.machine() not in _MACHINES:
        raise KernelUnavailableError(
            f"there is none for {platform.system()} on {platform.machine()}, only for Linux on "
            f"{' and '.join(_MACHINES)}."
        )


def _sources(folder: Path) -> list[Path]:
    files = sorted([*folder.glob("csrc/cpu/*.cpp"), *folder.glob("torch-ext/*.cpp")])
    return [file for file in files if platform.machine() == "x86_64" or file.name not in _X86_FLAGS]


def _hash_of_sources(folder: Path) -> str:
    """Return a word for all that decides about the library, but for the compiler."""
    everything = [*(folder / "csrc").rglob("*"), *(folder / "torch-ext").rglob("*")]
    files = sorted(path for path in everything if path.suffix in (".cpp", ".h"))
    contents = [(str(file.relative_to(folder)), file.read_bytes()) for file in files]
    return _hash_of(_FLAGS, _LINK_FLAGS, _X86_FLAGS, platform.machine(), platform.libc_ver(), contents)


def _hash_of(*things: object) -> str:
    return hashlib.sha256(repr(things).encode()).hexdigest()[:16]


def _find_compiler() -> list[str] | None:
    """Return the beginning of a compiler's command line: $CXX may hold flags, or a cache before the compiler."""
    wish = shlex.split(os.environ.get("CXX", ""))
    if wish and shutil.which(wish[0]) is None:
        raise KernelUnavailableError(
            f"CXX is {os.environ['CXX']!r}, and there is no such program. Correct or unset it."
        )
    return wish or next(([name] for name in ("g++", "clang++") if shutil.which(name)), None)


def _cache_folder() -> Path:
    try:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError as error:  # a user without a home
        raise KernelUnavailableError(f"there is no folder for it ({error}). Let XDG_CACHE_HOME name one.") from error
    return Path(base) / "unisegment" / "kernels"


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Keep other processes out. The system lets go of the lock when its holder ends, however it ends."""
    import fcntl  # Linux and macOS have it, and only Linux comes here

    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _run(command: Sequence[str]) -> str:
    """Run a compiler and return what it prints."""
    try:
        result = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False
        )
    except OSError as error:
        raise KernelUnavailableError(f"{command[0]} cannot be run ({error}).") from error
    if result.returncode:
        output = result.stderr[-_OUTPUT_CHARACTERS:].strip()
        raise KernelUnavailableError(f"{command[0]} failed with status {result.returncode}:\n{output}")
    return result.stdout
