"""Tests that need an accelerator: the same losses, the same bits after a kill, full memory."""

import gc

import numpy as np
import pytest
import torch

import textwright as tw
from textwright.compute.device import choose_device, choose_dtype
from textwright.config import Config
from textwright.errors import GenerationError
from textwright.evaluation.runs import score_run
from textwright.families import GPTOptions
from textwright.models import TorchBackend, build, load
from textwright.run import Run
from textwright.tokenizer import Tokenizer, TokenizerOptions
from textwright.training.events import Evaluation, Preview, Step
from textwright.training.session import train_run
from textwright.writing.generator import Generator
from textwright.writing.sampling_options import SamplingOptions

pytestmark = pytest.mark.gpu

GPT = ["model.family=gpt", "model.layers=2", "model.heads=2", "model.width=32"]
FAMILIES = {"lstm": [], "stream": ["data.layout=stream"], "gpt": GPT}


@pytest.fixture
def small_memory():
    """Let torch use a part of the accelerator's memory: bytes → None."""
    total = torch.cuda.get_device_properties(0).total_memory

    def limit(room):
        gc.collect()
        torch.cuda.empty_cache()
        held = torch.cuda.memory_reserved()
        torch.cuda.set_per_process_memory_fraction(min(1.0, (held + room) / total))

    yield limit
    torch.cuda.set_per_process_memory_fraction(1.0)


@pytest.fixture
def train(notes, tiny, tmp_path):
    def go(out, family, *settings, **how):
        kept = [s for s in tiny if family != "gpt" or not s.startswith("model.")]
        config = Config.resolve("demo", settings=[*kept, *FAMILIES[family], *settings])
        return list(train_run([notes], tmp_path / out, config, **how))

    return go


def losses(events):
    return [event.loss for event in events if isinstance(event, Step)]


@pytest.mark.parametrize("family", FAMILIES)
def test_it_trains_as_the_processor_does(train, family):
    settings = ["model.dropout=0", "train.dtype=fp32"]
    there = train("there", family, *settings, "train.device=cuda")
    here = train("here", family, *settings, "train.device=cpu")
    assert losses(there) == pytest.approx(losses(here), abs=2e-3)
    assert there[0].device == "cuda"


@pytest.mark.parametrize("family", FAMILIES)
def test_bf16_learns_what_fp32_learns(train, family):
    bf16 = train("bf16", family, "train.device=cuda", "train.dtype=auto", "model.dropout=0")
    fp32 = train("fp32", family, "train.device=cuda", "train.dtype=fp32", "model.dropout=0")
    assert bf16[0].dtype == "bfloat16"
    assert losses(bf16) == pytest.approx(losses(fp32), abs=0.05)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_training_that_was_stopped_continues_to_the_same_bits(
    train, notes, tiny, tmp_path, family
):
    settings = ["train.device=cuda", "train.dtype=fp32"]
    train("whole", family, *settings)
    kept = [s for s in tiny if family != "gpt" or not s.startswith("model.")]
    config = Config.resolve("demo", settings=[*kept, *FAMILIES[family], *settings])
    events = train_run([notes], tmp_path / "parts", config)
    for event in events:
        if isinstance(event, Step) and event.step == 11:
            break
    events.close()
    for _ in train_run([notes], tmp_path / "parts", config, resume=True):
        pass
    whole, parts = (Run.load(tmp_path / name).checkpoints.newest() for name in ("whole", "parts"))
    assert whole.step == parts.step == 20
    for name, array in whole.weights.items():
        assert np.array_equal(array, parts.weights[name]), name


def test_a_batch_that_does_not_fit_is_split_and_takes_the_same_step(train, small_memory):
    settings = ["model.dropout=0", "train.device=cuda", "train.dtype=fp32", "train.max_steps=3"]
    settings += ["data.layout=windows", "data.context_length=256", "train.batch_size=64"]
    settings += ["model.width=256", "model.heads=4", "model.layers=4"]
    whole = train("whole", "gpt", *settings)
    small_memory(400 << 20)
    split = train("split", "gpt", *settings)
    assert [e.micro_batches for e in whole if isinstance(e, Step)] == [1, 1, 1]
    assert min(e.micro_batches for e in split if isinstance(e, Step)) > 1
    assert losses(split) == pytest.approx(losses(whole), abs=1e-3)
    assert any(isinstance(event, Preview) for event in split)
    assert any(isinstance(event, Evaluation) for event in split)


def test_memory_that_runs_out_while_writing_is_a_sentence(small_memory):
    tokenizer = Tokenizer.train(TokenizerOptions(kind="char"), ["abc"])
    options = GPTOptions(layers=8, heads=8, width=1024)
    backend = TorchBackend(build(options, tokenizer.vocab_size, 1024).to("cuda"))
    generator = Generator(backend, tokenizer, batch_size=512)
    small_memory(200 << 20)
    with pytest.raises(GenerationError, match="--batch-size"):
        generator.generate("a" * 900, SamplingOptions(max_new_tokens=100), num=512)
    small = Generator(backend, tokenizer, batch_size=1)
    assert small.generate("a", SamplingOptions(max_new_tokens=2))


def test_a_run_from_the_processor_writes_and_scores_the_same(trained):
    here, there = tw.load(trained), tw.load(trained, device="cuda")
    texts = [[s.text for s in w.generate("The", num=20, seed=1)] for w in (here, there)]
    assert sum(a != b for a, b in zip(*texts, strict=True)) <= 1  # a draw within 1e-4 of a boundary
    run = Run.load(trained)
    scores = [score_run(run, device=device)[0].loss for device in ("cpu", "cuda")]
    assert scores[0] == pytest.approx(scores[1], abs=1e-4)
    assert next(load(run, "auto").parameters()).is_cuda


def test_auto_chooses_the_accelerator():
    assert choose_device("auto").type == "cuda"
    wanted = torch.bfloat16 if torch.cuda.get_device_capability()[0] >= 8 else torch.float32
    assert choose_dtype("auto", choose_device("auto")) is wanted
