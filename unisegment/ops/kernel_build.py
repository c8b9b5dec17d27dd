# SPDX-License-Identifier: Apache-2.0
"""The sources of a compiled kernel in, a shared library out, from the cache where an earlier process left it.

Every library has code for the CPU. Where architectures of GPUs are named, "sm_90" (machine code) or "compute_90" (PTX,
which the driver compiles for newer GPUs), it has code for these too, and says so in its file's name.

The library uses torch's stable C++ interface, so one serves every torch from 2.10 on, and the cache need not know which
it was made with.

setup.py runs this file on its own to build a binary wheel: it imports nothing but torch and the standard library.
"""

import hashlib
import importlib.util
import os
import platform
import re
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import torch

NAMESPACE = "unisegment_ms_deform_attn"
"""Of the operators in `torch.ops`, and the name of the Python package that wraps them."""
LIBRARY = "ms_deform_attn.so"
"""Name of a library with code for the CPU alone."""
ARCHITECTURES_VARIABLE = "TORCH_CUDA_ARCH_LIST"

Capability = tuple[int, int]
"""Major and minor version of what a GPU can do, as torch.cuda.get_device_capability returns it."""

_FLAGS = (
    *("-std=c++17", "-O3", "-fPIC", "-fvisibility=hidden"),
    *("-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast"),
    *("-DCPU_KERNEL", f"-DTORCH_EXTENSION_NAME={NAMESPACE}", "-DTORCH_TARGET_VERSION=0x020a000000000000"),
)
_NVCC_FLAGS = ("-std=c++17", "-O3", "-Xcompiler", "-fPIC,-fvisibility=hidden", "--threads", "0")
# In words that g++ and nvcc understand. torch's CUDA, which a torch for CPUs lacks, comes with -ltorch.
_LINK_FLAGS = ("-shared", "-Xlinker", "--no-as-needed", "-ltorch_cpu", "-ltorch")
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
_ROOM = 2**20
"""Bytes that a build takes at least: objects and library of the CPU alone have 0.6 MB."""
_NO_COMPILER = "no C++ compiler was found (looked for $CXX, g++ and clang++). Install one, for example g++."
_NO_NVCC = (
    "no nvcc was found (looked in $CUDA_HOME, $CUDA_PATH, PATH, /usr/local/cuda and pip's nvidia packages). Install "
    "the CUDA toolkit, or let CUDA_HOME name its folder."
)


class KernelUnavailableError(RuntimeError):
    """There is no compiled kernel on this machine; the message is the reason, and what helps."""


def library_name(architectures: Sequence[str] = ()) -> str:
    """Return the name of a library with code for these GPUs."""
    return "-".join([Path(LIBRARY).stem, *architectures]) + Path(LIBRARY).suffix


def architectures_of(library: Path) -> tuple[str, ...]:
    """Return what GPUs a library has code for."""
    return tuple(library.stem.split("-")[1:])


def architectures_for(gpus: Iterable[Capability]) -> tuple[str, ...]:
    """Return what to compile for these GPUs: machine code for each, and PTX of the newest, for those to come."""
    numbers = [f"{major}{minor}" for major, minor in sorted(set(gpus))]
    return (*(f"sm_{number}" for number in numbers), *(f"compute_{number}" for number in numbers[-1:]))


def wished_architectures() -> tuple[str, ...]:
    """Return what TORCH_CUDA_ARCH_LIST asks for, the variable of torch's own builder of extensions.

    Raises:
        ValueError: For anything but versions like 9.0. "+PTX" may follow: the newest one comes as PTX anyway.
    """
    words = os.environ.get(ARCHITECTURES_VARIABLE, "").replace(";", " ").split()
    versions = [re.fullmatch(r"(\d+)\.(\d)(\+PTX)?", word) for word in words]
    if not all(versions):
        raise ValueError(f"{ARCHITECTURES_VARIABLE} takes versions like '8.0;9.0;10.0+PTX', got {' '.join(words)!r}.")
    return architectures_for((int(version[1]), int(version[2])) for version in versions if version)


def has_code_for(architectures: Sequence[str], gpu: Capability) -> bool:
    """Return whether a GPU can run it: machine code of its own major version, or PTX, of no newer version."""
    for architecture in architectures:
        kind, _, number = architecture.partition("_")
        version = divmod(int(number), 10)
        if version <= gpu and (kind == "compute" or version[0] == gpu[0]):
            return True
    return False


def cached_library(folder: Path, architectures: Sequence[str] = ()) -> Path:
    """Return the library that this machine's compilers make of the sources, building it when the cache has none.

    However many processes ask at once, one of them builds and the others wait for it. What somebody else may have put
    into the cache is not taken: it would run as this user.

    Raises:
        KernelUnavailableError: When it can be neither found nor built, or others can write to the cache.
    """
    _check_machine()
    # Not "unisegment/kernels": release 0.1 left that open to a group where new files are (umask 002).
    cache, sources, name = cache_folder("unisegment-kernels"), _hash_of_sources(folder), library_name(architectures)
    try:
        compilers = _find_compilers(architectures)
    except KernelUnavailableError:
        # What other compilers made of these sources does as well: not every machine of a cluster needs to have them.
        libraries = sorted(cache.glob(f"{sources}-*/{name}"))
        if not libraries:
            raise
        library = libraries[-1]
    else:
        versions = _hash_of([(compiler, _run([*compiler, "--version"])) for compiler in compilers])
        library = cache / f"{sources}-{versions}" / name
    try:
        if not library.is_file():
            for place in reversed(library.parents):
                place.mkdir(0o755, exist_ok=True)  # whatever else others may do with new files of this user
            _check_owners(library.parent, cache)
            with _locked(library.parent / "lock"):
                if not library.is_file():
                    build(folder, library, architectures)
        _check_owners(library, cache)
    except OSError as error:
        raise KernelUnavailableError(
            f"the folder for compiled kernels cannot be used ({error}). Let XDG_CACHE_HOME name one that can."
        ) from error
    return library


def build(folder: Path, library: Path, architectures: Sequence[str] = ()) -> None:
    """Compile all sources, each by a process of its own, and link them. The library appears whole or not at all.

    Raises:
        KernelUnavailableError: When there is no compiler, or it fails.
        OSError: When the library cannot be written.
    """
    _check_machine()
    compiler, *nvcc = _find_compilers(architectures)
    torch_folder = Path(torch.__file__).parent
    flags = [*_FLAGS, f"-I{folder / 'csrc'}", f"-I{torch_folder / 'include'}", *(["-DCUDA_KERNEL"] if nvcc else [])]
    linker, library_folders = compiler, [torch_folder / "lib"]
    if nvcc:
        # It links its static run-time library by itself, but looks elsewhere for it than pip has put it.
        library_folders.append(Path(nvcc[0][0]).resolve().parents[1] / "lib")
        # A compiler behind another program it cannot take. The GPU's code is whole without being linked.
        linker = [*nvcc[0], "--no-device-link", *(["-ccbin", *compiler] if len(compiler) == 1 else [])]
    with tempfile.TemporaryDirectory(prefix="building-", dir=library.parent) as name:
        scratch = Path(name)
        _require_room(scratch)
        commands, objects = [], []
        for source in _sources(folder, with_gpus=bool(nvcc)):
            objects.append(str(scratch / f"{source.name}.o"))
            if source.suffix == ".cu":
                command = [*linker, *_NVCC_FLAGS, *_targets(architectures)]
            else:
                command = [*compiler, *flags, *_X86_FLAGS.get(source.name, ())]
            commands.append([*command, "-c", str(source), "-o", objects[-1]])
        with ThreadPoolExecutor() as pool:
            list(pool.map(_run, commands))
        linked = scratch / library.name
        _run([*linker, *objects, *(f"-L{path}" for path in library_folders), *_LINK_FLAGS, "-o", str(linked)])
        linked.chmod(0o755)  # also where files are made for a group to write to
        linked.replace(library)


def _require_room(folder: Path) -> None:
    """Raise an OSError where the disk is full, which compilers find out after seconds, in words of their own."""
    place = folder / "room"
    with place.open("wb", buffering=0) as file:
        left = _ROOM
        while left:
            left -= file.write(bytes(left))
    place.unlink()


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


def _sources(folder: Path, with_gpus: bool) -> list[Path]:
    """Return what is compiled, the file that takes longest first."""
    files = sorted([*folder.glob("csrc/cpu/*.cpp"), *folder.glob("torch-ext/*.cpp")])
    files = [file for file in files if platform.machine() == "x86_64" or file.name not in _X86_FLAGS]
    if with_gpus:
        files = [*folder.glob("csrc/cuda/*.cu"), *folder.glob("csrc/cuda/*.cpp"), *files]
    return files


def _targets(architectures: Sequence[str]) -> list[str]:
    """Return nvcc's words for what to compile for."""
    targets = [f"arch={name.replace('sm_', 'compute_')},code={name}" for name in architectures]
    return [word for target in targets for word in ("-gencode", target)]


def _hash_of_sources(folder: Path) -> str:
    """Return a word for all that decides about the library, but for compilers and architectures."""
    everything = [*(folder / "csrc").rglob("*"), *(folder / "torch-ext").rglob("*")]
    files = sorted(path for path in everything if path.suffix in (".cpp", ".h", ".cu", ".cuh"))
    contents = [(str(file.relative_to(folder)), file.read_bytes()) for file in files]
    settings = (_FLAGS, _NVCC_FLAGS, _LINK_FLAGS, _X86_FLAGS)
    return _hash_of(settings, platform.machine(), platform.libc_ver(), contents)


def _hash_of(*things: object) -> str:
    return hashlib.sha256(repr(things).encode()).hexdigest()[:16]


def _find_compilers(architectures: Sequence[str]) -> list[list[str]]:
    """Return the beginnings of command lines: of a C++ compiler and, where there is work for it, nvcc."""
    return [_find_compiler(), _find_nvcc()] if architectures else [_find_compiler()]


def _find_compiler() -> list[str]:
    """Take $CXX, which may hold flags, or a cache before the compiler, or what the system has."""
    try:
        wish = shlex.split(os.environ.get("CXX", ""))
    except ValueError as error:
        raise KernelUnavailableError(
            f"CXX is {os.environ['CXX']!r}, which is no command line ({error}). Correct or unset it."
        ) from error
    if wish and shutil.which(wish[0]) is None:
        raise KernelUnavailableError(
            f"CXX is {os.environ['CXX']!r}, and there is no such program. Correct or unset it."
        )
    found = wish or [name for name in ("g++", "clang++") if shutil.which(name)][:1]
    if not found:
        raise KernelUnavailableError(_NO_COMPILER)
    return found


def _find_nvcc() -> list[str]:
    homes = [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH")]
    candidates = [Path(home) / "bin" / "nvcc" for home in homes if home]
    candidates += [Path("nvcc"), Path("/usr/local/cuda/bin/nvcc")]  # the first is looked for in PATH
    packages = importlib.util.find_spec("nvidia")
    for folder in (packages.submodule_search_locations or ()) if packages else ():
        candidates += sorted(Path(folder).glob("*/bin/nvcc"))
    found = next(filter(None, map(shutil.which, candidates)), None)
    if found is None:
        raise KernelUnavailableError(_NO_NVCC)
    return [found]


def cache_folder(name: str) -> Path:
    """Return a folder of that name in the user's cache, whether or not it is there.

    Raises:
        KernelUnavailableError: When the user has none.
    """
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        # A relative one is to be ignored, says the standard: each working directory would bring its own library.
        base = base if base.is_absolute() else Path.home() / ".cache"
        return (base / name).resolve()
    except RuntimeError as error:  # a user without a home, a link to itself
        raise KernelUnavailableError(f"there is no folder for it ({error}). Let XDG_CACHE_HOME name one.") from error


def _check_owners(path: Path, cache: Path) -> None:
    """Refuse a library, or the folder of one, that another user can have put there: it would run as this one.

    The cache and all in it must belong to this user or root, with nobody else writing to it. No folder above it may let
    everybody replace what is in it, as /tmp does not.

    Raises:
        KernelUnavailableError: When another user can.
        OSError: When it cannot be known.
    """
    for place in (path, *path.parents):
        status = place.stat()
        if place.is_relative_to(cache):
            fault = status.st_uid not in (os.geteuid(), 0) or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
            rule = f"but only you (user {os.geteuid()}) or root may own it, and nobody else may write to it"
            way_out = f"Remove {cache} (it is made anew)"
        else:
            fault = status.st_mode & stat.S_IWOTH and not status.st_mode & stat.S_ISVTX
            rule = "so that everybody can replace what is in it"
            way_out = f"Close it (chmod o-w {shlex.quote(str(place))})"
        if fault:
            raise KernelUnavailableError(
                f"another user can have put a library there: {place} belongs to user {status.st_uid} and has mode "
                f"{stat.S_IMODE(status.st_mode):o}, {rule}. {way_out}, or let XDG_CACHE_HOME name a folder of yours."
            )


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Keep other processes out. The system lets go of the lock when its holder ends, however it ends."""
    import fcntl  # Linux and macOS have it, and only Linux comes here

    # What is there is neither emptied nor, if it is a link, followed.
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o644), "a") as file:
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
        output = (result.stderr or result.stdout)[-_OUTPUT_CHARACTERS:].strip()
        raise KernelUnavailableError(f"{command[0]} failed with status {result.returncode}:\n{output}")
    return result.stdout
