"""The training loop, as a stream of events. It prints nothing and names no file.

    for event in Trainer(model, layout, options, evaluate).run():
        ...                                    # show it, log it, save trainer.snapshot()

Between two events the trainer stands on an optimizer step, so a snapshot taken there and restored
into a new trainer goes on to bit-identical weights (same machine, versions and threads).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace

import numpy as np
import torch
from torch import Tensor, nn

from textwright.compute import processes
from textwright.compute.device import autocast
from textwright.compute.memory import give_back, memory_errors
from textwright.config import TrainOptions
from textwright.errors import TrainingError
from textwright.evaluation.scores import Scores
from textwright.models import LanguageModel, ModelState
from textwright.models.lora import trained
from textwright.models.loss import PADDING_TARGET, TokenSample
from textwright.run import Arrays, Checkpoint
from textwright.training.dataset import Batch, Layout
from textwright.training.events import Evaluation, Finished, Progress, Step
from textwright.training.micro_batches import micro_batches_that_fit
from textwright.training.optimizer import Muon, choose_optimizer
from textwright.training.sampled_softmax import TokenSampler

Change = Callable[[Batch, int, int, int, float], Batch]
"""(batch, step, share, shares, how much of the training is done) → another batch; the first is one
share of the rows of the step."""


class Trainer:
    """Trains a model on a layout of batches and evaluates it on held-out documents on the way."""

    def __init__(
        self,
        model: LanguageModel,
        layout: Layout,
        options: TrainOptions,
        evaluate: Callable[[], Scores] | None,
        dtype: torch.dtype = torch.float32,
        evaluate_first: bool = False,
        changes: Sequence[Change] = (),
        sampler: TokenSampler | None = None,
    ):
        """evaluate_first: also evaluate before the first step, for weights trained before ·
        changes: made to each batch, in this order · sampler: of the tokens that each step's softmax
        is taken over; None: all."""
        self.model, self.layout, self.options, self.changes = model, layout, options, changes
        self.sampler = sampler
        self.evaluate, self.dtype, self.evaluate_first = evaluate, dtype, evaluate_first
        self.device = next(model.parameters()).device
        model.recompute_blocks = options.recompute_blocks
        self.optimizer = choose_optimizer(model, options, dtype)
        self.progress = Progress()
        self.states: list[ModelState | None] = [None] * options.accumulate
        steps = math.ceil(options.epochs * layout.steps_per_epoch)
        self.total_steps = min(steps, options.max_steps or steps)
        self.evaluate_every = options.evaluate_every or layout.steps_per_epoch

    def run(self) -> Iterator[Step | Evaluation | Finished]:
        """Train to the end, yielding every step, every evaluation and the reason for stopping."""
        while True:
            if self._evaluation_is_due():  # also after a checkpoint that was taken just before one
                yield self._evaluate()
            if reason := self._finished():
                break
            yield self.train_step()
        if self.progress.evaluated != self.progress.step:
            yield self._evaluate()
        yield Finished(self.progress.step, self.epoch, reason, self.progress.seconds)

    @property
    def epoch(self) -> float:
        """Passes over the training documents so far."""
        return self.progress.step / self.layout.steps_per_epoch

    def learning_rate(self) -> float:
        """The rate of the coming step: warm-up, then the schedule, times any cuts on stalls."""
        options, done = self.options, self.progress
        warmup = min(1.0, (done.step + 1) / options.warmup_steps) if options.warmup_steps else 1.0
        over = self._done(options.warmup_steps)
        shape = {
            "constant": 1.0,
            "linear": 1 - over,
            "cosine": (1 + math.cos(math.pi * over)) / 2,
        }[options.schedule]
        fall = options.final_rate + (1 - options.final_rate) * shape
        return options.learning_rate * warmup * fall * done.rate_scale

    def _done(self, first: int = 0) -> float:
        """The share of the training that is over, counted from the step `first`."""
        done = self.progress
        share = (done.step - first) / max(1, self.total_steps - first)
        if self.options.time_budget:  # whichever end comes first
            share = max(share, done.seconds / self.options.time_budget)
        return min(1.0, max(0.0, share))

    def _evaluation_is_due(self) -> bool:
        done = self.progress
        due = done.step % self.evaluate_every == 0 if done.step else self.evaluate_first
        return due and done.evaluated != done.step

    def _finished(self) -> str:
        done, options = self.progress, self.options
        if options.early_stopping and done.without_gain >= options.early_stopping:
            return "early_stopping"
        if options.time_budget and done.seconds >= options.time_budget:
            return "time_budget"
        if done.step >= self.total_steps:
            return "max_steps" if done.step == options.max_steps else "epochs"
        return ""

    def train_step(self) -> Step:
        """Take one optimizer step. `run` is the way to train."""
        started = time.perf_counter()
        step, rate = self.progress.step, self.learning_rate()
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.model.train()
        if rank := processes.rank_and_world()[0]:  # otherwise all would drop the same places
            torch.manual_seed(hash((self.options.seed, step, rank)) % 2**63)
        nats, count = self._fitting_backward(step)
        limit = self.options.clip_norm or math.inf
        norm = float(nn.utils.clip_grad_norm_(self.model.parameters(), limit))
        if not math.isfinite(nats) or not math.isfinite(norm):
            broken = f"loss became {nats}"
            if math.isfinite(nats):
                broken = f"gradient's norm became {norm}"
            raise TrainingError(
                f"The {broken} at step {step + 1}; what was saved before is intact. "
                "Try a lower rate (--set train.learning_rate=…) or --set train.clip_norm=1."
            )
        self.optimizer.step()
        self.optimizer.zero_grad()  # evaluations and checkpoints need the memory
        done = self.progress
        self.progress = replace(
            done,
            step=step + 1,
            tokens=done.tokens + count,
            seconds=processes.agree(done.seconds + time.perf_counter() - started),
        )
        seconds = self.progress.seconds
        return Step(
            step + 1, self.epoch, nats / count, rate, norm, count, seconds, self.micro_batches
        )

    @property
    def micro_batches(self) -> int:
        """Number of micro-batches that a batch is split into, computed one after another."""
        return max(self.options.accumulate, self.progress.micro_batches)

    def fit_memory(self) -> None:
        """Choose how many micro-batches a processor's memory needs. An accelerator reports later
        when its memory is full."""
        if self.device.type == "cpu" and not self.layout.carries:
            rows = -(-self.layout.batch_size // processes.rank_and_world()[1])
            count = micro_batches_that_fit(
                self.model, rows, self.layout.context_length, self.micro_batches
            )
            self.progress = replace(self.progress, micro_batches=int(processes.agree(count)))

    def _fitting_backward(self, step: int) -> tuple[float, int]:
        """`_backward`, with twice as many micro-batches for as long as memory is too small.

        The step is that of the whole batch, except for what dropout and a sampled softmax draw.
        """
        while True:
            try:
                with memory_errors():
                    return self._backward(step, self.micro_batches)
            except MemoryError as error:
                alone = processes.rank_and_world()[1] == 1  # others would wait for this one
                most = self.micro_batches >= self.layout.batch_size
                if not alone or self.layout.carries or most:
                    raise TrainingError(
                        "Memory ran out; what was saved before is intact. Try "
                        f"{self._what_needs_less()}."
                    ) from error
            # Out of the handler, so that what it held is free.
            self.progress = replace(self.progress, micro_batches=2 * self.micro_batches)
            self.optimizer.zero_grad()
            give_back(self.device)

    def _what_needs_less(self) -> str:
        """What can still be changed so that a step needs less memory."""
        ways = []
        if self.micro_batches * processes.rank_and_world()[1] < self.layout.batch_size:
            ways.append(f"more micro-batches (--set train.accumulate={2 * self.micro_batches})")
        if self.model.options.adaptable and not self.options.recompute_blocks:
            ways.append("--set train.recompute_blocks=true")
        return ", ".join([*ways, "a shorter data.context_length or a smaller model"])

    def _backward(self, step: int, micro_batches: int) -> tuple[float, int]:
        """Gradients of the mean over all targets of all processes → (nats, targets)."""
        rank, world = processes.rank_and_world()
        first, shares = rank * micro_batches, world * micro_batches
        batches = [self._batch(step, first + n, shares) for n in range(micro_batches)]
        own = sum(int(np.count_nonzero(b.targets != PADDING_TARGET)) for b in batches)
        count = int(processes.total(torch.tensor(float(own), dtype=torch.float64)))
        nats = torch.zeros((), dtype=torch.float64)
        for number, batch in enumerate(batches):
            if not len(batch.inputs):
                continue
            inputs = torch.from_numpy(batch.inputs).to(self.device, non_blocking=True)
            targets = torch.from_numpy(batch.targets).to(self.device, non_blocking=True)
            state = self._carried(number, batch.starts)
            begins = None if batch.stop_id is None else inputs == batch.stop_id
            with autocast(self.device, self.dtype):
                hidden, state = self.model.encode(inputs, state, begins=begins)
                sample = self._sample(batch, step, first + number)
                summed, _ = self.model.next_token_loss(hidden, targets, sample)
            (summed / count).backward()
            nats += summed.detach().cpu().double()
            if self.layout.carries:
                self.states[number] = state.detach()
        processes.sum_gradients(self.model)
        return float(processes.total(nats)), count

    def _batch(self, step: int, share: int, shares: int) -> Batch:
        batch = self.layout.batch(step, share, shares)
        for change in self.changes:
            batch = change(batch, step, share, shares, self._done())
        return batch

    def _sample(self, batch: Batch, step: int, share: int) -> TokenSample | None:
        if self.sampler is None or (drawn := self.sampler.draw(batch.targets, step, share)) is None:
            return None
        ids, log_weights = (torch.from_numpy(array).to(self.device) for array in drawn)
        return TokenSample(ids, log_weights)

    def _carried(self, micro_batch: int, starts: np.ndarray) -> ModelState | None:
        """The state that the rows of a micro-batch continue; None: all of them start anew."""
        if starts.all():
            return None
        state = self.states[micro_batch]
        assert state is not None
        rows = np.where(starts, len(starts), np.arange(len(starts)))
        fresh: ModelState = self.model.start(1)
        return self.model.state_class.concat([state, fresh]).select(rows.tolist())

    def _evaluate(self) -> Evaluation:
        assert self.evaluate is not None
        # Scoring leaves the random numbers that training draws untouched.
        with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            scores = self.evaluate()
        done, options = self.progress, self.options
        best = bool(processes.agree(scores.loss < done.best_loss))
        if best:
            done = replace(
                done,
                best_step=done.step,
                best_loss=scores.loss,
                best_bits_per_character=scores.bits_per_character,
                without_gain=0,
                stalled=0,
            )
        else:
            stalled, scale = done.stalled + 1, done.rate_scale
            if 0 < options.stall_patience <= stalled:
                stalled, scale = 0, scale * options.stall_factor
            done = replace(
                done, without_gain=done.without_gain + 1, stalled=stalled, rate_scale=scale
            )
        self.progress = done = replace(done, evaluated=done.step)
        return Evaluation(done.step, self.epoch, scores, best)

    def snapshot(self) -> Checkpoint:
        """Everything that `restore` needs, in main memory. On a processor these are the tensors
        that train, not copies, which memory may not hold: the next step changes them. All processes
        must call this."""
        tensors = {"random.cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            tensors["random.cuda"] = torch.cuda.get_rng_state(self.device)
        if self.device.type == "mps":
            tensors["random.mps"] = torch.mps.get_rng_state()
        weights = trained(self.model)
        for name, parameter in weights.items():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                tensors[f"optimizer.{name}.{key}"] = value
        if state := self._gather_state():
            tensors |= {f"carried.{key}": value for key, value in state.tensors().items()}
        done = self.progress
        return Checkpoint(done.step, asdict(done), to_arrays(weights), to_arrays(tensors))

    def restore(self, checkpoint: Checkpoint) -> None:
        """Continue from a checkpoint of a trainer with the same model, layout and options, in any
        number of processes. Raises RuntimeError if they are others."""
        tensors = _to_tensors(checkpoint.tensors)
        named = [name for name in tensors if name.startswith("optimizer.")]
        ours = any(name.endswith(".momentum") for name in named) == isinstance(self.optimizer, Muon)
        if named and not ours:
            raise RuntimeError("its moments are those of another train.optimizer")
        self.progress = Progress(**checkpoint.progress)
        stay = {name: p for name, p in self.model.named_parameters() if not p.requires_grad}
        self.model.load_state_dict(stay | _to_tensors(checkpoint.weights))
        for name, parameter in trained(self.model).items():
            for key, value in _below(f"optimizer.{name}.", tensors).items():
                fresh = self.optimizer.state_of(parameter).get(key, parameter)
                self.optimizer.state[parameter][key] = value.to(fresh.device)
        if carried := _below("carried.", tensors):
            here = {key: value.to(self.device) for key, value in carried.items()}
            state = self.model.state_class.from_tensors(here)
            rank, _ = processes.rank_and_world()
            own = self._lanes()[rank]
            self.states = [state.select(lanes) if lanes else None for lanes in own]
        torch.set_rng_state(tensors["random.cpu"])
        if self.device.type == "cuda" and "random.cuda" in tensors:
            torch.cuda.set_rng_state(tensors["random.cuda"], self.device)
        if self.device.type == "mps" and "random.mps" in tensors:
            torch.mps.set_rng_state(tensors["random.mps"])

    def _lanes(self) -> list[list[list[int]]]:
        """The rows of a batch that each micro-batch of each process computes."""
        _, world = processes.rank_and_world()
        count, rows = self.options.accumulate, list(range(self.layout.batch_size))
        return [
            [rows[rank * count + n :: world * count] for n in range(count)] for rank in range(world)
        ]

    def _gather_state(self) -> ModelState | None:
        """The carried state of all rows of a batch, in order, gathered from all processes."""
        if not self.layout.carries:
            return None
        own = [None if state is None else to_arrays(state.tensors()) for state in self.states]
        found = [state for states in processes.gather(own) for state in states if state]
        if not found:  # nothing was read yet
            return None
        state = self.model.state_class.concat(
            [self.model.state_class.from_tensors(_to_tensors(arrays)) for arrays in found]
        )
        order = [row for process in self._lanes() for lanes in process for row in lanes]
        return state.select(np.argsort(order).tolist())


def to_arrays(tensors: Mapping[str, Tensor]) -> Arrays:
    """The same tensors for NumPy, on a processor without a copy; bf16, which NumPy lacks, becomes
    float32, which loses nothing."""
    here = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    return {n: (t.float() if t.dtype == torch.bfloat16 else t).numpy() for n, t in here.items()}


def _to_tensors(arrays: Arrays) -> dict[str, Tensor]:
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin with the prefix, by the rest of their names."""
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


@contextmanager
def reporting_full_memory() -> Iterator[None]:
    """Memory may also be full outside a step, which the trainer can split."""
    try:
        with memory_errors():
            yield
    except MemoryError as error:
        raise TrainingError(
            "Memory ran out; what was saved before is intact. Try a smaller model, a shorter "
            "data.context_length or --set train.device=cpu."
        ) from error
