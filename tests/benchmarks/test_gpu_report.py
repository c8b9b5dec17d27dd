# SPDX-License-Identifier: Apache-2.0
"""The frame of benchmarks/gpu_report: whatever a stage does is a row, in time, and on the disk."""

import json
import os
import signal
import subprocess
import sys
import sysconfig
import textwrap
import time
import venv
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

from tests.warm_processes import NEVER

MISSING = ("unisegment", "datasets", "pycocotools", "beartype")
BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"

# Stages that do what stages should not.
STAGES = {
    "good": """
        yield {"what": "a number", "ms": 1.23456789, "who": "ours"}
        yield {"what": "no number", "ms": float("nan")}
    """,
    "raises": """
        yield {"what": "before"}
        raise ValueError("what went wrong\\nand more")
    """,
    "no_memory": """
        raise MemoryError
        yield
    """,
    "dies": """
        yield {"what": "before"}
        os.kill(os.getpid(), signal.SIGSEGV)
    """,
    "was_killed": """
        yield {"what": "before"}
        os.kill(os.getpid(), signal.SIGKILL)
    """,
    "leaves": """
        yield {"what": "before"}
        sys.stdout.flush()
        os._exit(7)
    """,
    "hangs": """
        child = subprocess.Popen(["sleep", "600"], start_new_session=True)
        yield {"what": "pids", "pids": [os.getpid(), child.pid]}
        time.sleep(600)
    """,
    "talks": """
        print("said " * 3)
        yield {"what": "left", "s": settings.left(), "device": settings.device, "small": settings.small}
    """,
}
RUN = """
import sys
sys.path.insert(0, {benchmarks!r})
from gpu_report import stages
stages.STAGES = tuple(stages.Stage(tuple(words.split("+")), "", float(seconds)) for words, seconds in {stages!r})
from gpu_report.command import main
main("")
"""


def write_stages(folder):
    (folder / "gpu_report").mkdir()
    head = "# a stage\nimport os, signal, subprocess, sys, time\n\n\ndef rows(settings):\n"
    for name, body in STAGES.items():
        text = head + textwrap.indent(textwrap.dedent(body).strip("\n"), "    ") + "\n"
        (folder / "gpu_report" / f"{name}.py").write_text(text)
    return {**os.environ, "PYTHONPATH": str(folder)}


def command(stages, output, seconds):
    code = RUN.format(benchmarks=str(BENCHMARKS), stages=stages)
    return [sys.executable, "-c", code, "--device", "cpu", "--output", str(output), "--seconds", str(seconds)]


def report_in(folder):
    return json.loads((folder / "report.json").read_text())


def errors_of(report):
    return {row["stage"]: row["error"] for row in report["rows"] if "error" in row}


def is_alive(pid):
    """Zombies, which nobody has asked for yet, are dead."""
    status = Path(f"/proc/{pid}/status")
    return status.exists() and "State:\tZ" not in status.read_text()


def test_whatever_a_stage_does_is_a_row(tmp_path):
    environment = write_stages(tmp_path)
    names = ["good", "raises", "no_memory", "dies", "was_killed", "leaves", "no_such_stage", "good+raises+talks"]
    run = command([(name, 1) for name in names], tmp_path / "out", NEVER)
    done = subprocess.run(run, env=environment, capture_output=True, text=True, check=True, timeout=NEVER)
    report = report_in(tmp_path / "out")
    assert report["finished"]
    errors = errors_of(report)
    assert errors.pop("raises") == "ValueError: what went wrong"
    assert errors.pop("no_memory") == "MemoryError: (no message)"
    assert errors.pop("dies") == "died of SIGSEGV"
    assert "out of memory" in errors.pop("was_killed")
    assert "status 7" in errors.pop("leaves")
    assert "No module named 'gpu_report.no_such_stage'" in errors.pop("no_such_stage")
    assert not errors
    rows = [row for row in report["rows"] if row["stage"] == "good"]
    assert [row.get("ms") for row in rows] == [1.235, "nan", None, 1.235, "nan"]
    assert sum(row["what"] == "before" for row in report["rows"]) == 5
    # After one that raised, the next of the same process has its turn.
    (talked,) = [row for row in report["rows"] if row["stage"] == "talks"]
    assert (talked["device"], talked["small"]) == ("cpu", True)
    log = (tmp_path / "out" / "log.txt").read_text()
    assert "said said said" in log
    assert "Traceback" in log
    assert "said" not in done.stdout
    assert len(done.stdout) < 12_000
    assert "ValueError: what went wrong" in done.stdout
    assert done.stdout.splitlines()[0].endswith("finished")


def test_the_deadline_is_kept_and_nothing_lives_on(tmp_path):
    environment = write_stages(tmp_path)
    # Of 303 seconds, 300 are for stages: 4 for the first, half of the others for the second, which needs few of them.
    run = command([("hangs", 4), ("talks", 148), ("talks", 148)], tmp_path / "out", 303)
    began = time.monotonic()
    subprocess.run(run, env=environment, capture_output=True, check=True, timeout=NEVER)
    assert time.monotonic() - began < 303
    report = report_in(tmp_path / "out")
    (hung,) = [row for row in report["rows"] if "error" in row]
    assert hung["stage"] == "hangs"
    assert "it had not come to its end" in hung["error"]
    first, last = [row["s"] for row in report["rows"] if row["stage"] == "talks" and "device" in row]
    assert 0 < first < 148
    assert first < last < 296
    pids = [pid for row in report["rows"] for pid in row.get("pids", [])]
    assert len(pids) == 2
    assert not any(map(is_alive, pids))


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM], ids=lambda how: how.name)
def test_what_is_known_survives_the_end_of_the_report(tmp_path, how):
    environment = write_stages(tmp_path)
    run = command([("good", 1), ("hangs", 1)], tmp_path / "out", NEVER)
    process = subprocess.Popen(run, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    pids = []
    while not pids:
        assert process.poll() is None
        time.sleep(0.05)
        if (tmp_path / "out" / "report.json").exists():
            pids = [pid for row in report_in(tmp_path / "out")["rows"] for pid in row.get("pids", [])]
    process.send_signal(how)
    output, _ = process.communicate(timeout=NEVER)
    report = report_in(tmp_path / "out")
    assert not report["finished"]
    assert [row["what"] for row in report["rows"]] == ["a number", "no number", "stage", "pids"]
    assert ("NOT FINISHED" in output) == (how == signal.SIGTERM)
    deadline = time.monotonic() + NEVER
    while is_alive(pids[0]) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_alive(pids[0])
    if how == signal.SIGTERM:
        assert not is_alive(pids[1])
    else:
        os.kill(pids[1], signal.SIGKILL)


@pytest.fixture
def bare_python(tmp_path):
    """Return a Python that lacks what a machine with nothing but a GPU lacks; what it needs of it is in `wheels`."""
    installed = Path(sysconfig.get_path("purelib"))
    if not (installed / "pycocotools").is_dir():
        pytest.skip("pycocotools is installed elsewhere than other packages")
    venv.create(tmp_path / "bare", with_pip=False, symlinks=True)
    packages = Path(str(installed).replace(sys.prefix, str(tmp_path / "bare")))
    for package in installed.iterdir():
        if not package.name.removeprefix("__editable__.").startswith(MISSING):
            (packages / package.name).symlink_to(package)
    (tmp_path / "wheels").mkdir()
    with zipfile.ZipFile(tmp_path / "wheels" / "pycocotools-1.0-py3-none-any.whl", "w") as wheel:
        for file in metadata.files("pycocotools"):
            if file.locate().is_file():
                wheel.write(file.locate(), str(file))
    return tmp_path / "bare" / "bin" / "python"


def test_runs_where_nothing_is_installed(tmp_path, bare_python):
    words = ["--wheels", str(tmp_path / "wheels"), "--output", str(tmp_path / "out"), "--seconds", str(NEVER)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run(
        [bare_python, str(BENCHMARKS / "gpu_report"), "--device", "cpu", *words, "--stages", "environment", "parity"],
        env=environment,
        cwd=tmp_path,
        check=True,
        capture_output=True,
        timeout=NEVER,
    )
    report = report_in(tmp_path / "out")
    assert not errors_of(report)
    said = {row["what"]: row.get("value") for row in report["rows"]}
    assert all(f"{name} absent" in said["packages"] for name in ("datasets", "beartype"))
    assert said["import unisegment"] == str(BENCHMARKS.parent / "unisegment" / "__init__.py")
    shares = [row["share_of_allowed_error"] for row in report["rows"] if "share_of_allowed_error" in row]
    assert len(shares) == 8
    assert all(0 < share <= 1 for share in shares)


def test_the_table_is_short_and_keeps_errors_and_forecasts(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    from gpu_report.forecasts import FORECASTS, compare
    from gpu_report.table import to_table

    rows = [{"stage": "kernel_table", "what": f"row {number}", "who": "ours", "ms": 1.0} for number in range(900)]
    rows += [{"stage": "kernel_table", "what": "one more", "error": "nvcc failed"}]
    rows += [
        {"stage": "kernel_table", "what": "encoder float32 b1 forward", "who": "ours, fused", "ms": 0.05, "at_s": 1},
        {"stage": "kernel_table", "what": "encoder bfloat16 b1 forward", "who": "ours, fused", "ms": 0.05, "at_s": 1},
    ]
    content = {"what": "it", "seconds": 1.0, "finished": True, "rows": rows, "forecasts": compare(rows)}
    table = to_table(content)
    assert len(table) < 12_000
    assert "ERROR nvcc failed" in table
    assert "more in report.json" in table
    assert all(forecast.name in table for forecast in FORECASTS)
    held = {row["name"]: row["held"] for row in content["forecasts"]}
    assert held["aim: forward, float32"] is True
    assert held["aim: forward, bfloat16"] is False
    assert held["aim: backward, bfloat16"] is None


def test_the_page_of_benchmarks_shows_how_many_times_ours_the_others_take(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import gpu_report_tables

    def row(stage, what, who, ms, **more):
        return {"stage": stage, "what": what, "who": who, "ms": ms, **more}

    kernel = "encoder bfloat16 b4 forward"
    rows = [
        row("kernel_table", kernel, "ours, fused", 0.05, floor_ms=0.02),
        row("kernel_table", kernel, "transformers", 1.0),
        row("kernel_table", kernel, "transformers, compiled", 0.5),
        {"stage": "kernel_table", "what": kernel, "who": "SenseTime", "error": "out of memory"},
        row("whole_model:inference", "R50 b1", "ours", 30.0, ms_post=40.0, peak_mib=100.0),
        row("whole_model:inference", "R50 b1", "transformers", 60.0, ms_post=60.0, peak_mib=250.0),
        row("whole_model:inference", "R50 b1 recorded", "ours", 10.0, ms_post=12.0),
        row("whole_model:inference", "R50 b16", "ours", 80.0, ms_post=90.0, peak_mib=100.0),
        {"stage": "whole_model:inference", "what": "R50 b16", "who": "transformers", "error": "out of memory"},
        row("whole_model:training", "training R50 b4 decoder tf32", "ours", 100.0, peak_mib=10.0),
        row("whole_model:training", "training R50 b4", "transformers", 150.0, peak_mib=20.0),
        row("whole_model:compiled", "R50 b1 eager", "ours", 31.0),
        row("whole_model:compiled", "R50 b1 eager", "transformers", 62.0),
    ]
    assert list(gpu_report_tables.kernel_cells(rows))[1:] == [
        ["encoder, 21,504 queries an image", "4", "bfloat16", "forward", "0.05", "0.02", "20 ×", "–"]
    ]
    assert list(gpu_report_tables.model_cells(rows, is_training=False))[1:] == [
        ["R50 b1", "30", "2 ×", "40", "1.5 ×", "2.5 ×"],
        ["R50 b1 recorded", "10", "6 ×", "12", "5 ×", "–"],
    ]
    assert list(gpu_report_tables.model_cells(rows, is_training=True))[1:] == [
        ["R50 b4 decoder tf32", "100", "1.5 ×", "2 ×"]
    ]
    assert gpu_report_tables.bars(rows) == []
    named = [each | {"what": each["what"].replace(" b4 ", " b1 ")} for each in rows[:2]]
    assert gpu_report_tables.bars(named) == [("deformable attention, forward, bfloat16", 20.0)]
