"""Run folders that version 0.1.0 wrote (format version 1) still load, write, resume and score.

`version_1/` holds three that its code trained on the grammar's notes: an LSTM and adapters of a
GPT, both stopped at step 12 of 20, and that GPT, whose sinusoidal positions were not yet scaled.
expected.json holds the texts and losses that the old code then gave.
"""

import json
import shutil
from pathlib import Path

import pytest

import textwright as tw
from textwright import grammar
from textwright.config import FORMAT_VERSION, Config
from textwright.evaluation.runs import score_run
from textwright.models.pretrained import find_origin
from textwright.run import Run
from textwright.training.session import train_run

FOLDER = Path(__file__).with_name("version_1")
EXPECTED = json.loads((FOLDER / "expected.json").read_text("utf-8"))


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with the three runs and their corpus."""
    shutil.copytree(FOLDER, tmp_path, dirs_exist_ok=True)
    notes = "".join(f"{note}\n" for note in grammar.documents(300, seed=3))
    (tmp_path / "notes.txt").write_text(notes, "utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", EXPECTED)
def test_an_old_run_writes_the_same_texts(place, name):
    samples = tw.load(name).generate("The", num=3, seed=5, temperature=0.8, max_new_tokens=20)
    assert [sample.text for sample in samples] == EXPECTED[name]["texts"]


@pytest.mark.parametrize("name", ["lstm", "adapted"])
def test_an_old_run_resumes_to_the_same_losses(place, name):
    for _ in train_run([], place / name, resume=True):
        pass
    metrics = Run.load(place / name).metrics()
    losses = [m["loss"] for m in metrics if m["event"] == "step"]
    evaluations = [m["scores"]["loss"] for m in metrics if m["event"] == "evaluation"]
    # Not to the bit: dropout drops other places than it did then.
    assert losses == pytest.approx(EXPECTED[name]["losses"], abs=5e-3)
    assert evaluations == pytest.approx(EXPECTED[name]["evaluations"], abs=5e-3)


def test_an_old_run_has_the_held_out_loss_that_it_recorded(place):
    run = Run.load(place / "gpt")
    scores, _ = score_run(run, part="valid")
    best = min(m["scores"]["loss"] for m in run.metrics() if m["event"] == "evaluation")
    assert scores.loss == pytest.approx(best, abs=1e-5)


def test_the_origin_of_an_old_run_gets_its_own_table(place):
    config = Run.load(place / "adapted").config
    assert config.origin.source == "gpt"
    assert "init_from" not in config.to_toml()
    assert config.model.token_scale == 1.0
    assert find_origin("adapted").inherited()["given"]["model"]["embedding_scale"] == 1.0


def test_the_config_of_an_old_run_can_be_given_as_a_file(place):
    kept = Run.load(place / "gpt").config
    assert Config.resolve(file=place / "gpt" / "config.toml") == kept
    assert kept.format_version == FORMAT_VERSION
