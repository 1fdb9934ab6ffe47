"""A training that is killed again and again, beside one that is not: what it loses and where it ends.

    python benchmarks/kills.py --kills 10 --work DIR [--out FILE] -- --filter NAME --labels FILE ... (as `trainer fit`)

The undisturbed fit runs first, in DIR/whole. The other, in DIR/killed, gets SIGKILL at as many random moments while it
trains, spread over the time that the first one trained. What a kill loses is the time since the last checkpoint.
"""

import argparse
import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # run as a script, its own folder would come first

from benchmarks.parity_result import command, news
from distillery_runtime.bench.machine import this_machine
from distillery_trainer.data.split import SPLIT_VERSION
from distillery_trainer.evaluate.evaluation import read_evaluation

POLL_S = 0.2
TRAINER = [sys.executable, "-c", "import sys; from distillery_trainer.cli.main import main; sys.exit(main())", "fit"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Fits twice and prints, or writes, what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--work", type=Path, required=True, metavar="DIR")
    parser.add_argument("--out", type=Path, metavar="FILE")
    parser.add_argument("fit", nargs="+", metavar="OPTION", help="options of `trainer fit`, after --")
    options = parser.parse_args(arguments)
    whole, killed = options.work / "whole", options.work / "killed"
    trained_s = _whole(whole, options.fit)
    news(f"undisturbed: trained for {trained_s:.0f} s")
    lost_s = _killed(killed, options.fit, _moments(options.kills, trained_s, options.seed))
    maes = [_mae(run) for run in (whole, killed)]
    record = {
        "benchmark": "kills", "schema_version": 1, "command": command(sys.argv), "machine": asdict(this_machine()),
        "split_version": SPLIT_VERSION,
        "kills": options.kills, "trained_s": trained_s, "lost_s": lost_s, "lost_share": sum(lost_s) / trained_s,
        "test_mae": {"whole": maes[0], "killed": maes[1], "difference": abs(maes[1] - maes[0])},
    }  # fmt: skip
    text = json.dumps(record, indent=1) + "\n"
    if options.out:
        options.out.write_text(text, encoding="utf-8")
    sys.stdout.write(text)
    return 0


def _moments(kills: int, trained_s: float, seed: int) -> list[float]:
    """How long each life may train: gaps between random moments of the whole training, in seconds."""
    chance = random.Random(seed)
    moments = sorted(chance.uniform(0, trained_s) for _ in range(kills))
    return [after - before for before, after in zip([0.0, *moments], moments, strict=False)]


def _whole(run: Path, fit: Sequence[str]) -> float:
    """Fits without a kill; for how many seconds it trained."""
    process = _start(run, fit)
    began = _wait(process, run)
    while process.poll() is None and not (run / "student").exists():
        time.sleep(POLL_S)
    trained_s = time.monotonic() - began
    if process.wait():
        raise SystemExit(f"trainer fit ended with {process.returncode}")
    return trained_s


def _killed(run: Path, fit: Sequence[str], lives: Sequence[float]) -> list[float]:
    """Fits with kills; what each lost, in seconds since the last checkpoint."""
    lost = []
    for number, life_s in enumerate(lives, start=1):
        process = _start(run, fit)
        began = _wait(process, run)
        time.sleep(life_s)
        if process.poll() is not None:
            raise SystemExit(f"trained to its end before kill {number}: {process.returncode}")
        process.send_signal(signal.SIGKILL)
        process.wait()
        lost.append(min(time.monotonic() - began, time.time() - _saved_at(run)))
        news(f"kill {number} after {life_s:.0f} s, {lost[-1]:.1f} s lost")
    if _start(run, fit).wait():
        raise SystemExit("trainer fit failed at its end")
    return lost


def _start(run: Path, fit: Sequence[str]) -> subprocess.Popen[bytes]:
    with _log(run).open("wb") as log:
        return subprocess.Popen([*TRAINER, *fit, "--run-dir", str(run)], stdout=subprocess.DEVNULL, stderr=log)


def _log(run: Path) -> Path:
    run.parent.mkdir(parents=True, exist_ok=True)
    return run.with_suffix(".log")


def _wait(process: subprocess.Popen[bytes], run: Path) -> float:
    """Waits until steps are taken, and gives the moment."""
    while process.poll() is None and b"from step" not in _log(run).read_bytes():
        time.sleep(POLL_S)
    return time.monotonic()


def _saved_at(run: Path) -> float:
    """When the last checkpoint was written, in seconds since the epoch; 0 without one."""
    return max((path.stat().st_mtime for path in run.glob("work/*/student/checkpoint/state.safetensors")), default=0.0)


def _mae(run: Path) -> float:
    return read_evaluation(run / "eval.json").total.student.mae


if __name__ == "__main__":
    sys.exit(main())
