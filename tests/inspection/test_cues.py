"""Pairs of texts that differ in a cue: made from fields or read, and measured."""

import numpy as np
import pytest
from small_models import SMALL

import textwright as tw
from textwright.backends.counts import CountsBackend
from textwright.counts.kneser_ney import count_model
from textwright.errors import GenerationError
from textwright.inspection.cues import Pair, divergence, field_pairs, follow_cues, read_pairs
from textwright.models import TorchBackend, build
from textwright.tokenizer import Tokenizer, TokenizerOptions
from textwright.writing.generator import Generator

TEXT = "the dog bites the man and the man does not bite the dog"


@pytest.fixture(scope="module")
def words():
    return Tokenizer.train(TokenizerOptions(kind="word"), [TEXT])


def generator_of(words, name):
    return Generator(TorchBackend(build(SMALL[name], words.vocab_size, 12)), words)


def test_divergence_is_that_of_the_definition():
    random = np.random.default_rng(0)
    p, q = random.dirichlet(np.ones(6), 2)
    middle = (p + q) / 2
    want = (p * np.log2(p / middle) + q * np.log2(q / middle)).sum() / 2
    assert divergence(np.log(p), np.log(q)) == pytest.approx(want)
    assert divergence(np.log(p), np.log(p)) == pytest.approx(0, abs=1e-12)
    with np.errstate(divide="ignore"):
        assert divergence(np.log([1.0, 0.0]), np.log([0.0, 1.0])) == pytest.approx(1)


@pytest.mark.parametrize("name", ["lstm", "gpt"])
def test_each_measure_is_that_of_the_two_texts_so_far(words, name):
    """Distance 2 after the cue `dog bites`: `the` stands before it, `man` is predicted."""
    generator = generator_of(words, name)
    pair = Pair("the dog bites the man and the dog", "the man bite the man and the dog")
    (found,) = follow_cues(generator, generator.backend.model, [pair], [2])
    logp = []
    for text in ("the dog bites the", "the man bite the"):
        ids = np.array([[words.stop_id, *words.encode(text)]])
        logits = generator.backend.prefill(ids, np.array([5]))[0][0].astype(float)
        logp.append(logits - np.log(np.exp(logits).sum()))
    man = words.id_of("man")
    assert found.saved.mean == pytest.approx((logp[0][man] - logp[1][man]) / np.log(2), abs=1e-5)
    assert found.divergence.mean == pytest.approx(divergence(*logp), abs=1e-6)
    assert (found.attention is None) == (name == "lstm")
    assert 0 < found.saliency.mean < 1


def test_a_cue_that_is_out_of_view_has_no_share_and_changes_nothing(words):
    generator = generator_of(words, "gpt")  # sees 12 tokens at once
    rest = " bites the man" * 8
    (found,) = follow_cues(
        generator, generator.backend.model, [Pair("dog" + rest, "man" + rest)], [20]
    )
    assert found.divergence.mean == found.attention.mean == found.saliency.mean == 0


def test_counts_follow_no_further_than_their_order(words):
    ids = words.encode(TEXT)
    counted = count_model(ids, np.array([0, len(ids)]), words.stop_id, words.vocab_size, 3)
    generator = Generator(CountsBackend(counted), words)
    pair = Pair("dog bites the man and", "man bites the man and")
    near, far = follow_cues(generator, None, [pair], [2, 4])
    assert near.divergence.mean > 0 and far.divergence.mean == 0
    assert near.saliency is near.attention is None


def test_pairs_that_nothing_follows_or_that_read_alike_cannot_be_used(words):
    generator = generator_of(words, "lstm")
    for pair in (Pair("the dog", "the man"), Pair("xyz bites", "zyx bites"), Pair("a", "a")):
        with pytest.raises(GenerationError, match="No pair can be used"):
            follow_cues(generator, generator.backend.model, [pair])


def test_pairs_differ_in_one_field_and_belong_to_held_out_documents(formed):
    run = tw.load(formed).run
    held_out = set(run.held_out("test"))
    pairs = field_pairs(run, "course", 8, seed=1)
    assert 0 < len(pairs) <= 8
    for pair in pairs:
        assert pair.first in held_out
        first, second = (text.split(" : ") for text in (pair.first, pair.second))
        assert first[0] != second[0] and first[1:] == second[1:]
    assert pairs == field_pairs(run, "course", 8, seed=1)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [("price", "There is no field 'price'"), ("note", "Nothing follows the field note")],
)
def test_a_field_that_cannot_be_a_cue_is_said(formed, name, sentence):
    with pytest.raises(GenerationError, match=sentence):
        field_pairs(tw.load(formed).run, name, 8)


def test_a_run_without_a_template_has_no_fields(trained):
    with pytest.raises(GenerationError, match="without a template"):
        field_pairs(tw.load(trained).run, "course", 8)


def test_a_file_may_begin_with_a_byte_order_mark_and_a_text_hold_other_breaks(tmp_path):
    path = tmp_path / "pairs.tsv"
    path.write_bytes("\ufeffa\u2028b\ta c\r\n".encode())
    assert read_pairs(path) == [Pair("a\u2028b", "a c")]


def test_a_file_holds_two_texts_a_line(tmp_path):
    file = tmp_path / "pairs.tsv"
    file.write_text("the dog bites\tthe man bites\n\na b\tc b\n", "utf-8")
    assert read_pairs(file) == [Pair("the dog bites", "the man bites"), Pair("a b", "c b")]
    for text, sentence in (("a b\n", "Line 1 of"), ("\n", "holds no pair"), (None, "Cannot read")):
        file.unlink()
        if text:
            file.write_text(text, "utf-8")
        with pytest.raises(GenerationError, match=sentence):
            read_pairs(file)
