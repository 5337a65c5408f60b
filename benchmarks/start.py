"""Seconds from the start of `textwright train` to the end of its first training step.

    python benchmarks/start.py small.txt --source ../older-checkout --out start.json

Three situations, each in a process of its own, a checkout and a situation after the other:
everything compiled to bytecode; nothing compiled and PYTHONDONTWRITEBYTECODE=1, as container images
have it, the first start of a user; and the same, a later start. Every start has a run folder of its
own, and a cache of its own unless it is a later one. Processor time is that of all threads.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from statistics import median

CHECKOUT = Path(__file__).parents[1]
COMPILED, FIRST, LATER = "compiled", "not compiled, first start", "not compiled, later start"

# The command line, which ends after the first step and prints when that began and ended. The
# trainer is watched from the moment that the command imports it, so that nothing is imported early.
PROGRAM = """
import importlib.util, os, resource, sys, time

TRAINER = "textwright.training.trainer"
times = []

def note():
    used = resource.getrusage(resource.RUSAGE_SELF)
    times.extend([used.ru_utime + used.ru_stime, time.time() - float(os.environ["STARTED"])])

def watch(step):
    def watched(self):
        note()
        step(self)
        note()
        print("times", *times, flush=True)
        os._exit(0)
    return watched

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name != TRAINER:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module
        def execute_and_watch(module):
            execute(module)
            module.Trainer.train_step = watch(module.Trainer.train_step)
        spec.loader.exec_module = execute_and_watch
        return spec

sys.meta_path.insert(0, Finder())
from textwright.cli import main
main()
"""


def start(checkout: Path, corpus: Path, environment: dict[str, str]) -> dict[str, float]:
    """One start → seconds. Raises RuntimeError with what the command wrote if it fails."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    environment = {**inherited, **environment, "PYTHONPATH": str(checkout / "src")}
    with tempfile.TemporaryDirectory() as folder:
        environment = {"TEXTWRIGHT_CACHE": f"{folder}/cache", **environment}
        command = [sys.executable, "-c", PROGRAM, "train", str(corpus), "--out", f"{folder}/run"]
        environment["STARTED"] = str(time.time())
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith("times ")]
    if not lines:
        raise RuntimeError(f"{' '.join(command[3:])}: {done.stdout}{done.stderr}")
    names = ("processor_to_step", "wall_to_step", "processor", "wall")
    return dict(zip(names, map(float, lines[0].split()[1:]), strict=True))


def starts(
    checkouts: list[Path], corpus: Path, rounds: int
) -> Iterator[tuple[Path, str, dict[str, float]]]:
    """The seconds of every start, the checkouts and situations in turn."""
    with tempfile.TemporaryDirectory() as home:
        compiled = {"PYTHONPYCACHEPREFIX": f"{home}/compiled"}
        missing = {"PYTHONPYCACHEPREFIX": f"{home}/none", "PYTHONDONTWRITEBYTECODE": "1"}
        kept = [{"TEXTWRIGHT_CACHE": f"{home}/cache-{n}"} for n in range(len(checkouts))]
        for checkout, cache in zip(checkouts, kept, strict=True):  # not counted
            start(checkout, corpus, compiled)
            start(checkout, corpus, missing | cache)
        for _ in range(rounds):
            for checkout, cache in zip(checkouts, kept, strict=True):
                yield checkout, COMPILED, start(checkout, corpus, compiled)
                yield checkout, FIRST, start(checkout, corpus, missing)
                yield checkout, LATER, start(checkout, corpus, missing | cache)


def commit_of(checkout: Path) -> str:
    """The commit of a checkout, marked where files differ from it."""
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    told = subprocess.run(command, cwd=checkout, capture_output=True, text=True)
    return told.stdout.strip() or "unknown"


def processor_name() -> str:
    """The processor's name where Linux tells it, else its architecture."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def main() -> None:
    """Start every checkout in every situation, print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", type=Path, help="a small text")
    parser.add_argument(
        "--source", type=Path, action="append", default=[], help="another checkout; repeatable"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="a JSON file for all of it")
    given = parser.parse_args()
    checkouts = [path.resolve() for path in (*given.source, CHECKOUT)]
    commits = [commit_of(checkout) for checkout in checkouts]
    found: dict[tuple[str, str], list[dict[str, float]]] = {}
    for checkout, situation, seconds in starts(checkouts, given.corpus.resolve(), given.rounds):
        commit = commits[checkouts.index(checkout)]
        found.setdefault((situation, commit), []).append(seconds)
    print("| | commit | processor (s) | elapsed (s) |\n| --- | --- | ---: | ---: |")
    for (situation, commit), each in sorted(found.items(), key=lambda item: item[0][0]):
        cells = []
        for name in ("processor", "wall"):
            values = [seconds[name] for seconds in each]
            cells.append(f"{median(values):.1f} ({min(values):.1f}, {max(values):.1f})")
        print(f"| {situation} | {commit} | {' | '.join(cells)} |")
    if given.out:
        record = {
            "machine": f"{processor_name()}, {os.cpu_count()} cores",
            "python": platform.python_version(),
            "torch": version("torch"),
            "corpus_bytes": given.corpus.stat().st_size,
            "starts": [
                {"situation": situation, "commit": commit, "seconds": each}
                for (situation, commit), each in found.items()
            ],
        }
        given.out.write_text(json.dumps(record, indent=1), "utf-8")


if __name__ == "__main__":
    main()
