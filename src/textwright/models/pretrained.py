"""Weights to begin from: another run, or a GPT-2 in Hugging Face's form, in a folder or on the hub.

    config.json  model.safetensors (or its parts and their index)  tokenizer.json, or vocab.json
    with merges.txt

Pickled weights (pytorch_model.bin) are neither fetched nor read: reading them runs code in them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from textwright.compute import processes
from textwright.config import Config, OriginRecord
from textwright.errors import PretrainedError
from textwright.hub import asking_hub
from textwright.models import LanguageModel, build, fill, gpt2
from textwright.models.lora import adapt
from textwright.run import BASE, Arrays, Run
from textwright.run.origin import Origin
from textwright.tokenizer import Tokenizer
from textwright.tokenizer.byte_level import read_pretrained

FINE_TUNING_RATE = 1e-4  # keeps what was learned; the default rate is for fresh weights

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
FETCHED = [
    *("config.json", "tokenizer.json", "vocab.json", "merges.txt"),
    *(WEIGHTS, INDEX, "model-*-of-*.safetensors"),
]
HUB_NAME = re.compile(r"([\w][\w.-]*/[\w][\w.-]*)(?:@([\w./-]+))?")


@dataclass(frozen=True)
class Pretrained:
    """A GPT-2 in Hugging Face's form. source: the name given · revision: the hub's commit."""

    path: Path
    source: str
    revision: str = ""

    @cached_property
    def tokenizer(self) -> Tokenizer:
        return read_pretrained(self.path)

    @cached_property
    def model(self) -> dict[str, Any]:
        """The model's shape, as `[model]` options."""
        with self._readable("config.json"):
            return gpt2.options_of(json.loads((self.path / "config.json").read_text("utf-8")))

    def weights(self) -> Arrays:
        """float32 arrays by canonical name, without embedding rows that belong to no token."""
        tensors = {}
        for file in self.files:
            with self._readable(file.name), safe_open(file, "pt") as opened:
                for name in opened.keys():  # noqa: SIM118 (it is no dict)
                    tensors[name] = opened.get_tensor(name).float().numpy()
        with self._readable("weights"):
            weights = gpt2.from_gpt2(tensors, self.model["layers"])
            rows, count = len(weights["embedding"]), self.tokenizer.vocab_size
            if rows < count:
                raise ValueError(f"they embed {rows} tokens, but the tokenizer has {count}")
        return weights | {"embedding": weights["embedding"][:count]}

    def inherited(self) -> dict[str, dict[str, Any]]:
        """See `run.origin.Origin`."""
        tokenizer = {"kind": "pretrained", "vocab_size": self.tokenizer.vocab_size}
        return {
            "base": {"train": {"learning_rate": FINE_TUNING_RATE}},
            "given": {"model": self.model, "tokenizer": tokenizer},
        }

    def record(self) -> OriginRecord:
        """See `run.origin.Origin`. Raises PretrainedError if a weight file is damaged."""
        for file in self.files:
            with self._readable(file.name), safe_open(file, "pt"):
                pass
        return OriginRecord.of(self.source, self.files, self.revision)

    @cached_property
    def files(self) -> list[Path]:
        """The weight files, in order of name."""
        if (self.path / WEIGHTS).exists():
            return [self.path / WEIGHTS]
        if not (self.path / INDEX).exists():
            raise PretrainedError(
                f"{self.source} holds no {WEIGHTS}, and pickled weights (.bin) are never read; "
                "load them with transformers and save them with save_pretrained."
            )
        with self._readable(INDEX):
            named = json.loads((self.path / INDEX).read_text("utf-8"))["weight_map"].values()
            return [self.path / name for name in sorted(set(named))]

    @contextmanager
    def _readable(self, name: str) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            reason = getattr(error, "strerror", None) or error
            raise PretrainedError(
                f"The {name} of {self.source} cannot be used: {reason}; name a GPT-2 in Hugging "
                "Face's form."
            ) from None


def find_origin(name: str) -> Origin:
    """The run or model that `--from` names. Raises RunError or PretrainedError if there is none."""
    path = Path(name).expanduser()
    try:
        is_run = (path / "config.toml").exists()
    except OSError as error:
        raise PretrainedError(f"Cannot read {name}: {error.strerror}; name another.") from None
    if is_run:
        return Run.load(path)
    if path.is_dir():
        if not (path / "config.json").exists():
            raise PretrainedError(
                f"The folder {name} is no run (it has no config.toml) and no GPT-2 in Hugging "
                "Face's form (it has no config.json); check the path."
            )
        return Pretrained(path, name)
    if path.is_file():
        raise PretrainedError(f"{name} is a file; --from takes the folder that a model is in.")
    hub = HUB_NAME.fullmatch(name)
    if hub and not Path(path.parts[0]).is_dir():  # else it is a mistyped path
        return _fetch(name, *hub.groups())
    raise PretrainedError(
        f"There is neither a run nor a folder {name}; --from takes a run, a folder with a GPT-2 in "
        "Hugging Face's form, or a name on the hub such as openai-community/gpt2."
    )


def begin(run: Run, config: Config, tokenizer: Tokenizer, origin: Origin | None) -> LanguageModel:
    """The model to train: fresh, with the weights of an origin, or, to continue, to be filled from
    a checkpoint."""
    model = build(config.model, tokenizer.vocab_size, config.data.context_length)
    if origin is not None:
        weights = origin.weights()
        fill(model, weights, origin.path)
        if config.train.lora_rank and processes.leads():
            run.keep_weights(weights, BASE)
    elif config.train.lora_rank:
        fill(model, run.base(), run.path)
    if config.train.lora_rank:
        adapt(model, config.train.lora_rank, config.train.lora_alpha)
    return model


def find_again(kept: OriginRecord) -> Origin:
    """The origin that a config records. Raises PretrainedError if its weights have changed."""
    named = kept.source.partition("@")[0] if kept.revision else kept.source
    origin = find_origin(f"{named}@{kept.revision}" if kept.revision else named)
    if origin.record().sha256 != kept.sha256:
        raise PretrainedError(
            f"The weights of {kept.source} are not those that the config records (sha256 "
            f"{kept.sha256[:16]}…); name the weights to begin from with --from."
        )
    return origin


def _fetch(name: str, repository: str, revision: str | None) -> Pretrained:
    """A GPT-2 of the hub, fetched into the cache of its client, which fetches only what is missing
    and continues interrupted downloads."""
    # Imported here, so that training from a folder does not load the hub client.
    from huggingface_hub import snapshot_download

    with asking_hub(
        gated=PretrainedError(
            f"{repository} asks for an agreement: accept it on its page on the hub and log in."
        ),
        missing=PretrainedError(
            f"There is neither a folder nor a model on the hub called {name}; check the name (the "
            "published ones are openai-community/gpt2, -medium, -large and -xl)."
        ),
        unreachable=PretrainedError(
            f"There is no folder {name}, and {repository} cannot be fetched from the hub; check "
            "the name and the connection, or name a folder."
        ),
    ):
        folder = Path(snapshot_download(repository, revision=revision, allow_patterns=FETCHED))
    return Pretrained(folder, name, folder.name)
