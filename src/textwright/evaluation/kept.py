"""Finished parts of long work, kept on the disk: what was stopped goes on from there, and the same
question asked again is answered at once.

A part is kept under the hash of all that it depends on: the weights, the text, the options, the
device, and the code that computes it. So it is never stale, and need not be thrown away. Its file
is JSON in gzip, whose checksum tells whether it is damaged; then it is computed again. Of a private
run nothing is kept: what a part says of a text may be some of it.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import platform
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
from pydantic import PlainSerializer, PlainValidator, TypeAdapter

from textwright.files import RESULTS, cache_folder, hash_file, hash_json, replacing
from textwright.run import BASE, COUNTS, WEIGHTS, Run
from textwright.run.folder import MIXTURE

T = TypeVar("T")
# In a dataclass that is kept. Numbers come back as int64 or float64, to the last bit.
Array = Annotated[np.ndarray, PlainValidator(np.asarray), PlainSerializer(np.ndarray.tolist)]
PACKAGE = Path(__file__).parents[1]
LIBRARIES = ("numpy", "torch", "tokenizers", "transformers", "pyppmd")
# What a run writes with, and how long it trains, does not change what its weights predict.
UNSEEN: dict[str, Any] = {"sample": True, "train": {"epochs", "max_steps", "time_budget"}}
PREDICTING = (WEIGHTS, BASE, COUNTS, MIXTURE, "tokenizer.json", "escape.json.gz")


@dataclass(frozen=True)
class KeptResults:
    """Where parts are kept, and what all of them depend on. folder: None keeps nothing · fresh:
    parts that are there are computed again · counts: of parts that were found, and newly kept."""

    folder: Path | None = None
    fresh: bool = False
    depends: tuple[Mapping[str, Any], ...] = ()
    counts: Counter[str] = field(default_factory=Counter)

    @classmethod
    def in_cache(cls, fresh: bool = False) -> KeptResults:
        """Results that are kept in the cache folder."""
        return cls(cache_folder() / RESULTS, fresh)

    def about(self, run: Run, step: int | None = None) -> KeptResults:
        """The same, of parts that depend on what a run predicts with its best weights, or those of
        a step; nothing if the run is private."""
        if run.private:
            return replace(self, folder=None)
        files = [run.path / name for name in PREDICTING if run.has(name)]
        if step is not None:
            files = [file for file in files if file.name != WEIGHTS]
            files.append(run.checkpoints.weights_file(step))
        config = run.config.model_dump(mode="json", exclude=UNSEEN)
        return self.of_files(files).given(config=config)

    def of_files(self, files: Iterable[Path]) -> KeptResults:
        """The same, of parts that depend on the content of files; nothing if one is unreadable,
        which whoever opens it will say."""
        if self.folder is None:
            return self
        try:
            return self.given(files=[[file.name, hash_file(file)] for file in files])
        except OSError:
            return replace(self, folder=None)

    def given(self, **depends: Any) -> KeptResults:
        """The same, of parts that depend on more. Values are JSON."""
        return replace(self, depends=(*self.depends, depends))

    def recall(self, kind: type[T], compute: Callable[[], T], **depends: Any) -> T:
        """What `compute` gives, or gave when it depended on the same. kind: its type, a dataclass
        or a container of plain values."""
        if self.folder is None:
            return compute()
        adapter = TypeAdapter(kind)
        everything = [code_fingerprint(), *self.depends, depends]
        file = self.folder / f"{hash_json(everything)}.json.gz"
        if not self.fresh:
            # A damaged file raises many kinds of errors, all of these.
            with suppress(OSError, EOFError, ValueError, zlib.error):
                found = adapter.validate_python(json.loads(gzip.decompress(file.read_bytes())))
                self.counts["found"] += 1
                return found
        text = json.dumps(adapter.dump_python(compute()))
        with suppress(OSError):  # a full disk takes away no result
            with replacing(file) as beside:
                beside.write_bytes(gzip.compress(text.encode(), mtime=0))
            self.counts["kept"] += 1
        return adapter.validate_python(json.loads(text))  # as it will be found


NOTHING_KEPT = KeptResults()


def device_named(name: str) -> list[str]:
    """What tells one device from another, for `KeptResults.given`: its name or, for "auto", what of
    the machine decides. Asking torch would take seconds, and what is kept needs no torch."""
    if name != "auto":
        return [name]
    chips = sorted(str(file) for kind in ("nvidia*", "kfd") for file in Path("/dev").glob(kind))
    shown = [os.environ.get("CUDA_VISIBLE_DEVICES", ""), *chips]
    return [name, sys.platform, platform.machine(), *shown]


@cache
def code_fingerprint() -> str:
    """Of this package's code, and of the versions of the libraries that compute for it."""
    found = hashlib.sha256()
    for file in sorted(PACKAGE.rglob("*.py")):
        found.update(file.read_bytes())
    for name in LIBRARIES:
        with suppress(PackageNotFoundError):
            found.update(f"{name} {version(name)}\n".encode())
    return found.hexdigest()


def fingerprint(parts: Iterable[str | np.ndarray]) -> str:
    """Of texts, or of rows of ids."""
    found = hashlib.sha256()
    for part in parts:
        if isinstance(part, str):
            data = part.encode("utf-8", "surrogatepass")
        else:
            data = np.asarray(part, np.int64).tobytes()
        found.update(len(data).to_bytes(8, "little") + data)
    return found.hexdigest()
