"""nanoGPT's setting for a laptop, on characters."""

import math

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from competitors import Found, Row, Task
from competitors.training import Encoded, Watch, beginning, mean, score_in_windows
from textwright.tokenizer import TokenizerOptions

BLOCK, BATCH, LAYERS, HEADS, WIDTH = 64, 12, 4, 4, 128
WARMUP, LAST_RATE = 100, 0.1  # steps, and the share of the rate that is left at the end


class Block(nn.Module):
    """A block of GPT-2, without biases: norm, attention, add; norm, feed-forward, add."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH, bias=False), nn.LayerNorm(WIDTH, bias=False)
        self.attention_in = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.attention_out = nn.Linear(WIDTH, WIDTH, bias=False)
        self.wide = nn.Linear(WIDTH, 4 * WIDTH, bias=False)
        self.narrow = nn.Linear(4 * WIDTH, WIDTH, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, time, _ = x.shape
        split = self.attention_in(self.norm1(x)).view(batch, time, 3, HEADS, WIDTH // HEADS)
        queries, keys, values = split.permute(2, 0, 3, 1, 4)  # each (B, heads, T, D / heads)
        mixed = functional.scaled_dot_product_attention(queries, keys, values, is_causal=True)
        x = x + self.attention_out(mixed.transpose(1, 2).reshape(batch, time, WIDTH))
        return x + self.narrow(functional.gelu(self.wide(self.norm2(x))))


class GPT(nn.Module):
    """ids (B, T) → logits (B, T, V); the output layer is the embedding."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocab_size, WIDTH)
        self.positions = nn.Embedding(BLOCK, WIDTH)
        self.blocks = nn.Sequential(*(Block() for _ in range(LAYERS)))
        self.norm = nn.LayerNorm(WIDTH, bias=False)
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                into_residual = name.endswith(("attention_out.weight", "narrow.weight"))
                scale = 1 / math.sqrt(2 * LAYERS) if into_residual else 1.0
                nn.init.normal_(parameter, std=0.02 * scale)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.tokens(ids) + self.positions.weight[: ids.shape[1]]
        return self.norm(self.blocks(x)) @ self.tokens.weight.T


def measure(task: Task) -> Found:
    """Train on random windows of the stream of characters."""
    torch.set_num_threads(task.threads)
    torch.manual_seed(task.seed)
    # All characters, as nanoGPT does; one that training never shows is unknown.
    encoded = Encoded.of(task, TokenizerOptions(kind="char", vocab_size=100_000))
    model = GPT(encoded.tokenizer.vocab_size)
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    vectors = [p for p in model.parameters() if p.dim() < 2]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}],
        betas=(0.9, 0.99),
    )
    stream = torch.from_numpy(encoded.stream)
    offsets = torch.arange(BLOCK + 1)

    @torch.no_grad()
    def nats(inputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        logits = model(torch.from_numpy(inputs))
        wanted = torch.from_numpy(targets)
        return functional.cross_entropy(logits.mT, wanted, reduction="none").double().numpy()

    looked_at = beginning(encoded.valid.rows)
    watch = Watch(
        task.seconds,
        lambda: mean(score_in_windows(nats, looked_at, BLOCK, BLOCK)),
        lambda: {name: tensor.clone() for name, tensor in model.state_dict().items()},
    )
    over = False
    while not over:
        fall = LAST_RATE + (1 - LAST_RATE) * (1 + math.cos(math.pi * watch.share)) / 2
        for group in optimizer.param_groups:
            group["lr"] = task.rate * fall * min(1.0, (watch.steps + 1) / WARMUP)
        windows = stream[torch.randint(len(stream) - BLOCK, (BATCH, 1)) + offsets]
        logits = model(windows[:, :-1])
        optimizer.zero_grad(set_to_none=True)
        functional.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten()).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        over = watch.step_done()
    model.load_state_dict(watch.best)
    facts = {"parameters": sum(p.numel() for p in model.parameters()), **watch.facts}
    return encoded.found(
        task, lambda rows: score_in_windows(nats, rows, BLOCK, BLOCK // 8, batch=256), facts
    )


ROWS = [
    Row(
        "nanogpt",
        "A character-level GPT in the setting that the README of github.com/karpathy/nanoGPT gives "
        "for a MacBook: 4 layers, 4 heads, width 128, block 64, batch 12, no dropout, AdamW "
        "(β₂ 0.99, decay 0.1), warm-up over 100 steps, the rate falling to a tenth along a cosine "
        "over the budget; its rate is 1e-3, for 2,000 steps.",
        measure,
        rates=(1e-3, 3e-3, 1e-2),
    )
]
