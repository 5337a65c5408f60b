"""What a page shows of a place in a text: the tokens that may come next, what of them sampling
leaves, and what the model does inside.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np

from textwright.inspection.next_tokens import part_odds, predict, seen
from textwright.server.bodies import InspectBody
from textwright.server.errors import ApiError
from textwright.server.served import ServedRun
from textwright.server.service import Service
from textwright.writing.backend import visible
from textwright.writing.sampling import process
from textwright.writing.sampling_steps import (
    Logits,
    NoTokenLeftError,
    likeliest_ids,
    log_probabilities,
    peak,
)
from textwright.writing.text import Text

MOST_INSIDE = 2_000  # tokens that a look into a model takes


async def look(service: Service, body: InspectBody) -> dict[str, Any]:
    """The answer of `POST /api/inspect`. Raises a TextwrightError where it is refused."""
    served = service.find(body.model)
    with service.places(1):
        text = await service.read(partial(_read, served), body)
        return await _look(service, served, body, text)


async def _look(
    service: Service, served: ServedRun, body: InspectBody, text: Text
) -> dict[str, Any]:
    backend = served.writer.generator.backend
    row = visible(text.ids, text.stop_id, backend.context_length)
    inside = body.inside or body.saliency
    if inside and (length := len(seen(served.writer.generator, text.ids))) > MOST_INSIDE:
        raise ApiError(
            422, f"The model would be looked into at {length} tokens, {MOST_INSIDE} are the most."
        )
    # Between two steps of the engine: they share the model.
    [logits], parts, shares = await service.worker.call(lambda: predict(backend, row))
    found = await asyncio.to_thread(_weigh, served, body, text, logits)
    if inside:
        target = int(logits.argmax()) if body.target is None else body.target
        served.check_ids([target])
        loop = asyncio.get_running_loop()
        looked = partial(_look_inside, served, body, text.ids, target)
        found |= await loop.run_in_executor(service.inside, looked)
        found |= {
            "shares": shares and shares._asdict(),
            "parts": part_odds(parts, target) or None,
        }
    return found


def _look_inside(
    served: ServedRun, body: InspectBody, ids: Sequence[int], target: int
) -> dict[str, Any]:
    """Attention or gates, and the saliency of a token for the next place; null for counts, and
    where the model has none."""
    from textwright.inspection import inner
    from textwright.inspection.saliency import saliency

    row = seen(served.writer.generator, ids)
    model = served.inner
    shares = attention = gates = None
    if model is not None and body.inside:
        traced = inner.trace(model, row)
        attention = inner.newest_attention(inner.attention_of(traced, whole=False)) or None
        gates = inner.summarize_gates(inner.gates_of(traced)) or None
    if model is not None and body.saliency:
        last = np.array([len(row) - 1])
        shares = saliency(model, row, last, np.array([target]))[0].round(6).tolist()
    return {
        "seen": _name(served, row.tolist()),
        **{"attention": attention, "gates": gates},
        **{"target": target, "saliency": shares},
    }


def _name(served: ServedRun, ids: Iterable[int]) -> list[dict[str, Any]]:
    return [{"id": token_id, "text": served.spellings[token_id]} for token_id in ids]


def _read(served: ServedRun, body: InspectBody) -> Text:
    """The text that is looked at, as it would go on."""
    served.check_ids([body.target or 0])
    [asked] = served.read(body)
    # As for writing; but a least number of tokens may be any.
    given = {"beams": 1, "max_new_tokens": sys.maxsize, **body.sampling()}
    options = served.writer.options(**given)
    [request] = served.writer.generator.requests([asked.prompt], options)
    count, most = len(asked.prompt.ids) + len(body.begin), served.limits.tokens
    if count > most:
        raise ApiError(422, f"The text has {count} tokens, {most} are the most.")
    text = Text(0, 0, request, served.tokenizer)
    for token_id in body.begin:
        text.take(token_id)
    return text


def _weigh(served: ServedRun, body: InspectBody, text: Text, logits: Logits) -> dict[str, Any]:
    """Probabilities before and after sampling, given the logits (V,)."""
    before = np.exp(log_probabilities(logits))
    try:
        past = text.history, text.prompt_length, text.stop_id, text.copied, text.waits
        kept = process(logits, text.options, *past)
        peak(kept)
        after = np.exp(log_probabilities(kept))
    except NoTokenLeftError:
        after = np.zeros_like(before)
    shown = likeliest_ids(before, body.top).tolist()
    risen = likeliest_ids(after, body.top).tolist()  # such as by a bias
    shown += [i for i in risen if after[i] > 0 and i not in shown]
    if body.target is not None and body.target not in shown:
        shown.append(body.target)
    return {
        "tokens": _name(served, text.ids),
        "kept": int(np.count_nonzero(after)),
        "entropy": {"before": _entropy(before), "after": _entropy(after)},
        "next": [
            {
                "id": i,
                "text": served.spellings[i],
                "before": float(before[i]),
                "after": float(after[i]),
            }
            for i in shown
        ],
    }


def _entropy(probabilities: np.ndarray) -> float:
    """In nats."""
    positive = probabilities[probabilities > 0]
    return float(-(positive * np.log(positive)).sum())
