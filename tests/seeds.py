"""What a seed promises, as tests hold it.

A text does not depend on the rows beside it. In fp32 it may only where a draw lies within 1e-4 of a
boundary: a product of several rows rounds each row as its place among them has it, on many
processors.
"""

from collections import Counter
from itertools import zip_longest

import numpy as np

from textwright.writing.backend import visible
from textwright.writing.prompt import read_prompts
from textwright.writing.sampling import penalize, process, uniforms
from textwright.writing.sampling_steps import log_probabilities

NEAR = 1e-4


def probabilities(logits):
    """Softmax in float64: logits (…, V) → (…, V)."""
    return np.exp(log_probabilities(logits))


def assert_same_draws(one, other):
    """Two rows of logits (V,) have their boundaries within 1e-4 of each other."""
    ends = [np.cumsum(probabilities(logits)) for logits in (one, other)]
    np.testing.assert_allclose(*ends, rtol=0, atol=NEAR)


def count_differences(generator, options, seed, ones, others, read=None):
    """Number of samples that differ from their counterparts, all of them near a boundary.

    read: gives the ids of a prompt, if not those of a plain one.
    """
    read = read or (lambda prompt: read_prompts([prompt], generator.tokenizer)[0].ids)
    numbers, found = Counter(), 0
    for one, other in zip(ones, others, strict=True):
        assert one.prompt == other.prompt
        if one.ids == other.ids:
            assert one.text == other.text
        else:
            places = enumerate(zip_longest(one.ids, other.ids))
            place = next(place for place, (mine, theirs) in places if mine != theirs)
            draw = uniforms(seed, numbers[one.prompt]).random(place + 1)[-1]
            gap = _gap(generator, options, read(one.prompt), one.ids[:place], draw)
            assert gap < NEAR, f"{one} and {other} part {gap:.1e} from a boundary"
            found += 1
        numbers[one.prompt] += 1
    return found


def _gap(generator, options, prompt_ids, text_ids, draw):
    """How far the next draw lies from a boundary; if none is made, the best logit from the next."""
    backend, stop_id = generator.backend, generator.tokenizer.stop_id
    ids = np.array([*prompt_ids, *text_ids], np.int64)
    seen = visible(ids.tolist(), stop_id, backend.context_length)
    logits = backend.prefill(seen[None], np.array([len(seen)]))[0][0]
    if options.temperature == 0:
        penalize(logits, options, ids, len(prompt_ids), stop_id)
        second, first = np.sort(logits)[-2:]
        return first - second
    shares = probabilities(process(logits, options, ids, len(prompt_ids), stop_id))
    return np.abs(np.cumsum(shares) - draw).min()
