# SPDX-License-Identifier: Apache-2.0
"""A source tree in, the packages that users get out, after each was installed where nothing else is, and used there.

`make release-check` starts it. It needs Python alone: tools and what the packages require come into environments of
their own. Fetches torch, as constraints.txt names it.
"""

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
KERNEL = "unisegment/_kernels/ms_deform_attn"
BINARY = {"UNISEGMENT_BUILD_KERNELS": "1"}

# Two steps on few scenes: whether everything is there, not whether it learns.
SMALL = (
    "data.num_train=6 data.num_val=2 schedule.max_steps=2 optim.batch_size=2 run.output_dir=run run.threads=1 "
    "model.config.encoder_layers=1 model.config.decoder_layers=2 model.config.num_queries=10"
).split()
COMMANDS = (
    ("--version",),
    ("info",),
    ("train", "quickstart", "data.root=scenes", *SMALL),
    ("evaluate", "run"),
    ("predict", "run", "scenes/val", "predicted"),
)
"""What a package can do: arguments of `unisegment`, in an empty folder."""


def expected_files(root: Path) -> set[str]:
    """Return what a wheel holds for every system, beside what describes it."""
    library = {
        path.relative_to(root).as_posix()
        for ending in ("py", "html")
        for path in (root / "unisegment").rglob(f"*.{ending}")
    }
    kernel = root / "kernels" / "ms_deform_attn"
    sources = {
        f"{KERNEL}/{path.relative_to(kernel).as_posix()}"
        for part in ("csrc", "torch-ext")
        for path in (kernel / part).rglob("*.*")
        if "__pycache__" not in path.parts
    }
    recipes = {
        f"unisegment/_{path.relative_to(root).as_posix()}"
        for kind in ("yaml", "json")
        for path in (root / "recipes").rglob(f"*.{kind}")
    }
    return {"unisegment/py.typed", *library, *sources, *recipes}


def check_wheel(wheel: Path, root: Path) -> None:
    """Raise a SystemExit unless a wheel holds what it should and nothing else."""
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
    expected = expected_files(root)
    if not wheel.name.endswith("-none-any.whl"):
        expected.add(f"{KERNEL}/ms_deform_attn.so")
    described = {name for name in names if name.split("/")[0].endswith(".dist-info")}
    lacking, other = expected - names, names - described - expected
    if not any(name.endswith("/licenses/LICENSE") for name in described):
        lacking.add("LICENSE")
    if lacking or other:
        raise SystemExit(f"{wheel.name} lacks {sorted(lacking)} and should not have {sorted(other)}.")


def main(destination: Path) -> None:
    """Build, compare, install and use the packages, and leave them in a folder."""
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        source, packages = _copy_of_tree(work / "unisegment"), work / "packages"
        tools, clean = _Environment(work / "tools"), _Environment(work / "clean")
        tools.pip("build", "twine")
        _build(tools, source, packages)
        print("Building what users of the packages get, and fetching what it requires.", flush=True)
        clean.pip("--constraint", source / "constraints.txt", "torch", "setuptools>=77")
        wheel, archive = *packages.glob("*.whl"), *packages.glob("*.tar.gz")
        # Against a torch of its own, and without a look at the network.
        clean.run("-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", packages, source,
                  variables=BINARY)  # fmt: skip
        (binary,) = set(packages.glob("*.whl")) - {wheel}
        for package in (wheel, binary):
            check_wheel(package, source)
        tools.run("-m", "twine", "check", "--strict", *packages.iterdir())
        version = tomllib.loads((source / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
        for number, package in enumerate((wheel, archive, binary)):
            clean.pip("--constraint", source / "constraints.txt", package)
            _use(clean, work / f"use{number}", version)
            clean.run("-m", "pip", "uninstall", "--quiet", "--yes", "unisegment")
            print(f"{package.name} installs and works.", flush=True)
        destination.mkdir(exist_ok=True)
        for earlier in destination.glob("unisegment-*"):
            earlier.unlink()
        shutil.copytree(packages, destination, dirs_exist_ok=True)


def _copy_of_tree(folder: Path) -> Path:
    """Return a folder with the files that git knows, as they are now, and nothing that an earlier build has left."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
    return folder


def _build(tools: "_Environment", source: Path, packages: Path) -> None:
    """Build the sdist and the wheel for all systems, which must be what the sdist gives, too."""
    tools.run("-m", "build", "--sdist", "--outdir", packages, source)
    (archive,) = packages.iterdir()
    with tarfile.open(archive) as file:
        file.extractall(source.parent / "sdist", filter="data")
    (unpacked,) = (source.parent / "sdist").iterdir()
    contents = []
    for tree, folder in ((unpacked, source.parent / "of-sdist"), (source, packages)):
        tools.run("-m", "build", "--wheel", "--outdir", folder, tree)
        shutil.rmtree(tree / "build")
        with zipfile.ZipFile(*folder.glob("*.whl")) as file:
            contents.append({info.filename: info.CRC for info in file.infolist()})
    if contents[0] != contents[1]:
        raise SystemExit(f"The sdist gives another wheel: {sorted(dict(contents[0].items() ^ contents[1].items()))}")


class _Environment:
    """A virtual environment in which nothing of this process's own can be found."""

    def __init__(self, folder: Path) -> None:
        venv.create(folder, with_pip=True)
        self.scripts = folder / ("Scripts" if os.name == "nt" else "bin")
        self.variables = {
            name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "UNISEGMENT"))
        }

    def run(self, *words: str | Path, folder: Path | None = None, variables: dict[str, str] | None = None) -> str:
        """Run Python with these words, and return what it printed."""
        return self.execute(self.scripts / "python", *words, folder=folder or self.scripts, variables=variables)

    def pip(self, *words: str | Path) -> None:
        """Install packages."""
        self.run("-m", "pip", "install", "--quiet", "--disable-pip-version-check", *words)

    def execute(self, *words: str | Path, folder: Path, variables: dict[str, str] | None = None) -> str:
        """Run a program, and return what it printed; SystemExit with everything that it said where it fails."""
        result = subprocess.run(
            list(map(str, words)), cwd=folder, env=self.variables | (variables or {}), text=True, errors="replace",
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        if result.returncode:
            raise SystemExit(f"{result.stdout}\n{' '.join(map(str, words))}: status {result.returncode}")
        return result.stdout


def _use(clean: _Environment, folder: Path, version: str) -> None:
    """Do with an installed package what its users do first, far from the repository."""
    folder.mkdir()
    said = [clean.execute(clean.scripts / "unisegment", *words, folder=folder) for words in COMMANDS]
    said.append(clean.run("-c", "import unisegment; print(unisegment.__file__)", folder=folder))
    where = Path(said[-1].strip())
    if said[0].split()[-1:] != [version] or not where.is_relative_to(clean.scripts.parent):
        raise SystemExit(f"unisegment --version says {said[0]!r}, expected is {version}; it is imported from {where}.")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
