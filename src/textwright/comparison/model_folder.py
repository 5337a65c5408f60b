"""Another project's model as a subject: any causal model in a folder that `transformers` loads.

Its own tokenizer cuts the text, and a document whose tokens do not give it back byte for byte is
refused: what a tokenizer drops would be free. An export of ours whose tokens lose something has the
run's escape code beside it, which is charged as it is for the run. The start token stands before
every document, the end token is charged after it. Only safetensors are read, and no code of the
folder is run.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from textwright.comparison.folder_tokens import ESCAPE, ESCAPE_TOKENIZER, tokens_of
from textwright.comparison.subjects import (
    UNKNOWN,
    Codec,
    Measured,
    Writing,
    Written,
    context_in_words,
)
from textwright.compute.device import choose_device
from textwright.compute.memory import memory_errors
from textwright.errors import EvaluationError
from textwright.evaluation.kept import NOTHING_KEPT, Array, KeptResults, fingerprint
from textwright.evaluation.neural import cut_windows
from textwright.evaluation.scores import HeldOut
from textwright.hub import quiet_transformers
from textwright.progress import OnProgress
from textwright.writing.backend import window_start

CONTEXT = 2_048  # tokens read at once, where the model would look back on more
LOGITS = 1 << 26  # held at a time: 256 MB
WRITTEN_AT_ONCE = 16


class ModelFolder:
    """A model folder on a device. Raises EvaluationError if it cannot be loaded as one."""

    kind = "folder"

    def __init__(self, path: Path, device: str = "auto", kept: KeptResults = NOTHING_KEPT):
        self.path, self.device = path, choose_device(device)
        self.model, self.tokenizer = _load(path)
        self.tokens = tokens_of(path, self.tokenizer, int(self.model.config.vocab_size))
        files = sorted(file for file in path.iterdir() if file.is_file())
        self.kept = kept.of_files(files).given(device=str(self.device))
        self.model.to(self.device)
        config = self.model.config
        most = getattr(config, "max_position_embeddings", None) or CONTEXT
        self.context_length = min(int(most), CONTEXT)
        self.stop = self._id("eos_token_id")
        self.start = self._id("bos_token_id", self.stop)

    @property
    def name(self) -> str:
        return str(self.path)

    def measure(self, documents: Sequence[str], on_progress: OnProgress) -> Measured:
        rows, places = [], []
        for document in documents:
            ids, starts = self.tokens.encode(document)
            rows.append(np.array([self.start, *ids, self.stop], np.int64))
            places.append(np.array([*starts, len(document)]))
        escaped = [self.tokens.escape_bits(document) for document in documents]
        sized = HeldOut.sized(documents, places, escape_bits=escaped)
        return Measured(self._score(rows, on_progress), sized)

    def write(self, prompts: Sequence[str], writing: Writing, max_new_tokens: int) -> Written:
        torch.manual_seed(writing.seed)
        rows = [[self.start, *self.tokens.encode(prompt)[0]] for prompt in prompts]
        texts, tokens, begun = [], 0, time.perf_counter()
        for first in range(0, len(rows), WRITTEN_AT_ONCE):
            group = rows[first : first + WRITTEN_AT_ONCE]
            for new in self._continued(group, writing, max_new_tokens):
                tokens += len(new)
                texts.append(self.tokens.decode(new)[: writing.characters])
        return Written(texts, time.perf_counter() - begun, tokens)

    def _continued(self, rows: list[list[int]], writing: Writing, most: int) -> list[list[int]]:
        """New ids of each row, `most` at most, by the context rule of `window_start`."""
        found: list[list[int]] = [[] for _ in rows]
        running = list(range(len(rows)))
        while running and most:
            seen = [[*rows[at], *found[at]] for at in running]
            seen = [ids[window_start(len(ids), self.context_length) :] for ids in seen]
            # The last of these is not read any more.
            count = min(most, self.context_length + 1 - max(map(len, seen)))
            most -= count
            for at, new in zip(tuple(running), self._generated(seen, writing, count), strict=True):
                if self.stop in new:
                    new = new[: new.index(self.stop)]
                    running.remove(at)
                found[at] += new
        return found

    @memory_errors()
    def _generated(self, rows: list[list[int]], writing: Writing, count: int) -> list[list[int]]:
        """`count` new ids of each row, less where all have ended: a row that has goes on with stop
        ids."""
        from transformers import GenerationConfig

        options = GenerationConfig(
            do_sample=writing.temperature > 0,
            temperature=writing.temperature or None,
            top_p=writing.top_p if writing.temperature > 0 else None,
            top_k=0 if writing.temperature > 0 else None,
            max_new_tokens=count,
            eos_token_id=self.stop,
            pad_token_id=self.stop,
        )
        width = max(map(len, rows))
        ids = torch.full((len(rows), width), self.stop)
        mask = torch.zeros_like(ids)
        for at, row in enumerate(rows):
            ids[at, width - len(row) :] = torch.tensor(row)
            mask[at, width - len(row) :] = 1
        with quiet_transformers():
            out = self.model.generate(
                ids.to(self.device),
                attention_mask=mask.to(self.device),
                generation_config=options,
            )
        return list(out[:, width:].tolist())

    def codec(self) -> Codec:
        return Codec(
            FolderBackend(self),
            self.start,
            self.stop,
            self.tokens.write,
            self.tokens.read,
        )

    def context(self) -> str:
        return context_in_words(self.context_length)

    def remarks(self) -> list[str]:
        return [*self.tokens.remarks, UNKNOWN]

    def parameters(self) -> int:
        return int(self.model.num_parameters())

    def bytes(self) -> int:
        names = ["*.safetensors", "tokenizer*", "config.json", "vocab.json", "merges.txt"]
        names += [ESCAPE, ESCAPE_TOKENIZER]
        return sum(file.stat().st_size for name in names for file in self.path.glob(name))

    def _id(self, name: str, otherwise: int | None = None) -> int:
        found = getattr(self.tokenizer, name, None)
        if found is None:
            found = getattr(self.model.config, name, None)
        if isinstance(found, list):
            found = found[0] if found else None
        if found is None:
            found = otherwise
        if found is None:
            raise EvaluationError(
                f"The model in {self.path} names no end-of-text token, so the end of a document "
                "cannot be charged; set eos_token_id in its config.json."
            )
        return int(found)

    @torch.inference_mode()
    def _score(self, rows: list[np.ndarray], on_progress: OnProgress) -> list[np.ndarray]:
        """Nats of every target of every row, by the context rule of `window_start`."""
        windows = cut_windows(rows, self.context_length)
        ends = np.cumsum([len(row) - 1 for row in rows])
        nats = np.empty(ends[-1])
        vocabulary, done = int(self.model.config.vocab_size), 0
        while windows:
            width = len(windows[0].ids) - 1
            group = windows[: max(1, LOGITS // (vocabulary * width))]
            windows = windows[len(group) :]
            ids = np.full((len(group), width + 1), self.stop)
            for at, window in enumerate(group):
                ids[at, : len(window.ids)] = window.ids
            found = self.kept.recall(
                Array, partial(self._nats, ids), part="nats", rows=fingerprint(ids)
            )
            for of_window, window in zip(found, group, strict=True):
                kept = of_window[window.seen : len(window.ids) - 1]
                nats[window.place + window.seen :][: len(kept)] = kept
                done += len(kept)
            on_progress(done, len(nats))
        return np.split(nats, ends[:-1])

    @memory_errors()
    def _nats(self, read: np.ndarray) -> np.ndarray:
        """−ln p of read[:, 1:], (B, T − 1)."""
        ids = torch.from_numpy(read).to(self.device)
        logits = self.model(ids[:, :-1], use_cache=False).logits.float()
        picked = logits.gather(-1, ids[:, 1:, None])[..., 0]
        return (logits.logsumexp(-1) - picked).cpu().double().numpy()


class FolderBackend:
    """The model of a folder as `writing.backend.Backend`, for a coder that reads row by row."""

    def __init__(self, folder: ModelFolder):
        self.model, self.device = folder.model, folder.device
        self.context_length: int | None = folder.context_length

    @torch.inference_mode()
    def prefill(self, ids: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, Any]:
        """ids (B, T) of equal lengths (B,) → logits (B, V), the model's cache."""
        if len(set(lengths.tolist())) > 1:
            raise ValueError("Rows of different lengths are not read together here.")
        logits, cache = self._read(ids, None)
        return logits[:, -1].numpy(), cache

    @torch.inference_mode()
    def step(self, ids: np.ndarray, state: Any) -> tuple[np.ndarray, Any]:
        """Read one more id of each row: ids (B,) → logits (B, V), the cache."""
        logits, cache = self._read(np.asarray(ids)[:, None], state)
        return logits[:, -1].numpy(), cache

    @torch.inference_mode()
    def follow(self, ids: np.ndarray, state: Any) -> tuple[np.ndarray, Any]:
        """Read more ids of each row: ids (B, T) → logits (B, T, V), the cache."""
        logits, cache = self._read(ids, state)
        return logits.numpy(), cache

    @memory_errors()
    def _read(self, ids: np.ndarray, cache: Any) -> tuple[torch.Tensor, Any]:
        batch = torch.as_tensor(np.asarray(ids, np.int64), device=self.device)
        found = self.model(batch, past_key_values=cache, use_cache=True)
        return found.logits.float().cpu(), found.past_key_values


def _load(path: Path) -> tuple[Any, Any]:
    """Model and tokenizer. Raises EvaluationError, one sentence, where there is none to be had."""
    config = path / "config.json"
    if not config.is_file():
        raise EvaluationError(
            f"{path} is neither a run nor a folder with a model of transformers: it has no "
            "config.toml and no config.json."
        )
    if not list(path.glob("*.safetensors")):
        raise EvaluationError(
            f"{path} holds no safetensors; other weights are not read, since they may run code. "
            "Save the model again with save_pretrained."
        )
    try:
        from transformers import AutoModelForCausalLM, AutoTokenizer
    except ImportError:
        raise EvaluationError(
            "A model folder needs transformers; install it with: pip install 'textwright[export]'"
        ) from None
    if "auto_map" in _json(config):
        raise EvaluationError(
            f"The model in {path} brings its own code, which is not run here; score a textwright "
            "run by its run folder, or serve the model and name the server's URL."
        )
    # All that such a folder may hold wrongly ends in errors of many kinds.
    try:
        with quiet_transformers():
            tokenizer = AutoTokenizer.from_pretrained(
                path, local_files_only=True, trust_remote_code=False
            )
            model = AutoModelForCausalLM.from_pretrained(
                path, local_files_only=True, trust_remote_code=False, use_safetensors=True
            )
    except Exception as error:
        reason = str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else ""
        raise EvaluationError(
            f"transformers cannot load the model in {path} ({reason or type(error).__name__}); "
            "restore the folder, or save the model again with save_pretrained."
        ) from None
    return model.float().eval(), tokenizer


def _json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise EvaluationError(f"{path} is damaged ({error}); restore it from a copy.") from None
