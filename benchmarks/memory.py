"""Peak anonymous memory of preparing a large corpus and training on it for a few steps.

    python benchmarks/memory.py SOURCE big.json --megabytes 500

Writes a JSON list of so many megabytes by repeating SOURCE's recipes, each made a different
document by a number; trains the preset recipes-lstm on it for a few steps in a process of its own,
and samples that process' anonymous memory (RssAnon in /proc, so Linux only). A name that ends in
.txt gives one plain text instead, and the preset nietzsche-char-lstm is trained on it.
"""

import argparse
import gzip
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def write_corpus(source: Path, path: Path, size: int) -> None:
    """Records of the source again and again, numbered, until the file has `size` bytes."""
    with gzip.open(source, "rt", encoding="utf-8") as file:
        records = json.load(file)
    plain, written, number = path.suffix == ".txt", 0, 0
    with path.open("w", encoding="utf-8") as file:
        file.write("" if plain else "[")
        while written < size:
            record = records[number % len(records)]
            record["title"] = f"{record['title'].partition(' no. ')[0]} no. {number}"
            text = " ".join(record["directions"]) + "\n" if plain else json.dumps(record)
            written += file.write(text if plain else (",\n" if number else "") + text)
            number += 1
        file.write("" if plain else "]")


def peak_memory(command: list[str]) -> tuple[int, float, int]:
    """(peak bytes of RssAnon, seconds, exit code), sampled ten times a second."""
    started, peak = time.perf_counter(), 0
    process = subprocess.Popen(command)
    status = Path(f"/proc/{process.pid}/status")
    while process.poll() is None:
        for line in status.read_text().splitlines():
            if line.startswith("RssAnon"):
                peak = max(peak, int(line.split()[1]) * 1024)
        time.sleep(0.1)
    return peak, time.perf_counter() - started, process.returncode


def main() -> None:
    """Write the corpus, train on it, print the peak."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="the recipes, .json.gz")
    parser.add_argument("corpus", type=Path, help="the file to make, .json or .txt")
    parser.add_argument("--megabytes", type=int, default=500)
    given = parser.parse_args()
    write_corpus(given.source, given.corpus, given.megabytes * 1_000_000)
    preset = "nietzsche-char-lstm" if given.corpus.suffix == ".txt" else "recipes-lstm"
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", "from textwright.cli import main; main()", "train"]
        command += [str(given.corpus), "--out", f"{folder}/run", "--preset", preset]
        command += ["--threads", "1", "--set", "train.max_steps=5"]
        peak, seconds, code = peak_memory(command)
    record = {"corpus_bytes": given.corpus.stat().st_size, "preset": preset, "exit_code": code}
    print(json.dumps({**record, "peak_anonymous_bytes": peak, "seconds": round(seconds, 1)}))


if __name__ == "__main__":
    main()
