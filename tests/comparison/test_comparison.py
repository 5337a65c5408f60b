"""Comparisons: scores against those of `evaluate` and known laws; what is unfair is refused."""

import json
import math
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from short_comparison import QUICK, SHORT, Truth

from textwright import api, grammar
from textwright.comparison import comparison as comparing
from textwright.comparison.comparison import beginnings, compare_models, open_subject
from textwright.comparison.subjects import Writing
from textwright.corpus import CorpusOptions
from textwright.errors import (
    CorpusError,
    EvaluationError,
    GenerationError,
    RunError,
    TextwrightError,
)
from textwright.evaluation.held_out import HeldOutText
from textwright.evaluation.runs import score_run
from textwright.report.comparison import comparison_sections, short_names, verdict
from textwright.report.page import Figure
from textwright.run import Run
from textwright.run.recorded import recorded_corpus

pytestmark = pytest.mark.usefixtures("one_thread")


# Scores


@pytest.mark.parametrize("kind", ["trained", "mixed", "counted", "bpe"])
def test_a_runs_score_is_that_of_evaluate(request, kind):
    path = request.getfixturevalue(kind)
    expected, _ = score_run(Run.load(path), device="cpu")
    [model] = compare_models([path], **SHORT).models
    assert model.score.bits_per_character == pytest.approx(expected.bits_per_character, rel=1e-6)
    assert model.score.interval == pytest.approx(expected.interval, rel=1e-6)
    assert model.score.bytes_charged == sum(
        len(text.encode()) for text in Run.load(path).held_out("test")
    )


def test_the_interval_of_a_model_with_itself_is_empty(trained):
    [pair] = compare_models([trained, trained], **SHORT).pairs
    assert (pair.difference, pair.interval) == (0.0, (0.0, 0.0))


def test_a_difference_is_that_of_the_scores_and_surer_than_they_are(trained, counted):
    found = compare_models([trained, counted], **SHORT)
    one, other = (model.score for model in found.models)
    [pair] = found.pairs
    gap = one.bits_per_character - other.bits_per_character
    assert pair.difference == pytest.approx(gap)
    assert pair.interval[0] < gap < pair.interval[1]
    width = pair.interval[1] - pair.interval[0]
    assert width < sum(score.interval[1] - score.interval[0] for score in (one, other))


def test_the_truth_wins_and_its_entropy_lies_in_its_interval(counted, tmp_path, monkeypatch):
    file = tmp_path / "many.txt"
    file.write_text("".join(f"{note}\n" for note in grammar.documents(400, seed=7)), "utf-8")
    given = open_subject
    monkeypatch.setattr(
        comparing, "open_subject", lambda name, *_: name if name is truth else given(name)
    )
    truth = Truth()
    found = compare_models([truth, counted], [file], **SHORT)
    best, other = found.models
    low, high = best.score.interval
    measures = grammar.measures()
    assert low < measures.entropy / math.log(2) / measures.characters < high
    assert other.score.interval[0] > high
    assert found.pairs[0].interval[1] < 0


# What is unfair


def test_a_run_that_read_the_text_is_refused_by_name(trained, bpe, tmp_path):
    run = Run.load(trained)
    file = tmp_path / "leak.txt"
    train = next(recorded_corpus(run).documents("train"))
    file.write_text(f"{next(grammar.documents(1, seed=99))}\n{train}\n", "utf-8")
    with pytest.raises(EvaluationError, match=r"was trained on 1 of the 2 documents of .*leak.txt"):
        compare_models([trained, bpe], [file], **SHORT)


def test_a_corpus_file_that_trained_a_run_is_refused(trained, notes):
    with pytest.raises(EvaluationError, match=r"is the corpus that .* was trained on"):
        compare_models([trained], [notes], **SHORT)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda c: c["files"][0].update(sha256="0"), "were trained on different corpora"),
        (lambda c: c["options"].update(split_salt="other"), "split their corpus in different"),
        (lambda c: c["options"].update(lowercase=True), "in different ways: lowercase is False"),
        (lambda c: c.update(template="{title}"), "template is '{text}' and '{title}'"),
    ],
)
def test_runs_that_cannot_share_a_text_are_refused(trained, tmp_path, change, sentence):
    other = tmp_path / "other"
    shutil.copytree(trained, other)
    file = other / "corpus.json"
    content = json.loads(file.read_text("utf-8"))
    change(content)
    file.write_text(json.dumps(content), "utf-8")
    (other / "checksums.json").unlink()
    with pytest.raises(EvaluationError, match=sentence):
        compare_models([trained, other], **SHORT)


def test_runs_of_other_corpora_are_compared_on_text_that_is_new_to_both(trained, fresh, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(trained, other)
    file = other / "corpus.json"
    content = json.loads(file.read_text("utf-8"))
    content["files"][0]["sha256"] = "0"
    file.write_text(json.dumps(content), "utf-8")
    (other / "checksums.json").unlink()
    found = compare_models([trained, other], [fresh], **SHORT)
    assert found.held_out.to_json()["documents"] == 20
    assert found.pairs[0].difference == 0


def test_a_run_without_held_out_documents_needs_a_corpus(trained, fresh, tmp_path):
    other = tmp_path / "private"
    shutil.copytree(trained, other)
    (other / "heldout.jsonl.gz").unlink()
    with pytest.raises(RunError, match=r"heldout\.jsonl\.gz is damaged \(it is missing\)"):
        compare_models([other], **SHORT)
    assert compare_models([other], [fresh], **SHORT).models


def test_without_a_run_the_text_must_be_named(exported, fresh):
    with pytest.raises(EvaluationError, match="Without a run there is no held-out text"):
        compare_models([exported], **SHORT)
    options = CorpusOptions(unit="line")
    found = compare_models([exported], [fresh], options=options, **SHORT)
    assert found.held_out.to_json()["documents"] == 20
    easy = compare_models([exported], [fresh], options=options, device="cpu", writing=QUICK)
    assert "no run says what to train them on" in easy.left_out[0]


def test_an_empty_corpus_is_a_sentence(trained, tmp_path):
    empty = tmp_path / "empty.txt"
    empty.write_text("", "utf-8")
    with pytest.raises(CorpusError):
        compare_models([trained], [empty], **SHORT)


# All together


def test_a_comparison_is_told_in_the_agreed_keys(trained, counted):
    found = compare_models([trained, counted], documents=8, **SHORT).to_json()
    assert {"documents", "characters", "fingerprint"} <= found["held_out"].keys()
    assert found["held_out"]["documents"] == 8
    keys = {"run", "bits_per_character", "interval", "tokens_per_second", "diversity"}
    assert all(keys | {"memorisation"} <= run.keys() for run in found["runs"])
    assert [set(pair) for pair in found["pairs"]] == [{"a", "b", "difference", "interval"}]
    assert found["protocol"]
    json.dumps(found, allow_nan=False)


def test_fields_are_scored_where_there_is_a_template(formed):
    [model] = compare_models([formed], documents=5, **SHORT).models
    assert model.adherence is not None
    assert set(model.adherence.fields) == {"course", "pans", "note"}


def test_fields_that_the_tokens_do_not_separate_are_left_out_with_a_sentence(formed, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(formed, other)
    file = other / "config.toml"
    template = "{course} : {pans} : {note}"
    assert template in file.read_text("utf-8")
    file.write_text(file.read_text("utf-8").replace(template, template.replace(" :", "")), "utf-8")
    (other / "checksums.json").unlink(missing_ok=True)
    found = compare_models([other], documents=5, **SHORT)
    assert found.models[0].adherence is None
    *_, sentence = found.left_out
    assert sentence.startswith(f"How {other} keeps to its fields is left out: The fields course")


def test_prompts_are_the_beginnings_of_documents():
    documents = [f"one two three four five six {n}" for n in range(50)]
    found = beginnings(documents, 5, 100)
    assert len(found) == 5
    assert found[0] == ("one two three four five", " six 0")
    assert found[-1][1] == " six 49"
    novel = beginnings(["word " * 1_000], 8, 50)
    assert len(novel) == 8
    assert all(prompt.startswith("word") for prompt, _ in novel)


def test_beginnings_of_few_documents_are_stretches_that_do_not_overlap():
    text = " ".join(f"word{number}" for number in range(300))  # of 2,500 characters
    for found in (beginnings([text], 32, 300), beginnings([text.replace(" ", "\n")], 32, 300)):
        assert 5 < len(found) < 9
        joined = [prompt + rest for prompt, rest in found]
        words = [word for stretch in joined for word in stretch.split()[:-1]]
        assert len({*words}) == len(words)
        assert all(prompt.startswith("word") and len(rest) > 250 for prompt, rest in found)


def test_beginnings_in_a_script_without_spaces_are_different_stretches_of_it():
    text = "".join(chr(0x4E00 + number) for number in range(5_000))
    found = beginnings([text], 32, 100)
    assert len(found) == 32
    assert all((len(prompt), len(rest)) == (5, 100) for prompt, rest in found)
    letters = [letter for prompt, rest in found for letter in prompt + rest]
    assert len({*letters}) == len(letters)
    assert beginnings([text[:200]] * 2, 2, 100) == [(text[:5], text[5:105])] * 2


def test_a_prompt_of_whole_words_does_not_depend_on_how_much_is_written():
    assert beginnings(["Remember yesterday's extraordinary thunderstorms over Lisbon"], 1, 20) == [
        ("Remember yesterday's extraordinary", " thunderstorms over ")
    ]


def test_documents_of_too_few_words_for_a_prompt_are_what_follows_nothing():
    names = ["Anna", "Bo", "Carl Gustav Emil", "", "Dora of the seven long roads"]
    assert beginnings(names, 5, 300) == [
        ("", "Anna"),
        ("", "Bo"),
        ("", "Carl Gustav Emil"),
        ("Dora of the seven long", " roads"),
    ]


def test_equal_prompts_and_seeds_give_equal_texts_and_other_prompts_other_draws(trained):
    given = {**SHORT, "prompts": ["", ""], "documents": 1}
    one, two = (compare_models([trained], **given).models[0].texts for _ in range(2))
    assert one == two
    assert one[0] != one[1]


def test_a_rule_that_no_model_can_write_by_is_refused_before_any_is_scored():
    with pytest.raises(GenerationError, match=r"temperature cannot be -1.*; top_p cannot be 2"):
        Writing(temperature=-1, top_p=2)
    with pytest.raises(GenerationError, match="temperature cannot be nan"):
        Writing(temperature=math.nan)


def test_the_fingerprint_is_of_the_documents():
    assert HeldOutText(["ab", "c"], "").fingerprint != HeldOutText(["a", "bc"], "").fingerprint


def test_a_model_has_the_same_color_in_every_chart(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "other")
    found = compare_models([tmp_path / "other", trained], documents=3, **SHORT)
    first, second = found.models
    without_curve = replace(found, models=[replace(first, curve=[]), second])
    scores, *others = comparison_sections(without_curve)
    [training] = [section for section in others if section.title == "Training"]
    plot, chart = (
        next(block.drawing for block in section.blocks if isinstance(block, Figure))
        for section in (scores, training)
    )
    colors = re.findall(r'<circle [^>]*fill="([^"]+)"', plot)
    assert len({*colors}) == 2
    assert {*re.findall(r'<polyline [^>]*stroke="([^"]+)"', chart)} == {colors[1]}


def test_the_folder_one_stands_in_has_a_name_in_a_report(tmp_path, monkeypatch):
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    url = "http://127.0.0.1:8000/v1"
    named = {".": "here", "../gpt": "gpt", "..": tmp_path.name, url: url}
    assert short_names(list(named)) == named
    assert short_names([".", "../here"]) == {".": ".", "../here": "../here"}


def test_the_api_compares_and_writes_a_report(trained, tmp_path):
    found = api.compare(trained, out=tmp_path / "report.html", documents=3, **SHORT)
    assert found.models[0].name == str(trained)
    page = (tmp_path / "report.html").read_text("utf-8")
    assert f"{found.models[0].score.bits_per_character:.4f}" in page
    with pytest.raises(TextwrightError, match=r"should end in .html or .md"):
        api.compare(trained, out=Path("report.pdf"), **SHORT)


def test_a_run_and_its_copy_need_the_same(trained, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(trained, copy)
    found = compare_models([trained, copy], documents=20, **SHORT)
    assert verdict(found).endswith("bits a character, and so does copy.")
