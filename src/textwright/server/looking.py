"""What a page shows of a place in a text: the tokens that may come next, what of them sampling
leaves, and what the model does inside.
"""

from __future__ import annotations

import asyncio
import sys
from functools import partial
from typing import Any

import numpy as np

from textwright.errors import TextwrightError
from textwright.inspection.next_tokens import part_odds, predict, seen
from textwright.server.bodies import InspectBody
from textwright.server.errors import ApiError
from textwright.server.served import ServedRun
from textwright.server.service import Service
from textwright.writing.backend import visible
from textwright.writing.generator import with_ids
from textwright.writing.sampling import process
from textwright.writing.sampling_steps import Logits, NoTokenLeftError, log_probabilities, peak

MOST_INSIDE = 2_000  # tokens that a look into a model takes


async def look(service: Service, body: InspectBody) -> dict[str, Any]:
    """The answer of `POST /api/inspect`. Raises ApiError where the body cannot be used."""
    served = service.find(body.model)
    with service.places(1):
        try:
            ids, prompt_length = await service.read(body.prompt, partial(_read, served), body)
            return await _look(service, served, body, ids, prompt_length)
        except MemoryError:
            raise ApiError(429, "Memory ran out: send a shorter text.", retry_after=5) from None


async def _look(
    service: Service, served: ServedRun, body: InspectBody, ids: list[int], prompt_length: int
) -> dict[str, Any]:
    backend, stop = served.writer.generator.backend, served.tokenizer.stop_id
    row = visible(ids, stop, backend.context_length)
    inside = body.inside or body.saliency
    if inside and (length := len(seen(served.writer.generator, ids))) > MOST_INSIDE:
        raise ApiError(
            422, f"The model would be looked into at {length} tokens, {MOST_INSIDE} are the most."
        )
    # Between two steps of the engine: they share the model.
    [logits], parts, shares = await service.worker.call(lambda: predict(backend, row))
    found = await asyncio.to_thread(_weigh, served, body, ids, prompt_length, logits)
    if inside:
        target = int(logits.argmax()) if body.target is None else body.target
        served.check_ids([target])
        loop = asyncio.get_running_loop()
        found |= await loop.run_in_executor(service.inside, _look_inside, served, body, ids, target)
        found |= {
            "shares": shares and shares._asdict(),
            "parts": part_odds(parts, target) or None,
        }
    return found


def _look_inside(
    served: ServedRun, body: InspectBody, ids: list[int], target: int
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
        attention = inner.newest_attention(inner.attention_of(traced)) or None
        gates = inner.summarize_gates(inner.gates_of(traced)) or None
    if model is not None and body.saliency:
        last = np.array([len(row) - 1])
        shares = saliency(model, row, last, np.array([target]))[0].round(6).tolist()
    return {
        "seen": _name(served, row.tolist()),
        **{"attention": attention, "gates": gates},
        **{"target": target, "saliency": shares},
    }


def _name(served: ServedRun, ids: list[int]) -> list[dict[str, Any]]:
    return [{"id": token_id, "text": served.spellings[token_id]} for token_id in ids]


def _read(served: ServedRun, body: InspectBody) -> tuple[list[int], int]:
    """The ids of prompt and text, and how many of them are the prompt's."""
    try:
        served.check_ids([body.target or 0])
        [asked] = served.read(body)
    except ApiError:
        raise
    except TextwrightError as error:
        raise ApiError(422, str(error)) from None
    ids = [*asked.prompt.ids, *body.begin]
    if len(ids) > served.limits.tokens:
        raise ApiError(422, f"The text has {len(ids)} tokens, {served.limits.tokens} are the most.")
    return ids, len(asked.prompt.ids)


def _weigh(
    served: ServedRun, body: InspectBody, ids: list[int], prompt_length: int, logits: Logits
) -> dict[str, Any]:
    """Probabilities before and after sampling, given the logits (V,)."""
    before = np.exp(log_probabilities(logits))
    try:
        # As for writing; but a least number of tokens may be any.
        given = {"beams": 1, "max_new_tokens": sys.maxsize, **body.sampling()}
        options = with_ids(served.writer.options(**given), served.tokenizer)
        row = np.array(ids, np.int64)
        copied = np.empty(0, np.int64)
        if options.no_copy:
            copied = served.writer.known_sequences(options.no_copy).completing(row, len(logits))
        kept = process(logits, options, row, prompt_length, served.tokenizer.stop_id, copied)
        peak(kept)
        after = np.exp(log_probabilities(kept))
    except NoTokenLeftError:
        after = np.zeros_like(before)
    except TextwrightError as error:
        raise ApiError(422, str(error)) from None
    likeliest = np.argsort(-before, kind="stable")[: body.top]
    shown = likeliest.tolist()
    risen = np.argsort(-after, kind="stable")[: body.top]  # such as by a bias
    shown += [i for i in risen.tolist() if after[i] > 0 and i not in shown]
    if body.target is not None and body.target not in shown:
        shown.append(body.target)
    return {
        "tokens": _name(served, ids),
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
