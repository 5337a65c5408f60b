"""A GPT-2 by `transformers`' own trainer, on the tokens of the BPE that small-gpt has.

It needs `accelerate`, without which that trainer does not start.
"""

import copy
import math
import tempfile
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from competitors import Found, Row, Task
from competitors.training import Encoded, Watch, beginning, mean, score_in_windows
from textwright.config import Config

BATCH, WARMUP = 8, 100


def measure(task: Task) -> Found:
    """Train on blocks of the stream of tokens, which are drawn anew each epoch."""
    import transformers

    torch.set_num_threads(task.threads)
    transformers.set_seed(task.seed)
    preset = Config.resolve(preset="small-gpt")
    encoded = Encoded.of(task, preset.tokenizer)
    block, sizes = preset.data.context_length, preset.model.model_dump()
    model = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=encoded.tokenizer.vocab_size,
            n_positions=block,
            n_embd=sizes["width"],
            n_layer=sizes["layers"],
            n_head=sizes["heads"],
            bos_token_id=encoded.tokenizer.stop_id,
            eos_token_id=encoded.tokenizer.stop_id,
        )
    )
    stream = encoded.stream
    count = (len(stream)) // block
    blocks = torch.from_numpy(stream[: count * block].reshape(count, block))
    examples = [{"input_ids": ids, "labels": ids} for ids in blocks]

    @torch.no_grad()
    def nats(inputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        was_training = model.training
        model.eval()
        logits = model(torch.from_numpy(inputs)).logits
        model.train(was_training)
        wanted = torch.from_numpy(targets)
        return functional.cross_entropy(logits.mT, wanted, reduction="none").double().numpy()

    looked_at = beginning(encoded.valid.rows)
    watch: Watch | None = None

    def begin() -> Watch:
        nonlocal watch
        watch = Watch(
            task.seconds,
            lambda: mean(score_in_windows(nats, looked_at, block, block)),
            lambda: copy.deepcopy(model.state_dict()),
        )
        return watch

    class ByTheWatch(transformers.TrainerCallback):
        """Begins the watch with the training, and ends the training by it."""

        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            begin()

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            assert watch is not None
            control.should_training_stop = watch.step_done()

    class Trainer(transformers.Trainer):
        """The rate follows the watch: warm-up over steps, a cosine over the budget."""

        def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
            def shape(step: int) -> float:
                share = watch.share if watch else 0.0
                fall = (1 + math.cos(math.pi * share)) / 2
                return fall * min(1.0, (step + 1) / WARMUP)

            chosen = optimizer or self.optimizer
            self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(chosen, shape)
            return self.lr_scheduler

    with tempfile.TemporaryDirectory() as folder:
        arguments = transformers.TrainingArguments(
            folder,
            learning_rate=task.rate,
            per_device_train_batch_size=BATCH,
            weight_decay=0.1,
            max_steps=10**9,
            logging_strategy="no",
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            use_cpu=True,
            seed=task.seed,
        )
        Trainer(model, arguments, train_dataset=examples, callbacks=[ByTheWatch()]).train()
    assert watch is not None
    model.load_state_dict(watch.best)
    facts = {"parameters": model.num_parameters(), **watch.facts}
    return encoded.found(task, lambda rows: score_in_windows(nats, rows, block, block // 8), facts)


ROWS = [
    Row(
        "gpt2-trainer",
        "A GPT-2 by the Trainer of `transformers`, with its defaults where nothing else is named: "
        "sizes and BPE of the preset small-gpt (2 layers, 6 heads, width 192, blocks of 128 tokens "
        "of 8,192), dropout 0.1, batch 8, decay 0.1, warm-up over 100 steps, the rate falling to "
        "nothing along a cosine over the budget. Its course on training from nothing has the rate "
        "5e-4.",
        measure,
        rates=(5e-4, 1.5e-3, 5e-3),
        needs=("transformers", "accelerate"),
    )
]
