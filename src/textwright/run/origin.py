"""The options of a training that goes on from something: its own run, or another run's weights."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

from textwright.config import Config, InitFrom
from textwright.errors import ConfigError
from textwright.run import Arrays, Run
from textwright.tokenizer import Tokenizer

# What a step number, a checkpoint and the best loss mean depends on these.
FIXED = ("batch_size", "accumulate", "seed", "lora_rank", "lora_alpha", "evaluate_characters")


class Origin(Protocol):
    """Trained weights to begin from: another run, or a `pretrained.Pretrained`."""

    @property
    def path(self) -> Path: ...
    @property
    def tokenizer(self) -> Tokenizer: ...
    def weights(self) -> Arrays:
        """By canonical name."""

    def inherited(self) -> dict[str, dict[str, Any]]:
        """What a training takes over, as arguments of `Config.resolve`: `base`, which a preset
        goes before, and `given`, what the weights are, whatever the preset."""

    def record(self) -> InitFrom:
        """What the new run keeps of where it began."""


def choose_config(
    preset: str = "",
    file: Path | None = None,
    settings: Iterable[str] = (),
    *,
    resume: Path | None = None,
    init_from: Origin | None = None,
) -> Config:
    """The config that these options name.

    What they leave open is as it was in the run that is resumed, unless they name all of it anew;
    whatever shapes the model is as in the weights that are taken. Else it is the default. Raises
    ConfigError for options that these weights cannot have.
    """
    taken: dict[str, dict[str, Any]] = {}
    if init_from is not None:
        taken = init_from.inherited()
    if resume and not (preset or file) and (resume / "config.toml").exists():
        taken["base"] = Run.load(resume).config.model_dump(exclude_none=True)
    config = Config.resolve(preset, file, settings, **taken)
    for part, values in taken.get("given", {}).items():
        chosen = getattr(config, part).model_dump()
        for key, value in values.items():
            if chosen.get(key) != value:
                raise ConfigError(
                    f"{part}.{key} is {value!r} in the weights that --from names and cannot be "
                    f"{chosen.get(key)!r}; leave it out."
                )
    return config


def resumed(kept: Config, chosen: Config) -> Config:
    """What a run of the config `kept` goes on with: `chosen`, the layout `auto` as it came out, and
    the weights it began from where they are not named again.

    Raises ConfigError where the run would go on with other data, another model or other batches.
    """
    if chosen.data.layout == "auto":
        data = chosen.data.model_copy(update={"layout": kept.data.layout})
        chosen = chosen.model_copy(update={"data": data})
    if chosen.model.init_from is None and kept.model.init_from is not None:
        chosen = chosen.beginning_from(kept.model.init_from)
    for part in ("corpus", "tokenizer", "data", "model", "train"):
        before, now = getattr(kept, part).model_dump(), getattr(chosen, part).model_dump()
        for key in FIXED if part == "train" else before:
            if before[key] != now.get(key):
                raise ConfigError(
                    f"A run that is resumed cannot change {part}.{key} from {before[key]!r} to "
                    f"{now.get(key)!r}; leave it as it was, or train a new run."
                )
    return chosen
