# SPDX-License-Identifier: Apache-2.0
"""How many instructions the CUDA kernels spend on a sample, read from their machine code: no GPU needed.

Compiles the four fast kernels (fused, forward and backward, bfloat16 and float32) as nvcc makes them for a user, and
counts what stands in their innermost loop, which goes through the samples. With --before, another tree's kernels, too:

    python benchmarks/kernels/sass_counts.py --before ../other-clone

Needs nvcc and cuobjdump, which calls nvdisasm: of the CUDA toolkit, or of pip's nvidia-cuda-cuobjdump and
nvidia-cuda-nvdisasm. Writes benchmarks/results/ms_deform_attn_sass.json.
"""

import argparse
import importlib.util
import json
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
TYPES = {"bfloat16": "__nv_bfloat16", "float32": "float"}
CORNERS = 4
# One kernel in each direction. How many threads it is started with does not show in its code.
SOURCE = """
#include "cuda/launch.cuh"
namespace ms_deform_attn::cuda {
struct Launcher {
  static constexpr int64_t kMostImages = 65535;
  template <typename Kernel, typename... Arguments>
  void start(Kernel* kernel, const Grid&, const Arguments&... arguments) const {
    kernel<<<1, 1>>>(arguments...);
  }
};
void both(const Call& call, bool backward) {
  launch_kernel<VALUE, VALUE, true, kFastHeadDim>(call, backward, Launcher());
}
}  // namespace ms_deform_attn::cuda
"""
# What an instruction is for, by the beginning of its name; the first that fits.
CLASSES = {
    "gather": r"LDG\S*CONSTANT",
    "reduction": r"REDG?\b",
    "other memory": r"(LDG|STG|LD|ST|LDL|STL|ATOM)\b",
    "shared memory": r"(LDS|STS)\b",
    "shuffle": r"(SHFL|MATCH|VOTE)",
    "multiply and add": r"(FFMA|FMUL|FADD)\b",
    "double": r"(D(ADD|MUL|FMA|SETP)|[FI]2[FI]\S*64)",
    "unpack, shift": r"(PRMT|LOP3|SHF|IMAD\.(U32|SHL))\b",
    "zero": r"CS2R",
    "predicate": r"\S*SETP\b",
    "branch": r"(BRA|BSSY|BSYNC|WARPSYNC|NOP|EXIT)\b",
}


def find_tool(name: str) -> str | None:
    """Return the path of a program of the CUDA toolkit: on PATH, in CUDA_HOME, of pip's nvidia packages or triton's."""
    folders = [Path(os.environ.get("CUDA_HOME", "/usr/local/cuda")) / "bin"]
    for package, pattern in (("nvidia", "*/bin"), ("triton", "backends/nvidia/bin")):
        spec = importlib.util.find_spec(package)
        for place in (spec.submodule_search_locations or ()) if spec else ():
            folders += sorted(Path(place).glob(pattern))
    return shutil.which(name) or shutil.which(name, path=os.pathsep.join(map(str, folders)))


def disassemble(path: Path, architecture: str | None = None) -> str:
    """Return the machine code in a file as text, of one of its architectures if need be."""
    tool, helper = find_tool("cuobjdump"), find_tool("nvdisasm")
    command = [tool, "-sass", *(["-arch", architecture] if architecture else []), str(path)]
    search = os.pathsep.join([os.environ["PATH"], *([str(Path(helper).parent)] if helper else [])])
    environment = os.environ | {"PATH": search}
    return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout


def compile_kernels(tree: Path, dtype: str, architecture: str, macros: tuple[str, ...] = ()) -> tuple[str, str]:
    """Return the machine code of the forward and the backward kernel, and what ptxas says about them.

    Args:
        tree: A clone of this repository.
        dtype: Of values and parameters, a key of `TYPES`.
        architecture: As nvcc calls it, such as "sm_90".
        macros: Definitions, such as "MS_DEFORM_ATTN_BACKWARD_BLOCKS=4".
    """
    with tempfile.TemporaryDirectory() as folder:
        source, cubin = Path(folder) / "fast.cu", Path(folder) / "fast.cubin"
        source.write_text(SOURCE)
        command = [find_tool("nvcc"), "-std=c++17", "-O3", f"-arch={architecture}", "-cubin", "-Xptxas", "-v"]
        command += [f"-I{tree / 'kernels' / 'ms_deform_attn' / 'csrc'}", f"-DVALUE={TYPES[dtype]}"]
        command += [*(f"-D{macro}" for macro in macros), "-o", str(cubin), str(source)]
        log = subprocess.run(command, capture_output=True, text=True, check=False)
        if log.returncode:
            raise SystemExit(f"{' '.join(command)}\n{log.stderr}")
        return disassemble(cubin), log.stderr


def instructions_of(sass: str, kernel: str) -> list[tuple[int, str]]:
    """Return (address, instruction without its predicate) of the kernel whose name holds a word."""
    body = next(part for part in sass.split("Function : ")[1:] if kernel in part.partition("\n")[0])
    return [
        (int(address, 16), re.sub(r"^@!?U?P\w+\s+", "", text.strip()))
        for address, text in re.findall(r"^\s+/\*([0-9a-f]{4,})\*/\s+(.*?);", body, flags=re.MULTILINE)
    ]


def loops_of(instructions: list[tuple[int, str]]) -> list[tuple[int, int]]:
    """Return the first and last address of every loop: of what a jump backwards jumps over, the smallest first."""
    loops = []
    for address, text in instructions:
        target = re.match(r"BRA\b.*?0x([0-9a-f]+)", text)
        if target and int(target[1], 16) < address:
            loops.append((int(target[1], 16), address))
    return sorted(loops, key=lambda loop: loop[1] - loop[0])


def class_of(instruction: str) -> str:
    """Return what an instruction is for."""
    return next((name for name, words in CLASSES.items() if re.match(words, instruction)), "addresses, other")


def count(sass: str, kernel: str) -> dict:
    """Return the counts of a kernel: in its loop over samples, by what they are for, and around it.

    The loop is the smallest one that reads samples from shared memory and gathers values for them. What it gathers
    tells how many samples it takes at a time, if each lane has 16 bytes of a corner; else this is as much work.
    """
    instructions = instructions_of(sass, kernel)

    def within(loop):
        return [text for address, text in instructions if loop[0] <= address <= loop[1]]

    def goes_through_samples(loop):
        kinds = [class_of(text) for text in within(loop) if not text.startswith("STS")]
        return "gather" in kinds and kinds.count("shared memory") > 1  # their numbers and their places

    loops = [loop for loop in loops_of(instructions) if goes_through_samples(loop)]
    inner = within(loops[0])
    classes = dict.fromkeys([*CLASSES, "addresses, other"], 0)
    for text in inner:
        classes[class_of(text)] += 1
    gathered = sum(int((re.search(r"\.(64|128)\b", text) or "44")[1]) for text in inner if class_of(text) == "gather")
    return {
        "loop": len(inner),
        "samples": gathered / 128 / CORNERS,
        "classes": {name: number for name, number in classes.items() if number},
        "staging": len(within(loops[1])) - len(inner) if len(loops) > 1 else 0,
        "kernel": len(instructions),
    }


def count_all(tree: Path, architecture: str, macros: tuple[str, ...] = ()) -> dict[str, dict]:
    """Return the counts, registers and spilled bytes of the four kernels of a tree."""
    rows = {}
    for dtype in TYPES:
        sass, log = compile_kernels(tree, dtype, architecture, macros)
        for direction in ("forward", "backward"):
            kernel = f"{direction}_kernel"
            said = next(part for part in log.split("Compiling entry function")[1:] if kernel in part.split("'")[1])
            spills = re.findall(r"(\d+) bytes spill (?:stores|loads)", said)
            rows[f"{direction} {dtype}"] = count(sass, kernel) | {
                "registers": int(re.search(r"Used (\d+) registers", said)[1]),
                "spilled": sum(map(int, spills)),
            }
    return rows


def print_table(before: dict[str, dict], after: dict[str, dict]) -> None:
    """Print a line for each kernel, and one for each kind of its instructions."""
    print(f"{'in the loop, for one sample and warp':40}{'before':>10}{'after':>10}")
    for name, row in after.items():
        old = before.get(name)
        pairs = [(name, lambda r: r["loop"] / r["samples"])]
        pairs += [(f"  {kind}", lambda r, kind=kind: r["classes"].get(kind, 0) / r["samples"]) for kind in CLASSES]
        pairs += [("  addresses, other", lambda r: r["classes"].get("addresses, other", 0) / r["samples"])]
        whole = ("samples", "staging", "kernel", "registers", "spilled")
        pairs += [(f"  ({kind} in all)", lambda r, kind=kind: r[kind]) for kind in whole]
        for title, value in pairs:
            print(f"{title:40}{f'{value(old):g}' if old else '':>10}{value(row):>10g}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, help="a clone whose kernels are counted, too")
    parser.add_argument("--architecture", default="sm_90")
    parser.add_argument("--define", nargs="*", default=[], help="macros of this tree's kernels: NAME=NUMBER")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "ms_deform_attn_sass.json")
    arguments = parser.parse_args()
    for tool in ("nvcc", "cuobjdump", "nvdisasm"):
        if find_tool(tool) is None:
            raise SystemExit(f"{tool} was found neither on PATH, in CUDA_HOME nor in pip's nvidia packages.")
    before = count_all(arguments.before, arguments.architecture) if arguments.before else {}
    after = count_all(ROOT, arguments.architecture, tuple(arguments.define))
    print_table(before, after)
    compiler = subprocess.run([find_tool("nvcc"), "--version"], capture_output=True, text=True, check=True).stdout
    result = {"architecture": arguments.architecture, "compiler": compiler.split()[-1], "macros": arguments.define}
    arguments.output.write_text(json.dumps(result | {"before": before, "after": after}, indent=2) + "\n")


if __name__ == "__main__":
    main()
