"""The options of all parts in one object, read from TOML, presets and flags.

Precedence: flag > config file > preset > default. Each default stands beside its option, once.
"""

from __future__ import annotations

import difflib
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
    Field,
    SerializeAsAny,
    ValidationError,
    model_validator,
)

from textwright.corpus import CorpusOptions
from textwright.errors import ConfigError
from textwright.families import FAMILIES, Family, LSTMOptions
from textwright.options import Options
from textwright.tokenizer import TokenizerOptions
from textwright.wording import meant
from textwright.writing.sampling_options import SamplingOptions

# Version of the run folder, raised when an older reader would misread a newer folder. `migrated`
# reads the older ones.
FORMAT_VERSION = 3

DEFAULT_MODEL = LSTMOptions()
AUTO = "auto"  # what is trained where no preset is named
CHOSEN = (AUTO, "counts")  # presets whose open options are chosen when the corpus is known


def _seconds(value: Any) -> Any:
    """`90`, `45s`, `20m`, `1.5h` as seconds."""
    units = {"s": 1, "m": 60, "h": 3600}
    if not isinstance(value, str):
        return value
    number, unit = (value[:-1], value[-1]) if value[-1:] in units else (value, "s")
    try:
        return float(number) * units[unit]
    except ValueError:
        raise ValueError("this is not a time; give seconds, or for example 90s, 20m, 2h") from None


Seconds = Annotated[float, BeforeValidator(_seconds)]


class DataOptions(Options):
    """How documents become batches."""

    layout: Literal["auto", "rows", "windows", "stream"] = Field(
        "auto",
        description="rows: one document each; windows: one document after another, cut anywhere (a "
        "GPT looks back within a document only); stream: one continuous text, the state carried "
        "from batch to batch; auto: rows if most documents fit the context, else stream (windows "
        "for a family that cannot carry its state)",
    )
    context_length: int = Field(
        128, ge=2, description="Tokens that a training row holds; longer documents are cut."
    )

    @property
    def row_length(self) -> int | None:
        """The most targets in a row of one document; None for the other layouts."""
        return self.context_length if self.layout == "rows" else None


class CountsOptions(Options):
    """Counts of n-grams, mixed with what a neural model predicts."""

    longest: int = Field(
        0,
        ge=0,
        le=12,
        description="Longest n-gram that may be counted beside the model; longer ones are tried "
        "while each saves 0.2 % on held-out text, and the share of the counts is fitted there. "
        "0: no counts.",
    )


class OriginRecord(Options):
    """The trained weights that a training began from; `train --from` writes it."""

    source: str = Field(description="The run, folder, GGUF file or hub name that --from named.")
    revision: str = Field("", description="The hub's commit.")
    sha256: str = Field("", description="Sum over the weight files, read in order of name.")

    @classmethod
    def of(cls, source: str, files: Iterable[Path], revision: str = "") -> Self:
        """The record of these weight files."""
        hashed = hashlib.sha256()
        for path in files:
            with path.open("rb") as file:
                hashlib.file_digest(file, lambda: hashed)
        return cls(source=source, revision=revision, sha256=hashed.hexdigest())


def _of_family(value: Any) -> Family:
    """The options of the family that a table names."""
    if isinstance(value, Family):
        return value
    if not isinstance(value, Mapping):
        raise ValueError("this is not a table of options")
    family = value.get("family", DEFAULT_MODEL.family)
    if not isinstance(family, str) or family not in FAMILIES:
        raise ValueError(f"there is no family {family!r}; choose {' or '.join(FAMILIES)}")
    return FAMILIES[family].model_validate(value)


# Families are looked up, not listed in a type, so that FAMILIES is the only list of them.
ModelOptions = Annotated[SerializeAsAny[Family], BeforeValidator(_of_family)]


class TrainOptions(Options):
    """How a model is trained."""

    model_config = ConfigDict(allow_inf_nan=False)  # times and rates are finite

    epochs: float = Field(20, gt=0, description="Passes over the training documents.")
    max_steps: int | None = Field(None, ge=1, description="Stop after this many steps.")
    time_budget: Seconds | None = Field(None, gt=0, description="Stop after this long: 90s, 20m.")
    batch_size: int = Field(16, ge=1, description="Rows per step, over all processes.")
    accumulate: int = Field(
        1, ge=1, description="Number of micro-batches that a batch is split into, to save memory."
    )
    recompute_blocks: bool = Field(
        False, description="Recompute inner values of a GPT for the gradient; saves memory."
    )
    lora_rank: int = Field(
        0,
        ge=0,
        description="Train adapters of this rank beside a GPT's weights; 0: train the weights.",
    )
    lora_alpha: float = Field(16.0, gt=0, description="Adapters are multiplied by alpha / rank.")
    optimizer: Literal["adam", "adamw", "muon"] = Field(
        "adamw",
        description="AdamW, which without decay is Adam; or Muon on the matrices of layers, beside "
        "AdamW.",
    )
    learning_rate: float = Field(3e-3, gt=0, description="The highest learning rate.")
    weight_decay: float = Field(
        0.0, ge=0, description="Weight decay of AdamW and Muon, on matrices only."
    )
    beta1: float = Field(0.9, ge=0, lt=1, description="Adam's decay of mean gradients.")
    beta2: float = Field(
        0.999, ge=0, lt=1, description="Adam's decay of the mean squared gradient."
    )
    epsilon: float = Field(1e-8, gt=0, description="Epsilon of Adam; Keras has 1e-7.")
    schedule: Literal["constant", "linear", "cosine"] = Field(
        "cosine", description="How the rate falls after the warm-up."
    )
    warmup_steps: int = Field(0, ge=0, description="Steps in which the rate rises from zero.")
    final_rate: float = Field(0.0, ge=0, le=1, description="Share of the rate left at the end.")
    stall_patience: int = Field(
        0, ge=0, description="Evaluations without improvement before the rate is cut; 0: never."
    )
    stall_factor: float = Field(0.5, gt=0, lt=1, description="Factor by which the rate is cut.")
    clip_norm: float = Field(1.0, ge=0, description="Largest gradient norm; 0: no limit.")
    split_tokens: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Share of the tokens of layout windows that are read as the two that were "
        "merged into them, at first; it falls to 0. For a small corpus that is read many times.",
    )
    open_paragraphs: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Share of the rows of layouts windows and stream in which a paragraph is read "
        "as if a text began with it. For a corpus of few long texts.",
    )
    sampled_softmax: int = Field(
        0,
        ge=0,
        description="At least how many tokens stand for all in the softmax of a step, drawn anew "
        "each time; 0: all are taken. Saves time where the vocabulary is large.",
    )
    counted_embedding: bool = Field(
        False,
        description="Begin with an embedding that is computed from what stands near each token in "
        "the corpus, not with a random one. For a training that sees rare tokens a few times.",
    )
    evaluate_every: int = Field(0, ge=0, description="Steps between evaluations; 0: an epoch.")
    checkpoint_every: int = Field(
        0, ge=0, description="Steps between checkpoints besides those at evaluations; 0: none."
    )
    early_stopping: int = Field(
        5, ge=0, description="Evaluations without improvement before training stops; 0: never."
    )
    evaluate_characters: int = Field(
        1_000_000, ge=0, description="Held-out text scored at each evaluation; 0: all of it."
    )
    sample_prompt: str = Field("", description="Start of the text written at each evaluation.")
    seed: int = Field(
        0,
        ge=0,
        lt=2**64,
        description="Seed of the first weights, the order of documents, and all that is drawn.",
    )
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1 or mps.")
    dtype: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="auto: bf16 if the hardware multiplies it fast, else fp32."
    )
    threads: int = Field(0, ge=0, description="Processor threads; 0: one a core.")


class Config(Options):
    """Every option of a run. A run folder holds it complete: each key with the value used."""

    format_version: int = FORMAT_VERSION
    preset: str = Field("", description="The preset this config began from.")
    corpus: CorpusOptions = CorpusOptions()
    tokenizer: TokenizerOptions = TokenizerOptions()
    data: DataOptions = DataOptions()
    model: ModelOptions = DEFAULT_MODEL
    counts: CountsOptions = CountsOptions()
    train: TrainOptions = TrainOptions()
    origin: OriginRecord | None = None
    sample: SamplingOptions = SamplingOptions()

    @model_validator(mode="after")
    def _tables_agree(self) -> Self:
        model, layout = self.model, self.data.layout
        model.check_context(self.data.context_length)
        if model.counted and self.counts.longest:
            raise ValueError(f"model.family {model.family} is counts itself; leave out counts")
        if layout != "auto" and layout not in model.layouts:
            if model.counted:
                raise ValueError(f"model.family {model.family} needs no data.layout; leave it out")
            raise ValueError(
                f"model.family {model.family} cannot train on data.layout {layout}; choose "
                f"{' or '.join(model.layouts)}"
            )
        for name in ("recompute_blocks", "lora_rank"):
            if getattr(self.train, name) and not model.adaptable:
                able = " or ".join(name for name, family in FAMILIES.items() if family.adaptable)
                raise ValueError(f"train.{name} works with model.family {able} only; leave it out")
        if self.train.weight_decay and self.train.optimizer == "adam":
            raise ValueError("train.weight_decay has no effect on Adam; set train.optimizer=adamw")
        undecided = self.preset == AUTO and layout == "auto"
        if self.train.split_tokens and not (self.splittable or undecided):
            raise ValueError(
                "train.split_tokens needs data.layout windows and a tokenizer that merges (bpe or "
                "pretrained); leave it out"
            )
        if any(isinstance(token, int) for token in self.sample.logit_bias):
            raise ValueError("sample.logit_bias takes tokens by their text, not by their id")
        return self

    @property
    def splittable(self) -> bool:
        """Whether tokens can be split into what was merged."""
        return self.data.layout == "windows" and self.tokenizer.kind in ("bpe", "pretrained")

    @classmethod
    def resolve(
        cls,
        preset: str = "",
        file: Path | None = None,
        settings: Iterable[str] = (),
        base: Mapping[str, Any] | None = None,
        given: Mapping[str, Any] | None = None,
    ) -> Config:
        """Put a config together: the defaults, then `base`, the preset, the file, what comes with
        the weights to begin from (`given`), and last the `section.key=value` settings.

        A file may name its preset. Raises one ConfigError that lists every problem.
        """
        values = {} if file is None else read_toml(file)
        if "format_version" not in values:  # then it is not the whole config of a run
            named = values.pop("preset", "")
            preset = preset or named
        layers = [values, given or {}, _all_settings(settings)]
        if preset:
            layers.insert(0, {**load_preset(preset), "preset": preset})
        merged = dict(base or {})
        for layer in layers:
            merged = _override(merged, layer)
        named = preset if preset != AUTO else ""  # which a user need not have named
        return cls.check(merged, source=str(file or named or "the options"))

    @classmethod
    def check(cls, values: Mapping[str, Any], source: str) -> Config:
        """A Config of these values, or one ConfigError with all that is wrong with them."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            problems = "; ".join(_problem(item, values) for item in error.errors())
            raise ConfigError(f"{source}: {problems}.") from None

    def beginning_from(self, weights: OriginRecord) -> Config:
        """The same config for a training that begins from these weights."""
        return self.model_copy(update={"origin": weights})

    def to_toml(self) -> str:
        """The complete config: one table per part, each key with its value; unset ones left out."""
        return tomli_w.dumps(self.model_dump(exclude_none=True))


def presets() -> dict[str, str]:
    """Name → purpose (the comment at the head of its file)."""
    folder = resources.files("textwright") / "presets"
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".toml")), key=lambda f: f.name)
    return {f.name[:-5]: f.read_text("utf-8").partition("\n")[0].lstrip("# ") for f in files}


def load_preset(name: str) -> dict[str, Any]:
    """A shipped configuration as nested dicts."""
    if not isinstance(name, str) or name not in presets():  # a file may hold anything
        raise ConfigError(f"No preset is called {name!r}. There are: {', '.join(presets())}.")
    return tomllib.loads((resources.files("textwright") / "presets" / f"{name}.toml").read_text())


def read_toml(path: Path) -> dict[str, Any]:
    """A config file as nested dicts."""
    try:
        return migrated(tomllib.loads(path.read_text("utf-8-sig")))
    except OSError as error:
        raise ConfigError(f"Cannot read the config {path}: {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}.") from None


def migrated(values: dict[str, Any]) -> dict[str, Any]:
    """The config of a run, converted to this version if an older one wrote it."""
    version = values.get("format_version")
    if version == 2:
        return {**values, "format_version": FORMAT_VERSION}
    if version != 1 or "model" not in values:
        return values
    model = dict(values["model"])
    origin = model.pop("init_from", None)
    if model.get("positions") == "sinusoidal":  # version 1 did not scale token vectors
        model["embedding_scale"] = 1.0
    tables = {"origin": origin} if origin else {}
    return {**values, **tables, "model": model, "format_version": FORMAT_VERSION}


def parse_setting(setting: str) -> dict[str, Any]:
    """`train.max_steps=60` as {"train": {"max_steps": 60}}; what is not TOML becomes a string."""
    name, equals, text = setting.partition("=")
    section, dot, key = name.strip().partition(".")
    if not (equals and dot and section and key):
        raise ConfigError(f"{setting!r} is not of the form section.key=value.")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    return {section: {key: value}}


def _override(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Two configs merged, as nested dicts; the second one takes precedence. A new family drops the
    options of the old one."""
    family = _family(above)
    if family and family != (_family(below) or DEFAULT_MODEL.family):
        below = {**below, "model": {}}
    return merge(below, above)


def _all_settings(settings: Iterable[str]) -> dict[str, Any]:
    """All settings in one dict, so that a family and its options may come in any order."""
    merged: dict[str, Any] = {}
    for setting in settings:
        merged = merge(merged, parse_setting(setting))
    return merged


def _near(wrong: str, model: type[Family]) -> list[str]:
    """The option that a wrong name was probably to be, with this family's for the model; empty:
    nothing is near."""
    tables = {**{name: type(value) for name, value in Config()}, "model": model}
    names = [
        f"{table}.{name}"
        for table, kind in tables.items()
        for name in getattr(kind, "model_fields", ())
    ]
    elsewhere = [name for name in names if name.endswith(f".{wrong.rpartition('.')[2]}")]
    return elsewhere[:1] or difflib.get_close_matches(wrong, names, n=1, cutoff=0.8)


def _family(config: Mapping[str, Any]) -> Any:
    model = config.get("model", {})
    return model.get("family") if isinstance(model, Mapping) else None


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Two nested dicts as one; the second takes precedence."""
    merged = dict(below)
    for key, value in above.items():
        nested = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = merge(merged[key], value) if nested else value
    return merged


def _problem(item: Any, values: Mapping[str, Any]) -> str:
    where = ".".join(map(str, item["loc"]))
    if item["type"] == "extra_forbidden":
        of_model = item["loc"][0] == "model"
        family = _family(values) or DEFAULT_MODEL.family
        whose = f" of family {family}" if of_model else ""
        near = _near(where, FAMILIES.get(family, type(DEFAULT_MODEL)))
        return f"there is no option {where}{whose}{meant(near)}"
    message = item["msg"].removeprefix("Value error, ")
    if isinstance(item["input"], Mapping):  # options that are wrong only together
        return f"{where}: {message}" if where else message
    return f"{where}: {message} (given: {item['input']!r})"
