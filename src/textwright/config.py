"""A config: every part's options in one object, read from TOML, presets and flags.

Precedence: flag > config file > preset > default. Defaults stand beside the options, once.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import tomli_w
from pydantic import (
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    model_validator,
)

from textwright.corpus import CorpusOptions
from textwright.errors import ConfigError
from textwright.options import Options
from textwright.tokenizer import TokenizerOptions
from textwright.writing.sampling import SamplingOptions

FORMAT_VERSION = 1  # of the run folder; raised when an older reader would misread a newer folder


def _seconds(value: Any) -> Any:
    """`90`, `45s`, `20m`, `1.5h` as seconds."""
    units = {"s": 1, "m": 60, "h": 3600}
    if not isinstance(value, str):
        return value
    number, unit = (value[:-1], value[-1]) if value[-1:] in units else (value, "s")
    try:
        return float(number) * units[unit]
    except ValueError:
        raise ValueError("this is no time; give seconds, or such as 90s, 20m, 2h") from None


Seconds = Annotated[float, BeforeValidator(_seconds)]


class DataOptions(Options):
    """How documents become batches."""

    layout: Literal["auto", "rows", "windows", "stream"] = Field(
        "auto",
        description="rows: one document each; windows: cut anywhere; stream: one continuous text, "
        "the state carried from batch to batch; auto: rows if most documents fit the context, else "
        "stream (family gpt: windows)",
    )
    context_length: int = Field(
        128, ge=2, description="Tokens that a training row holds; longer documents are cut."
    )

    @property
    def row_length(self) -> int | None:
        """Targets that a row of one document holds at most; None where rows are none such."""
        return self.context_length if self.layout == "rows" else None


class InitFrom(Options):
    """The weights that a training began from; written by `train --from`."""

    source: str = Field(description="As named: a run, a folder or a hub name.")
    revision: str = Field("", description="The hub's commit.")
    sha256: str = Field("", description="Of the weight files, read in order of name.")

    @classmethod
    def of(cls, source: str, files: Iterable[Path], revision: str = "") -> Self:
        """The record of these weight files."""
        hashed = hashlib.sha256()
        for path in files:
            with path.open("rb") as file:
                while block := file.read(1 << 20):
                    hashed.update(block)
        return cls(source=source, revision=revision, sha256=hashed.hexdigest())


class WeightsOptions(Options):
    """What all families have."""

    init_from: InitFrom | None = Field(
        None, description="Which weights training began from; train --from writes it."
    )


class LSTMOptions(WeightsOptions):
    """The recurrent family."""

    family: Literal["lstm"] = "lstm"
    cell: Literal["lstm", "gru", "rnn"] = Field("lstm", description="LSTM, GRU or plain tanh RNN.")
    embedding_size: int = Field(128, ge=1, description="Width of a token's vector.")
    hidden_size: int = Field(256, ge=1, description="Units in each layer.")
    layers: int = Field(1, ge=1, description="Recurrent layers, stacked.")
    dropout: float = Field(0.0, ge=0, lt=1, description="Share dropped after each layer.")
    tie_output: bool = Field(
        False, description="Use the embedding as output matrix (needs equal widths)."
    )
    initialization: Literal["keras", "torch"] = Field(
        "keras",
        description="How fresh weights are drawn, as each library does: torch's are larger, which "
        "three layers need to begin learning.",
    )

    def model_post_init(self, _: object) -> None:
        if self.tie_output and self.embedding_size != self.hidden_size:
            raise ValueError("tie_output needs embedding_size equal to hidden_size")


class GPTOptions(WeightsOptions):
    """The attention family: GPT-2's block by default, or the older one that adds, then norms."""

    family: Literal["gpt"] = "gpt"
    layers: int = Field(4, ge=1, description="Blocks of attention and feed-forward, stacked.")
    heads: int = Field(4, ge=1, description="Attention heads in each block.")
    width: int = Field(128, ge=1, description="Width of a token's vector, throughout.")
    key_width: int = Field(0, ge=0, description="Of queries and keys a head; 0: width / heads.")
    value_width: int = Field(0, ge=0, description="Of values a head; 0: width / heads.")
    feedforward_width: int = Field(0, ge=0, description="Inside feed-forward; 0: 4 times width.")
    activation: Literal["gelu", "relu"] = Field(
        "gelu", description="In feed-forward: GELU (its tanh form), or ReLU."
    )
    norm: Literal["pre", "post"] = Field(
        "pre", description="pre: norm what a part reads; post: norm the sum after it."
    )
    norm_epsilon: float = Field(1e-5, gt=0, description="Added to the variance in layer norms.")
    positions: Literal["learned", "sinusoidal"] = Field(
        "learned", description="How a token's place is told: learned vectors, or fixed waves."
    )
    context_length: int = Field(
        0, ge=0, description="Tokens it can look back on; 0: data.context_length."
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="Share of each part's output dropped.")
    tie_output: bool = Field(
        True, description="Use the embedding as output matrix; else one of its own, with a bias."
    )

    def model_post_init(self, _: object) -> None:
        if self.width % self.heads and not (self.key_width and self.value_width):
            raise ValueError("width is not a multiple of heads; set key_width and value_width")

    @property
    def head_widths(self) -> tuple[int, int]:
        """Of the keys and of the values of a head."""
        even = self.width // self.heads
        return self.key_width or even, self.value_width or even

    @property
    def inner_width(self) -> int:
        """Inside feed-forward."""
        return self.feedforward_width or 4 * self.width


def _family(value: Any) -> str:
    family = value.get("family", "lstm") if isinstance(value, Mapping) else value.family
    return str(family)


ModelOptions = Annotated[
    Annotated[LSTMOptions, Tag("lstm")] | Annotated[GPTOptions, Tag("gpt")],
    Discriminator(
        _family,
        custom_error_type="family",
        custom_error_message="there is no such family; choose lstm or gpt",
    ),
]


class TrainOptions(Options):
    """How a model is trained."""

    model_config = ConfigDict(allow_inf_nan=False)  # no end, and no rate, is infinite

    epochs: float = Field(20, gt=0, description="Passes over the training documents.")
    max_steps: int | None = Field(None, ge=1, description="Stop after this many steps.")
    time_budget: Seconds | None = Field(None, gt=0, description="Stop after this long: 90s, 20m.")
    batch_size: int = Field(16, ge=1, description="Rows a step, over all processes.")
    accumulate: int = Field(1, ge=1, description="Parts a batch is computed in, to save memory.")
    recompute_blocks: bool = Field(
        False, description="Of a GPT: keep less for the gradient, compute it again; saves memory."
    )
    lora_rank: int = Field(
        0, ge=0, description="Of a GPT: train adapters of this rank, not the weights; 0: weights."
    )
    lora_alpha: float = Field(16.0, gt=0, description="Adapters count alpha / rank times.")
    optimizer: Literal["adam", "adamw"] = Field("adam", description="Adam, or AdamW.")
    learning_rate: float = Field(3e-3, gt=0, description="The highest rate.")
    weight_decay: float = Field(0.0, ge=0, description="AdamW's, on matrices only.")
    beta1: float = Field(0.9, ge=0, lt=1, description="Adam's memory of gradients.")
    beta2: float = Field(0.999, ge=0, lt=1, description="Adam's memory of squared gradients.")
    epsilon: float = Field(1e-8, gt=0, description="Adam's; Keras has 1e-7.")
    schedule: Literal["constant", "linear", "cosine"] = Field(
        "cosine", description="How the rate falls after the warm-up."
    )
    warmup_steps: int = Field(0, ge=0, description="Steps in which the rate rises from zero.")
    final_rate: float = Field(0.0, ge=0, le=1, description="Share of the rate left at the end.")
    stall_patience: int = Field(
        0, ge=0, description="Evaluations without gain before the rate is cut; 0: never."
    )
    stall_factor: float = Field(0.5, gt=0, lt=1, description="What the rate is cut to.")
    clip_norm: float = Field(1.0, ge=0, description="Largest gradient norm; 0: no limit.")
    evaluate_every: int = Field(0, ge=0, description="Steps between evaluations; 0: an epoch.")
    checkpoint_every: int = Field(
        0, ge=0, description="Steps between checkpoints besides those at evaluations; 0: none."
    )
    early_stopping: int = Field(
        5, ge=0, description="Evaluations without gain before training stops; 0: never."
    )
    evaluate_characters: int = Field(
        1_000_000, ge=0, description="Held-out text scored at each evaluation; 0: all of it."
    )
    sample_prompt: str = Field("", description="Start of the text written at each evaluation.")
    seed: int = Field(0, ge=0, lt=2**64, description="Of weights, order and dropout.")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1 or mps.")
    dtype: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="auto: bf16 where the processor computes it, else fp32."
    )
    threads: int = Field(0, ge=0, description="Processor threads; 0: one a core.")


class Config(Options):
    """Every option of a run. What a run keeps is complete: each key with the value used."""

    format_version: int = FORMAT_VERSION
    preset: str = Field("", description="The preset this config began from.")
    corpus: CorpusOptions = CorpusOptions()
    tokenizer: TokenizerOptions = TokenizerOptions()
    data: DataOptions = DataOptions()
    model: ModelOptions = LSTMOptions()
    train: TrainOptions = TrainOptions()
    sample: SamplingOptions = SamplingOptions()

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        if isinstance(self.model, GPTOptions):
            held, wanted = self.model.context_length, self.data.context_length
            if 0 < held < wanted:
                raise ValueError(
                    f"data.context_length is {wanted}, but the model looks back on {held} tokens; "
                    f"set data.context_length={held} or less"
                )
            if self.data.layout == "stream":
                raise ValueError(
                    "data.layout stream carries a state from batch to batch, which model.family "
                    "gpt cannot; choose rows or windows"
                )
        else:
            for name in ("recompute_blocks", "lora_rank"):
                if getattr(self.train, name):
                    raise ValueError(f"train.{name} is for model.family gpt alone")
        if self.train.weight_decay and self.train.optimizer != "adamw":
            raise ValueError("train.weight_decay is AdamW's; set train.optimizer=adamw")
        if any(isinstance(token, int) for token in self.sample.logit_bias):
            raise ValueError("sample.logit_bias names tokens by their text, not by an id")
        return self

    @classmethod
    def resolve(
        cls,
        preset: str = "",
        file: Path | None = None,
        settings: Iterable[str] = (),
        base: Mapping[str, Any] | None = None,
        given: Mapping[str, Any] | None = None,
    ) -> Config:
        """Defaults, then `base`, the preset, the file, what is `given` with the weights to begin
        from, then `section.key=value` settings.

        A file may name its preset. Raises ConfigError that tells every problem at once.
        """
        merged = dict(base) if base is not None else {}
        values = {} if file is None else read_toml(file)
        if "format_version" not in values:  # it is not the whole config of a run
            named = values.pop("preset", "")
            preset = preset or named
        if preset:
            merged = _merge(merged, {**load_preset(preset), "preset": preset})
        merged = _merge(merged, values)
        if given is not None:
            merged = _merge(merged, given)
        for setting in settings:
            merged = _merge(merged, parse_setting(setting))
        return cls.check(merged, source=str(file or preset or "the options"))

    @classmethod
    def check(cls, values: Mapping[str, Any], source: str) -> Config:
        """A Config of these values, or one ConfigError with all that is wrong with them."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            problems = "; ".join(_problem(item) for item in error.errors())
            raise ConfigError(f"{source}: {problems}.") from None

    def beginning_from(self, weights: InitFrom) -> Config:
        """The same config, of a training that begins from these weights."""
        model = self.model.model_copy(update={"init_from": weights})
        return self.model_copy(update={"model": model})

    def to_toml(self) -> str:
        """Complete: one table a part, each key with its value; what is unset has no line."""
        return tomli_w.dumps(self.model_dump(exclude_none=True))


def presets() -> dict[str, str]:
    """Name → what it is for (the comment at the head of its file)."""
    folder = resources.files("textwright") / "presets"
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".toml")), key=lambda f: f.name)
    return {f.name[:-5]: f.read_text("utf-8").partition("\n")[0].lstrip("# ") for f in files}


def load_preset(name: str) -> dict[str, Any]:
    """A shipped configuration as nested dicts."""
    if name not in presets():
        raise ConfigError(f"No preset is called {name!r}. There are: {', '.join(presets())}.")
    return tomllib.loads((resources.files("textwright") / "presets" / f"{name}.toml").read_text())


def read_toml(path: Path) -> dict[str, Any]:
    """A config file as nested dicts."""
    try:
        return tomllib.loads(path.read_text("utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"Cannot read the config {path}: {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}.") from None


def parse_setting(setting: str) -> dict[str, Any]:
    """`train.max_steps=60` as {"train": {"max_steps": 60}}; what is no TOML value is a string."""
    name, equals, text = setting.partition("=")
    section, dot, key = name.strip().partition(".")
    if not (equals and dot and section and key):
        raise ConfigError(f"{setting!r} is not of the form section.key=value.")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    return {section: {key: value}}


def _merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    if "family" in above and above["family"] != merged.get("family", "lstm"):
        merged = {}  # another family has options of its own
    for key, value in above.items():
        nested = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merge(merged[key], value) if nested else value
    return merged


def _problem(item: Any) -> str:
    # A model's options are named model.width, whatever its family.
    family = next((part for part in item["loc"] if part in ("lstm", "gpt")), None)
    where = ".".join(str(part) for part in item["loc"] if part != family)
    if item["type"] == "extra_forbidden":
        return f"there is no option {where}" + (f" of family {family}" if family else "")
    message = item["msg"].removeprefix("Value error, ")
    if isinstance(item["input"], Mapping):  # options that are wrong only together
        return f"{where}: {message}" if where else message
    return f"{where}: {message} (given: {item['input']!r})"
