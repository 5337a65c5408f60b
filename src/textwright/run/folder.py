"""The run folder: everything that training leaves and everything that comes after starts from.

    config.toml  tokenizer.json  escape.json.gz  model.safetensors (best)  metrics.jsonl
    base.safetensors (beside adapters: what they adapt)
    samples.md  README.md  corpus.json  heldout.jsonl.gz  train_hashes.bin
    checkpoints/step-…/  model.safetensors  trainer.safetensors  progress.json

Files are written beside and renamed, so a run that was killed is whole. Nothing here imports
torch: weights come and go as NumPy arrays.
"""

from __future__ import annotations

import contextlib
import errno
import gzip
import json
import os
import re
import shutil
import tomllib
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from textwright.config import FORMAT_VERSION, Config, GPTOptions, InitFrom, TrainOptions
from textwright.errors import RunError
from textwright.escape import EscapeCode
from textwright.tokenizer import Tokenizer

Arrays = dict[str, np.ndarray]
BASE = "base.safetensors"
FILES = (
    *("config.toml", "corpus.json", "heldout.jsonl.gz", "train_hashes.bin", "tokenizer.json"),
    *("escape.json.gz", BASE, "model.safetensors", "checkpoints", "metrics.jsonl", "samples.md"),
    *("loss.png", "README.md"),
)
KEPT_CHECKPOINTS = 2  # the last ones; the best is kept besides


@dataclass(frozen=True)
class Checkpoint:
    """What a trainer needs to go on, as saved."""

    step: int
    progress: dict[str, Any]
    weights: Arrays
    tensors: Arrays


class Run:
    """One run folder."""

    def __init__(self, path: Path, config: Config):
        self.path, self.config = path, config

    @classmethod
    def create(cls, path: Path, config: Config) -> Run:
        """A new folder with its config; what a first try left that never trained is dropped."""
        cls.check_free(path)
        run = cls(path, config)
        run.write_config(config)
        left = ("tokenizer.json", "escape.json.gz", "corpus.json", "heldout.jsonl.gz", BASE)
        for name in left:
            (path / name).unlink(missing_ok=True)
        return run

    @staticmethod
    def check_free(path: Path) -> None:
        """Raises RunError if the folder holds a run that has begun to train, or other files by the
        names that a run's have."""
        there = [name for name in FILES if (path / name).exists()]
        config = path / "config.toml"
        if there and not (config.is_file() and b"format_version" in config.read_bytes()):
            raise RunError(
                f"{path} holds a {there[0]} that is not a run's and would be lost; name another "
                "--out."
            )
        if {"checkpoints", "model.safetensors"} & {*there}:
            raise RunError(
                f"{path} holds a run already; continue it with --resume, name another --out, or "
                "delete it."
            )

    @classmethod
    def load(cls, path: Path) -> Run:
        """An existing run. Raises RunError where there is none, or one of another version."""
        file = path / "config.toml"
        if not file.exists():
            raise RunError(f"No run at {path}. Train one: textwright train CORPUS --out {path}")
        try:
            values = tomllib.loads(file.read_text("utf-8"))
        except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise RunError(f"{file} is damaged ({error}); restore it or train again.") from None
        version = values.get("format_version")
        if version != FORMAT_VERSION:
            raise RunError(
                f"{path} has format version {version}, this textwright reads {FORMAT_VERSION}; "
                "train again, or use the textwright that wrote it."
            )
        if "sample" not in values:  # the last table
            raise RunError(f"{file} is damaged (it ends early); restore it or train again.")
        return cls(path, Config.check(values, source=str(file)))

    def write_config(self, config: Config) -> None:
        self.config = config
        self.write_text("config.toml", config.to_toml())

    def has(self, name: str) -> bool:
        return (self.path / name).exists()

    @cached_property
    def tokenizer(self) -> Tokenizer:
        return Tokenizer.load(self._existing("tokenizer.json"))

    @cached_property
    def escape(self) -> EscapeCode:
        return EscapeCode.load(self._existing("escape.json.gz"), self.tokenizer)

    def keep_tokenizer(self, tokenizer: Tokenizer) -> None:
        with self.written("tokenizer.json") as beside:
            tokenizer.save(beside)
        self.tokenizer = tokenizer

    def keep_escape(self, escape: EscapeCode) -> None:
        with self.written("escape.json.gz") as beside:
            escape.save(beside)
        self.escape = escape

    def weights(self) -> Arrays:
        """The best weights so far, by canonical name; adapters are put into what they adapt."""
        weights = self._load_arrays(self._existing("model.safetensors"))
        return merged(self.base(), weights, self.config.train) if self.has(BASE) else weights

    def base(self) -> Arrays:
        """The weights that adapters stand beside, and that stay as they are."""
        return self._load_arrays(self._existing(BASE))

    def keep_weights(self, weights: Arrays, name: str = "model.safetensors") -> None:
        with self.written(name) as beside:
            save_file(weights, beside)
            # safetensors lets its owner alone read it; the run's other files know who else may.
            shutil.copymode(self.path / "config.toml", beside)

    def inherited(self) -> dict[str, dict[str, Any]]:
        """See `resuming.Origin`. Which layout suits another corpus is for that to say."""
        kept = self.config.model_dump(exclude_unset=True)
        data = {"context_length": self.config.data.context_length}
        model = kept.get("model", {})
        shape = {key: model[key] for key in model if key not in ("dropout", "init_from")}
        if isinstance(self.config.model, GPTOptions):  # its positions are weights
            context = self.config.model.context_length or self.config.data.context_length
            shape["context_length"] = context
        return {
            "base": {"data": data, "model": model, "sample": kept.get("sample", {})},
            "given": {"tokenizer": kept.get("tokenizer", {}), "model": shape},
        }

    def record(self) -> InitFrom:
        """See `resuming.Origin`."""
        files = [name for name in (BASE, "model.safetensors") if self.has(name)]
        return InitFrom.of(str(self.path), [self.path / name for name in files])

    def corpus(self) -> dict[str, Any]:
        """Files, template, cleaning, split and counts of the corpus this run was trained on."""
        file = self._existing("corpus.json")
        try:
            return json.loads(file.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise self._damaged(file, error) from None

    def keep_held_out(self, documents: Iterable[tuple[str, str]]) -> None:
        """(part, text) of every held-out document."""
        with (
            self.written("heldout.jsonl.gz") as beside,
            # No time stamp inside, so the same documents give the same bytes.
            gzip.GzipFile(beside, "wb", mtime=0) as file,
        ):
            for part, text in documents:
                line = json.dumps({"part": part, "text": text}, ensure_ascii=False)
                file.write(line.encode("utf-8", "surrogatepass") + b"\n")

    def forget_held_out(self) -> None:
        """Be as if the run were --private from its beginning."""
        (self.path / "heldout.jsonl.gz").unlink(missing_ok=True)

    def held_out(self, part: str) -> Iterator[str]:
        """The held-out documents of one part. Raises RunError if the run is --private."""
        if not self.has("heldout.jsonl.gz"):
            raise RunError(
                f"{self.path} keeps no held-out documents (--private); name a corpus to score."
            )
        path = self.path / "heldout.jsonl.gz"
        try:
            if not path.stat().st_size:
                raise EOFError("it is empty")  # which gzip takes for no documents
            with gzip.open(path, "rb") as file:
                for line in file:
                    record = json.loads(line.decode("utf-8", "surrogatepass"))
                    if record["part"] == part:
                        yield record["text"]
        except (EOFError, OSError, ValueError, KeyError, zlib.error) as error:
            raise self._damaged(path, error) from None

    def write_text(self, name: str, text: str) -> None:
        with self.written(name) as beside:
            beside.write_text(text, "utf-8")

    def write_bytes(self, name: str, data: bytes) -> None:
        with self.written(name) as beside:
            beside.write_bytes(data)

    def append(self, name: str, text: str) -> None:
        """Add to metrics.jsonl or samples.md."""
        with self._storing(), (self.path / name).open("a", encoding="utf-8") as file:
            file.write(text)

    def metrics(self) -> list[dict[str, Any]]:
        """Every line of metrics.jsonl; a last line cut short by a kill is left out."""
        records = []
        with contextlib.suppress(FileNotFoundError):
            for line in (self.path / "metrics.jsonl").read_text("utf-8").splitlines():
                with contextlib.suppress(json.JSONDecodeError):
                    records.append(json.loads(line))
        return records

    def rewind(self, step: int, evaluated: int) -> None:
        """Cut metrics.jsonl and samples.md back to a checkpoint's step and its last evaluation,
        which may lie before the step."""
        last = {"ready": step, "step": step, "evaluation": evaluated}
        kept = [record for record in self.metrics() if record["step"] <= last[record["event"]]]
        self.write_text("metrics.jsonl", "".join(json.dumps(record) + "\n" for record in kept))
        if self.has("samples.md"):
            samples = (self.path / "samples.md").read_text("utf-8")
            # A model may write the mark too; digits alone on its line it will hardly add.
            texts = re.split(rf"^{SAMPLE_MARK}(?=\d+$)", samples, flags=re.MULTILINE)[1:]
            texts = [text for text in texts if int(text.partition("\n")[0]) <= evaluated]
            self.write_text("samples.md", "".join(SAMPLE_MARK + text for text in texts))

    def keep_checkpoint(self, checkpoint: Checkpoint, best_step: int) -> None:
        """Write a checkpoint, then drop all but the best and the last two."""
        folder = self.path / "checkpoints"
        name = f"step-{checkpoint.step:08d}"
        building = folder / f".{name}"
        with self._storing():
            shutil.rmtree(building, ignore_errors=True)
            building.mkdir(parents=True)
            save_file(checkpoint.weights, building / "model.safetensors")
            save_file(checkpoint.tensors, building / "trainer.safetensors")
            (building / "progress.json").write_text(json.dumps(checkpoint.progress))
            shutil.rmtree(folder / name, ignore_errors=True)
            os.replace(building, folder / name)
        steps = self._checkpoint_steps()
        for step in steps[:-KEPT_CHECKPOINTS]:
            if step != best_step:
                shutil.rmtree(folder / f"step-{step:08d}", ignore_errors=True)

    def last_checkpoint(self) -> Checkpoint | None:
        """The newest checkpoint, or None. Raises RunError that names a damaged file."""
        steps = self._checkpoint_steps()
        if not steps:
            return None
        folder = self.path / "checkpoints" / f"step-{steps[-1]:08d}"
        try:
            progress = json.loads((folder / "progress.json").read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise self._damaged(folder / "progress.json", error) from None
        return Checkpoint(
            steps[-1],
            progress,
            self._load_arrays(folder / "model.safetensors"),
            self._load_arrays(folder / "trainer.safetensors"),
        )

    def _checkpoint_steps(self) -> list[int]:
        folders = (self.path / "checkpoints").glob("step-*")
        return sorted(int(folder.name.removeprefix("step-")) for folder in folders)

    def _existing(self, name: str) -> Path:
        path = self.path / name
        if not path.exists():
            raise RunError(f"{self.path} has no {name}; its training did not get that far.")
        return path

    def _load_arrays(self, path: Path) -> Arrays:
        try:
            return load_file(path)
        except (SafetensorError, OSError, ValueError) as error:
            raise self._damaged(path, error) from None

    def _damaged(self, path: Path, error: Exception) -> RunError:
        remedy = "train again"
        if "checkpoints" in path.parts:
            remedy = f"delete the folder {path.parent} and resume from the checkpoint before it"
        return RunError(f"{path} is damaged ({error}); restore it from a copy, or {remedy}.")

    @contextlib.contextmanager
    def written(self, name: str) -> Iterator[Path]:
        """A path beside the final one, renamed to it when all went well."""
        beside = self.path / f".{name}"
        with self._storing():
            self.path.mkdir(parents=True, exist_ok=True)
            try:
                yield beside
                os.replace(beside, self.path / name)
            finally:
                beside.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _storing(self) -> Iterator[None]:
        """A full disk or a forbidden folder, said in a sentence."""
        try:
            yield
        except (OSError, SafetensorError) as error:
            full = getattr(error, "errno", None) == errno.ENOSPC or "code: 28" in str(error)
            reason = "the disk is full" if full else getattr(error, "strerror", None) or str(error)
            raise RunError(
                f"Cannot write to {self.path}: {reason}; what was saved before is intact, and "
                "--resume goes on from there."
            ) from None


SAMPLE_MARK = "## Step "


def merged(base: Arrays, adapters: Arrays, options: TrainOptions) -> Arrays:
    """The base, each matrix W with adapters become W + (alpha / rank)·B·A (see models/lora.py)."""
    weights = dict(base)
    scale = np.float32(options.lora_alpha / options.lora_rank)
    for name, b in adapters.items():
        layer, _, kind = name.rpartition(".")
        if kind == "lora_b":
            product = b @ adapters[f"{layer}.lora_a"]
            weights[f"{layer}.weight"] = base[f"{layer}.weight"] + scale * product
    return weights
