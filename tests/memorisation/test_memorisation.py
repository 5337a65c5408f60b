"""What a model has memorized: planted sentences, texts that are copies, and texts that are none."""

import json
import math
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from textwright import grammar, models
from textwright.backends.counts import CountsBackend
from textwright.config import Config
from textwright.counts.kneser_ney import KneserNey, count_model
from textwright.errors import EvaluationError, RunError
from textwright.evaluation.diversity import split_words, word_spans
from textwright.evaluation.predictors import CountsPredictor, NeuralPredictor, open_predictor
from textwright.evaluation.resampling import compare
from textwright.memorisation import capability, memorisation
from textwright.memorisation.capability import (
    GIVEN,
    PASSAGE,
    alarm_of,
    measure_capability,
    passages,
    read_continuations,
)
from textwright.memorisation.memorisation import Examiner
from textwright.memorisation.propensity import measure_propensity
from textwright.memorisation.training_text import CHARACTERS, WORDS, Place, TrainingText
from textwright.report.memorisation import propensity_rows, verdict
from textwright.run import Run
from textwright.tokenizer import Tokenizer, TokenizerOptions
from textwright.training.session import train_run
from textwright.writing.generator import Generator
from textwright.writing.sampling_options import SamplingOptions, sampling_options
from textwright.writing.stream import Sample

SEEN, UNSEEN = list(grammar.documents(400, seed=1)), list(grammar.documents(400, seed=2))


def invent(seed: int) -> str:
    """A sentence of invented words, about 130 characters."""
    rng = np.random.default_rng(seed)
    words = ["".join(rng.choice(list("abcdefghijklmnoprstuvw"), 5)) for _ in range(22)]
    return f"{' '.join(words)}."


PLANTED = [invent(seed) for seed in range(32)]
CHARACTER = Tokenizer.train(TokenizerOptions(kind="char"), [*SEEN, *PLANTED])


def planted(times: int) -> list[str]:
    """The sentences that were planted so often: eight each."""
    start = 8 * {0: 0, 1: 1, 10: 2, 100: 3}[times]
    return PLANTED[start : start + 8]


CORPUS = [*SEEN, *(text for times in (1, 10, 100) for text in planted(times) * times)]


@pytest.fixture(scope="module")
def counts() -> KneserNey:
    """N-grams of the corpus with the planted sentences, of up to nine characters."""
    rows = CHARACTER.encode_batch(CORPUS)
    starts = np.cumsum([0, *map(len, rows)])
    return count_model(np.concatenate(rows), starts, CHARACTER.stop_id, CHARACTER.vocab_size, 9)


@pytest.fixture
def few_passages(monkeypatch):
    """Fewer passages are measured than by a user."""
    for module in (capability, memorisation):
        monkeypatch.setattr(module, "PASSAGES", 40)
    monkeypatch.setattr(capability, "IN_BAND", 20)


def bits_of(counts: KneserNey, texts: list[str]) -> np.ndarray:
    """What `read_continuations` measures, by the scorer, which is faster."""
    stop = [CHARACTER.stop_id]
    rows = [np.array([*stop, *CHARACTER.encode(text)[:PASSAGE]]) for text in texts]
    nats = CountsPredictor(counts).score(rows)
    return np.array([row[GIVEN:].sum() for row in nats]) / math.log(2) / (PASSAGE - GIVEN)


# What it could be made to copy


def test_planted_sentences_are_found_in_the_order_of_their_repetition(counts):
    bits = {
        times: read_continuations(
            CountsBackend(counts), CHARACTER, planted(times), SamplingOptions()
        ).bits.mean()
        for times in (0, 1, 10, 100)
    }
    assert bits[100] < bits[10] < bits[1] < bits[0]


def test_the_bands_of_repetition_are_in_that_order(counts, few_passages):
    found = measure_capability(
        CountsBackend(counts), CHARACTER, passages(CORPUS, few=False), UNSEEN, SamplingOptions()
    )
    bands = {band.least: band for band in found.bands}
    assert [bands[least].passages for least in (10, 100)] == [8, 8]
    assert bands[100].bits < bands[10].bits < bands[1].bits < found.bits.held_out
    assert bands[100].memorized >= bands[10].memorized >= bands[1].memorized
    assert bands[100].memorized > 0.8
    assert found.bits.interval[1] < 0  # what was seen costs less


def test_a_model_that_never_saw_a_text_is_not_accused(counts):
    """Half of the unseen texts set the alarm, the other half tries it. At 1 of 100, seven alarms
    of 200 have a probability of about 0.004."""
    bits = bits_of(counts, UNSEEN)
    alarm, rate = alarm_of(bits[:200])
    assert rate <= 0.01
    assert np.count_nonzero(bits[200:] < alarm) < 7
    never = read_continuations(CountsBackend(counts), CHARACTER, planted(0), SamplingOptions()).bits
    assert not (never < alarm).any()


@pytest.mark.parametrize("count", [5, 99, 350])
def test_the_rate_of_false_alarms_is_the_one_that_is_stated(count):
    rng = np.random.default_rng(count)
    trials = 20_000
    drawn = rng.standard_gamma(2.0, (trials, count + 1))
    alarms = [row[-1] < alarm_of(row[:-1])[0] for row in drawn[:2000]]
    rate = alarm_of(drawn[0, :-1])[1]
    # Six standard deviations: one false alarm of this test in 10^9.
    assert abs(np.mean(alarms) - rate) < 6 * math.sqrt(rate * (1 - rate) / 2000)


def test_continuations_cost_what_the_predictor_scores(counts):
    found = read_continuations(CountsBackend(counts), CHARACTER, UNSEEN[:40], SamplingOptions())
    bits = bits_of(counts, UNSEEN[:40])
    assert found.bits == pytest.approx(bits, rel=1e-5)
    assert found.written == pytest.approx(2.0 ** -(bits * (PASSAGE - GIVEN)), rel=1e-3)
    assert found.own == pytest.approx(found.written, rel=1e-3)
    assert (found.own >= found.written * (1 - 1e-6)).all()  # what the text lacks is never written


def test_greedy_is_what_greedy_decoding_writes(counts):
    texts = [*planted(100), *UNSEEN[:8]]
    found = read_continuations(CountsBackend(counts), CHARACTER, texts, SamplingOptions())
    generator = Generator(CountsBackend(counts), CHARACTER)
    options = sampling_options(temperature=0, max_new_tokens=PASSAGE - GIVEN)
    written = generator.generate([text[:GIVEN] for text in texts], options)
    exact = [
        sample.text == text[GIVEN:PASSAGE] for sample, text in zip(written, texts, strict=True)
    ]
    assert found.greedy.tolist() == exact
    assert any(exact) and not all(exact)


def test_the_runs_own_settings_are_those_that_it_writes_with(counts):
    text = planted(100)[0]
    settings = {"temperature": 0.5, "top_k": 3, "no_repeat_ngram": 30}
    backend = CountsBackend(counts)
    own = read_continuations(backend, CHARACTER, [text], SamplingOptions(**settings)).own[0]
    generator = Generator(backend, CHARACTER)
    options = sampling_options(**settings, max_new_tokens=PASSAGE - GIVEN)
    written = generator.generate([text[:GIVEN]], options, num=300, seed=0)
    share = np.mean([sample.text == text[GIVEN:PASSAGE] for sample in written])
    assert abs(share - own) < 6 * math.sqrt(own * (1 - own) / 300) + 1e-9
    greedy = read_continuations(backend, CHARACTER, [text], SamplingOptions(temperature=0))
    assert greedy.own[0] == greedy.greedy[0]


def test_tokens_of_several_characters_are_cut_where_they_begin():
    tokenizer = Tokenizer.train(TokenizerOptions(vocab_size=600), SEEN)
    rows = tokenizer.encode_batch(SEEN)
    starts = np.cumsum([0, *map(len, rows)])
    model = count_model(np.concatenate(rows), starts, tokenizer.stop_id, tokenizer.vocab_size, 3)
    text = UNSEEN[0]
    found = read_continuations(CountsBackend(model), tokenizer, [text], SamplingOptions())
    begins = [start for _, start, _ in tokenizer.spans(text)]
    first, last = (sum(start < at for start in begins) for at in (GIVEN, PASSAGE))
    row = np.array([tokenizer.stop_id, *tokenizer.encode(text)[:last]])
    (nats,) = CountsPredictor(model).score([row])
    characters = PASSAGE - begins[first]
    cost = nats[first:].sum() / math.log(2) / characters
    assert found.bits[0] == pytest.approx(cost, rel=1e-5)


def test_passages_longer_than_the_context_cost_what_scoring_says():
    options = Config.resolve("demo", settings=["model.family=gpt"]).model
    torch.manual_seed(0)
    model = models.build(options, CHARACTER.vocab_size, 32).eval()
    predictor = NeuralPredictor(model)
    assert predictor.backend().context_length == 32 < PASSAGE
    texts = UNSEEN[:40]
    found = read_continuations(predictor.backend(), CHARACTER, texts, SamplingOptions())
    stop = [CHARACTER.stop_id]
    rows = [np.array([*stop, *CHARACTER.encode(text)[:PASSAGE]]) for text in texts]
    bits = [nats[GIVEN:].sum() / math.log(2) / (PASSAGE - GIVEN) for nats in predictor.score(rows)]
    assert found.bits == pytest.approx(bits, rel=1e-4)


def test_few_documents_give_passages_of_their_blocks():
    text = "".join(SEEN)
    found = passages([text], few=True)
    assert len(found) == len(text) // 200 + (len(text) % 200 >= PASSAGE)
    assert all(passage in text for passage in found)
    assert passages(["short", text], few=False) == [text[:200]]


# What it copies


class Repeats(Generator):
    """Writes given texts, one after another."""

    def __init__(self, texts: list[str], tokenizer: Tokenizer = CHARACTER) -> None:
        super().__init__(None, tokenizer)
        object.__setattr__(self, "texts", texts)

    def generate(self, prompts, options=None, **how):
        return [Sample("", text, [], "stop") for text in self.texts[: len(prompts)]]


def test_a_copyist_is_found_and_its_sources_named():
    training = TrainingText(SEEN, CHARACTER)
    found = measure_propensity(training, Repeats(SEEN[:64]), SamplingOptions(), UNSEEN)
    assert found.longest.run == pytest.approx(found.characters / found.texts)
    assert found.longest.interval[0] > 0
    for length in WORDS:
        assert found.novel["words"][length].run == 0
    for length in CHARACTERS:
        assert found.novel["characters"][length].run == 0
        assert found.novel["characters"][length].interval[1] < 0
    worst = found.copied[0]
    assert len(worst.text) == found.longest_of_all[0]
    place = worst.sources[0]
    assert SEEN[place.document - 1][place.offset :].startswith(worst.text)
    assert SEEN[place.document - 1].startswith(place.heading)


def test_unknown_words_are_copied_as_they_were_read():
    """What is written is not read anew: [UNK] is three tokens then, and stands nowhere."""
    tokenizer = Tokenizer.train(TokenizerOptions(kind="word", vocab_size=40), SEEN)
    training = TrainingText(SEEN, tokenizer)
    copies = training.as_read(SEEN[:20])
    assert any("[UNK]" in text for text in copies)
    found = measure_propensity(training, Repeats(copies, tokenizer), SamplingOptions(), UNSEEN)
    assert found.longest.run == pytest.approx(found.characters / found.texts)


def test_a_single_text_gives_no_verdict_and_no_interval():
    training = TrainingText(SEEN, CHARACTER)
    texts, greedy = Repeats(SEEN[:20]), SamplingOptions(temperature=0)
    one = measure_propensity(training, texts, greedy, UNSEEN)
    many = measure_propensity(training, texts, SamplingOptions(), UNSEEN)
    assert one.texts == 1 and all("(" not in row[3] for row in propensity_rows(one))
    found = SimpleNamespace(
        own=one, temperature_1=many, capability=SimpleNamespace(memorized=0.0, false_alarms=0.01)
    )
    assert verdict(found).startswith("At temperature 1, it copies more than")
    found.temperature_1 = one
    assert verdict(found).startswith("It wrote one text, which is too few")


def test_a_writer_of_its_own_texts_is_not_accused():
    """Texts of the same law as the held-out ones: of 8 intervals of 95 %, five beside zero have a
    probability of about 10^-5."""
    training = TrainingText(SEEN, CHARACTER)
    beside = 0
    for seed in range(8):
        texts = list(grammar.documents(40, seed=100 + seed))
        found = measure_propensity(training, Repeats(texts), SamplingOptions(), UNSEEN, seed=seed)
        low, high = found.longest.interval
        beside += not low <= 0 <= high
    assert beside < 5


def test_novelty_is_that_of_plain_sets():
    tokenizer = Tokenizer.train(TokenizerOptions(kind="word", vocab_size=500, lowercase=True), SEEN)
    training = TrainingText(SEEN, tokenizer)
    texts = training.as_read(UNSEEN[:5])
    found = training.novelty(texts)
    read = "\0".join(training.as_read(SEEN))
    for (kind, length), new in found.new.items():
        for text, count, of in zip(texts, new, found.all[kind, length], strict=True):
            places = range(len(text)) if kind == "characters" else None
            words = [(at, at + 1) for at in places] if places else word_spans(text)
            expected = [
                text[words[at][0] : words[at + length - 1][1]]
                for at in range(len(words) - length + 1)
            ]
            assert count == sum(sequence not in read for sequence in expected)
            assert of == len(expected)


def test_words_are_those_between_spaces_and_marks():
    text = "Don't stop, Ann: 3.5 cups"
    assert [text[start:end].lower() for start, end in word_spans(text)] == split_words([text])[0]


@pytest.mark.parametrize("options", [{"kind": "word", "lowercase": True}, {"kind": "char"}])
def test_a_source_is_named_by_its_character_in_the_document_as_written(options):
    documents = ["The  Quick brown fox.", "A HEADLINE\nand   then the lazy dog, and a cat."]
    tokenizer = Tokenizer.train(TokenizerOptions(**options), documents)
    training = TrainingText(documents, tokenizer)
    written = training.as_read(["so the lazy dog, and a mouse"])[0]
    ((start, end),) = training.stretches([written], least=10)[0]
    span = training.span(written, start, end)
    assert "the lazy dog, and a" in span.text
    (place,) = span.sources
    assert (place.document, place.heading) == (2, "A HEADLINE")
    assert documents[1][place.offset :].lstrip().startswith("the lazy dog")


def test_spans_are_the_longest_and_each_is_counted():
    training = TrainingText(["abcdefgh", "abcdxx", "defghyy"], CHARACTER)
    (stretches,) = training.stretches(["_abcdefghyy_"], least=3)
    assert stretches == [(1, 9), (4, 11)]
    span = training.span("_abcdefghyy_", 1, 5)
    assert (span.text, span.occurrences) == ("abcd", 2)
    assert span.sources == [Place(1, "abcdefgh", 0), Place(2, "abcdxx", 0)]


def test_the_interval_of_a_difference_holds_what_it_should():
    rng = np.random.default_rng(0)
    a, b = rng.normal(3, 1, 500), rng.normal(2, 1, 400)
    found = compare(a, b, seed=0)
    assert found.excess == pytest.approx(a.mean() - b.mean())
    error = 1.96 * math.sqrt(a.var() / 500 + b.var() / 400)
    assert found.interval == pytest.approx((found.excess - error, found.excess + error), abs=0.02)


# Whole runs


@pytest.fixture
def run(trained, tmp_path) -> Run:
    """A copy of the trained run, which finds the corpus by its place."""
    shutil.copytree(trained, tmp_path / "run")
    return Run.load(tmp_path / "run")


def test_a_run_is_measured_with_all_its_checkpoints(trained, notes, few_passages):
    run = Run.load(trained)
    found = Examiner(run, [notes]).measure(texts=4)
    assert found.documents + found.held_out == 300
    assert found.characters == sum(map(len, notes.read_text("utf-8").splitlines())) - sum(
        len(text) for part in ("valid", "test") for text in run.held_out(part)
    )
    assert [each.step for each in found.checkpoints] == run.checkpoints.steps()
    (best,) = [each for each in found.checkpoints if each.best]
    assert best.capability == found.capability
    first = found.checkpoints[0]
    assert first.capability.bits.held_out > 0


def test_counts_and_mixtures_are_measured(notes, tiny, tmp_path, few_passages):
    for preset, settings in {"counts": [], "demo": [*tiny, "counts.longest=2"]}.items():
        config = Config.resolve(preset, settings=["tokenizer.vocab_size=300", *settings])
        list(train_run([notes], tmp_path / preset, config))
        run = Run.load(tmp_path / preset)
        found = Examiner(run).measure(texts=3)
        assert found.capability.passages == (40, 33)
        assert found.temperature_1.texts == 3
        assert bool(found.checkpoints) == (preset == "demo")


def test_a_text_of_the_corpus_is_traced_to_its_document(trained, notes):
    examiner = Examiner(Run.load(trained), [notes])
    document = notes.read_text("utf-8").splitlines()[0]
    traced = examiner.trace(f"Someone wrote: {document} And more.")
    longest = max(traced.spans, key=lambda span: span.characters)
    assert document in longest.text or longest.text in document
    assert traced.copied >= len(document) - 2
    assert traced.memorized is not None and traced.false_alarms < 0.05
    assert examiner.trace("@@@").spans == []
    assert examiner.trace("@@@").bits is None


def test_a_traced_text_is_held_to_passages_from_all_of_the_held_out_text(
    trained, notes, few_passages, monkeypatch
):
    examiner = Examiner(Run.load(trained), [notes])
    examiner._unseen = [text for text in UNSEEN if len(text) >= PASSAGE]
    read = []

    def reading(backend, tokenizer, texts, *given):
        read.append(texts[1:])
        return read_continuations(backend, tokenizer, texts, *given)

    monkeypatch.setattr(memorisation, "read_continuations", reading)
    for _ in range(2):
        examiner.trace(SEEN[0] * 2)
    places = [examiner._unseen.index(text) for text in read[0]]
    assert len(places) == 40 and places == sorted(places)
    assert places[20] > len(examiner._unseen) / 4
    assert read[0] == read[1]


# Bad input


def test_a_text_is_traced_as_the_documents_were_cleaned(notes, tiny, tmp_path):
    config = Config.resolve("demo", settings=[*tiny, "corpus.lowercase=true"])
    list(train_run([notes], tmp_path / "run", config))
    examiner = Examiner(Run.load(tmp_path / "run"), [notes])
    line = notes.read_text("utf-8").splitlines()[0]
    assert line != line.lower()
    seen = next(text for text in examiner.documents if len(text) > 40)
    (original,) = [each for each in notes.read_text("utf-8").splitlines() if each.lower() == seen]
    traced = examiner.trace(original)
    assert traced.copied == traced.characters


def test_a_corpus_that_is_gone_or_another_is_refused(run, notes, tmp_path):
    other = tmp_path / "other.txt"
    other.write_text("".join(f"{note}\n" for note in UNSEEN), "utf-8")
    with pytest.raises(RunError, match=r"its training documents differ\. Name that corpus"):
        Examiner(run, [other])
    corpus = run.corpus()
    moved = {**corpus, "named": {**corpus["named"], "sources": ["../gone.txt"]}}
    run.write_text("corpus.json", json.dumps(moved), for_good=True)
    with pytest.raises(RunError, match="is gone; name it with --corpus"):
        Examiner(run)


def test_a_corpus_under_another_name_is_the_same(run, notes, tmp_path):
    renamed = Path(shutil.copy(notes, tmp_path / "renamed.txt"))
    assert len(Examiner(run, [renamed]).training) > 200


def test_a_private_run_needs_its_corpus_and_then_compares_with_what_that_held_out(
    notes, tiny, tmp_path
):
    config = Config.resolve("demo", settings=tiny)
    list(train_run([notes], tmp_path / "private", config, private=True))
    run = Run.load(tmp_path / "private")
    with pytest.raises(RunError, match="is private and does not record where its corpus is"):
        Examiner(run)
    assert Examiner(run, [notes]).held_out


def test_a_private_run_with_held_out_files_of_its_own_cannot_be_compared(notes, tiny, tmp_path):
    held_out = tmp_path / "held_out.txt"
    held_out.write_text("".join(f"{note}\n" for note in UNSEEN), "utf-8")
    config = Config.resolve("demo", settings=tiny)
    files = {"valid": [held_out], "test": [held_out], "private": True}
    list(train_run([notes], tmp_path / "private", config, **files))
    with pytest.raises(RunError, match="keeps no held-out documents"):
        Examiner(Run.load(tmp_path / "private"), [notes]).measure(texts=2)


def test_documents_too_short_to_be_continued_are_refused(trained, notes):
    examiner = Examiner(Run.load(trained), [notes])
    examiner._unseen = []
    with pytest.raises(EvaluationError, match="No held-out document has 100 characters"):
        examiner.measure(texts=2)


@pytest.mark.slow
def test_a_neural_model_finds_planted_sentences_in_that_order(tmp_path):
    """An LSTM of 64 units, trained for a minute on 400 notes and the planted ones among them."""
    corpus = tmp_path / "planted.txt"
    rng = np.random.default_rng(0)
    shuffled = [CORPUS[at] for at in rng.permutation(len(CORPUS))]
    corpus.write_text("".join(f"{text}\n" for text in shuffled), "utf-8")
    unseen = tmp_path / "unseen.txt"
    unseen.write_text("".join(f"{text}\n" for text in UNSEEN), "utf-8")
    settings = ["tokenizer.vocab_size=300", "train.epochs=30", "train.threads=1"]
    config = Config.resolve("demo", settings=settings)
    list(train_run([corpus], tmp_path / "run", config, valid=[unseen], test=[unseen]))
    run = Run.load(tmp_path / "run")
    backend = open_predictor(run, "cpu", run.checkpoints.steps()[-1]).backend()
    bits = [
        read_continuations(backend, run.tokenizer, planted(times), SamplingOptions()).bits.mean()
        for times in (100, 10, 1, 0)
    ]
    assert sorted(bits) == bits
