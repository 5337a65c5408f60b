"""`textwright inspect`: its tables, views, JSON, page, and one sentence for wrong use."""

import re
import shutil
from functools import partial

import numpy as np
import pytest

from textwright.cli.display import show_readings
from textwright.config import Config
from textwright.inspection.next_tokens import Candidate, NextTokens, Token
from textwright.inspection.text import Reading
from textwright.training.session import train_run


@pytest.fixture
def tw(tw):
    """`textwright inspect` → exit code, stdout, stderr."""
    return partial(tw, "inspect")


@pytest.fixture(scope="module")
def gpt(notes, tmp_path_factory):
    return train(notes, tmp_path_factory, "gpt", "demo-gpt", ["train.max_steps=2"])


@pytest.fixture(scope="module")
def counts(notes, tmp_path_factory):
    return train(notes, tmp_path_factory, "counts", "counts", [])


def train(notes, factory, name, preset, settings):
    out = factory.mktemp("runs") / name
    for _ in train_run([notes], out, Config.resolve(preset, settings=settings)):
        pass
    return out


def test_the_likeliest_next_tokens(tw, tw_json, trained):
    argv = [trained, "--prompt", "Slow", "--temperatures", "1.0,0.5", "--top", "3"]
    (step,) = tw_json(*argv)["steps"]
    keys = {"context", "tokens", "entropy", "next", "attention", "gates", "saliency", "surprisal"}
    assert set(step) == keys | {"shares"}
    assert step["context"] == "Slow"
    assert set(step["next"]) == set(step["entropy"]) == {"1.0", "0.5"}
    likeliest, cold = step["next"]["1.0"], step["next"]["0.5"]
    of_mixtures = {"neural", "counts", "memory"}
    assert all(
        set(row) == {"token", "id", "text", "probability"} | of_mixtures for row in likeliest
    )
    assert [row["id"] for row in likeliest] == [row["id"] for row in cold]
    # One temperature's table follows from the other's: p^(1/T).
    ratio = likeliest[0]["probability"] / likeliest[2]["probability"]
    assert cold[0]["probability"] / cold[2]["probability"] == pytest.approx(ratio**2)
    out = tw(*argv)[1]
    assert "T = 0.5" in out and likeliest[0]["text"] in out
    assert "layer 1" not in out


def test_gates_are_the_six_quantities_of_a_cell(tw, tw_json, trained):
    (step,) = tw_json(trained, "--prompt", "Slow soup")["steps"]
    (layer,) = step["gates"]
    out = tw(trained, "--prompt", "Slow soup", "--view", "gates")[1]
    heading, *lines = out[out.index("layer 1") :].splitlines()
    assert heading.split() == ["layer", "1", "f", "i", "|C̃|", "|C|", "o", "|h|"]
    assert len(lines) == len(step["tokens"])
    last = [f"{statistics['magnitude'][-1]:.3f}" for statistics in layer.values()]
    assert lines[-1].split()[1:] == last


def test_json_has_every_view_of_a_text(tw_json, trained, gpt, counts):
    for run, has in ((trained, "gates"), (gpt, "attention"), (counts, None)):
        found = tw_json(run, "--prompt", "Slow onions for")
        assert list(found) == ["steps"]  # units are to be asked for
        (step,) = found["steps"]
        assert {name for name in ("attention", "gates") if step[name]} == ({has} - {None})
        assert (step["saliency"] is None) == (run == counts)
        if has:
            assert len(step["saliency"]) == len(step["tokens"]) == 4
        words = [token["text"].strip() for token in step["surprisal"]]
        assert words == ["Slow", "onions", "for"]
        assert {"nats", "rank", "entropy", "next"} <= set(step["surprisal"][0])


def test_surprisal_prints_a_line_for_each_token(tw, tw_json, trained):
    (step,) = tw_json(trained, "--prompt", "Slow onions for")["steps"]
    out = tw(trained, "--prompt", "Slow onions for", "--view", "surprisal")[1]
    assert "T = 1" in out and " next" not in out
    for token in step["surprisal"]:
        bits = token["nats"] / np.log(2)
        assert re.search(rf"^{token['text']} +{bits:.2f} +{token['rank']} ", out, re.MULTILINE)
    total = sum(token["nats"] for token in step["surprisal"]) / np.log(2)
    assert f"{total:.1f} bits, " in out


def test_attention_and_saliency_print_a_line_for_each_token(tw, tw_json, gpt):
    (step,) = tw_json(gpt, "--prompt", "Slow onions")["steps"]
    out = tw(gpt, "--prompt", "Slow onions", "--view", "attention", "--view", "saliency")[1]
    first = [f"{head[1]:.1%}" for head in step["attention"][0]]
    assert re.search(rf"^Slow +{' +'.join(map(re.escape, first))} ", out, re.MULTILINE)
    assert f"{step['saliency'][2]:+.3f}" in out
    assert f"for {step['next']['1.0'][0]['text']}" in out


def test_units_come_with_their_evidence(tw, tw_json, trained):
    out = tw(trained, "--view", "units")[1]
    assert "held-out tokens" in out
    units = tw_json(trained, "--view", "units")["units"]
    assert {"units", "quantity", "tokens", "pairs", "chance"} == set(units)
    assert units["tokens"] >= 600
    assert all(unit["p"] <= units["chance"] for unit in units["units"])


def test_a_text_longer_than_the_context_is_said(tw, gpt):
    long = " ".join(["Slow onions for six."] * 40)
    out = tw(gpt, "--prompt", long, "--view", "attention")[1]
    assert (
        "The text is longer than the model's context: at its end the model sees the newest" in out
    )


@pytest.mark.parametrize("name", ["trained", "gpt", "counts"])
def test_a_page_holds_all_views_that_the_run_has(tw, name, request, tmp_path):
    run = request.getfixturevalue(name)
    page = tmp_path / "page.html"
    code, out, err = tw(run, "--prompt", "Slow <b>soup</b>", "--prompt", "", "--html", page)
    assert (code, out) == (0, ""), err
    text = page.read_text("utf-8")
    titles = {
        "trained": ["Saliency", "Gates", "Units that tell something"],
        "gpt": ["Attention", "Saliency"],
        "counts": [],
    }[name]
    shown = re.findall(r"<h2[^>]*>([^<]+)</h2>", text)
    assert shown == ["What comes next", "Surprisal", *titles]
    assert "<b>soup" not in text
    assert not re.search(r"(?:src|href)=\"(?!data:|#)", text)  # nothing from elsewhere


def test_a_page_may_hold_the_views_that_are_named_and_be_markdown(tw, gpt, tmp_path):
    page = tmp_path / "page.md"
    tw(gpt, "--prompt", "Slow onions", "--view", "attention", "--html", page)
    text = page.read_text("utf-8")
    assert re.findall("^## (.*)$", text, re.MULTILINE) == ["What comes next", "Attention"]
    assert "| onions |" in text


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["trained", "--temperatures", "0"], "temperatures above 0"),
        (["trained", "--temperatures", "1;2"], "should be numbers"),
        (["trained", "--top", "0"], "--top"),
        (["trained", "--view", "attention"], "is no GPT, so it has no attention"),
        (["trained", "--view", "heads"], "--view"),
        (["gpt", "--view", "gates"], "is not recurrent, so it has no gates"),
        (["gpt", "--view", "units"], "is not recurrent, so it has no units"),
        (["counts", "--view", "saliency"], "holds counts alone, which have no saliency"),
        (["trained", "--html", "page.pdf"], "should end in .html or .md"),
    ],
)
def test_wrong_use_is_one_sentence(tw, request, argv, sentence):
    code, out, err = tw(request.getfixturevalue(argv[0]), *argv[1:])
    assert (code, out) == (2, "")
    assert sentence in err.strip().splitlines()[-1]


def test_tokens_and_contexts_are_shown_as_they_are(capsys):
    candidate = Candidate("[/b]", 1, "[/b]", 0.5)
    after = NextTokens("a [/b]\nb", [Token("x", 2, "x")], {1.0: 0.5}, {1.0: [candidate]})
    show_readings([Reading(after)], ["next"])
    shown = capsys.readouterr().out
    assert "a [/b]⏎b" in shown
    assert "50.00%  [/b]" in shown


def test_a_run_without_held_out_documents_has_no_units_but_a_page(tw, trained, tmp_path):
    run = shutil.copytree(trained, tmp_path / "run")
    (run / "heldout.jsonl.gz").unlink()
    page = tmp_path / "page.html"
    code, _, err = tw(run, "--prompt", "Slow", "--html", page)
    assert code == 0 and "heldout.jsonl.gz is damaged (it is missing)" in err
    assert ">Gates</h2>" in page.read_text("utf-8")
    assert tw(run, "--view", "units")[0] == 2
