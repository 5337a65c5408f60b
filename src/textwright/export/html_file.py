"""A run as one HTML file: weights, tokenizer, sampler and page, which opens offline."""

from __future__ import annotations

import gzip
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load, save

from textwright import models
from textwright.errors import ExportError
from textwright.evaluation.predictors import MixedPredictor, NeuralPredictor, open_predictor
from textwright.export.check import sample_texts
from textwright.export.html_page import make_page, read_page
from textwright.export.html_payload import dequantized, describe, quantized, tables_of
from textwright.files import replacing
from textwright.progress import OnStage, silent
from textwright.run import Arrays, Run
from textwright.run.about import fields_of

WEIGHTS = ("int8", "float32")
MOST = 0.01  # bits per character that rounding the weights may cost
DOCUMENTS = 100  # held-out documents that the cost is measured on, evenly spaced
CHARACTERS = 100_000  # of all of them together: one may be a novel


@dataclass(frozen=True)
class HTMLFile:
    """A written file. cost: bits per character that its weights lose against the run's, measured on
    so many characters; 0 for float32 · left_out: what the run sets and the page lacks."""

    out: Path
    weights: str
    bytes: int
    cost: float
    characters: int
    left_out: list[str]

    def to_json(self) -> dict[str, Any]:
        """The document that `textwright export --to html --json` prints."""
        return {"format": "html", **asdict(self), "out": str(self.out)}


def export_html(
    run: Run,
    out: Path,
    *,
    weights: str = "int8",
    license: str = "",
    lossy: bool = False,
    on_progress: OnStage = silent,
) -> HTMLFile:
    """Write a run as one HTML file.

    weights: int8 (a scale for each row) or float32, with which a seed writes the text that it
    writes here. license: shown on the page. lossy: keep a file whose int8 weights cost more than
    `MOST` bits per character. Raises ExportError if they do, or if the file cannot be written.
    """
    if weights not in WEIGHTS:
        raise ExportError(f"--weights is {' or '.join(WEIGHTS)}, not {weights!r}.")
    if out.suffix != ".html":
        raise ExportError(f"{out} should end in .html: the export is one page.")
    if out.exists():
        raise ExportError(f"{out} exists already; name another --out, or delete it.")
    on_progress("Loading", 0, 0)
    neural: Arrays = {}
    if not run.config.model.counted:
        neural = {name: np.asarray(a, np.float32) for name, a in run.weights().items()}
    cost, characters = 0.0, 0
    if neural and weights == "int8":
        neural = quantized(neural)
        cost, characters = _cost(run, neural, on_progress)
        if not (lossy or cost <= MOST):
            raise ExportError(
                f"int8 weights would cost {cost:.4f} bits per character, more than {MOST:g}; "
                "choose --weights float32, or accept it with --lossy."
            )
    on_progress("Writing", 0, 0)
    arrays = neural | tables_of(run)
    described = describe(run, license, weights)
    page = make_page(described, gzip.compress(_saved(arrays), 6, mtime=0))
    try:
        with replacing(out.absolute()) as beside:
            beside.write_text(page, "utf-8")
            _check(beside.read_text("utf-8"), described, arrays)
    except OSError as error:
        raise ExportError(f"Cannot write to {out}: {error.strerror or error}.") from None
    left_out = [f"{name} {getattr(run.config.sample, name)}" for name in described["off"]]
    if fields_of(run) and not described["fields"]:
        left_out.append("fields (corpus.stem)")
    return HTMLFile(out, weights, out.stat().st_size, cost, characters, left_out)


def _saved(arrays: Arrays) -> bytes:
    return save({name: np.ascontiguousarray(array) for name, array in arrays.items()})


def _check(page: str, described: dict[str, Any], arrays: Arrays) -> None:
    """Read the page back, as the browser does. Raises ExportError if it holds anything else."""
    told, packed = read_page(page)
    found = load(gzip.decompress(packed))
    same = told == described and found.keys() == arrays.keys()
    if not same or any(not np.array_equal(found[name], arrays[name]) for name in arrays):
        raise ExportError(
            "Read back, the page does not hold what was written into it; it was not kept. Please "
            "report this."
        )


def _cost(run: Run, arrays: Arrays, on_progress: OnStage) -> tuple[float, int]:
    """Bits per character that int8 weights lose on held-out text, and its characters."""
    on_progress("Measuring", 0, 2)
    predictor = open_predictor(run, "cpu")
    assert isinstance(predictor, NeuralPredictor | MixedPredictor)
    texts = sample_texts(run, predictor.model, DOCUMENTS, CHARACTERS)
    stop = [run.tokenizer.stop_id]
    rows = [np.concatenate([stop, ids, stop]) for ids in run.tokenizer.encode_batch(texts)]
    nats = [sum(map(np.sum, predictor.score(rows)))]
    on_progress("Measuring", 1, 2)
    models.fill(predictor.model, dequantized(arrays), run.path)
    nats.append(sum(map(np.sum, predictor.score(rows))))
    characters = sum(map(len, texts))
    return float(nats[1] - nats[0]) / math.log(2) / max(1, characters), characters
