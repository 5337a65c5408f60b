"""Who judges written texts, and what they are held to."""

import shutil

import numpy as np
import pytest

from textwright import grammar
from textwright.config import Config
from textwright.errors import EvaluationError
from textwright.evaluation.held_out import HeldOutText
from textwright.evaluation.predictors import open_predictor
from textwright.run import Run
from textwright.sweep.judges import CountsJudge, RunJudge
from textwright.sweep.real_texts import PROMPT, choose_real_texts
from textwright.tokenizer import Tokenizer, TokenizerOptions
from textwright.training.session import train_run

DOCUMENTS = list(grammar.documents(60, seed=21))


@pytest.fixture(scope="module")
def words() -> Tokenizer:
    return Tokenizer.train(TokenizerOptions(kind="word", vocab_size=400), DOCUMENTS)


def held_out(run: Run) -> HeldOutText:
    return HeldOutText([*run.held_out("valid"), *run.held_out("test")], "what it holds out")


def test_the_reference_and_what_the_judge_counts_share_no_text(words):
    real = choose_real_texts(DOCUMENTS, words, 20, 1000)
    given = {tuple(words.encode(text).tolist()) for text in DOCUMENTS}
    one, other = ({tuple(ids.tolist()) for ids in side} for side in (real.texts, real.others))
    assert (len(real.texts), len(real.others)) == (20, 40)
    assert not one & other and one | other == given
    assert real.prompts == [""] * 20


def test_few_documents_leave_half_to_the_judge_and_texts_are_cut(words):
    real = choose_real_texts(DOCUMENTS[:25], words, 100, 7)
    assert (len(real.texts), len(real.others)) == (12, 13)
    assert all(len(ids) == 7 for ids in real.texts)


def test_a_long_document_is_compared_in_pieces_that_go_on_from_it(words):
    text = " ".join(DOCUMENTS)
    ids = words.encode(text).tolist()
    real = choose_real_texts([text], words, 8, 30)
    assert len(real.texts) == 8
    for piece, prompt in zip(real.texts, real.prompts, strict=True):
        whole = [*words.encode(prompt).tolist(), *piece.tolist()]
        assert len(whole) == PROMPT + 30
        assert any(ids[at : at + len(whole)] == whole for at in range(len(ids)))


def test_too_little_text_is_refused(words):
    with pytest.raises(EvaluationError, match="name more text with --corpus"):
        choose_real_texts(DOCUMENTS[:3], words, 20, 100)


def test_counts_charge_what_they_predict_without_the_end(words):
    real = choose_real_texts(DOCUMENTS, words, 20, 50)
    judge = CountsJudge(real, words)
    assert str(judge.counts.order) in judge.name and "40 held-out texts" in judge.name
    (bits,) = judge.bits(real.texts[:1])
    contexts, charged = judge.counts.begin(1), 0.0
    contexts = judge.counts.read(contexts, np.array([words.stop_id]))
    for token in real.texts[0].tolist():
        charged -= np.log2(judge.counts.distribution(contexts)[0, token])
        contexts = judge.counts.read(contexts, np.array([token]))
    assert bits == pytest.approx(charged, rel=1e-5)
    assert judge.bits([np.array([], np.int64)]).tolist() == [0]


def test_a_run_judges_with_its_own_tokens(trained, formed, words):
    run, writer = Run.load(trained), Run.load(formed)
    judge = RunJudge(run, writer, HeldOutText(["Nothing that it knows."], "new text"), "cpu")
    texts = [writer.tokenizer.encode(text) for text in (*DOCUMENTS[:2], "")]
    found = judge.bits(texts)
    for bits, ids in zip(found[:2], texts, strict=False):
        read = run.tokenizer.encode(writer.tokenizer.decode(ids))
        (nats,) = open_predictor(run, "cpu").score([np.array([run.tokenizer.stop_id, *read])])
        assert bits == pytest.approx(nats.sum() / np.log(2), rel=1e-4)
    assert found[2] == 0


def test_a_run_does_not_judge_itself_nor_its_copy(trained, tmp_path):
    run = Run.load(trained)
    copy = Run.load(shutil.copytree(trained, tmp_path / "copy"))
    for judge in (run, copy):
        with pytest.raises(EvaluationError, match="cannot judge what it writes itself"):
            RunJudge(judge, run, held_out(run), "cpu")


def test_a_run_that_another_division_trained_on_the_reference_does_not_judge(tiny, tmp_path):
    novel = tmp_path / "novel.txt"
    novel.write_text("\n".join(DOCUMENTS), "utf-8")
    for name, held in (("one", ()), ("other", [tmp_path / "held.txt"])):
        (tmp_path / "held.txt").write_text("Another text.\n" * 20, "utf-8")
        config = Config.resolve("demo", settings=[*tiny, "corpus.unit=file"])
        list(train_run([novel], tmp_path / name, config, valid=held, test=held))
    one, other = (Run.load(tmp_path / name) for name in ("one", "other"))
    with pytest.raises(EvaluationError, match="split their corpus in different ways"):
        RunJudge(other, one, held_out(one), "cpu")


def test_a_run_that_was_trained_on_the_reference_does_not_judge(trained, formed, notes):
    lines = notes.read_text("utf-8").splitlines()
    with pytest.raises(EvaluationError, match="was trained on"):
        RunJudge(Run.load(trained), Run.load(formed), HeldOutText(lines, "the notes"), "cpu")
