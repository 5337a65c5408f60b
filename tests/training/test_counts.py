"""Runs with counts: n-grams alone, and beside a neural model."""

import json
import math

import numpy as np
import pytest
import torch

import textwright.training.session
from textwright import api, models
from textwright.cli.display import TrainDisplay
from textwright.config import Config
from textwright.corpus import Corpus
from textwright.counts.kneser_ney import count_model
from textwright.counts.memory import recall_targets
from textwright.counts.mixture import EVIDENCE, Mixture, Parts, Shares
from textwright.errors import ConfigError, ExportError
from textwright.evaluation.neural import score
from textwright.evaluation.predictors import open_predictor
from textwright.evaluation.runs import score_run
from textwright.evaluation.scores import HeldOut, evaluate
from textwright.export import export_run
from textwright.inspection.next_tokens import next_tokens
from textwright.models import TorchBackend
from textwright.run import Run
from textwright.training.events import Evaluation, Finished
from textwright.training.session import train_run
from textwright.writing.sampling_steps import log_probabilities

BESIDE = ["counts.longest=2"]
# Shares that depend on the place.
MIXTURE = Mixture(
    np.random.default_rng(5).normal(0.0, 0.3, (1 + len(EVIDENCE), 3)),
    Shares(0.5, 0.3, 0.2),
    powers=(0.3, 0.6),
)


@pytest.fixture
def train(notes, tiny, tmp_path, monkeypatch):
    """Train on the notes with counts beside the model → the run."""
    monkeypatch.setattr(textwright.training.session, "draw_loss_curve", lambda run: False)

    def go(*settings, out="run", preset="demo", **how):
        common = [s for s in tiny if preset == "demo" or not s.startswith("model.")]
        config = Config.resolve(preset, settings=[*common, *BESIDE, *settings])
        list(train_run([notes], tmp_path / out, config, **how))
        return Run.load(tmp_path / out)

    return go


@pytest.fixture
def count(notes, tmp_path):
    """Train the preset `counts` on the notes → the events."""

    def go(*settings, out="counted"):
        config = Config.resolve("counts", settings=["tokenizer.vocab_size=300", *settings])
        return list(train_run([notes], tmp_path / out, config))

    return go


def test_counting_tries_each_length_and_keeps_the_best(count, tmp_path):
    events = count("model.longest=5")
    tried = [event for event in events if isinstance(event, Evaluation)]
    assert [event.step for event in tried] == [1, 2, 3, 4, 5]
    assert isinstance(events[-1], Finished) and events[-1].reason == "counted"
    run = Run.load(tmp_path / "counted")
    best = [event for event in tried if event.best][-1]
    assert run.counts.order == best.step
    scores, _ = score_run(run, part="valid")
    assert scores.bits_per_character == pytest.approx(best.scores.bits_per_character)
    assert scores.bits_per_character <= min(e.scores.bits_per_character for e in tried) * 1.002


def test_counted_runs_write_and_show_what_comes_next(count, tmp_path):
    count()
    writer = api.load(tmp_path / "counted")
    first, again = writer.generate(num=3, seed=1), writer.generate(num=3, seed=1)
    assert first == again and all(sample.text for sample in first)
    table = next_tokens(writer.generator, "", [1.0], top=300)
    assert sum(c.probability for c in table.next[1.0]) == pytest.approx(1, abs=1e-5)
    assert table.shares is None and table.next[1.0][0].counts is None


@pytest.mark.parametrize("family", ["mixture", "counts"])
def test_what_the_training_text_never_has_is_not_written(family, train, count, tmp_path):
    """The notes have some fifty different bytes, and a byte-level vocabulary all 256."""
    if family == "mixture":
        path = train("tokenizer.kind=bpe", "tokenizer.vocab_size=300").path
    else:
        count("model.longest=2")
        path = tmp_path / "counted"
    writer = api.load(path)
    backend = writer.generator.backend
    logits, _ = backend.prefill(np.array([[writer.tokenizer.stop_id]]), np.array([1]))
    expected = np.exp(log_probabilities(logits[0]))[backend.lacking].sum()
    assert len(backend.lacking) > 150 and expected > 1e-4  # so that thousands would have some
    texts = writer.generate(num=500, seed=1, max_new_tokens=20)
    assert all(sample.text.isascii() for sample in texts)


def test_a_mixture_weighs_each_probability(train):
    run = train()
    run.keep_mixture(MIXTURE)
    rows = HeldOut.of(run.held_out("valid"), run.tokenizer, run.escape).rows
    mixed = np.concatenate(open_predictor(run, "cpu").score(rows))
    parts = parts_of(run, rows, 0.3, 0.6)
    assert np.exp(-mixed) == pytest.approx(MIXTURE.mix(parts), rel=1e-5)  # float32


def test_a_run_of_an_earlier_version_predicts_as_it_did(train):
    """When its shares were fitted, the counts did not have to agree with the model."""
    run = train()
    rows = HeldOut.of(run.held_out("valid"), run.tokenizer, run.escape).rows
    kept = MIXTURE.to_json()
    del kept["powers"]
    run.write_text("mixture.json", json.dumps(kept))
    mixed = np.concatenate(open_predictor(run, "cpu").score(rows))
    parts = parts_of(run, rows, 0.0, 1.0)
    assert np.exp(-mixed) == pytest.approx(MIXTURE.mix(parts), rel=1e-5)  # float32


def parts_of(run, rows, of_model, of_counts):
    """What each part gives to all targets of all rows, by the definitions; with powers of the
    model's and the counts' probabilities."""
    targets = np.concatenate([row[1:] for row in rows])
    neural = np.exp(-np.concatenate(score(models.load(run, "cpu"), rows)))
    contexts = run.counts.contexts_of(rows)
    counted = run.counts.probabilities(contexts, targets)
    recalled, remembered = recall_targets(rows, counted)
    evidence = np.concatenate([run.counts.evidence(contexts), remembered], 1)
    size = run.tokenizer.vocab_size
    agreed = []
    for context, target, by_model in zip(contexts, targets, every_chance(run, rows), strict=True):
        by_counts = run.counts.probabilities(np.tile(context, (size, 1)), np.arange(size))
        products = by_model**of_model * by_counts**of_counts
        agreed.append(products[target] / products.sum())
    return Parts(np.stack([neural, agreed, recalled], 1), evidence)


def every_chance(run, rows):
    """The probability of every token by the neural model, before each target of all rows."""
    model = models.load(run, "cpu").eval()
    with torch.no_grad():
        for row in rows:
            hidden, _ = model.encode(torch.from_numpy(row[None, :-1].astype(np.int64)))
            yield from model.project(hidden[0]).softmax(1).double().numpy()


def test_bits_of_a_mixture_are_those_of_its_probabilities(train):
    run = train()
    run.keep_mixture(MIXTURE)
    [document] = list(run.held_out("test"))[:1]
    held_out = HeldOut.of([document], run.tokenizer, run.escape)
    scores = evaluate(open_predictor(run, "cpu").score, held_out)
    backend = api.load(run.path).generator.backend
    [row] = held_out.rows
    bits = float(held_out.escape_bits.sum())
    logits, state = backend.prefill(row[None, :1].astype(np.int64), np.array([1]))
    for target in row[1:].tolist():
        p = np.exp(log_probabilities(logits[0]))
        assert p.sum() == pytest.approx(1)
        bits -= math.log2(p[target])
        logits, state = backend.step(np.array([target]), state)
    assert scores.bits_per_character == pytest.approx(bits / len(document), rel=1e-4)


def test_the_best_evaluation_is_of_the_mixture(train):
    run = train()
    evaluations = [m for m in run.metrics() if m["event"] == "evaluation"]
    scores, _ = score_run(run, part="valid")
    best = min(e["scores"]["loss"] for e in evaluations)
    assert scores.loss == pytest.approx(best, rel=1e-6)
    alone, _ = score_run(train("counts.longest=0", out="alone"), part="valid")
    assert scores.loss < alone.loss


def test_tables_name_all_parts(train):
    run = train()
    run.keep_mixture(MIXTURE)
    table = next_tokens(api.load(run.path).generator, "a", [1.0], top=10_000)
    for candidate in table.next[1.0]:
        parts = (candidate.neural, candidate.counts, candidate.memory)
        mixed = np.dot(table.shares, parts)
        assert candidate.probability == pytest.approx(mixed, rel=1e-3, abs=1e-7)
    assert json.dumps(table.to_json())


def test_torch_and_numpy_write_the_same_mixture(train):
    run = train()
    run.keep_mixture(MIXTURE)
    plain = api.load(run.path).generator.backend
    by_torch = open_predictor(run, "cpu").backend()
    ids = np.array([[run.tokenizer.stop_id, 3, 4, 5], [run.tokenizer.stop_id, 6, 0, 0]])
    lengths = np.array([4, 2])
    expected, _ = by_torch.prefill(ids, lengths)
    found, state = plain.prefill(ids, lengths)
    assert found == pytest.approx(expected, abs=1e-4)
    assert np.exp(found).sum(1) == pytest.approx(1, abs=1e-4)
    assert not isinstance(plain.neural, TorchBackend)
    # Rows may leave, come twice and be joined with others.
    chosen = type(state).concat([state.select([1]), state.select([0, 0])])
    stepped, _ = plain.step(np.array([7, 8, 8]), chosen)
    alone, _ = plain.step(np.array([7]), state.select([1]))
    assert stepped[0] == pytest.approx(alone[0], abs=1e-5)
    assert stepped[1] == pytest.approx(stepped[2])


def test_a_text_longer_than_the_context_is_written_as_it_is_scored(train):
    """The neural part forgets what its context cannot hold; the memory does not."""
    small = ["model.layers=1", "model.heads=2", "model.width=8", "train.max_steps=4"]
    run = train("data.context_length=8", *small, preset="demo-gpt")
    run.keep_mixture(MIXTURE)
    ids = np.random.default_rng(0).integers(2, run.tokenizer.vocab_size, (2, 30))
    rows = [np.array([run.tokenizer.stop_id, *row]) for row in ids]
    scored = open_predictor(run, "cpu").score(rows)
    backend = api.load(run.path).generator.backend
    read = [3, 2]  # so that the two rows meet their full contexts at different times
    logits, state = backend.prefill(np.stack([rows[0][:3], rows[1][:3]]), np.array(read))
    for _ in range(20):
        following = np.array([row[count] for row, count in zip(rows, read, strict=True)])
        for number, target in enumerate(following):
            nats = scored[number][read[number] - 1]
            assert -logits[number, target] == pytest.approx(nats, abs=1e-4)
        logits, state = backend.step(following, state)
        read = [count + 1 for count in read]


def test_a_resumed_mixture_goes_on_as_if_never_stopped(train, notes, tiny, tmp_path):
    whole = train()
    config = Config.resolve("demo", settings=[*tiny, *BESIDE])
    events = train_run([notes], tmp_path / "cut", config)
    for event in events:
        if isinstance(event, Evaluation) and event.step == 10:
            break
    events.close()
    Run.load(tmp_path / "cut").keep_mixture(MIXTURE)
    list(train_run([], tmp_path / "cut", None, resume=True))
    cut = Run.load(tmp_path / "cut")
    assert cut.mixture().weights == pytest.approx(whole.mixture().weights, rel=1e-6)
    for name, array in whole.weights().items():
        assert (cut.weights()[name] == array).all()


def test_only_training_documents_are_counted(train, notes):
    run = train()
    corpus = Corpus([notes], run.config.corpus)
    corpus.scan()
    documents = [run.tokenizer.encode(text) for text in corpus.documents("train")]
    starts = np.cumsum([0, *map(len, documents)])
    vocab_size, longest = run.tokenizer.vocab_size, run.counts.order
    again = count_model(
        np.concatenate(documents), starts, run.tokenizer.stop_id, vocab_size, longest
    )
    for name, array in again.arrays().items():
        assert (run.counts.arrays()[name] == array).all()


def test_an_export_says_that_the_counts_stay_behind(train, tmp_path):
    exported = export_run(train(), "transformers", tmp_path / "export")
    assert exported.without_counts


def test_counting_that_was_stopped_is_begun_again(tw, notes, monkeypatch):
    argv = ["train", notes, "--preset", "counts", "--set", "tokenizer.vocab_size=300"]

    def stop(display, evaluation):
        display.stopping = True

    with monkeypatch.context() as patched:
        patched.setattr(TrainDisplay, "_evaluation", stop)
        code, _, err = tw(*argv, "--out", "run")
    assert code == 130
    assert "--resume cannot continue: name another --out, or delete run." in err
    code, _, err = tw(*argv, "--out", "run")
    assert (code, err) == (
        2,
        "textwright: run holds a run already; name another --out, or delete it.\n",
    )


def test_what_counts_cannot_do_is_refused(train, count, notes, tmp_path):
    count()
    path = tmp_path / "counted"
    with pytest.raises(ExportError, match="n-gram model"):
        export_run(Run.load(path), "transformers", tmp_path / "export")
    with pytest.raises(ConfigError, match="counted in one pass"):
        list(train_run([], path, None, resume=True))
    with pytest.raises(ConfigError, match="is counts itself"):
        Config.resolve("counts", settings=["counts.longest=3"])
    with pytest.raises(ConfigError, match=r"needs no data\.layout"):
        Config.resolve("counts", settings=["data.layout=rows"])
    run = train()
    (run.path / "mixture.json").unlink()
    with pytest.raises(Exception, match=r"no mixture\.json"):
        api.load(run.path)
