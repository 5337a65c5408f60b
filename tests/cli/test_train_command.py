"""`textwright corpus` and `train`: what they choose, say and leave."""

import re
from pathlib import Path

import pytest
from conftest import refused

from textwright import grammar
from textwright.cli.train_commands import default_run
from textwright.config import Config
from textwright.run import Run
from textwright.training import survey


def test_corpus(tw, tw_json, notes, flags, monkeypatch):
    monkeypatch.setattr(survey, "MEASURED_SECONDS", 0.05)
    found = tw_json("corpus", notes, "--preset", "demo", *flags)
    assert {
        "documents",
        "characters",
        "words",
        "duplicates",
        "dropped",
        "cut",
        "padded",
        "unknown",
        "estimate",
    } <= set(found)
    assert set(found["estimate"]) == {"seconds_per_epoch", "memory_bytes"}
    assert found["documents"] == 300
    assert found["characters"] == sum(map(len, notes.read_text().splitlines()))
    assert found["cut"] == 1.0  # rows of 24 tokens
    assert found["estimate"]["seconds_per_epoch"] > 0
    _, out, _ = tw("corpus", notes, "--preset", "demo", *flags)
    assert "300 (267 train" in out
    assert "Note: 100% of the documents are cut" in out
    (advised,) = re.findall(r"data\.layout=\w+", out)
    for preset in ("demo", "demo-gpt"):
        Config.resolve(preset, settings=[advised])


def test_a_corpus_is_looked_at_with_the_split_that_training_will_see(
    tw_json, notes, flags, monkeypatch, tmp_path
):
    monkeypatch.setattr(survey, "MEASURED_SECONDS", 0.0)
    valid = tmp_path / "valid.txt"
    valid.write_text("".join(f"{note}\n" for note in grammar.documents(7, seed=9)))
    argv = [notes, "--preset", "demo", *flags, "--valid", valid, "--test", valid, "--threads", "1"]
    found = tw_json("corpus", *argv)
    tw_json("train", *argv, "--set", "train.max_steps=1")
    assert found["parts"] == Run.load(tmp_path / "runs/notes").corpus()["parts"]
    assert found["parts"] == {"train": 300, "valid": 7, "test": 7}


def test_train_and_what_it_says(tw, tw_json, notes, flags):
    found = tw_json("train", notes, "--preset", "demo", *flags)
    keys = {"run", "steps", "epochs", "seconds", "tokens_per_second", "best", "before"}
    assert set(found) == keys
    assert found["run"] == "runs/notes"
    assert found["steps"] == 20
    assert set(found["best"]) == {"step", "loss", "bits_per_character"}
    resumed = tw_json("train", "--resume", "--out", "runs/notes")
    assert {**resumed, "run": ""} == {**found, "run": ""}
    assert "Nothing is left to do" in tw("train", "--resume", "--out", "runs/notes")[2]
    code, out, err = tw("train", "--resume", "--out", "runs/notes", "--set", "train.max_steps=22")
    assert code == 0, err
    assert "from step 20 to step 22" in err and "Nothing is left" not in err
    assert "textwright generate runs/notes" in err
    assert out == ""


@pytest.mark.parametrize(
    ("sources", "run"),
    [
        ("a.txt", "a"),
        ("b/c.csv.gz", "c"),
        ("b/*.txt", "b"),
        ("*.txt", "corpus"),
        ("b*/c", "corpus"),
        ("/*.txt", "corpus"),
    ],
)
def test_a_run_is_named_after_its_corpus(sources, run):
    assert default_run([sources]) == Path("runs", run)


@pytest.fixture
def jokes(tmp_path):
    """A table with a text and no column of that name."""
    rows = (f'{n},"{note}"\n' for n, note in enumerate(grammar.documents(300, seed=6)))
    (tmp_path / "jokes.csv").write_text("ID,Joke\n" + "".join(rows))
    return "jokes.csv"


QUICK = ["--set", "train.max_steps=1"]


def test_the_text_of_a_table_is_chosen_said_and_kept(tw, tw_json, jokes, flags, tmp_path):
    argv = ["train", jokes, "--preset", "demo", *flags, "--out", "run"]
    code, _, err = tw(*argv, *QUICK)
    assert code == 0, err
    line = "Text column: Joke (of 2 columns). Choose another with --text COLUMN or --template "
    assert line + "'{ID}: {Joke}'.\n" in err
    assert Run.load(tmp_path / "run").config.corpus.template == "{Joke}"
    assert Run.load(tmp_path / "run").corpus()["options"]["template"] == "{Joke}"
    # Neither is it chosen again, nor said, when the run goes on or is scored.
    code, _, err = tw(*argv, "--resume", "--set", "train.max_steps=2")
    assert code == 0, err
    assert "Text column" not in err and "corpus." not in err
    assert tw_json("evaluate", "run", jokes)["documents"] == 300
    refusal = refused(tw(*argv, "--resume", "--text", "ID"))
    assert "cannot change corpus.template from '{Joke}' to '{ID}'" in refusal


@pytest.mark.parametrize(
    ("given", "template"),
    [
        (["--text", "ID"], "{ID}"),
        (["--template", '"{ID}" = {Joke}'], '"{ID}" = {Joke}'),
        (["--set", "corpus.template={ID} {Joke}"], "{ID} {Joke}"),
    ],
)
def test_the_text_of_a_table_is_what_is_asked_for(tw, jokes, flags, tmp_path, given, template):
    argv = ["train", jokes, "--preset", "demo", *flags, *QUICK, "--out", "run", *given]
    code, _, err = tw(*argv)
    assert code == 0, err
    assert "Text column" not in err
    assert Run.load(tmp_path / "run").config.corpus.template == template


def test_a_run_to_begin_from_gives_its_template_to_the_same_table(tw, jokes, flags, tmp_path):
    first = ["--preset", "demo", *flags, "--template", "{ID}: {Joke}", "--out", "a"]
    assert tw("train", jokes, *first, *QUICK)[0] == 0
    code, _, err = tw("train", jokes, "--from", "a", *QUICK, "--out", "b")
    assert code == 0, err
    assert "Template: {ID}: {Joke}, as in the run that training begins from." in err
    assert Run.load(tmp_path / "b").config.corpus.template == "{ID}: {Joke}"


def test_a_list_is_seen_to_be_one_and_said(tw, tw_json, notes, flags, monkeypatch, tmp_path):
    monkeypatch.setattr(survey, "MEASURED_SECONDS", 0.0)
    code, out, err = tw("corpus", notes)
    assert code == 0, err
    line = "Documents: one a line (a list of short lines). Change with --unit file."
    assert out.splitlines()[0] == line
    found = tw_json("corpus", notes)
    assert (found["choices"][0], found["documents"]) == (line, 300)
    found = tw_json("corpus", notes, "--unit", "file")
    assert (len(found["choices"]), found["documents"]) == (1, 1)
    few = ["--set", "model.family=lstm", "--set", "model.hidden_size=8", *QUICK, "--out"]
    code, _, err = tw("train", notes, *few, "run")
    assert code == 0, err
    assert line in err
    assert Run.load(tmp_path / "run").config.corpus.unit == "line"
    assert tw("train", notes, *few, "whole", "--unit", "file")[0] == 0
    assert Run.load(tmp_path / "whole").config.corpus.unit == "file"


def test_train_from_another_run(tw_json, notes, trained, tmp_path):
    more = ["--set", "train.max_steps=2", "--set", "train.threads=1", "--set", "train.dtype=fp32"]
    found = tw_json("train", notes, "--from", trained, "--out", "again", *more)
    assert found["steps"] == 2
    run, origin = Run.load(tmp_path / "again"), Run.load(trained)
    assert run.tokenizer.fingerprint == origin.tokenizer.fingerprint
    assert run.config.origin.source == str(trained)
    assert run.config.model == origin.config.model


def test_train_with_files_of_its_own_to_hold_out(tw_json, tmp_path, notes, flags):
    for name in ("valid", "test"):
        (tmp_path / name).write_text("\n".join(grammar.documents(5, seed=len(name))))
    argv = ["--preset", "demo", *flags, "--valid", "valid", "--test", "test", "--out", "run"]
    tw_json("train", notes, *argv, "--set", "train.max_steps=1")
    parts = Run.load(tmp_path / "run").corpus()["parts"]
    assert (parts["valid"], parts["test"]) == (5, 5)


def test_a_time_budget_ends_training(tw_json, notes, flags, tmp_path):
    argv = ["--preset", "demo", *flags, "--time-budget", "1s", "--out", "run"]
    found = tw_json("train", notes, *argv, "--set", "train.max_steps=1")
    assert found["steps"] == 1
    assert Run.load(tmp_path / "run").config.train.time_budget == 1


def test_tensorboard_logs_on_request(tw, notes, flags, tmp_path, monkeypatch):
    shown = []

    class Board:
        add_scalar = add_text = lambda self, *values: shown.append(values)

        def close(self):
            shown.append("closed")

    monkeypatch.setattr("textwright.cli.display.progress._open_tensorboard", lambda folder: Board())
    code, _, err = tw("train", notes, "--preset", "demo", *flags, "--tensorboard", "--out", "run")
    assert code == 0, err
    assert ("loss/held out", 20) in {(entry[0], entry[-1]) for entry in shown[:-1]}
    assert shown[-1] == "closed"
