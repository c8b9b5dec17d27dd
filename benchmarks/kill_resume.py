# SPDX-License-Identifier: Apache-2.0
"""Kill training at random moments, start it again, and count how often it ends like a run that was left in peace.

A short quickstart is run once unbroken. Then, for every trial, in a folder of its own: it is started, killed with
SIGKILL (in every fourth trial instead: no file may grow any more, as on a full disk) at a random moment between its
first file and its end, killed once more as often as `--kills` says, and started a last time. A trial holds if all
losses and scores are bit for bit those of the unbroken run:

    python benchmarks/kill_resume.py --trials 20
"""

import argparse
import json
import os
import random
import resource
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
        process, began = start(folder, "unbroken"), time.perf_counter()
        first_file = wait_for_first_file(process, folder / "unbroken") - began
        assert process.wait() == 0, "the unbroken run failed"
        seconds = time.perf_counter() - began - first_file
        expected = results(folder / "unbroken")
        for number in range(arguments.trials):
            disturbances = [
                disturb(folder, f"trial-{number}", chosen.random() * seconds, number % 4 == 3)
                for _ in range(arguments.kills)
            ]
            status = start(folder, f"trial-{number}").wait()
            held = status == 0 and results(folder / f"trial-{number}") == expected
            trials.append({"disturbances": disturbances, "held": held})
            print(f"{number + 1:3}  {'; '.join(disturbances):70}  {'held' if held else 'DIFFERS'}", flush=True)
    held = sum(trial["held"] for trial in trials)
    print(f"{held} of {len(trials)} held")
    report = {"what": "training killed at random moments and started again", "unbroken seconds": round(seconds, 1)}
    report |= {"trials": len(trials), "held": held, "each": trials}
    arguments.output.write_text(json.dumps(report, indent=2) + "\n")
    sys.exit(held != len(trials))


def start(folder: Path, name: str) -> subprocess.Popen:
    """Start the command."""
    recipe = ROOT / "recipes" / "quickstart.yaml"
    places = [f"data.root={folder / 'scenes'}", f"run.output_dir={folder / name}"]
    return subprocess.Popen(
        [sys.executable, ROOT / "recipes" / "train.py", recipe, *OVERRIDES, *places],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def disturb(folder: Path, name: str, seconds: float, is_full: bool) -> str:
    """Start the command, break it after so many seconds, and say what it was doing."""
    process = start(folder, name)
    wait_for_first_file(process, folder / name)
    time.sleep(seconds)
    if process.poll() is not None:
        return "had ended"
    if is_full:
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (SMALL_FILE, SMALL_FILE))
        status = process.wait()
        return f"no room left after {progress(folder / name)}, status {status}"
    process.send_signal(signal.SIGKILL)
    process.wait()
    return f"killed after {progress(folder / name)}"


def wait_for_first_file(process: subprocess.Popen, run: Path) -> float:
    """Return when the run has its folder ready."""
    while not (run / "recipe.yaml").exists() and process.poll() is None:
        time.sleep(0.01)
    return time.perf_counter()


def progress(run: Path) -> str:
    """Return how far a run is, in words."""
    log = run / "log.jsonl"
    steps = log.read_text().count("\n") if log.exists() else 0
    rests = sorted(path.relative_to(run).as_posix() for path in [*run.rglob("partial-*"), *run.rglob("old-*")])
    return f"step {steps}" + (f", while writing {', '.join(rests)}" if rests else "")


def results(run: Path) -> list[dict]:
    """Return all losses and scores."""
    lines = [*(run / "log.jsonl").open(), *(run / "evaluations.jsonl").open(), (run / "metrics.json").read_text()]
    return [{key: value for key, value in json.loads(line).items() if key not in MEASURED} for line in lines]


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--kills", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "kill_resume.json")
    return parser.parse_args()


if __name__ == "__main__":
    main()
