"""Does a distant word change what comes? Pairs of texts that differ in one place only, the cue.

After the cue both go on alike, and at every distance from it four things are measured: how far
apart the two predictions of the next token are (Jensen–Shannon divergence, Lin 1991); how many bits
the true cue saves on the token that really follows; the share of attention that the cue gets; its
share of the saliency for that token. Predictions are those of the whole run; attention and saliency
those of its neural model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from textwright.errors import GenerationError
from textwright.evaluation.adherence import other_values, whole_fields
from textwright.evaluation.scores import redrawn_interval
from textwright.progress import OnProgress, silent
from textwright.run import Run
from textwright.tokenizer import Tokenizer
from textwright.writing.backend import Backend, padded, visible, window_start
from textwright.writing.form import Form
from textwright.writing.generator import Generator
from textwright.writing.sampling_steps import log_probabilities

if TYPE_CHECKING:
    from textwright.models import LanguageModel

Ids = NDArray[np.int64]

DISTANCES = (1, 2, 4, 8, 16, 32, 64)
COLUMNS = ("distance", "pairs", "divergence", "bits saved", "attention", "saliency")


@dataclass(frozen=True)
class Pair:
    """Two texts that differ in one place and go on alike; how they go on belongs to the first."""

    first: str
    second: str


@dataclass(frozen=True)
class Measure:
    """A mean over pairs, with the 95 % interval of resampled pairs."""

    mean: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class Following:
    """How far a run follows the cue at one distance, in tokens after it.

    pairs: as many go on so long · divergence: bits between the two predictions, 0 to 1 · saved:
    bits that the true cue saves on the next token · attention, saliency: the cue's share, 0 to 1;
    None where the run has none.
    """

    distance: int
    pairs: int
    divergence: Measure
    saved: Measure
    attention: Measure | None
    saliency: Measure | None


@dataclass(frozen=True)
class CueCurve:
    """What one run makes of the pairs, by distance."""

    run: str
    distances: list[Following]

    def to_json(self) -> dict[str, Any]:
        """The item of `runs` that `textwright cues --json` prints."""
        return asdict(self)

    def rows(self) -> list[list[str]]:
        """A line of texts for each distance: the number, the pairs that reach it, the measures."""
        return [
            [
                str(at.distance),
                f"{at.pairs:,}",
                _shown(at.divergence, ".3f"),
                _shown(at.saved, "+.3f"),
                _shown(at.attention, ".1%"),
                _shown(at.saliency, ".1%"),
            ]
            for at in self.distances
        ]


def follow_cues(
    generator: Generator,
    model: LanguageModel | None,
    pairs: Sequence[Pair],
    distances: Sequence[int] = DISTANCES,
    on_progress: OnProgress = silent,
) -> list[Following]:
    """How far a run follows the cues of pairs, at each distance that some pair reaches.

    model: see `inner.open_model`. on_progress: called with pairs done and in all. Raises
    GenerationError where no pair can be used.
    """
    found: dict[int, list[_Place]] = {distance: [] for distance in distances}
    for number, pair in enumerate(pairs, 1):
        located = _locate(generator.tokenizer, pair)
        if located:
            for distance, place in _places(generator, model, located, distances):
                found[distance].append(place)
        on_progress(number, len(pairs))
    if not any(found.values()):
        raise GenerationError(
            "No pair can be used: as the run reads them, the two texts are the same, or what they "
            "have in common after the cue is shorter than the least distance."
        )
    return [_summarize(distance, places) for distance, places in found.items() if places]


def read_pairs(path: Path) -> list[Pair]:
    """The pairs of a file, one a line, its two texts separated by a tab. Raises GenerationError
    for a file that cannot be read so."""
    try:
        lines = path.read_text("utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise GenerationError(
            f"Cannot read {path} ({error}); name a UTF-8 file with two texts a line, separated by "
            "a tab."
        ) from None
    pairs = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        texts = line.split("\t")
        if len(texts) != 2:
            raise GenerationError(
                f"Line {number} of {path} should have two texts, separated by one tab."
            )
        pairs.append(Pair(*texts))
    if not pairs:
        raise GenerationError(f"{path} holds no pair; write two texts a line, separated by a tab.")
    return pairs


def field_pairs(run: Run, name: str, most: int, seed: int = 0) -> list[Pair]:
    """Held-out documents of a run with a template, each beside itself with another document's value
    of one field. Raises GenerationError where the field cannot be a cue, RunError where the run
    keeps no held-out documents."""
    form = Form(run.config.corpus, run.tokenizer)
    if name not in form.fields:
        raise GenerationError(
            f"There is no field {name!r}: the template has {', '.join(form.fields)}."
        )
    if name == form.slots[-1]:
        raise GenerationError(f"Nothing follows the field {name}: name an earlier one.")
    parsed = (whole_fields(form.parse(text)) for text in run.held_out("test"))
    documents = [fields for fields in parsed if fields]
    if len({document[name] for document in documents}) < 2:
        raise GenerationError(
            f"The held-out documents of {run.path} have fewer than two values of {name}."
        )
    random = np.random.default_rng(seed)
    others = other_values([document[name] for document in documents], random)
    chosen = random.permutation(len(documents))[:most].tolist()
    return [
        Pair(
            form.render(documents[place])[0],
            form.render({**documents[place], name: others[place]})[0],
        )
        for place in chosen
    ]


@dataclass(frozen=True)
class _Located:
    """The ids of both texts of a pair. The cues begin at `start`, and end where `rest` begins."""

    first: Ids
    second: Ids
    start: int
    rest: Ids


@dataclass(frozen=True)
class _Place:
    """What is measured of one pair at one distance."""

    divergence: float
    saved: float
    attention: float | None
    saliency: float | None


def _locate(tokenizer: Tokenizer, pair: Pair) -> _Located | None:
    """None where the ids do not differ, or nothing follows the cue."""
    first, second = tokenizer.encode(pair.first), tokenizer.encode(pair.second)
    start = _common(first, second)
    rest = _common(first[start:][::-1], second[start:][::-1])
    if not rest or len(first) == len(second) == start:
        return None
    return _Located(first, second, start, first[len(first) - rest :])


def _common(first: Ids, second: Ids) -> int:
    """How many ids are the same from the beginning."""
    length = min(len(first), len(second))
    differs = np.flatnonzero(first[:length] != second[:length])
    return int(differs[0]) if len(differs) else length


def _places(
    generator: Generator,
    model: LanguageModel | None,
    pair: _Located,
    distances: Sequence[int],
) -> list[tuple[int, _Place]]:
    """The measures of a pair at each distance that it reaches. The token at distance 1 is the one
    right after the cue."""
    reached = [distance for distance in distances if distance <= len(pair.rest)]
    if not reached:
        return []
    stop = generator.tokenizer.stop_id
    texts = [
        [*ids[: len(ids) - len(pair.rest) + distance - 1].tolist()]
        for ids in (pair.first, pair.second)
        for distance in reached
    ]
    logits = _predictions(generator.backend, texts, stop)
    logp = log_probabilities(logits)
    places = []
    for at, distance in enumerate(reached):
        true, other = logp[at], logp[len(reached) + at]
        target = int(pair.rest[distance - 1])
        attention, share = _looks(model, texts[at], pair, target, stop)
        saved = float(true[target] - other[target]) / np.log(2)
        places.append((distance, _Place(divergence(true, other), saved, attention, share)))
    return places


def _shown(measure: Measure | None, form: str) -> str:
    if measure is None:
        return "–"
    low, high = measure.interval
    return f"{measure.mean:{form}} ({low:{form}} to {high:{form}})"


def divergence(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """The Jensen–Shannon divergence in bits, 0 to 1, of two distributions' log-probabilities (V,)
    in nats."""
    middle = np.logaddexp(first, second) - np.log(2)
    bits = [
        (np.exp(logp) * np.where(np.isfinite(logp), logp - middle, 0)).sum() / np.log(2)
        for logp in (first, second)
    ]
    return float(max(0.0, sum(bits) / 2))


def _predictions(backend: Backend, texts: list[list[int]], stop_id: int) -> NDArray[np.float32]:
    """The logits (B, V) after each text."""
    seen = [visible(ids, stop_id, backend.context_length) for ids in texts]
    return backend.prefill(*padded(seen))[0]


def _looks(
    model: LanguageModel | None, text: list[int], pair: _Located, target: int, stop_id: int
) -> tuple[float | None, float | None]:
    """The cue's share of the attention at the end of a text, mean over layers and heads, and of
    the saliency for the target. A cue that is out of the model's view has none."""
    if model is None:
        return None, None
    row = visible(text, stop_id, model.context_length)
    behind = window_start(1 + len(text), model.context_length) - 1  # ids that are out of view
    begin, end = pair.start - behind, len(pair.first) - len(pair.rest) - behind
    cue = slice(max(0, begin), max(0, end))
    from textwright.inspection.inner import attention_of, trace  # which import torch
    from textwright.inspection.saliency import saliency

    layers = attention_of(trace(model, row))
    attention = [layer[:, -1, cue].sum(-1).mean() for layer in layers]
    sizes = np.abs(saliency(model, row, np.array([len(row) - 1]), np.array([target]))[0])
    shown = float(np.mean(attention)) if layers else None
    return shown, float(sizes[cue].sum() / max(sizes.sum(), 1e-300))


def _summarize(distance: int, places: Sequence[_Place]) -> Following:
    def mean(values: list[float]) -> Measure:
        amounts = np.array(values)
        interval = redrawn_interval(amounts, np.ones(len(amounts)))
        return Measure(float(amounts.mean()), interval)

    attention = [place.attention for place in places if place.attention is not None]
    shares = [place.saliency for place in places if place.saliency is not None]
    return Following(
        distance,
        len(places),
        mean([place.divergence for place in places]),
        mean([place.saved for place in places]),
        mean(attention) if attention else None,
        mean(shares) if shares else None,
    )
