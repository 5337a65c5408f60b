"""A training step beside other checkouts, and beside its own matrix products, in one run.

    python benchmarks/step.py CORPORA --out step.json [--source CHECKOUT …] [--only default …]

Each round trains for some steps with every checkout in turn, each in a process of its own, on the
same corpus; the table has the median over all steps of all rounds, in milliseconds. Then every
matrix product of one step is computed again, alone, with the same shapes, strides and types: the
share of them in the step says how much of it is spent on anything else.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parents[1]
# What is trained: a corpus, a preset and settings.
CASES = {
    "default": ("nietzsche.txt", "auto", ["train.time_budget=5m"]),
    "default of a large corpus": ("anime_synopses.csv.gz", "auto", ["train.time_budget=5m"]),
    "recipes-lstm": ("epicurious_recipes.json.gz", "recipes-lstm", []),
    "wine-gpt": ("winemag-data-130k-v2_first10001.csv.gz", "wine-gpt", []),
    "small-lstm": ("nietzsche.txt", "small-lstm", []),
}
WARM_UP = 10  # steps of each round that are not counted
REPEATED = 20  # times that each product is computed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("corpora", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--source", type=Path, nargs="*", default=[], help="other checkouts")
    parser.add_argument("--only", nargs="*", choices=list(CASES), default=list(CASES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=40, help="of each round")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--work", choices=["steps", "products"], help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        work = {"steps": time_steps, "products": time_products}[given.work]
        print(json.dumps(work(given, given.only[0])))
        return
    found = {}
    for case in given.only:
        sources = [HERE, *given.source]
        times: dict[Path, list[float]] = {source: [] for source in sources}
        for _ in range(given.rounds):
            for source in sources:
                times[source] += measure(given, case, source, "steps")
        row = {str(source.resolve().name): statistics.median(times[source]) for source in sources}
        row["products"] = measure(given, case, HERE, "products")
        found[case] = row
        print(case, {name: round(value, 1) for name, value in row.items()}, flush=True)
        given.out.write_text(json.dumps(found, indent=1) + "\n")


def measure(given: argparse.Namespace, case: str, source: Path, work: str) -> Any:
    """What a process that uses the code of `source` finds."""
    command = [sys.executable, __file__, given.corpora, "--out", given.out, "--only", case]
    command += ["--steps", given.steps, "--threads", given.threads, "--work", work]
    environment = {**os.environ, "PYTHONPATH": str(source / "src")}
    done = subprocess.run(
        [str(part) for part in command], env=environment, capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def time_steps(given: argparse.Namespace, case: str) -> list[float]:
    """Milliseconds of each step of a training."""
    from textwright.config import Config
    from textwright.training.session import train_run

    file, preset, own = CASES[case]
    steps = WARM_UP + given.steps
    settings = [*own, "train.evaluate_every=1000000"]
    settings += [f"train.threads={given.threads}", "train.evaluate_characters=2000"]
    ends = [0.0]
    with tempfile.TemporaryDirectory() as folder:
        config = Config.resolve(preset, settings=settings)
        for event in train_run([given.corpora / file], Path(folder) / "run", config):
            if event.kind == "step":
                ends.append(event.seconds)
                if event.step == steps:
                    break
    return [1000 * (end - start) for start, end in pairwise(ends)][WARM_UP:]


def time_products(given: argparse.Namespace, case: str) -> float:
    """Milliseconds of all matrix products of one step, computed alone."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    from textwright.training import trainer

    torch.set_num_threads(given.threads)
    products: Counter[Any] = Counter()

    class Recording(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            if function.overloadpacket.__name__ in ("mm", "addmm", "addmm_", "bmm", "baddbmm"):
                tensors = [arg for arg in args if isinstance(arg, torch.Tensor)]
                seen = tuple((t.shape, t.stride(), t.dtype) for t in tensors[-2:])
                products[seen] += 1
            return function(*args, **(kwargs or {}))

    plain = trainer.Trainer.train_step

    def record_last(self: trainer.Trainer) -> trainer.Step:
        if self.progress.step + 1 < WARM_UP + given.steps:
            return plain(self)
        with Recording():
            return plain(self)

    trainer.Trainer.train_step = record_last
    time_steps(given, case)
    total = 0.0
    for shapes, count in products.items():
        one, other = (
            torch.empty_strided(size, stride, dtype=dtype).fill_(0.5)
            for size, stride, dtype in shapes
        )
        times = []
        for _ in range(REPEATED):
            start = time.perf_counter()
            torch.matmul(one, other)
            times.append(time.perf_counter() - start)
        total += 1000 * count * statistics.median(times)
    return total


if __name__ == "__main__":
    main()
