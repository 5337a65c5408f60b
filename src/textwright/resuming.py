"""The options of a training that goes on from something: its own run, or another run's weights."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from textwright.config import Config
from textwright.errors import ConfigError
from textwright.run import Run

BATCHES = ("batch_size", "accumulate", "seed")  # what a step number means depends on these


def choose_config(
    out: Path,
    preset: str = "",
    file: Path | None = None,
    settings: Iterable[str] = (),
    *,
    resume: bool = False,
    init_from: Run | None = None,
) -> Config:
    """The config that these options name, for a training into `out`.

    What they leave open is as it was in the run that is resumed, unless they name all of it anew;
    whatever shapes the model is as in the run whose weights are taken. Else it is the default.
    """
    base: dict[str, Any] | None = None
    if init_from is not None:
        kept = init_from.config.model_dump(exclude_unset=True)
        shaping = ("tokenizer", "data", "model", "sample")
        base = {part: kept[part] for part in shaping if part in kept}
    elif resume and not (preset or file) and (out / "config.toml").exists():
        base = Run.load(out).config.model_dump(exclude_none=True)
    return Config.resolve(preset, file, settings, base)


def resumed(kept: Config, chosen: Config) -> Config:
    """What a run of the config `kept` goes on with: `chosen`, the layout `auto` as it came out.

    Raises ConfigError where the run would go on with other data, another model or other batches.
    """
    if chosen.data.layout == "auto":
        data = chosen.data.model_copy(update={"layout": kept.data.layout})
        chosen = chosen.model_copy(update={"data": data})
    for part in ("corpus", "tokenizer", "data", "model", "train"):
        before, now = getattr(kept, part).model_dump(), getattr(chosen, part).model_dump()
        for key in BATCHES if part == "train" else before:
            if before[key] != now.get(key):
                raise ConfigError(
                    f"A run that is resumed cannot change {part}.{key} from {before[key]!r} to "
                    f"{now.get(key)!r}; leave it as it was, or train a new run."
                )
    return chosen
