"""Cross-entropy from hidden vectors, without the (tokens x V) matrix.

At V = 10,000 the logits of one batch of the recipes are 190 MB, written and read back several
times; a plain cross-entropy waits for this traffic, not for the arithmetic. Here the output layer,
the softmax and all three gradients are computed together, one cache-sized block of tokens after
another, so the whole matrix never exists.

The softmax may be taken over some tokens that stand for all. The output layer then takes no longer
with a large vocabulary than with a small one.

Letters: N tokens, D width, V vocabulary, S tokens of a sample.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from textwright.compute.device import product_dtype

PADDING_TARGET = -100  # a target that is not counted
BLOCK_ELEMENTS = 5 << 19  # logits computed at a time: 10 MB of float32, about what caches hold
ACCELERATOR_BLOCK_ELEMENTS = 1 << 26  # 256 MB: an accelerator waits for the start of each block
# A processor makes a kernel for each number of bf16 rows that it meets, in as many milliseconds as
# the product takes, and keeps megabytes of it. So rows come in multiples of this.
BF16_ROWS = 64
SMALLEST = 1e-38  # smallest probability that float32 distinguishes from 0: a loss of 87 nats


@dataclass(frozen=True)
class TokenSample:
    """Tokens over which a softmax is taken in place of all. ids (S,) int64, ascending ·
    log_weights (S,) float32: the logarithm of how many tokens each stands for."""

    ids: Tensor
    log_weights: Tensor


def next_token_loss(
    hidden: Tensor,
    targets: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    sample: TokenSample | None = None,
) -> tuple[Tensor, Tensor]:
    """(sum of nats, count of targets) over the targets that are not padding.

    hidden (..., D) · targets (...) int64 · weight (V, D) · bias (V) or None · sample: tokens that
    stand for all, the targets among them. The sum carries gradients to hidden, weight and bias.
    Sums, not means, so that accumulated and distributed steps can divide once, by the global count.
    """
    rows, targets = hidden.reshape(-1, hidden.shape[-1]), targets.reshape(-1)
    kept = targets != PADDING_TARGET
    if not kept.all():  # padding never reaches the output layer
        rows, targets = rows[kept], targets[kept]
    if sample is not None:  # e^(logit + log w) = w · e^logit
        targets, weight = torch.searchsorted(sample.ids, targets), weight[sample.ids]
        bias = sample.log_weights if bias is None else bias[sample.ids] + sample.log_weights
    nats = _BlockedCrossEntropy.apply(rows, weight, bias, targets)
    return nats, kept.sum()


@torch.no_grad()
def token_nats(hidden: Tensor, targets: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The nats of each target, for scoring. hidden (N, D) · targets (N) → (N) float32."""
    nats = torch.empty(len(targets), dtype=torch.float32, device=hidden.device)
    for block, log_probabilities in token_log_probabilities(hidden, weight, bias):
        nats[block] = -log_probabilities.gather(1, targets[block, None]).squeeze(1)
    return nats


@torch.no_grad()
def token_log_probabilities(
    hidden: Tensor, weight: Tensor, bias: Tensor | None
) -> Iterator[tuple[slice, Tensor]]:
    """Of some tokens after others, which slice of hidden (N, D), and the log-probabilities of all
    that may come next, float32."""
    for block in _blocks(len(hidden), weight):
        yield block, torch.log_softmax(_logits(hidden[block], weight, bias), dim=1)


def _blocks(count: int, weight: Tensor) -> list[slice]:
    elements = BLOCK_ELEMENTS if weight.device.type == "cpu" else ACCELERATOR_BLOCK_ELEMENTS
    size = max(16, elements // len(weight))
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def _logits(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    logits = hidden @ weight.T if bias is None else torch.addmm(bias, hidden, weight.T)
    return logits.float()


class _BlockedCrossEntropy(torch.autograd.Function):
    """Forward computes the gradients too: d nats / d logits = softmax − one-hot is known there."""

    @staticmethod
    def forward(ctx, hidden, weight, bias, targets):  # type: ignore[no-untyped-def]
        compute = product_dtype(hidden)
        rows, kernel = _filled_up(hidden.to(compute)), weight.to(compute)
        offset = None if bias is None else bias.to(compute)
        nats = torch.zeros((), device=hidden.device)
        d_hidden = torch.empty_like(rows, dtype=hidden.dtype)
        # Frozen weights, as beside adapters, need no gradient.
        d_weight = torch.zeros_like(weight) if ctx.needs_input_grad[1] else None
        d_bias = torch.zeros_like(bias) if bias is not None and ctx.needs_input_grad[2] else None
        for block in _blocks(len(rows), weight):
            # The softmax, then in its place the error: written once, read by two products.
            error = torch.softmax(_logits(rows[block], kernel, offset), dim=1)
            chosen = targets[block, None]  # fewer than rows in the last block
            probability = error[: len(chosen)].gather(1, chosen)
            nats -= probability.clamp_min(SMALLEST).log().sum()
            error[: len(chosen)].scatter_(1, chosen, probability - 1)
            error[len(chosen) :] = 0
            if d_bias is not None:
                d_bias += error.sum(0)
            error = error.to(compute)
            d_hidden[block] = error @ kernel
            if d_weight is not None and compute == weight.dtype:
                d_weight.addmm_(error.T, rows[block])
            elif d_weight is not None:
                d_weight += error.T @ rows[block]
        ctx.save_for_backward(d_hidden[: len(targets)], d_weight, d_bias)
        return nats

    @staticmethod
    def backward(ctx, d_nats):  # type: ignore[no-untyped-def]
        d_hidden, d_weight, d_bias = ctx.saved_tensors
        scaled = [None if d is None else d * d_nats for d in (d_hidden, d_weight, d_bias)]
        return (*scaled, None)


def _filled_up(rows: Tensor) -> Tensor:
    """With rows of zeros at the end, so that their number is one of a few."""
    if rows.device.type != "cpu" or rows.dtype == torch.float32:
        return rows
    return torch.nn.functional.pad(rows, (0, 0, 0, -len(rows) % BF16_ROWS))
