"""The laptop table: corpora × minutes × rows, held-out bits per character of each.

    python benchmarks/laptop.py --out table.json [--corpora nietzsche …] [--minutes 1 5 10] \\
        [--rows default ppmd …] [--source CHECKOUT …] [--seeds 1] [--pick-at 5]
    python benchmarks/laptop.py --out table.json --draw table.png --markdown

The corpora are read from the folder that TEXTWRIGHT_CORPORA names. Every row gets the documents
that textwright trains on and holds out, in a process of its own, one after another; it may train
for the given minutes of wall time, without imports, preparation and looks at held-out text. All
are scored by `competitors.score`, on the same characters. A row that has learning rates to try
trains with each for the whole time, and counts with the one that validation picked; with
--pick-at, only at that budget, and the others use its choice.

What is done is in the JSON and is not done again. --source measures another checkout of textwright
beside this one; its rows are named by its commit. --draw and --markdown show what the JSON holds
and measure nothing. benchmarks/competitors/ has the rows; a new file there adds one.
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
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import torch
from competitors import Row, load_rows
from competitors.__main__ import NOT_INSTALLED
from laptop_report import draw, picked_rate, to_markdown
from speed import processor

from textwright.corpus import Corpus, CorpusOptions

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
# File and template of each corpus.
CORPORA = {
    "nietzsche": ("nietzsche.txt", ""),
    "shakespeare": ("tinyshakespeare.txt", ""),
    "wine": ("winemag-data-130k-v2_first10001.csv.gz", "{description}"),
    "anime": ("anime_synopses.csv.gz", "{sypnopsis}"),
    "recipes": ("epicurious_recipes.json.gz", "{title} | {directions}"),
}
VALID_CHARACTERS = 50_000  # of validation, evenly spaced: it picks rates and weights, no more


@dataclass(frozen=True)
class Cell:
    """One measurement of the table. row: its name, with the commit if it is another checkout's ·
    minutes: None if the row is not timed · rate: 0 if there is none to try."""

    corpus: str
    row: str
    minutes: float | None
    rate: float
    seed: int
    base: Row
    source: Path

    @property
    def key(self) -> dict[str, Any]:
        names = ("corpus", "row", "minutes", "rate", "seed")
        return {name: getattr(self, name) for name in names}


def cells(given: argparse.Namespace, results: list[dict[str, Any]]) -> Iterator[Cell]:
    """Everything that was asked for, in the order in which it is measured."""
    rows = load_rows()
    sources = [ROOT, *(Path(source).resolve() for source in given.source)]
    minutes = sorted(given.minutes, key=lambda minutes: (minutes != given.pick_at, minutes))
    for corpus, name in product(given.corpora, given.rows or rows):
        row = rows[name]
        if row.corpora and corpus not in row.corpora:
            continue
        for source in sources if row.ours else [ROOT]:
            called = name if source == ROOT else f"{name}@{commit_of(source)}"
            for budget, seed in product(minutes if row.timed else [None], given.seeds):
                rates = row.rates or (0.0,)
                if row.timed and given.pick_at and budget != given.pick_at:
                    picked = picked_rate(results, corpus, called, given.pick_at, seed)
                    rates = rates if picked is None else (picked,)
                for rate in rates:
                    yield Cell(corpus, called, budget, rate, seed, row, source)


def read_documents(corpus: str) -> dict[str, list[str]]:
    """The documents of each part, as textwright reads and splits them; of valid a sample."""
    file, template = CORPORA[corpus]
    parts: dict[str, list[str]] = {"train": [], "valid": [], "test": []}
    read = Corpus([_corpora() / file], CorpusOptions(template=template))
    for part, text in read.documents_of("train", "valid", "test"):
        parts[part].append(text)
    stride = max(1, round(sum(map(len, parts["valid"])) / VALID_CHARACTERS))
    if len(parts["valid"]) > stride:
        parts["valid"] = parts["valid"][::stride]
    return parts


def measure(cell: Cell, documents: Path, threads: int) -> dict[str, Any] | str:
    """Run a cell in its own process → what was found, or why nothing was; empty: no package."""
    file, template = CORPORA[cell.corpus]
    task = {
        "documents": str(documents),
        "corpus": cell.corpus,
        "file": str(_corpora() / file),
        "template": template,
        "seconds": 60 * (cell.minutes or 0),
        "threads": threads,
        "seed": cell.seed,
        "rate": cell.rate,
        "source": str(cell.source),
    }
    counts = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    paths = os.pathsep.join([str(HERE), str(ROOT / "src")])
    with tempfile.TemporaryDirectory() as folder:
        asked, answer = Path(folder) / "task.json", Path(folder) / "found.json"
        asked.write_text(json.dumps(task), "utf-8")
        command = [sys.executable, "-m", "competitors", cell.base.name, str(asked), str(answer)]
        done = subprocess.run(
            command,
            env=os.environ | counts | {"PYTHONPATH": paths},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        if done.returncode == 0:
            return json.loads(answer.read_text("utf-8"))
        reason = (done.stderr.strip().splitlines() or ["it ended without a word"])[-1]
        return reason if done.returncode == NOT_INSTALLED else f"failed: {reason}"


def describe_machine(threads: int) -> dict[str, Any]:
    """The facts that a row's minutes are meaningless without."""
    return {
        "processor": processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "threads": threads,
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def busy_share(seconds: float = 1.0) -> float | None:
    """The share of all cores that other programs use just now; None where Linux does not say."""
    if not Path("/proc/stat").exists():
        return None

    def read() -> tuple[int, int]:
        values = [int(value) for value in Path("/proc/stat").read_text().split("\n")[0].split()[1:]]
        return sum(values[:8]), values[3] + values[4]

    total, idle = read()
    time.sleep(seconds)
    later_total, later_idle = read()
    return round(1 - (later_idle - idle) / max(1, later_total - total), 3)


def commit_of(source: Path) -> str:
    """The commit of a checkout, with a mark if its code is not as committed."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(source), *arguments]
        return subprocess.run(command, capture_output=True, text=True).stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "src")
    return git("rev-parse", "--short", "HEAD") + ("-changed" if changed else "")


def _corpora() -> Path:
    return Path(os.environ.get("TEXTWRIGHT_CORPORA", ".")).resolve()


def fill(given: argparse.Namespace) -> bool:
    """Measure what the JSON does not hold yet, saving after each → whether nothing failed."""
    table: dict[str, Any] = {"machine": describe_machine(given.threads), "corpora": {}, "rows": {}}
    table["results"] = []
    if given.out.exists():
        kept = json.loads(given.out.read_text("utf-8"))
        if kept["machine"] != table["machine"]:
            print("Warning: the table was begun on another machine or with other versions.")
        table = kept
    results = table["results"]
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if load > 0.5:
        print(f"Warning: the load average is {load:.1f}; minutes count only on an idle machine.")

    def save() -> None:
        beside = given.out.with_name(given.out.name + ".new")
        beside.write_text(json.dumps(table, indent=1, ensure_ascii=False) + "\n", "utf-8")
        beside.replace(given.out)

    failed, missing = False, set[str]()
    total = len([*cells(given, results)])
    with tempfile.TemporaryDirectory() as folder:
        for at, cell in enumerate(cells(given, results), 1):
            done = any(all(r[k] == value for k, value in cell.key.items()) for r in results)
            if done or cell.base.name in missing:
                continue
            documents = Path(folder) / f"{cell.corpus}.json"
            if not documents.exists():
                parts = read_documents(cell.corpus)
                documents.write_text(json.dumps(parts), "utf-8")
                table["corpora"][cell.corpus] = {
                    part: {"documents": len(texts), "characters": sum(map(len, texts))}
                    for part, texts in parts.items()
                }
            minutes = "" if cell.minutes is None else f", {cell.minutes:g} min"
            rate = f", rate {cell.rate:g}" if cell.rate else ""
            title = f"{at}/{total} {cell.corpus}, {cell.row}{minutes}{rate}"
            busy, commit = busy_share(), commit_of(cell.source)
            begun = time.perf_counter()
            found = measure(cell, documents, given.threads)
            if isinstance(found, str):
                print(f"{title}: {found}", flush=True)
                if found.startswith("failed"):
                    failed = True
                else:
                    missing.add(cell.base.name)
                continue
            table["rows"][cell.row] = cell.base.what
            wall = round(time.perf_counter() - begun, 1)
            facts = {"commit": commit, "busy_before": busy, "wall_seconds": wall}
            results.append({**cell.key, **found, **facts})
            save()
            low, high = found["test"]["interval"]
            bits = found["test"]["bits_per_character"]
            print(f"{title}: {bits:.3f} ({low:.3f} to {high:.3f}), {wall:.0f} s", flush=True)
    return not failed


def main() -> int:
    """Measure, or show what was measured."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, metavar="JSON", help="the table")
    parser.add_argument("--corpora", nargs="+", choices=CORPORA, default=[*CORPORA])
    parser.add_argument("--minutes", nargs="+", type=float, default=[1.0, 5.0, 10.0])
    parser.add_argument("--rows", nargs="+", choices=load_rows(), help="default: all")
    parser.add_argument("--source", nargs="+", default=[], help="other checkouts of textwright")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--pick-at",
        type=float,
        metavar="MINUTES",
        help="try all rates at this budget only; the other budgets use the rate it picks",
    )
    parser.add_argument("--draw", type=Path, metavar="PNG", help="draw bits against minutes")
    parser.add_argument("--markdown", action="store_true", help="print the table")
    given = parser.parse_args()
    if not given.draw and not given.markdown:
        return 0 if fill(given) else 1
    table = json.loads(given.out.read_text("utf-8"))
    if given.draw:
        draw(table, given.draw)
    if given.markdown:
        print(to_markdown(table))
    return 0


if __name__ == "__main__":
    sys.exit(main())
