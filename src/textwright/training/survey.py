"""A look at a corpus before training: what is in it, what would be lost, what it would cost."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict, dataclass

import numpy as np
import torch

from textwright.compute.device import choose_device, choose_dtype, set_threads
from textwright.config import Config
from textwright.corpus import Corpus
from textwright.counts.kneser_ney import count_model
from textwright.families import NGramOptions
from textwright.models import build
from textwright.models.lora import adapt
from textwright.progress import OnStage, silent
from textwright.run.origin import Origin
from textwright.tokenizer import Tokenizer
from textwright.training.cache import encode_corpus
from textwright.training.dataset import Rows, choose_layout, cut
from textwright.training.encoded import Documents
from textwright.training.preparation import refuse_too_few
from textwright.training.recipe import choose_recipe
from textwright.training.sampled_softmax import TokenSampler
from textwright.training.trainer import Trainer, reporting_full_memory
from textwright.training.vocabulary import train_tokenizer

MEASURED_SECONDS = 5.0  # time spent on training for the estimate


@dataclass(frozen=True)
class Estimate:
    """Cost of training, measured on this machine by a few seconds of it."""

    seconds_per_epoch: float
    memory_bytes: int


@dataclass(frozen=True)
class Survey:
    """Counts of a corpus; cut, padded and unknown are shares, under the given config.

    cut: documents longer than a training row · padded: cells of a batch that hold padding ·
    unknown: training tokens that are not in the vocabulary.
    """

    documents: int
    characters: int
    words: int
    duplicates: int
    dropped: dict[str, int]
    cut: float
    padded: float
    unknown: float
    estimate: Estimate
    parts: dict[str, int]
    vocabulary: int
    tokens: int
    layout: str
    repeated: dict[str, int]  # documents of given files that are in the sources too, by part
    choices: list[str]  # what was chosen for the corpus, and how to change it

    def warnings(self) -> list[str]:
        """Notes that a person should read before training."""
        notes = []
        if self.unknown > 0.05:
            notes.append(
                f"{self.unknown:.0%} of the tokens are not in the vocabulary; raise "
                "tokenizer.vocab_size, or use --set tokenizer.kind=bpe, which knows every text."
            )
        if self.cut > 0.25:
            notes.append(
                f"{self.cut:.0%} of the documents are cut; raise data.context_length, or use "
                "--set data.layout=windows, which trains on all of each."
            )
        if self.duplicates > 0.05 * self.documents:
            notes.append(f"documents that repeat another word for word: {self.duplicates:,}.")
        if self.characters < 200_000:
            notes.append("this is little text; expect early overfitting, and prefer small models.")
        return notes

    def to_json(self) -> dict[str, object]:
        """As `textwright corpus --json` prints it."""
        return asdict(self)


def survey(
    corpus: Corpus,
    config: Config,
    on_progress: OnStage = silent,
    origin: Origin | None = None,
) -> Survey:
    """Read, tokenize and encode a corpus as training would, and train for a few seconds.

    origin: the weights that training would begin from; else the corpus gives the tokenizer. Raises
    a TextwrightError where training would.
    """
    if origin is not None:
        origin.record()  # refuses weights that cannot be used, or that memory does not hold
    summary = corpus.scan(lambda *done: on_progress("Reading the corpus", *done))
    config, choice = choose_recipe(config, corpus)
    tokenizer = origin.tokenizer if origin else None
    if tokenizer is None:
        on_progress("Building the vocabulary", 0, 0)
        tokenizer = train_tokenizer(config.tokenizer, corpus)
    encoded = encode_corpus(corpus, tokenizer, on_progress)
    refuse_too_few(encoded)
    documents = encoded["train"]
    config = choose_layout(config, documents)
    on_progress("Measuring a few training steps", 0, 0)
    rows = config.data.layout == "rows"
    longer = documents.lengths + 1 > config.data.context_length
    return Survey(
        documents=summary.documents,
        characters=summary.characters,
        words=summary.words,
        duplicates=summary.duplicates,
        dropped=summary.dropped,
        cut=float(longer.mean()) if rows and len(documents) else 0.0,
        padded=_padded(documents, config) if rows else 0.0,
        unknown=_unknown(documents, tokenizer),
        estimate=_measure(documents, tokenizer, config),
        parts=summary.parts,
        vocabulary=tokenizer.vocab_size,
        tokens=documents.targets,
        layout=config.data.layout,
        repeated=summary.repeated,
        choices=[*corpus.choices, *summary.notes, *filter(None, [choice])],
    )


def _padded(documents: Documents, config: Config) -> float:
    length, batch = config.data.context_length, config.train.batch_size
    layout = Rows(documents, length, batch, config.train.seed)
    targets = np.minimum(documents.lengths + 1, length)
    cells = sum(int(targets[rows].max()) * len(rows) for rows in layout.order(0))
    return 1 - float(targets.sum()) / cells if cells else 0.0


def _unknown(documents: Documents, tokenizer: Tokenizer) -> float:
    if tokenizer.unknown_id is None or not len(documents.ids):
        return 0.0
    found = documents.frequencies(tokenizer.vocab_size)[tokenizer.unknown_id]
    return float(found) / len(documents.ids)


def _measure(documents: Documents, tokenizer: Tokenizer, config: Config) -> Estimate:
    """Train a throw-away model for a few seconds; the first step, which warms up, is not timed."""
    options = config.train
    if isinstance(config.model, NGramOptions):
        began = time.perf_counter()
        stop, vocab_size = documents.stop_id, tokenizer.vocab_size
        count_model(documents.ids, documents.starts, stop, vocab_size, config.model.longest)
        return Estimate(time.perf_counter() - began, _peak_memory(torch.device("cpu")))
    device = choose_device(options.device)
    set_threads(options.threads)
    layout = cut(documents, config.data, options.batch_size, options.seed)
    tokens, seconds = 0, 0.0
    with reporting_full_memory():
        model = build(config.model, tokenizer.vocab_size, config.data.context_length)
        if options.lora_rank:
            adapt(model, options.lora_rank, options.lora_alpha)
        dtype = choose_dtype(options.dtype, device)
        sampler = TokenSampler.of(documents, tokenizer.vocab_size, options)
        trainer = Trainer(model.to(device), layout, options, None, dtype, sampler=sampler)
        trainer.fit_memory()
        first = trainer.train_step()
        while seconds < MEASURED_SECONDS and trainer.progress.step < layout.steps_per_epoch:
            step = trainer.train_step()
            tokens, seconds = tokens + step.tokens, step.seconds - first.seconds
    speed = tokens / seconds if tokens else first.tokens / first.seconds
    per_epoch = documents.targets
    if config.data.layout == "rows":
        per_epoch = int(np.minimum(documents.lengths + 1, config.data.context_length).sum())
    return Estimate(per_epoch / speed, _peak_memory(device))


def _peak_memory(device: torch.device) -> int:
    """Peak memory of this process in bytes; on CUDA, of torch's tensors."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
