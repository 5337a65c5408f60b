"""A Transformer language model trained by textwright, for `transformers`.

    token + position → (attention, feed-forward) × layers → output (V, D)

Key and value widths are free; positions are learned or sinusoidal; layer norm comes before each
part (pre) or after its sum (post); the output matrix is the embedding or one of its own.

Letters: B batch, T time, D width, V vocabulary, H heads, S T plus the ids read before.
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
        key_width: int = 0,
        value_width: int = 0,
        feedforward_width: int = 0,
        activation: str = "gelu",
        norm: str = "pre",
        norm_epsilon: float = 1e-5,
        positions: str = "learned",
        embedding_scale: float = 1.0,
        context_length: int = 128,
        dropout: float = 0.0,
        tie_output: bool = True,
        **kwargs,
    ):
        self.layers, self.heads, self.width = layers, heads, width
        self.key_width = key_width or width // heads
        self.value_width = value_width or width // heads
        self.feedforward_width = feedforward_width or 4 * width
        self.activation, self.norm, self.norm_epsilon = activation, norm, norm_epsilon
        self.positions, self.dropout, self.tie_output = positions, dropout, tie_output
        self.embedding_scale = embedding_scale
        self.context_length = context_length
        self.hidden_size, self.num_hidden_layers = width, layers
        self.num_attention_heads = heads
        self.max_position_embeddings = context_length
        super().__init__(**kwargs)


class Attention(nn.Module):
    """Causal attention with several heads."""

    def __init__(self, config: TextwrightConfig, layer: int):
        super().__init__()
        self.heads, self.layer = config.heads, layer
        keys, values = config.heads * config.key_width, config.heads * config.value_width
        self.widths = [keys, keys, values]
        self.input = nn.Linear(config.width, sum(self.widths))
        self.output = nn.Linear(values, config.width)

    def forward(self, x: Tensor, mask: Tensor, past) -> Tensor:
        """x (B, T, D), mask (B or 1, 1, T, S): ids that each may look at → (B, T, D)."""
        queries, keys, values = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in self.input(x).split(self.widths, dim=-1)
        )
        if past is not None:
            keys, values = past.update(keys, values, self.layer)
        found = scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
        return self.output(found.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    """Two linear layers, the same at every position."""

    def __init__(self, config: TextwrightConfig):
        super().__init__()
        self.input = nn.Linear(config.width, config.feedforward_width)
        self.activation = nn.ReLU() if config.activation == "relu" else nn.GELU("tanh")
        self.output = nn.Linear(config.feedforward_width, config.width)

    def forward(self, x: Tensor) -> Tensor:
        return self.output(self.activation(self.input(x)))


class Block(nn.Module):
    """Attention, then feed-forward, each added to its input."""

    def __init__(self, config: TextwrightConfig, layer: int):
        super().__init__()
        self.pre = config.norm == "pre"
        self.attention = Attention(config, layer)
        self.attention_norm = nn.LayerNorm(config.width, config.norm_epsilon)
        self.feedforward = FeedForward(config)
        self.feedforward_norm = nn.LayerNorm(config.width, config.norm_epsilon)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, mask: Tensor, past) -> Tensor:
        if self.pre:
            x = x + self.dropout(self.attention(self.attention_norm(x), mask, past))
            return x + self.dropout(self.feedforward(self.feedforward_norm(x)))
        x = self.attention_norm(x + self.dropout(self.attention(x, mask, past)))
        return self.feedforward_norm(x + self.dropout(self.feedforward(x)))


class TextwrightForCausalLM(PreTrainedModel, GenerationMixin):
    """Predicts the next id. Prompt and text together hold at most `context_length` ids."""

    config_class = TextwrightConfig

    def __init__(self, config: TextwrightConfig):
        super().__init__(config)
        self.embedding = nn.Parameter(torch.zeros(config.vocab_size, config.width))
        positions = torch.zeros(config.context_length, config.width)
        if config.positions == "learned":
            self.positions = nn.Parameter(positions)
        else:
            self.register_buffer("positions", positions)
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.layers))
        self.norm = nn.Identity()
        if config.norm == "pre":
            self.norm = nn.LayerNorm(config.width, config.norm_epsilon)
        if not config.tie_output:
            self.output = nn.Linear(config.width, config.vocab_size)
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
        x = self.config.embedding_scale * self.embedding[input_ids] + self.positions[places]
        for block in self.blocks:
            x = block(x, mask, past_key_values)
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
