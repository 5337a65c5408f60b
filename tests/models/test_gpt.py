"""The attention family: published parameters, its cache, the attention that a trace shows."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from small_models import SMALL
from torch import nn

from textwright.compute.device import autocast
from textwright.config import Config
from textwright.evaluation import neural as evaluation
from textwright.families import GPTOptions
from textwright.models import TorchBackend, build
from textwright.models.gpt import sinusoids
from textwright.tokenizer import Tokenizer, TokenizerOptions
from textwright.writing.backend import visible, window_start
from textwright.writing.generator import Generator
from textwright.writing.rows import Row, RunningBatch
from textwright.writing.sampling_options import SamplingOptions


def gpt(vocab_size=11, context_length=12, spread=0.4, **options):
    torch.manual_seed(1)
    model = build(
        GPTOptions(**{"layers": 2, "heads": 2, "width": 8, **options}), vocab_size, context_length
    )
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=spread)
    return model.eval()


def ids_of(*shape, vocab_size=11, seed=0):
    return torch.randint(vocab_size, shape, generator=torch.Generator().manual_seed(seed))


def test_s4_has_the_published_parameters():
    config = Config.resolve("wine-gpt")
    model = build(config.model, config.tokenizer.vocab_size, config.data.context_length)
    counts = {}
    for name, parameter in model.named_parameters():
        part = name.removeprefix("blocks.0.").partition(".")[0]
        counts[part] = counts.get(part, 0) + parameter.numel()
    assert counts == {
        "embedding": 2_560_000,
        "positions": 20_480,
        "attention": 394_752 + 131_328,
        "attention_norm": 512,
        "feedforward": 131_584,
        "feedforward_norm": 512,
        "output": 2_570_000,
    }
    assert sum(counts.values()) == 5_809_168


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_trace_shows_what_each_head_looks_at(norm):
    model = gpt(norm=norm)
    attention = model.trace(ids_of(3, 5)).attention
    assert [layer.shape for layer in attention] == [(3, 2, 5, 5)] * 2
    for layer in attention:
        torch.testing.assert_close(layer.sum(-1), torch.ones(3, 2, 5))
        assert (layer.triu(1) == 0).all()


@pytest.mark.parametrize("shared", [4, 2])
def test_a_short_and_a_long_text_attend_alike(shared, monkeypatch):
    """By products of all queries with all keys, and by PyTorch's kernel."""
    model, ids = gpt(heads=4, key_value_heads=shared), ids_of(3, 12)

    def read():
        model.zero_grad()
        hidden = model.encode(ids)[0]
        hidden.square().sum().backward()
        return [hidden, *(parameter.grad for parameter in model.blocks.parameters())]

    by_products = read()
    monkeypatch.setattr("textwright.models.gpt.BY_PRODUCTS", 0)
    torch.testing.assert_close(by_products, read(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("by_products", [0, 512])
@pytest.mark.parametrize("positions", ["learned", "sinusoidal", "rotary"])
def test_each_document_of_a_row_is_read_as_if_alone(positions, by_products, monkeypatch):
    monkeypatch.setattr("textwright.models.gpt.BY_PRODUCTS", by_products)
    model, ids = gpt(heads=4, key_value_heads=2, positions=positions), ids_of(3, 12)
    begins = torch.zeros(3, 12, dtype=torch.bool)
    begins[0, [0, 4, 9]] = begins[1, 5] = True  # the first row begins with a document's begin

    hidden = model.encode(ids, begins=begins)[0]

    for row, cuts in enumerate([(0, 4, 9, 12), (0, 5, 12), (0, 12)]):
        for first, end in pairwise(cuts):
            alone = model.encode(ids[row, None, first:end])[0][0]
            torch.testing.assert_close(hidden[row, first:end], alone, rtol=1e-4, atol=1e-5)


def test_a_state_can_be_read_on_twice():
    model = gpt()
    ids = ids_of(2, 9)
    _, state = model.encode(ids[:, :3])
    _, state = model.encode(ids[:, 3:4], state)  # from here on there is room to write into
    first, _ = model.encode(ids[:, 4:6], state)
    model.encode(ids[:, 6:8], state)
    again, _ = model.encode(ids[:, 4:6], state)
    assert torch.equal(first, again)
    torch.testing.assert_close(first, model.encode(ids[:, :6])[0][:, 4:])


def test_columns_that_no_row_owns_are_dropped():
    model = gpt()
    _, long = model.encode(ids_of(1, 8))
    _, short = model.encode(ids_of(1, 2, seed=1))
    joined = type(long).concat([long, short])
    alone = joined.select([1])
    assert joined.columns == 8
    assert alone.columns == 2
    following = ids_of(1, 3, seed=2)
    got, want = model.encode(following, alone)[0], model.encode(following, short)[0]
    torch.testing.assert_close(got, want)


def test_reading_more_ids_copies_nothing():
    model = gpt()
    _, state = model.encode(ids_of(1, 4))
    _, state = model.encode(ids_of(1, 1), state)
    _, after = model.encode(ids_of(1, 1), state)
    assert after.layers[0][0].data_ptr() == state.layers[0][0].data_ptr()


def test_positions_beyond_the_context_are_refused():
    with pytest.raises(IndexError):
        gpt().encode(ids_of(1, 13))


def test_sinusoids_are_waves_of_falling_frequency():
    table = sinusoids(50, 6)
    for place in range(50):
        for pair in range(3):
            angle = place / 10_000 ** (2 * pair / 6)
            assert table[place, 2 * pair] == pytest.approx(math.sin(angle), abs=1e-6)
            assert table[place, 2 * pair + 1] == pytest.approx(math.cos(angle), abs=1e-6)


def test_the_parts_that_are_added_up_begin_smaller_with_depth():
    torch.manual_seed(0)
    model = build(GPTOptions(layers=8, heads=2, width=64), 50, 16)
    spread = model.blocks[3].attention.output.weight.std().item()
    assert spread == pytest.approx(0.02 / math.sqrt(16), rel=0.1)
    assert model.blocks[3].attention.input.weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert not model.blocks[0].attention.input.bias.any()
    assert (model.norm.weight == 1).all()


@torch.no_grad()
def test_writing_past_the_context_equals_recomputation():
    """At every place, against a fresh look at all that the model may look back on."""
    model = gpt()
    batch = RunningBatch(TorchBackend(model), 0)
    batch.admit([Row(0, [3, 1, 4]), Row(1, list(range(1, 11)) * 2), Row(2, [])])
    for new_ids in ids_of(40, 3, seed=3).tolist():
        for row, logits in zip(batch.rows, batch.logits, strict=True):
            seen = visible(row.ids, 0, model.context_length)
            want = model.project(model.encode(torch.from_numpy(seen)[None])[0])[0, -1]
            np.testing.assert_allclose(logits, want, rtol=1e-4, atol=1e-5)
            row.ids.append(new_ids[row.prompt])
        batch.advance()


@torch.no_grad()
@pytest.mark.parametrize("together", [1, 3, 64])
@pytest.mark.parametrize("stretch", [5, 256])
def test_a_document_longer_than_the_context_is_scored_by_the_rule(monkeypatch, together, stretch):
    monkeypatch.setattr(evaluation, "ROWS_AT_A_TIME", together)
    monkeypatch.setattr(evaluation, "TOKENS_AT_A_TIME", stretch)
    model = gpt()
    rows = [ids_of(length, seed=length).numpy() for length in (2, 12, 13, 14, 31, 60)]
    for row, found in zip(rows, evaluation.score(model, rows), strict=True):
        want = []
        for count in range(1, len(row)):
            seen = torch.from_numpy(row[window_start(count, 12) : count])[None]
            logp = model.project(model.encode(seen)[0])[0, -1].double().log_softmax(-1)
            want.append(-float(logp[row[count]]))
        assert found == pytest.approx(want, abs=1e-4)


@pytest.mark.parametrize(("new_tokens", "outgrown"), [(10, False), (11, True)])
def test_a_text_longer_than_the_context_is_reported(new_tokens, outgrown):
    letters = Tokenizer.train(TokenizerOptions(kind="char"), ["abc"])
    generator = Generator(TorchBackend(gpt(letters.vocab_size)), letters)
    options = SamplingOptions(max_new_tokens=new_tokens, min_new_tokens=new_tokens)
    stream = generator.stream("ab", options)
    assert not stream.outgrown
    list(stream)
    assert stream.outgrown == outgrown


def test_sinusoidal_positions_meet_token_vectors_of_their_size():
    """Vaswani et al. 2017, section 3.4: token vectors times the square root of the width."""
    model = gpt(layers=1, width=16, positions="sinusoidal")
    place, pair = 3, 2
    angle = place / 10_000 ** (2 * pair / 16)  # section 3.5
    found = model._embed(torch.tensor([[5]]), torch.tensor([place]))[0, 0].detach()
    token = model.embedding[5].detach()
    wanted = 4.0 * token[2 * pair] + math.sin(angle)
    assert float(found[2 * pair]) == pytest.approx(float(wanted), abs=1e-6)
    wanted = 4.0 * token[2 * pair + 1] + math.cos(angle)
    assert float(found[2 * pair + 1]) == pytest.approx(float(wanted), abs=1e-6)


def test_halved_precision_trains_every_block_without_a_warning():
    """bf16 products change the loss of a batch by little; a warning would fail the test."""
    ids = ids_of(4, 12)
    for name in ("gpt", "llama", "qwen2", "qwen3", "gpt-mixed"):
        torch.manual_seed(1)
        model = build(SMALL[name], 11, 12)
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.3)
        losses = []
        for dtype in (torch.float32, torch.bfloat16):
            with autocast(torch.device("cpu"), dtype):
                hidden = model.encode(ids, begins=ids == 0)[0]
                nats, count = model.next_token_loss(hidden, ids)
            (nats / count).backward()
            losses.append((nats / count).item())
        assert losses[1] == pytest.approx(losses[0], rel=0.01)
        assert losses[1] != losses[0]
