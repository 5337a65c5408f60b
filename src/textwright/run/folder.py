"""The run folder: everything that training leaves, and that all later work starts from.

    config.toml  tokenizer.json  escape.json.gz  model.safetensors (best)  metrics.jsonl
    base.safetensors (the weights that adapters belong to)  checksums.json
    counts.safetensors and mixture.json (counts beside the model, and how they are mixed)
    samples.md  README.md  corpus.json  heldout.jsonl.gz  train_hashes.bin
    checkpoints/step-…/

Files are written beside and renamed, so a run that was killed is whole. Nothing here imports
torch: weights are NumPy arrays.
"""

from __future__ import annotations

import gzip
import json
import shutil
import tomllib
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from textwright.config import FORMAT_VERSION, Config, OriginRecord, TrainOptions, migrated
from textwright.counts.kneser_ney import KneserNey
from textwright.counts.mixture import Mixture
from textwright.errors import ConfigError, RunError
from textwright.escape import EscapeCode
from textwright.files import holds_run, replacing, settle, sync
from textwright.run.arrays import Arrays, load_arrays, map_arrays, save_arrays
from textwright.run.checkpoints import Checkpoints
from textwright.run.lock import LOCK
from textwright.run.records import metrics_until, read_metrics, samples_until
from textwright.run.storing import (
    CHECKSUMS,
    check_unchanged,
    damaged,
    has_checksum,
    is_unchanged,
    record_checksum,
    storing,
)
from textwright.tokenizer import Tokenizer

BASE = "base.safetensors"
COUNTS = "counts.safetensors"
MIXTURE = "mixture.json"
WEIGHTS = "model.safetensors"
FILES = (
    *("config.toml", "corpus.json", "heldout.jsonl.gz", "train_hashes.bin", "tokenizer.json"),
    *("escape.json.gz", BASE, COUNTS, MIXTURE, WEIGHTS, "checkpoints", "metrics.jsonl"),
    "samples.md",
    *("loss.png", "README.md", CHECKSUMS, LOCK),
)
FOR_GOOD = (
    "corpus.json",
    "heldout.jsonl.gz",
    "train_hashes.bin",
    "tokenizer.json",
    "escape.json.gz",
    COUNTS,
)


class Run:
    """One run folder."""

    def __init__(self, path: Path, config: Config):
        self.path, self.config = path, config
        self.checkpoints = Checkpoints(path / "checkpoints")

    @classmethod
    def create(cls, path: Path, config: Config) -> Run:
        """Make a folder with its config. Files of an attempt that never trained are deleted."""
        cls.check_free(path)
        run = cls(path, config)
        run.write_config(config)
        # The corpus after what was made of it: if this is killed, another one does not take that.
        for name in (BASE, MIXTURE, *reversed(FOR_GOOD), CHECKSUMS):
            (path / name).unlink(missing_ok=True)
        return run

    @staticmethod
    def check_free(path: Path) -> None:
        """Raise RunError if the folder holds a run that has begun to train, or files that are not a
        run's but have the names of a run's files."""
        there = [name for name in FILES if name != LOCK and (path / name).exists()]
        if there and not holds_run(path):
            raise RunError(
                f"{path} holds a {there[0]} that does not belong to a run and would be lost; name "
                "another --out."
            )
        if {"checkpoints", WEIGHTS} & {*there}:
            resume = "continue it with --resume, " if "checkpoints" in there else ""  # not counts
            raise RunError(f"{path} holds a run already; {resume}name another --out, or delete it.")

    @classmethod
    def load(cls, path: Path) -> Run:
        """Open an existing run. Raises RunError if there is none, or one of a newer version."""
        file = path / "config.toml"
        try:
            values = tomllib.loads(file.read_text("utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            raise RunError(
                f"No run at {path}. Train one: textwright train CORPUS --out {path}"
            ) from None
        except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise damaged(file, error) from None
        version = values.get("format_version")
        if version not in range(1, FORMAT_VERSION + 1):
            raise RunError(
                f"{path} has format version {version}, but this textwright reads 1 to "
                f"{FORMAT_VERSION}; train again, or use the textwright that wrote it."
            )
        if "sample" not in values:  # the last table
            raise damaged(file, "it ends early")
        try:
            return cls(path, Config.check(migrated(values), source=str(file)))
        except ConfigError as error:
            sentence = str(error).removesuffix(".")
            raise ConfigError(f"{sentence}; correct it, or restore the file from a copy.") from None

    @staticmethod
    def settle(path: Path) -> None:
        """Remove what a kill left of files that were being written; there may be no run yet."""
        for name in FILES:
            settle(path / name)
        Checkpoints(path / "checkpoints").settle()

    def write_config(self, config: Config) -> None:
        self.config = config
        self.write_text("config.toml", config.to_toml())

    def record_checksums(self) -> None:
        """Record the checksums of finished files that have none, because training was killed just
        before, or because an older version wrote them."""
        for name in FOR_GOOD:
            if self.has(name) and not has_checksum(self.path / name):
                with storing(self.path):
                    record_checksum(self.path / name)

    def has(self, name: str) -> bool:
        return (self.path / name).exists()

    @property
    def private(self) -> bool:
        """Whether it keeps no documents of its corpus: it was trained with --private."""
        return not self.has("heldout.jsonl.gz")

    @cached_property
    def tokenizer(self) -> Tokenizer:
        return Tokenizer.load(self._unchanged("tokenizer.json"))

    @cached_property
    def escape(self) -> EscapeCode:
        return EscapeCode.load(self._unchanged("escape.json.gz"), self.tokenizer)

    def keep_tokenizer(self, tokenizer: Tokenizer) -> None:
        with self.written("tokenizer.json", for_good=True) as beside:
            tokenizer.save(beside)
        self.tokenizer = tokenizer

    def keep_escape(self, escape: EscapeCode) -> None:
        with self.written("escape.json.gz", for_good=True) as beside:
            escape.save(beside)
        self.escape = escape

    def weights(self, step: int | None = None) -> Arrays:
        """The best weights so far, or those of a step whose checkpoint is kept, by canonical name,
        with adapters merged into them."""
        name = WEIGHTS if step is None else f"checkpoints/step-{step:08d}/{WEIGHTS}"
        weights = load_arrays(self._existing(name))
        return merged(self.base(), weights, self.config.train) if self.has(BASE) else weights

    def base(self) -> Arrays:
        """The weights that adapters belong to, which training does not change."""
        return load_arrays(self._existing(BASE))

    @cached_property
    def counts(self) -> KneserNey | None:
        """The counts: of an n-gram model, or beside a neural one, if there are any."""
        if self.config.model.counted:
            return KneserNey.from_arrays(self.weights())
        if not self.config.counts.longest:
            return None
        return KneserNey.from_arrays(map_arrays(self._unchanged(COUNTS)))

    def keep_counts(self, counts: KneserNey) -> None:
        with self.written(COUNTS, for_good=True) as beside:
            save_arrays(counts.arrays(), beside)

    def mixture(self) -> Mixture:
        """How the best weights and the counts beside them are mixed."""
        file = self._existing(MIXTURE)
        try:
            return Mixture.from_json(json.loads(file.read_text("utf-8")))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise damaged(file, error) from None

    def keep_mixture(self, mixture: Mixture) -> None:
        self.write_text(MIXTURE, json.dumps(mixture.to_json(), indent=1) + "\n")

    def keep_weights(self, weights: Arrays, name: str = WEIGHTS) -> None:
        with self.written(name) as beside:
            save_arrays(weights, beside)
            shutil.copymode(self.path / "config.toml", beside)

    def restore_best(self, best_step: int) -> None:
        """Replace the best weights by those of the step that a checkpoint records as the best:
        after a kill, the file may be from a later step, which training has not reached again."""
        weights = self.checkpoints.weights(best_step) if best_step >= 0 else None
        if weights is not None:
            self.keep_weights(weights)
        elif best_step < 0:
            (self.path / WEIGHTS).unlink(missing_ok=True)

    def inherited(self) -> dict[str, dict[str, Any]]:
        """See `origin.Origin`. The layout is left out: it depends on the new corpus."""
        kept = self.config.model_dump(exclude_unset=True)
        context_length = self.config.data.context_length
        return {
            "base": {
                "data": {"context_length": context_length},
                "model": kept.get("model", {}),
                "sample": kept.get("sample", {}),
            },
            "given": {
                "tokenizer": kept.get("tokenizer", {}),
                "model": self.config.model.fixed_by_weights(context_length),
            },
        }

    def record(self) -> OriginRecord:
        """See `origin.Origin`."""
        files = [self.path / name for name in (BASE, WEIGHTS) if self.has(name)]
        try:
            return OriginRecord.of(str(self.path), files)
        except OSError as error:
            raise damaged(Path(error.filename or self.path), error) from None

    def corpus(self) -> dict[str, Any]:
        """Files, template, cleaning, split and counts of the corpus this run was trained on."""
        file = self._unchanged("corpus.json")
        try:
            return dict(json.loads(file.read_text("utf-8")))
        except (OSError, ValueError) as error:
            raise damaged(file, error) from None

    def train_hashes(self) -> np.ndarray:
        """(n,) uint64, sorted: `corpus.tally.hash_document` of every training document."""
        path = self._unchanged("train_hashes.bin")
        try:
            return np.fromfile(path, np.uint64)
        except OSError as error:
            raise damaged(path, error) from None

    def keep_held_out(self, documents: Iterable[tuple[str, str]]) -> None:
        """Keep (part, text) of every held-out document."""
        with (
            self.written("heldout.jsonl.gz", for_good=True) as beside,
            # No time stamp inside, so the same documents give the same bytes.
            gzip.GzipFile(beside, "wb", mtime=0) as file,
        ):
            for part, text in documents:
                line = json.dumps({"part": part, "text": text}, ensure_ascii=False)
                file.write(line.encode("utf-8", "surrogatepass") + b"\n")

    def forget_held_out(self) -> None:
        """Delete the held-out documents, as if the run had been --private from its beginning."""
        (self.path / "heldout.jsonl.gz").unlink(missing_ok=True)

    def held_out(self, part: str) -> Iterator[str]:
        """The held-out documents of one part. Raises RunError if the run is --private."""
        if self.private and "named" in self.corpus():  # which a private run does not record
            raise damaged(self.path / "heldout.jsonl.gz", "it is missing")
        if self.private:
            raise RunError(
                f"{self.path} keeps no held-out documents (--private); name a corpus to score."
            )
        path = self._unchanged("heldout.jsonl.gz")
        try:
            if not path.stat().st_size:
                raise EOFError("it is empty")  # gzip would read no documents
            with gzip.open(path, "rb") as file:
                for line in file:
                    record = json.loads(line.decode("utf-8", "surrogatepass"))
                    if record["part"] == part:
                        yield record["text"]
        except (EOFError, OSError, ValueError, KeyError, zlib.error) as error:
            raise damaged(path, error) from None

    def write_text(self, name: str, text: str, for_good: bool = False) -> None:
        self.write_bytes(name, text.encode("utf-8"), for_good)

    def write_bytes(self, name: str, data: bytes, for_good: bool = False) -> None:
        with self.written(name, for_good) as beside:
            beside.write_bytes(data)

    def append(self, name: str, text: str) -> None:
        """Add to metrics.jsonl or samples.md."""
        with storing(self.path), (self.path / name).open("ab") as file:
            file.write(text.encode("utf-8"))

    def sync(self) -> None:
        """Wait until metrics.jsonl and samples.md are on the disk: no checkpoint may be ahead of
        them after a power cut."""
        for name in ("metrics.jsonl", "samples.md"):
            if self.has(name):
                with storing(self.path):
                    sync(self.path / name)

    def metrics(self) -> list[dict[str, Any]]:
        """The events in metrics.jsonl. Raises RunError that names a damaged line."""
        return read_metrics(self.path / "metrics.jsonl")

    def rewind(self, step: int, evaluated: int) -> None:
        """Cut metrics.jsonl and samples.md back to a checkpoint's step and its last evaluation,
        which may lie before the step."""
        metrics, samples = self.path / "metrics.jsonl", self.path / "samples.md"
        self.write_text(metrics.name, metrics_until(metrics, step, evaluated))
        if samples.exists():
            self.write_text(samples.name, samples_until(samples, evaluated))

    def is_damaged(self, name: str) -> bool:
        """Whether a file that was written for good is there, but not as it was written."""
        return self.has(name) and not is_unchanged(self.path / name)

    def lacks(self, name: str) -> bool:
        """Whether a file that is written for good is missing, or not as it was written."""
        return not self.has(name) or self.is_damaged(name)

    @contextmanager
    def written(self, name: str, for_good: bool = False) -> Iterator[Path]:
        """Give a path for a file, which then replaces the one of this name. for_good: the file will
        not change again, and its checksum is kept."""
        with storing(self.path):
            with replacing(self.path / name) as beside:
                yield beside
            if for_good:
                record_checksum(self.path / name)

    def _existing(self, name: str) -> Path:
        path = self.path / name
        if not path.exists():
            raise RunError(
                f"{self.path} has no {name}; continue its training with --resume, or restore the "
                "file from a copy."
            )
        return path

    def _unchanged(self, name: str) -> Path:
        path = self._existing(name)
        check_unchanged(path)
        return path


def merged(base: Arrays, adapters: Arrays, options: TrainOptions) -> Arrays:
    """The base weights, with W + (alpha / rank)·B·A for each adapted W (see models/lora.py)."""
    weights = dict(base)
    scale = np.float32(options.lora_alpha / options.lora_rank)
    for name, b in adapters.items():
        layer, _, kind = name.rpartition(".")
        if kind == "lora_b":
            product = b @ adapters[f"{layer}.lora_a"]
            weights[f"{layer}.weight"] = base[f"{layer}.weight"] + scale * product
    return weights
