"""Weights to begin from: another run, a model in Hugging Face's form in a folder or on the hub, or
a GGUF file.

A folder holds a GPT-2, Llama, Qwen2 or Qwen3:

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
from typing import Any, Protocol

from safetensors import safe_open
from torch import Tensor

from textwright.compute import processes
from textwright.config import Config, OriginRecord
from textwright.errors import PretrainedError
from textwright.families import GPTOptions
from textwright.files import from_home
from textwright.hub import asking_hub
from textwright.models import LanguageModel, build, build_with, fill
from textwright.models.gguf import open_gguf
from textwright.models.lora import adapt
from textwright.models.places import (
    Places,
    Shape,
    check,
    gather,
    refuse_larger_than_memory,
    shapes_of,
)
from textwright.models.published import (
    KNOWN,
    UNUSABLE,
    PublishedForm,
    fine_tuned,
    form_of,
    own_names,
    reason_of,
    tokens_embedded,
)
from textwright.run import BASE, Arrays, Run
from textwright.run.origin import Origin
from textwright.tokenizer import Tokenizer
from textwright.tokenizer.byte_level import read_pretrained

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
FETCHED = [
    *("config.json", "generation_config.json", "tokenizer_config.json"),
    *("tokenizer.json", "vocab.json", "merges.txt"),
    *(WEIGHTS, INDEX, "model-*-of-*.safetensors"),
]
PRECISIONS = ("F64", "F32", "F16", "BF16")
AGAIN = "fetch or copy it again"
HUB_NAME = re.compile(r"([\w][\w.-]*/[\w][\w.-]*)(?:@([\w./-]+))?")


class Published(Origin, Protocol):
    """Weights of another project, as a folder or a file holds them."""

    @property
    def model(self) -> dict[str, Any]:
        """The model's shape, as `[model]` options."""

    @property
    def vocab_size(self) -> int:
        """Rows of the embedding, of which some may belong to no token."""


@dataclass(frozen=True)
class Pretrained:
    """A model in Hugging Face's form. source: the name given · revision: the hub's commit."""

    path: Path
    source: str
    revision: str = ""

    @cached_property
    def tokenizer(self) -> Tokenizer:
        return read_pretrained(self.path)

    @cached_property
    def model(self) -> dict[str, Any]:
        """See `Published`."""
        with self._readable("config.json"):
            model = self._form.options_of(self._config)
            GPTOptions(**model)
            return model

    @cached_property
    def vocab_size(self) -> int:
        """See `Published`."""
        with self._readable("config.json"):
            if not isinstance(size := self._config.get("vocab_size"), int) or size < 1:
                raise ValueError(f"its vocab_size is {size!r}")
            return size

    def weights(self) -> Arrays:
        """float32 arrays by canonical name, without embedding rows that belong to no token.

        A file's tensors are read one after another, so that no weight is held twice.
        """
        self._check()
        count = tokens_embedded(self.source, self.vocab_size, self.tokenizer)
        return gather(self._tensors(), self._places, self._shapes, count)

    def inherited(self) -> dict[str, dict[str, Any]]:
        """See `run.origin.Origin`."""
        return fine_tuned(self.model, self.tokenizer)

    def record(self) -> OriginRecord:
        """See `run.origin.Origin`. Raises PretrainedError if the weights cannot be used."""
        self._check()
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
            index = json.loads((self.path / INDEX).read_text("utf-8"))
            files = [self.path / name for name in sorted(set(index["weight_map"].values()))]
        for file in files:
            if not file.exists():
                raise PretrainedError(
                    f"{self.source} lacks {file.name}, which {INDEX} names; {AGAIN}."
                )
        return files

    @cached_property
    def _config(self) -> dict[str, Any]:
        with self._readable("config.json"):
            config = json.loads((self.path / "config.json").read_text("utf-8"))
            if not isinstance(config, dict):
                raise ValueError("it is no table of keys")
            return config

    @cached_property
    def _form(self) -> PublishedForm:
        with self._readable("config.json"):
            return form_of(self._config)

    @cached_property
    def _shapes(self) -> dict[str, Shape]:
        return shapes_of(GPTOptions(**self.model), self.vocab_size)

    @cached_property
    def _places(self) -> Places:
        return self._form.places(GPTOptions(**self.model))

    def _check(self) -> None:
        """Raise PretrainedError if the weights are damaged, another model's, or larger than the
        free memory. Only the heads of files are read."""
        found: dict[str, Shape] = {}
        for file in self.files:
            with self._readable(file.name, AGAIN), safe_open(file, "pt") as opened:
                for name in opened.keys():  # noqa: SIM118 (it is no dict)
                    head = opened.get_slice(name)
                    if head.get_dtype() not in PRECISIONS:
                        raise ValueError(f"{name} is stored as {head.get_dtype()}")
                    found[name] = tuple(head.get_shape())
        with self._readable("weights"):
            named = own_names(self._form, found, self._places)
            check({name: found[own] for name, own in named.items()}, self._places, self._shapes)
        refuse_larger_than_memory(self.source, self._shapes)

    def _tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Each tensor by the form's name."""
        for file in self.files:
            with self._readable(file.name, AGAIN), safe_open(file, "pt") as opened:
                for name, own in own_names(self._form, opened.keys(), self._places).items():
                    yield name, opened.get_tensor(own)

    @contextmanager
    def _readable(self, name: str, remedy: str = "") -> Iterator[None]:
        try:
            yield
        except UNUSABLE as error:
            remedy = remedy or f"name a {KNOWN} in Hugging Face's form"
            raise PretrainedError(
                f"The {name} of {self.source} cannot be used: {reason_of(error)}; {remedy}."
            ) from None


def find_origin(name: str) -> Origin:
    """The run or model that `--from` names. Raises RunError or PretrainedError if there is none."""
    path = from_home(name)
    try:
        is_run = (path / "config.toml").exists()
    except OSError as error:
        raise PretrainedError(f"Cannot read {name}: {error.strerror}; name another.") from None
    if is_run:
        return Run.load(path)
    if published := find_published(name):
        return published
    hub = HUB_NAME.fullmatch(name)
    if hub and not Path(path.parts[0]).is_dir():  # else it is a mistyped path
        return _fetch(name, *hub.groups())
    raise PretrainedError(
        f"There is neither a run nor a folder {name}; --from takes a run, a folder with a {KNOWN} "
        "in Hugging Face's form, a GGUF file, or a name on the hub such as openai-community/gpt2."
    )


def find_published(name: str) -> Published | None:
    """The model in a folder or a GGUF file; None if there is no such path. Raises PretrainedError
    if it holds no model."""
    path = from_home(name)
    if path.is_dir():
        if not (path / "config.json").exists():
            raise PretrainedError(
                f"The folder {name} is no run (it has no config.toml) and no {KNOWN} in Hugging "
                "Face's form (it has no config.json); check the path."
            )
        return Pretrained(path, name)
    if path.suffix.lower() == ".gguf" and path.is_file():
        return open_gguf(path, name)
    if path.is_file():
        raise PretrainedError(
            f"{name} is a file, and no GGUF file; --from takes the folder that a model is in."
        )
    return None


def begin(run: Run, config: Config, tokenizer: Tokenizer, origin: Origin | None) -> LanguageModel:
    """The model to train: fresh, with the weights of an origin, or, to continue, to be filled from
    a checkpoint."""
    shape = (config.model, tokenizer.vocab_size, config.data.context_length)
    if origin is not None:
        weights = origin.weights()
        model = build_with(weights, origin.path, *shape)
        if config.train.lora_rank and processes.leads():
            run.keep_weights(weights, BASE)
    else:
        model = build(*shape)
        if config.train.lora_rank:
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
    """A model of the hub, fetched into the cache of its client, which fetches only what is missing
    and continues interrupted downloads."""
    # Imported here, so that training from a folder does not load the hub client.
    from huggingface_hub import snapshot_download

    with asking_hub(
        gated=PretrainedError(
            f"{repository} asks for an agreement: accept it on its page on the hub and log in."
        ),
        missing=PretrainedError(
            f"There is neither a folder nor a model on the hub called {name}; check the name (such "
            "as openai-community/gpt2 or HuggingFaceTB/SmolLM2-135M)."
        ),
        unreachable=PretrainedError(
            f"There is no folder {name}, and {repository} cannot be fetched from the hub; check "
            "the name and the connection, or name a folder."
        ),
    ):
        folder = Path(snapshot_download(repository, revision=revision, allow_patterns=FETCHED))
    return Pretrained(folder, name, folder.name)
