"""The network of textgenrnn, on characters, in PyTorch."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from competitors import Found, Row, Task
from competitors.training import Encoded, Watch, beginning, contexts_of, mean
from textwright.tokenizer import TokenizerOptions

LENGTH, BATCH, EMBEDDING, HIDDEN = 40, 128, 100, 128


class Network(nn.Module):
    """ids (B, 40) → logits of the next id (B, V).

    Embedding and two LSTMs, all three side by side; of their time steps an average, weighted by a
    softmax over time of one learned vector; then the output layer. Weights begin as in Keras.
    """

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size + 1, EMBEDDING)  # the last one is the filler
        self.first = nn.LSTM(EMBEDDING, HIDDEN, batch_first=True)
        self.second = nn.LSTM(HIDDEN, HIDDEN, batch_first=True)
        width = EMBEDDING + 2 * HIDDEN
        self.attention = nn.Linear(width, 1, bias=False)
        self.output = nn.Linear(width, vocab_size)
        nn.init.uniform_(self.embedding.weight, -0.05, 0.05)
        nn.init.uniform_(self.attention.weight, -0.05, 0.05)
        nn.init.xavier_uniform_(self.output.weight)
        nn.init.zeros_(self.output.bias)
        for layer in (self.first, self.second):
            nn.init.xavier_uniform_(layer.weight_ih_l0)
            nn.init.orthogonal_(layer.weight_hh_l0)
            nn.init.zeros_(layer.bias_ih_l0)
            nn.init.zeros_(layer.bias_hh_l0)
            layer.bias_hh_l0.requires_grad_(False)  # Keras has one bias
            with torch.no_grad():
                layer.bias_ih_l0[HIDDEN : 2 * HIDDEN] = 1.0  # of the forget gate

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        embedded = self.embedding(ids)
        first, _ = self.first(embedded)
        second, _ = self.second(first)
        joined = torch.cat([embedded, first, second], dim=2)  # (B, 40, 356)
        weights = functional.softmax(self.attention(joined), dim=1)
        return self.output((weights * joined).sum(1))


def measure(task: Task) -> Found:
    """Train on windows of 40 characters and the one that follows, in random order."""
    torch.set_num_threads(task.threads)
    torch.manual_seed(task.seed)
    encoded = Encoded.of(task, TokenizerOptions(kind="char", vocab_size=100_000))
    filler = encoded.tokenizer.vocab_size
    model = Network(filler)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], eps=1e-7)
    # One array, in which the filler before each document keeps it apart from the one before.
    fill, stop = np.full(LENGTH - 1, filler), np.array([encoded.tokenizer.stop_id])
    texts = [np.concatenate([fill, stop, ids, stop]) for ids in encoded.train]
    stream = torch.from_numpy(np.concatenate(texts))
    ends = np.cumsum([len(text) for text in texts])
    starts = torch.from_numpy(
        np.concatenate(
            [
                np.arange(end - len(text), end - LENGTH)
                for end, text in zip(ends, texts, strict=True)
            ]
        )
    )
    offsets = torch.arange(LENGTH + 1)

    @torch.no_grad()
    def nats_of(rows: list[np.ndarray]) -> list[np.ndarray]:
        found = []
        for row in rows:
            contexts, targets = contexts_of(row, LENGTH, filler)
            parts = [
                functional.cross_entropy(
                    model(torch.from_numpy(contexts[at : at + 1024])),
                    torch.from_numpy(targets[at : at + 1024]),
                    reduction="none",
                )
                for at in range(0, len(targets), 1024)
            ]
            found.append(torch.cat(parts).double().numpy())
        return found

    looked_at = beginning(encoded.valid.rows)
    watch = Watch(
        task.seconds,
        lambda: mean(nats_of(looked_at)),
        lambda: {name: tensor.clone() for name, tensor in model.state_dict().items()},
    )
    over = False
    while not over:
        for group in optimizer.param_groups:
            group["lr"] = task.rate * (1 - watch.share)
        drawn = starts[torch.randint(len(starts), (BATCH, 1))]
        windows = stream[drawn + offsets]
        loss = functional.cross_entropy(model(windows[:, :-1]), windows[:, -1])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        over = watch.step_done()
    model.load_state_dict(watch.best)
    parameters = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return encoded.found(task, nats_of, {"parameters": parameters, **watch.facts})


ROWS = [
    Row(
        "textgenrnn",
        "The network of github.com/minmaxir/textgenrnn with its defaults, written in PyTorch: "
        "embedding 100, two LSTMs of 128, attention-weighted average, windows of 40 characters "
        "with one target each, batch 128, Adam, the rate falling linearly over the budget; "
        "its rate is 4e-3.",
        measure,
        rates=(1e-3, 4e-3, 1.2e-2),
    )
]
