"""What an HTML file holds of a run: its weights as arrays, and the rest as one JSON document."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from textwright.backends.positions import rotary_frequencies, sinusoids
from textwright.counts.kneser_ney import KneserNey
from textwright.families import GPTOptions
from textwright.run import Arrays, Run
from textwright.run.about import about
from textwright.tokenizer import Tokenizer
from textwright.writing.form import Form

SCALE = ".scale"  # after the name of an int8 matrix: its scales (rows,)
_TABLES = ("positions",)  # added as they are, never multiplied: too small to be worth rounding


def quantized(weights: Mapping[str, np.ndarray]) -> Arrays:
    """Matrices (rows, columns) as int8 with one scale for each row; other arrays as they are."""
    arrays: Arrays = {}
    for name, array in weights.items():
        if array.ndim != 2 or name in _TABLES:
            arrays[name] = array
            continue
        scales = np.abs(array).max(1) / np.float32(127)
        scales[scales == 0] = 1
        arrays[name] = np.rint(array / scales[:, None]).astype(np.int8)
        arrays[name + SCALE] = scales
    return arrays


def dequantized(arrays: Mapping[str, np.ndarray]) -> Arrays:
    """The float32 weights that `quantized` arrays stand for."""
    return {
        name: array.astype(np.float32) * arrays[name + SCALE][:, None]
        if array.dtype == np.int8
        else array
        for name, array in arrays.items()
        if not name.endswith(SCALE)
    }


def tables_of(run: Run) -> Arrays:
    """What the page reads beside the weights: positions that are computed, and the counts."""
    options = run.config.model.with_context(run.config.data.context_length)
    tables: Arrays = {}
    if isinstance(options, GPTOptions):
        if options.positions == "sinusoidal":
            tables["positions"] = sinusoids(options.context_length, options.width)
        if options.positions == "rotary":
            plain, stretch = rotary_frequencies(options)
            tables["frequencies"] = plain / stretch
    return tables | _count_tables(run.counts) if run.counts else tables


def _count_tables(counts: KneserNey) -> Arrays:
    """The levels of the tree, with children by where they begin instead of by key: half the size.

    begins (parents + 1,): where each parent's children begin · tokens (N,): their last tokens.
    """
    size, tables = counts.vocab_size, {}
    ids = np.uint16 if size <= 1 << 16 else np.uint32
    for n, level in enumerate(counts.levels, 1):
        tables[f"counts.{n}.probability"] = np.array(level.probability)
        tables[f"counts.{n}.backoff"] = np.array(level.backoff)
        if n > 1:
            parents, tokens = np.divmod(level.keys, size)
            every = np.arange(len(counts.levels[n - 2].keys) + 1)
            tables[f"counts.{n}.begins"] = np.searchsorted(parents, every).astype(np.uint32)
            tables[f"counts.{n}.tokens"] = tokens.astype(ids)
    return tables


def describe(run: Run, license: str, weights: str) -> dict[str, Any]:
    """The JSON document: what the page says of the run, and what the engine has beside arrays."""
    engine: dict[str, Any] = {"model": _model(run), "tokenizer": _tokenizer(run)}
    if run.config.counts.longest and not run.config.model.counted:
        mixture = run.mixture()
        engine["mixture"] = {"weights": mixture.weights.tolist(), "powers": list(mixture.powers)}
    told = about(run, license)
    if told["options"].pop("no_copy"):  # needs the training text
        told["off"]["no_copy"] = 0
    if run.config.corpus.stem:  # whose rules the page lacks
        told["fields"] = []
    if told["fields"]:
        engine["form"] = _form(run)
    return {**told, "weights": weights, "engine": engine}


def _form(run: Run) -> dict[str, Any]:
    """The template, and how the values of its fields are cleaned."""
    form = Form(run.config.corpus, run.tokenizer)
    cleaning = run.config.corpus.model_dump(include={"ascii_only", "strip_symbols", "lowercase"})
    return {"slots": form.slots, "literals": form.literals, "cleaning": cleaning}


def _model(run: Run) -> dict[str, Any]:
    options = run.config.model.with_context(run.config.data.context_length)
    described: dict[str, Any] = {"family": options.family}
    if isinstance(options, GPTOptions):
        key, value = options.head_widths
        described |= {
            "context_length": options.context_length,
            "layers": options.layers,
            "heads": options.heads,
            "shared_heads": options.shared_heads,
            "key_width": key,
            "value_width": value,
            "scale": options.token_scale,
            "pre": options.norm == "pre",
            "normalization": options.normalization,
            "epsilon": options.norm_epsilon,
            "activation": options.activation,
        }
    return described


def _tokenizer(run: Run) -> dict[str, Any]:
    tokenizer: Tokenizer = run.tokenizer
    described = {
        **tokenizer.treatment._asdict(),
        "stop_id": tokenizer.stop_id,
        "unknown_id": tokenizer.unknown_id,
        "tokens": tokenizer.tokens(range(tokenizer.vocab_size)),
    }
    if tokenizer.kind == "bpe":
        model = json.loads((run.path / "tokenizer.json").read_text("utf-8"))["model"]
        described["merges"] = [" ".join(pair) for pair in tokenizer.merges]
        described["ignore_merges"] = bool(model.get("ignore_merges"))
    return described
