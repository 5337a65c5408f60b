"""The beginning of a training: options of its run or of other weights, and which may change."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from textwright.config import AUTO, Config, OriginRecord, presets
from textwright.errors import ConfigError
from textwright.run.arrays import Arrays
from textwright.run.folder import Run
from textwright.tokenizer import Tokenizer

# The meaning of a step number, a checkpoint and the best loss depends on these.
FIXED = ("batch_size", "accumulate", "seed", "lora_rank", "lora_alpha", "evaluate_characters")
SUGGESTED = ("dropout",)  # options that come with weights and may be set otherwise


class Origin(Protocol):
    """Trained weights to begin from: another run, or `models.pretrained.Pretrained`."""

    @property
    def path(self) -> Path: ...
    @property
    def tokenizer(self) -> Tokenizer: ...
    def weights(self) -> Arrays:
        """Arrays by canonical name."""

    def inherited(self) -> dict[str, dict[str, Any]]:
        """Options that a training takes over, as arguments of `Config.resolve`: `base`, which a
        preset overrides, and `given`, which describes the weights, whatever the preset."""

    def record(self) -> OriginRecord:
        """The record of these weights that the new run keeps."""


def choose_config(
    preset: str = "",
    file: Path | None = None,
    settings: Iterable[str] = (),
    *,
    resume: Path | None = None,
    init_from: Origin | None = None,
) -> Config:
    """The config for these options.

    Options left open come from the run that is resumed or from the weights to begin from, else from
    the defaults; the preset is `auto` where nothing is named. A preset named with `resume` changes
    only what the run's own preset set. Raises ConfigError for options that these weights cannot
    have.
    """
    taken = init_from.inherited() if init_from is not None else {}
    continues = resume is not None and (resume / "config.toml").exists()
    if not (preset or file or init_from or continues):
        preset = AUTO
    if resume is not None and continues:
        taken["base"] = _resumed_base(Run.load(resume).config, preset)
        preset = ""
    config = Config.resolve(preset, file, settings, **taken)
    for table, values in taken.get("given", {}).items():
        chosen = getattr(config, table).model_dump()
        for key, value in values.items():
            if chosen.get(key) != value and key not in SUGGESTED:
                raise ConfigError(
                    f"{table}.{key} is {value!r} in the weights that --from names and cannot be "
                    f"{chosen.get(key)!r}; leave it out."
                )
    return config


def resumed(kept: Config, chosen: Config) -> Config:
    """The config that a run continues with: `chosen`, with the run's own layout, template and unit
    for `auto`, and the weights it began from unless these are named again.

    Raises ConfigError if the run would continue with other data, another model, other batches or
    moments that its checkpoints do not hold.
    """
    for table, key in (("data", "layout"), ("corpus", "template"), ("corpus", "unit")):
        options = getattr(chosen, table)
        if getattr(options, key) == "auto":
            own = options.model_copy(update={key: getattr(getattr(kept, table), key)})
            chosen = chosen.model_copy(update={table: own})
    if chosen.origin is None and kept.origin is not None:
        chosen = chosen.beginning_from(kept.origin)
    for table, key, before, now in _differences(kept, chosen):
        # Muon keeps other moments than Adam and AdamW, which a checkpoint of theirs does not hold.
        other_moments = key == "optimizer" and "muon" in (before, now)
        of_data_or_model = table in ("corpus", "tokenizer", "data", "model", "counts", "origin")
        if of_data_or_model or other_moments or key in FIXED:
            raise ConfigError(
                f"A run that is resumed cannot change {table}.{key} from {before!r} to {now!r}; "
                "leave it as it was, or train a new run."
            )
    return chosen


def changes(kept: Config, chosen: Config) -> list[str]:
    """The differences between two configs of a run, one text for each option."""
    return [f"{table}.{key}: {a!r} → {b!r}" for table, key, a, b in _differences(kept, chosen)]


def _resumed_base(kept: Config, preset: str) -> dict[str, Any]:
    """A run's config. If another preset is named, its `[train]` and `[sample]` replace what the
    run's own preset set there; the other tables cannot change."""
    values = kept.model_dump(exclude_none=True)
    if not preset or preset == kept.preset:
        return values
    before = Config.resolve(kept.preset if kept.preset in presets() else "").model_dump()
    after = Config.resolve(preset).model_dump(exclude_none=True)
    for table in ("train", "sample"):
        own = {key: v for key, v in values[table].items() if v != before[table][key]}
        values[table] = after[table] | own
    return values | {"preset": preset}


def _differences(kept: Config, chosen: Config) -> Iterator[tuple[str, str, Any, Any]]:
    """(table, key, value before, value now) of every option that differs."""
    before, now = kept.model_dump(), chosen.model_dump()
    for table, values in now.items():
        if isinstance(values, Mapping):
            old = before[table] or {}
            for key in {**old, **values}:
                if old.get(key) != values.get(key):
                    yield table, key, old.get(key), values.get(key)
