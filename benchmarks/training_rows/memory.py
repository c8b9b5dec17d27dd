# SPDX-License-Identifier: Apache-2.0
"""How much memory one model needs for a training step, in a process of its own.

    python memory.py CASE WHO KIND DEVICE THREADS

with the case as JSON prints the MiB of the weights, their gradients, the optimiser's state and all that a step needs
beside images and targets. A tiny model with the same code takes a step first: code that is read into memory for the
first time belongs to neither.
"""

import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))
sys.path.append(str(Path(__file__).resolve().parents[1] / "kernels"))  # where process_memory.py is

import torch
from gpu_report.measure import peak_mib
from gpu_report.model_pair import make_pair
from inference_rows.cases import TINY
from training_rows.cases import Case
from training_rows.steps import Steps

STEPS = 2
"""From the second one on there are gradients and what the optimiser keeps."""


def peak(case: Case, who: str, kind: str, device: str) -> float | None:
    """Return the MiB that a contender's step needs in one form, None where the system does not count them."""
    words = [json.dumps(asdict(case)), who, kind, device, str(torch.get_num_threads())]
    said = _in_a_process(words).split()[-1]
    return None if said == "unknown" else float(said)


def _in_a_process(words: list[str]) -> str:
    return subprocess.run([sys.executable, __file__, *words], stdout=subprocess.PIPE, text=True, check=True).stdout


def main() -> None:
    """Print the peak."""
    case, who, kind, device, threads = Case(**json.loads(sys.argv[1])), *sys.argv[2:]
    torch.set_num_threads(int(threads))
    tiny = replace(case, model=TINY.get(case.model, case.model), side=64, batch_size=1, masks=3)
    Steps(make_pair(tiny.model), tiny, device).step(who, kind)()
    steps = Steps(make_pair(case.model), case, device)
    step = steps.step(who, kind)
    found = peak_mib(device, lambda: [step() for _ in range(STEPS)])
    print("unknown" if found is None else f"{found + steps.weights(who) / 2**20:.1f}")


if __name__ == "__main__":
    main()
