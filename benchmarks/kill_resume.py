# SPDX-License-Identifier: Apache-2.0
"""Kill training at random moments, start it again, and count how often it ends like a run that was left in peace.

A short quickstart is run once unbroken. Then, for every trial, in a folder of its own: it is started, killed with
SIGKILL (in every fourth trial instead: no file may grow any more, as on a full disk) at a random moment between the
making of its folder and its end, and started again, with another number of data workers. A moment that finds the run
ended already is drawn again. A trial holds if all losses and scores are bit for bit those of the unbroken run, and if
the run on the full disk ended with status 1:

    python benchmarks/kill_resume.py --trials 20
"""

import argparse
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
OVERRIDES = [
    *("schedule.max_steps=24", "run.checkpoint_every=5", "run.eval_every=8", "optim.ema_decay=0.99"),
    *("data.num_train=40", "data.num_val=12", "evaluation.pictures=2"),
]
MEASURED = ("images_per_second", "peak_memory_mib", "train_seconds")
SMALL_FILE = 10_000


def main() -> None:
    """Run all trials, and print and save how many held."""
    arguments = parse_arguments()
    chosen = random.Random(arguments.seed)
    trials = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        process = start(folder, "unbroken")
        wait_for_folder(process, folder / "unbroken")
        began = time.perf_counter()
        assert process.wait() == 0, "the unbroken run failed"
        seconds = time.perf_counter() - began
        expected = results(folder / "unbroken")
        for number in range(arguments.trials):
            run, disturbance, is_full = folder / f"trial-{number}", None, number % 4 == 3
            while disturbance is None:
                shutil.rmtree(run, ignore_errors=True)
                disturbance = disturb(start(folder, run.name), run, chosen.random() * seconds, is_full)
            status = start(folder, run.name, f"data.workers={1 + number % 2}").wait()
            held = status == 0 and results(run) == expected and (not is_full or disturbance.endswith("status 1"))
            trials.append({"disturbance": disturbance, "held": held})
            print(f"{number + 1:3}  {disturbance:70}  {'held' if held else 'DIFFERS'}", flush=True)
    held_count = sum(trial["held"] for trial in trials)
    print(f"{held_count} of {len(trials)} held")
    report = {"what": "training killed at random moments and started again", "unbroken seconds": round(seconds, 1)}
    report |= {"trials": len(trials), "held": held_count, "each": trials}
    arguments.output.write_text(json.dumps(report, indent=2) + "\n")
    sys.exit(held_count != len(trials))


def start(folder: Path, name: str, *overrides: str) -> subprocess.Popen:
    """Start the command."""
    recipe = ROOT / "recipes" / "quickstart.yaml"
    places = [f"data.root={folder / 'scenes'}", f"run.output_dir={folder / name}"]
    return subprocess.Popen(
        [sys.executable, ROOT / "recipes" / "train.py", recipe, *OVERRIDES, *places, *overrides],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def disturb(process: subprocess.Popen, run: Path, seconds: float, is_full: bool) -> str | None:
    """Break a process after so many seconds and say what it was doing; None if it was done by then."""
    wait_for_folder(process, run)
    time.sleep(seconds)
    if process.poll() is not None:
        return None
    if not is_full:
        process.send_signal(signal.SIGKILL)
        process.wait()
        return f"killed after {progress(run)}"
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (SMALL_FILE, SMALL_FILE))
    status = process.wait()
    return f"no room left after {progress(run)}, status {status}" if status else None


def wait_for_folder(process: subprocess.Popen, run: Path) -> None:
    """Wait until the run has begun to write."""
    while not run.exists() and process.poll() is None:
        time.sleep(0.002)


def progress(run: Path) -> str:
    """Return how far a run is, in words."""
    log = run / "log.jsonl"
    steps = log.read_text().count("\n") if log.exists() else 0
    rests = sorted(path.relative_to(run).as_posix() for path in run.rglob("*~"))
    return f"step {steps}" + (f", while writing {', '.join(rests)}" if rests else "")


def results(run: Path) -> list[dict]:
    """Return all losses and scores."""
    lines = [*(run / "log.jsonl").open(), *(run / "evaluations.jsonl").open(), (run / "metrics.json").read_text()]
    return [{key: value for key, value in json.loads(line).items() if key not in MEASURED} for line in lines]


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "kill_resume.json")
    return parser.parse_args()


if __name__ == "__main__":
    main()
