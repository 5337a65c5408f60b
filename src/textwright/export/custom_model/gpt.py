"""A Transformer language model trained by textwright, for `transformers`.

    token + position → (attention, feed-forward) × layers → output (V, D)

Key and value widths are free, and heads may share keys and values; a norm (layer or RMS) comes
before each part (pre) or after its sum (post); a table of positions is added to tokens, or its
angles turn queries and keys (rotary); the output matrix is the embedding or one of its own.

Letters: B batch, T time, D width, V vocabulary, H heads, G heads of keys and values, K key width,
S T plus the ids read before.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, scaled_dot_product_attention
from transformers import GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast


class TextwrightConfig(PretrainedConfig):
    """The model's shape."""

    model_type = "textwright-gpt"

    def __init__(
        self,
        layers: int = 4,
        heads: int = 4,
        width: int = 128,
        key_value_heads: int = 4,
        key_width: int = 32,
        value_width: int = 32,
        feedforward_width: int = 512,
        activation: str = "gelu",
        norm: str = "pre",
        normalization: str = "layer",
        norm_epsilon: float = 1e-5,
        query_key_norm: bool = False,
        biases: str = "all",
        positions: str = "learned",
        embedding_scale: float = 1.0,
        context_length: int = 128,
        dropout: float = 0.0,
        tie_output: bool = True,
        output_bias: bool = False,
        **kwargs,
    ):
        self.layers, self.heads, self.key_value_heads = layers, heads, key_value_heads
        self.width, self.feedforward_width = width, feedforward_width
        self.key_width, self.value_width = key_width, value_width
        self.activation, self.biases, self.dropout = activation, biases, dropout
        self.norm, self.normalization, self.norm_epsilon = norm, normalization, norm_epsilon
        self.query_key_norm, self.positions = query_key_norm, positions
        self.tie_output, self.output_bias = tie_output, output_bias
        self.embedding_scale = embedding_scale
        self.context_length = context_length
        self.hidden_size, self.num_hidden_layers = width, layers
        self.num_attention_heads = heads
        self.max_position_embeddings = context_length
        super().__init__(**kwargs)


def norm(config: TextwrightConfig, width: int) -> nn.Module:
    kind = nn.RMSNorm if config.normalization == "rms" else nn.LayerNorm
    return kind(width, config.norm_epsilon)


def rotated(x: Tensor, table: Tensor) -> Tensor:
    """Turn each pair (x_i, x_{i+K/2}) of x (B, heads, T, K) by its angle in table (B, 1, T, K)."""
    (first, second), (cosines, sines) = x.chunk(2, -1), table.chunk(2, -1)
    return torch.cat([first * cosines - second * sines, second * cosines + first * sines], -1)


class Attention(nn.Module):
    """Causal attention with several heads."""

    def __init__(self, config: TextwrightConfig, layer: int):
        super().__init__()
        self.layer, self.rotary = layer, config.positions == "rotary"
        self.heads = [config.heads, config.key_value_heads, config.key_value_heads]
        widths = [config.key_width, config.key_width, config.value_width]
        self.widths = [h * w for h, w in zip(self.heads, widths, strict=True)]
        self.input = nn.Linear(config.width, sum(self.widths), config.biases != "none")
        values = config.heads * config.value_width
        self.output = nn.Linear(values, config.width, config.biases == "all")
        self.query_norm = self.key_norm = nn.Identity()
        if config.query_key_norm:
            self.query_norm = nn.RMSNorm(config.key_width, config.norm_epsilon)
            self.key_norm = nn.RMSNorm(config.key_width, config.norm_epsilon)

    def forward(self, x: Tensor, mask: Tensor, table: Tensor, past) -> Tensor:
        """x (B, T, D), mask (B or 1, 1, T, S): ids that each may look at → (B, T, D)."""
        parts = self.input(x).split(self.widths, dim=-1)
        queries, keys, values = (
            part.unflatten(-1, (heads, -1)).transpose(1, 2)
            for part, heads in zip(parts, self.heads, strict=True)
        )
        queries, keys = self.query_norm(queries), self.key_norm(keys)
        if self.rotary:
            queries, keys = rotated(queries, table), rotated(keys, table)
        if past is not None:
            keys, values = past.update(keys, values, self.layer)
        found = scaled_dot_product_attention(
            queries, keys, values, attn_mask=mask, enable_gqa=self.heads[0] != self.heads[1]
        )
        return self.output(found.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    """Two linear layers, the same at every position; in SwiGLU a gate multiplies the first."""

    def __init__(self, config: TextwrightConfig):
        super().__init__()
        kinds = {"gelu": nn.GELU("tanh"), "relu": nn.ReLU(), "swiglu": nn.SiLU()}
        self.activation, self.gated = kinds[config.activation], config.activation == "swiglu"
        inner, bias = config.feedforward_width, config.biases == "all"
        self.input = nn.Linear(config.width, 2 * inner if self.gated else inner, bias)
        self.output = nn.Linear(inner, config.width, bias)

    def forward(self, x: Tensor) -> Tensor:
        if self.gated:
            gate, up = self.input(x).chunk(2, -1)
            return self.output(self.activation(gate) * up)
        return self.output(self.activation(self.input(x)))


class Block(nn.Module):
    """Attention, then feed-forward, each added to its input."""

    def __init__(self, config: TextwrightConfig, layer: int):
        super().__init__()
        self.pre = config.norm == "pre"
        self.attention = Attention(config, layer)
        self.attention_norm = norm(config, config.width)
        self.feedforward = FeedForward(config)
        self.feedforward_norm = norm(config, config.width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, mask: Tensor, table: Tensor, past) -> Tensor:
        if self.pre:
            x = x + self.dropout(self.attention(self.attention_norm(x), mask, table, past))
            return x + self.dropout(self.feedforward(self.feedforward_norm(x)))
        x = self.attention_norm(x + self.dropout(self.attention(x, mask, table, past)))
        return self.feedforward_norm(x + self.dropout(self.feedforward(x)))


class TextwrightForCausalLM(PreTrainedModel, GenerationMixin):
    """Predicts the next id. Prompt and text together hold at most `context_length` ids."""

    config_class = TextwrightConfig

    def __init__(self, config: TextwrightConfig):
        super().__init__(config)
        self.embedding = nn.Parameter(torch.zeros(config.vocab_size, config.width))
        rotary = config.positions == "rotary"  # then the table holds cosines, then sines
        columns = config.key_width if rotary else config.width
        positions = torch.zeros(config.context_length, columns)
        if config.positions == "learned":
            self.positions = nn.Parameter(positions)
        else:
            self.register_buffer("positions", positions)
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.layers))
        self.norm = nn.Identity()
        if config.norm == "pre":
            self.norm = norm(config, config.width)
        if not config.tie_output:
            self.output = nn.Linear(config.width, config.vocab_size, config.output_bias)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        past_key_values=None,
        labels: Tensor | None = None,
        **kwargs,
    ) -> CausalLMOutputWithPast:
        """input_ids (B, T) → logits (B, T, V), and the loss if labels (B, T) are given.

        attention_mask (B, S) leaves out padding on either side; positions are counted without it.
        """
        rows, count = input_ids.shape
        before = 0 if past_key_values is None else past_key_values.get_seq_length()
        if attention_mask is None:
            attention_mask = input_ids.new_ones(rows, before + count)
        columns = torch.arange(before + count, device=input_ids.device)
        here = columns[before:, None]
        # Padding looks at itself, so that its softmax has something to sum.
        own = attention_mask.bool()[:, None, None] | (columns == here)
        mask = own & (columns <= here)
        places = attention_mask.long().cumsum(1).sub(1).clamp(min=0)[:, before:]
        x, table = self.config.embedding_scale * self.embedding[input_ids], self.positions[places]
        if self.config.positions != "rotary":
            x = x + table
        for block in self.blocks:
            x = block(x, mask, table[:, None], past_key_values)
        x = self.norm(x)
        logits = x @ self.embedding.T if self.config.tie_output else self.output(x)
        loss = None
        if labels is not None:
            loss = cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
        return CausalLMOutputWithPast(loss=loss, logits=logits, past_key_values=past_key_values)

    def prepare_inputs_for_generation(
        self, input_ids, past_key_values=None, attention_mask=None, **kwargs
    ):
        """Pass on only the ids that have not been read yet."""
        read = 0 if past_key_values is None else past_key_values.get_seq_length()
        return {
            "input_ids": input_ids[:, read:],
            "attention_mask": attention_mask,
            "past_key_values": past_key_values,
        }
