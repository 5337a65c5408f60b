"""Compare readers of JSON lists, JSON lines, CSV and Parquet: seconds, peak memory, correctness.

    python benchmarks/readers.py CORPORA [--copies 4] [--json FILE]

CORPORA is the folder with the recipes and wine reviews. Each reader streams where it can, in a
process of its own, and joins two fields into documents; peak memory is anonymous memory, less that
of the process after its imports. The "traps" are small files whose values must come back as
written: "007", 1.50, NA, a list in one row and a text in the next, a field that first appears
late. Needs polars, datasets and ijson beside textwright.
"""

import argparse
import gzip
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

THREADS = "2"
LIBRARIES = ("textwright", "ijson", "pyarrow", "polars", "datasets")


def textwright(file: Path, kind: str) -> Iterator[dict[str, Any]]:
    from textwright.corpus.readers import read_records
    from textwright.corpus.sources import SourceFile, state_of

    return read_records(SourceFile(file, kind, "", 0, state_of(file)))


def ijson(file: Path, kind: str) -> Iterator[dict[str, Any]]:
    import ijson

    assert kind in ("json", "jsonl"), "reads JSON only"
    with open(file, "rb") as stream:
        yield from ijson.items(
            stream, "item" if kind == "json" else "", multiple_values=kind == "jsonl"
        )


def pyarrow(file: Path, kind: str) -> Iterator[dict[str, Any]]:
    import pyarrow.csv
    import pyarrow.json
    import pyarrow.parquet

    pyarrow.set_cpu_count(int(THREADS))
    if kind == "csv":
        options = pyarrow.csv.ParseOptions(newlines_in_values=True)
        batches: Iterable[Any] = pyarrow.csv.open_csv(file, parse_options=options)
    elif kind == "parquet":
        batches = pyarrow.parquet.ParquetFile(file).iter_batches(1024)
    elif kind == "jsonl":
        batches = pyarrow.json.open_json(file)
    else:
        batches = pyarrow.json.read_json(file).to_batches()
    for batch in batches:
        yield from batch.to_pylist()


def polars(file: Path, kind: str) -> Iterator[dict[str, Any]]:
    import polars

    if kind == "json":
        yield from polars.read_json(file).iter_rows(named=True)
        return
    scan = {"csv": polars.scan_csv, "jsonl": polars.scan_ndjson, "parquet": polars.scan_parquet}
    for batch in scan[kind](file).collect_batches():
        yield from batch.iter_rows(named=True)


def datasets(file: Path, kind: str) -> Iterator[dict[str, Any]]:
    import datasets

    builder = "json" if kind == "jsonl" else kind
    return iter(datasets.load_dataset(builder, data_files=str(file), split="train", streaming=True))


READERS = {
    "textwright": textwright,
    "ijson": ijson,
    "pyarrow": pyarrow,
    "polars": polars,
    "datasets": datasets,
}


def join(value: Any) -> str:
    return " ".join(value) if isinstance(value, list) else value


def anonymous_bytes() -> int:
    status = Path("/proc/self/status").read_text()
    found = re.search(r"RssAnon:\s+(\d+) kB", status)
    return int(found[1]) * 1024 if found else 0


def measure(library: str, kind: str, file: Path, fields: list[str]) -> dict[str, Any]:
    """One reader over one file, in this process."""
    __import__(library)
    for module in ("pyarrow.csv", "pyarrow.json", "pyarrow.parquet"):
        if library in ("pyarrow", "textwright"):
            __import__(module)
    start, peak, done = anonymous_bytes(), 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.002):
            peak = max(peak, anonymous_bytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    began, began_cpu = time.perf_counter(), time.process_time()
    documents, characters, digest = 0, 0, hashlib.sha256()
    try:
        for record in READERS[library](file, kind):
            text = " | ".join(join(record.get(field) or "") for field in fields)
            documents += 1
            characters += len(text)
            digest.update(text.encode())
    finally:
        seconds = time.perf_counter() - began
        cpu_seconds = time.process_time() - began_cpu
        done.set()
        watcher.join()
    return {
        "seconds": round(seconds, 3),
        "cpu_seconds": round(cpu_seconds, 3),  # comparable on a shared machine too
        "peak_mb": round((peak - start) / 1e6, 1),
        "documents": documents,
        "characters": characters,
        "sha256": digest.hexdigest(),
    }


def spring_traps(library: str, kind: str, file: Path) -> dict[str, Any]:
    """The records of a trap file, as the reader gives them."""
    return {"records": [dict(record) for record in READERS[library](file, kind)]}


def in_process(*arguments: str) -> dict[str, Any]:
    """Run one measurement of this file in a process; a failure is a result too."""
    threads = dict.fromkeys(("POLARS_MAX_THREADS", "OMP_NUM_THREADS"), THREADS)
    with tempfile.TemporaryDirectory() as cache:
        # Nothing is fetched, and nothing from an earlier run is read.
        env = os.environ | threads | {"HF_HUB_OFFLINE": "1", "HF_HOME": cache}
        command = [sys.executable, __file__, "--one", *arguments]
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"killed by signal {-done.returncode}"]
        return {"error": lines[-1][:160]}
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def write_corpora(corpora: Path, folder: Path, copies: int) -> dict[str, tuple[Path, list[str]]]:
    """The recipes, several times over, in four formats; the wine reviews as CSV."""
    import pyarrow
    from pyarrow import parquet

    with gzip.open(corpora / "epicurious_recipes.json.gz", "rt", encoding="utf-8") as handle:
        recipes = json.load(handle) * copies
    files = {kind: folder / f"recipes.{kind}" for kind in ("json", "jsonl", "parquet")}
    files["csv"] = folder / "wine.csv"
    lines = [json.dumps(recipe, ensure_ascii=False) for recipe in recipes]
    files["json"].write_text("[" + ",\n".join(lines) + "]", encoding="utf-8")
    files["jsonl"].write_text("\n".join(lines), encoding="utf-8")
    parquet.write_table(pyarrow.Table.from_pylist(recipes), files["parquet"], row_group_size=10_000)
    with gzip.open(
        corpora / "winemag-data-130k-v2_first10001.csv.gz", "rt", encoding="utf-8", newline=""
    ) as handle:
        header, body = handle.readline(), handle.read()
    files["csv"].write_text(header + body * 4 * copies, encoding="utf-8", newline="")
    recipe, wine = ["title", "directions"], ["variety", "description"]
    return {kind: (file, wine if kind == "csv" else recipe) for kind, file in files.items()}


TRAPS = {
    "csv": (
        'code,price,note\n007,1.50,"two\nlines"\n08,NA,true\n',
        [
            {"code": "007", "price": "1.50", "note": "two\nlines"},
            {"code": "08", "price": "NA", "note": "true"},
        ],
    ),
    "json": (
        '[{"day": "2020-01-02", "n": 1.50}, {"day": ["a", "b"], "n": 2}, {"late": "x"}]',
        [{"day": "2020-01-02", "n": "1.50"}, {"day": ["a", "b"], "n": "2"}, {"late": "x"}],
    ),
    "jsonl": (
        '{"day": "2020-01-02", "n": 1.50}\n{"day": ["a", "b"], "n": 2}\n{"late": "x"}\n',
        [{"day": "2020-01-02", "n": "1.50"}, {"day": ["a", "b"], "n": "2"}, {"late": "x"}],
    ),
}


def check_traps(folder: Path, library: str) -> dict[str, str]:
    """For each trap file "as written", or what the reader gave instead."""
    verdicts = {}
    for kind, (text, expected) in TRAPS.items():
        file = folder / f"trap.{kind}"
        file.write_text(text, encoding="utf-8")
        answer = in_process("traps", library, kind, str(file))
        if "error" in answer:
            verdicts[kind] = answer["error"]
            continue
        records = [
            {key: value for key, value in record.items() if value is not None}
            for record in answer["records"]
        ]
        same = records == expected
        verdicts[kind] = "as written" if same else json.dumps(records, ensure_ascii=False)
    return verdicts


def main() -> None:
    if sys.argv[1:2] == ["--one"]:
        task, library, kind, file, *fields = sys.argv[2:]
        if task == "traps":
            print(json.dumps(spring_traps(library, kind, Path(file)), default=str))
        else:
            print(json.dumps(measure(library, kind, Path(file), fields)))
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpora", type=Path)
    parser.add_argument("--copies", type=int, default=4, help="how often the recipes are repeated")
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    arguments = parser.parse_args()
    rows, traps = [], {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = write_corpora(arguments.corpora, folder, arguments.copies)
        for kind, (file, fields) in files.items():
            truth = None
            for library in LIBRARIES:
                result = in_process("read", library, kind, str(file), *fields)
                truth = truth or result.get("sha256")  # the standard library comes first
                same = result.get("sha256") == truth
                size = file.stat().st_size // 10**6
                rows.append({"format": kind, "mb": size, "reader": library, "same": same} | result)
                verdict = "same documents" if same else "OTHER documents"
                shown = result.get("error") or (
                    f"{result['seconds']:7.2f} s {result['cpu_seconds']:7.2f} s of CPU "
                    f"{result['peak_mb']:8.1f} MB   {verdict}"
                )
                print(f"{kind:8} {size:5} MB  {library:11} {shown}", flush=True)
        for library in LIBRARIES:
            traps[library] = check_traps(folder, library)
            for kind, verdict in traps[library].items():
                print(f"trap {kind:6} {library:11} {verdict}", flush=True)
    packages = ("pyarrow", "ijson", "polars", "datasets")
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    report = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {THREADS} threads used",
        "versions": {"python": platform.python_version()}
        | {package: importlib.metadata.version(package) for package in packages},
        "commit": commit,
        "rows": rows,
        "traps": traps,
    }
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
