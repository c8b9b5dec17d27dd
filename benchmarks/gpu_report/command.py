# SPDX-License-Identifier: Apache-2.0
"""The command: its words, the processes of the stages one after the other, and the table."""

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import time
import zipfile
from pathlib import Path

from gpu_report.report import ROOT, Report
from gpu_report.settings import Settings
from gpu_report.stages import STAGES, Stage, chosen, share
from gpu_report.supervisor import adopt_orphans, run_stage
from gpu_report.table import to_table

BENCHMARKS = Path(__file__).resolve().parents[1]
_FOR_THE_TABLE = 3  # seconds


def main(description: str) -> None:
    """Run all stages and print the table."""
    arguments = parse_arguments(description)
    end = time.monotonic() + arguments.seconds - _FOR_THE_TABLE
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))
    adopt_orphans()
    arguments.output.mkdir(parents=True, exist_ok=True)
    report = Report(arguments.output, sys.argv[1:], arguments.small)
    finished = False
    try:
        with tempfile.TemporaryDirectory(prefix="gpu_report_") as scratch:
            environment = make_environment(arguments, Path(scratch), report)
            run_all(arguments, report, end, environment)
        finished = True
    finally:
        print(to_table(report.content(finished)), flush=True)
        report.save(finished)


def run_all(arguments: argparse.Namespace, report: Report, end: float, environment: dict[str, str]) -> None:
    """Run the stages one after the other, each with its share of what is left."""
    stages = chosen(arguments.stages)
    with (arguments.output / "log.txt").open("wb", buffering=0) as log:
        for number, stage in enumerate(stages):
            began = time.monotonic()
            seconds = share(stages[number:], end - began)
            log.write(f"\n===== {stage.name}: at most {seconds:.0f} s\n".encode())
            settings = Settings(
                device=arguments.device,
                small=arguments.small,
                part=stage.part,
                output=str(arguments.output),
                deadline=began + seconds,
                sensetime=str(arguments.sensetime or ""),
            )
            error = run_one(stage, settings, report, environment, log)
            took = {"what": "stage", "s": round(time.monotonic() - began, 1)}
            report.add(stage.name, {**took, "error": error} if error else took)


def run_one(stage: Stage, settings: Settings, report: Report, environment: dict[str, str], log) -> str | None:
    """Add the rows of a stage; return how it failed, if it did."""
    try:
        for line in run_stage(stage.modules, settings, environment, log):
            report.add(stage.name, json.loads(line))
    except RuntimeError as error:
        return str(error)
    return None


def make_environment(arguments: argparse.Namespace, scratch: Path, report: Report) -> dict[str, str]:
    """Unpack the wheels, and return the variables of the stages' processes."""
    site = scratch / "site"
    site.mkdir()
    for wheel in sorted(arguments.wheels.glob("*.whl")) if arguments.wheels else ():
        try:
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(site)
        except (OSError, zipfile.BadZipFile) as error:
            report.add("wheels", {"what": wheel.name, "error": str(error)})
    places = [BENCHMARKS, BENCHMARKS / "kernels", ROOT, ROOT / "tests" / "kernels", site]
    variables = dict(os.environ)
    variables["PYTHONPATH"] = os.pathsep.join([*map(str, places), *filter(None, [variables.get("PYTHONPATH")])])
    variables |= {"PYTHONUNBUFFERED": "1", "HF_HUB_OFFLINE": "1", "TMPDIR": str(scratch)}
    if arguments.device == "cpu":
        variables["CUDA_VISIBLE_DEVICES"] = ""
    return variables


def parse_arguments(description: str) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="gpu_report", description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = list(dict.fromkeys(name for stage in STAGES for name in stage.modules))
    parser.add_argument("--output", type=Path, required=True, help="folder for report.json and log.txt")
    parser.add_argument("--wheels", type=Path, help="folder with wheels of what is missing: pycocotools, beartype")
    parser.add_argument("--seconds", type=float, default=480, help="after which all ends (default: 480)")
    parser.add_argument("--small", action="store_true", help="tiny sizes; always so without a GPU")
    parser.add_argument("--device", choices=("cuda", "cpu"), help="default: cuda where nvidia-smi finds a GPU")
    parser.add_argument("--sensetime", type=Path, metavar="LIB.so", help="SenseTime's kernel, registered in torch.ops")
    parser.add_argument("--stages", nargs="+", choices=names, default=names, metavar="STAGE", help=", ".join(names))
    arguments = parser.parse_args()
    arguments.device = arguments.device or ("cuda" if shutil.which("nvidia-smi") else "cpu")
    arguments.small = arguments.small or arguments.device == "cpu"
    arguments.output = arguments.output.resolve()
    return arguments
