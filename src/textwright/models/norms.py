"""RMS norm, and what a GPT does to the queries and keys of its heads, in few passes over memory.

At the widths of a laptop, a step of training waits for passes over memory more than for products.
PyTorch builds both of these, with their gradients, from parts that each read and write everything;
here they are written out for a processor. Elsewhere PyTorch's parts are used.

Letters: B batch, T time, D width, H heads, G heads of keys and values, K key width, U value width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

Norms = tuple[nn.RMSNorm, nn.RMSNorm]
Rotation = tuple[Tensor, Tensor]
"""Cosines and sines (B or 1, T, K/2) of the angle by which each pair of a place is turned."""


class RMSNorm(nn.RMSNorm):
    """x / √(mean(x²) + ε) · weight over the last dimension (Zhang & Sennrich 2019)."""

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu":
            return super().forward(x)
        normalized: Tensor = _RMSNorm.apply(x.float(), self.weight, self.eps)
        return normalized


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        scale = _inverse_size(x, epsilon)
        unit = x * scale
        ctx.save_for_backward(unit, scale, weight)
        return unit * weight

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        unit, scale, weight = ctx.saved_tensors
        product = grad * unit
        d_weight = product.flatten(0, -2).sum(0)
        return _back(grad * weight, product.mul_(weight), unit, scale), d_weight, None


def cut_heads(
    layer: nn.Linear,
    x: Tensor,
    heads: tuple[int, int],
    value: int,
    norms: Norms | None,
    rotation: Rotation | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """x (B, T, D) → queries (B, H, T, K), keys (B, G, T, K), values (B, G, T, U).

    layer: D → H·K + G·K + G·U · heads: H and G · value: U · norms: of queries and keys, before they
    are turned. The pairs (x_i, x_{i+K/2}) are turned by the angle of their place (Su et al. 2021).
    On a processor all three have the type of the layer's output, and the two of a pair become
    neighbors, which changes no product of a query with a key.
    """
    if x.device.type != "cpu" or not (norms or rotation):
        return _cut_by_parts(layer, x, heads, value, norms, rotation)
    size = layer.out_features - heads[1] * value
    joined = layer(x) if rotation is None else _with_neighbors(layer, x, size, sum(heads))
    weight = turn = None
    epsilon = 0.0
    if norms is not None:
        width = norms[0].weight.numel()
        weight = torch.stack([norm.weight for norm in norms])
        if rotation is not None:
            weight = _neighbors(weight.flatten(), weight.numel(), 2).view(2, width)
        epsilon = norms[0].eps or 0.0
    if rotation is not None:
        turn = torch.complex(*rotation).repeat(1, 1, sum(heads))
    cut: tuple[Tensor, Tensor, Tensor] = _Heads.apply(joined, heads, value, weight, epsilon, turn)
    return cut


def _cut_by_parts(
    layer: nn.Linear,
    x: Tensor,
    heads: tuple[int, int],
    value: int,
    norms: Norms | None,
    rotation: Rotation | None,
) -> tuple[Tensor, Tensor, Tensor]:
    own, shared = heads
    size = layer.out_features - shared * value  # of queries and keys
    width = size // (own + shared)
    parts = layer(x).split([own * width, shared * width, shared * value], dim=-1)
    queries, keys, values = (
        part.unflatten(-1, (count, -1)).transpose(1, 2)
        for part, count in zip(parts, (own, shared, shared), strict=True)
    )
    if norms is not None:
        queries, keys = norms[0](queries.float()), norms[1](keys.float())
    if rotation is not None:
        queries, keys = _turn(queries, rotation), _turn(keys, rotation)
    return queries, keys, values


def _turn(x: Tensor, rotation: Rotation) -> Tensor:
    """x (B, heads, T, K) with the pairs (x_i, x_{i+K/2}) turned."""
    cosines, sines = (part[:, None] for part in rotation)
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cosines - second * sines, second * cosines + first * sines], -1)


def _with_neighbors(layer: nn.Linear, x: Tensor, size: int, heads: int) -> Tensor:
    """layer(x) (B, T, W), where the pairs (x_i, x_{i+K/2}) of the first heads, `size` numbers, are
    neighbors. What is smaller is moved: the rows of the layer, or what it gives."""
    if x.shape[:-1].numel() < layer.out_features:
        return _neighbors(layer(x).movedim(-1, 0), size, heads).movedim(0, -1)
    moved = {
        name: _neighbors(rows, size, heads)
        for name, rows in layer.named_parameters()
        if len(rows) == layer.out_features  # of adapters, only one matrix has a row for each
    }
    found: Tensor = functional_call(layer, moved, (x,))
    return found


def _neighbors(rows: Tensor, size: int, heads: int) -> Tensor:
    """The same rows, with i and i + K/2 of each of the first heads beside each other."""
    pairs = rows[:size].unflatten(0, (heads, 2, -1)).transpose(1, 2).flatten(0, 2)
    return torch.cat([pairs, rows[size:]])


class _Heads(torch.autograd.Function):
    """Cuts joined (B, T, H·K + G·K + G·U), whose pairs are neighbors: complex numbers, which are
    turned by a product with others. weight (2, K): of the norms of queries and keys, or None ·
    turn: (B or 1, T, (H + G)·K/2), or None."""

    @staticmethod
    def forward(
        ctx: Any,
        joined: Tensor,
        heads: tuple[int, int],
        value: int,
        weight: Tensor | None,
        epsilon: float,
        turn: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        batch, time, width = joined.shape
        own, shared = heads
        size = width - shared * value
        found = joined[..., :size].float().contiguous()
        unit = scale = None
        if weight is not None:
            weight = torch.cat([weight[0].repeat(own), weight[1].repeat(shared)])
            by_head = found.unflatten(-1, (own + shared, -1))
            scale = _inverse_size(by_head, epsilon)
            unit = by_head * scale
            found = unit.view(batch, time, size) * weight
        if turn is not None:
            _pairs(found).mul_(turn)
        values = joined[..., size:].unflatten(-1, (shared, value))
        ctx.save_for_backward(unit, scale, weight, turn)
        ctx.heads, ctx.dtype = heads, joined.dtype
        queries, keys = found.unflatten(-1, (own + shared, -1)).transpose(1, 2).split(heads, 1)
        queries, keys = (
            part.to(joined.dtype, memory_format=torch.contiguous_format) for part in (queries, keys)
        )
        return queries, keys, values.transpose(1, 2)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        unit, scale, weight, turn = ctx.saved_tensors
        d_queries, d_keys, d_values = (grad.transpose(1, 2) for grad in grads)
        own, shared = ctx.heads
        batch, time, _, width = d_queries.shape
        found = torch.empty(batch, time, own + shared, width, dtype=torch.float32)
        found[:, :, :own], found[:, :, own:] = d_queries, d_keys
        if turn is not None:
            _pairs(found.flatten(2)).mul_(turn.conj())
        d_weight = None
        if weight is not None:
            product = found * unit
            by_head = product.sum((0, 1))
            d_weight = torch.stack([by_head[:own].sum(0), by_head[own:].sum(0)])
            weight = weight.view_as(by_head)
            found = _back(found.mul_(weight), product.mul_(weight), unit, scale)
        size, more = (part[0, 0].numel() for part in (found, d_values))
        joined = torch.empty(batch, time, size + more, dtype=ctx.dtype)
        joined[..., :size] = found.flatten(2)
        joined[..., size:].view_as(d_values).copy_(d_values)
        return joined, None, None, d_weight, None, None


def _pairs(x: Tensor) -> Tensor:
    """(B, T, N) → the same memory as complex numbers (B, T, N/2)."""
    return torch.view_as_complex(x.unflatten(-1, (-1, 2)))


def _inverse_size(x: Tensor, epsilon: float) -> Tensor:
    """1 / √(mean(x²) + ε) over the last dimension, which is kept."""
    size = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return size.square_().div_(x.shape[-1]).add_(epsilon).rsqrt_()


def _back(grad: Tensor, product: Tensor, unit: Tensor, scale: Tensor) -> Tensor:
    """The gradient of x from that of x · scale = unit, in whose place it is written.

    product: grad · unit; what points along x is taken away, as x's size is divided out.
    """
    along = product.sum(-1, keepdim=True)
    return grad.addcmul_(unit, along, value=-1 / unit.shape[-1]).mul_(scale)
