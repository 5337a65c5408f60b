"""A run as a whole: what it leaves, and that it learns what there is to learn, and no more."""

import gzip
import hashlib
import math
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from small_runs import FILES, kinds

from textwright import grammar, models
from textwright.corpus import Corpus
from textwright.errors import (
    CorpusError,
    RunError,
)
from textwright.evaluation.neural import score
from textwright.evaluation.runs import score_run
from textwright.evaluation.scores import HeldOut
from textwright.run import Run
from textwright.training.events import Evaluation, Finished, Preview, Ready, Step

# What a run leaves


def test_training_yields_what_happens_and_why_it_ends(train, tmp_path):
    events = train()
    assert isinstance(events[0], Ready)
    assert [e.step for e in kinds(events, Step)] == list(range(1, 21))
    assert [e.step for e in kinds(events, Evaluation)] == [5, 10, 15, 20]
    assert [e.step for e in kinds(events, Preview)] == [5, 10, 15, 20]
    assert isinstance(events[-1], Finished) and events[-1].reason == "max_steps"
    assert {file.name for file in (tmp_path / "run").iterdir()} == FILES


def test_a_trained_run_has_a_picture_of_its_loss(trained):
    assert {file.name for file in trained.iterdir()} == FILES | {"loss.png"}
    assert (trained / "loss.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_a_run_keeps_a_complete_config(trained):
    kept = tomllib.loads((trained / "config.toml").read_text())
    config = Run.load(trained).config
    assert config.data.layout == kept["data"]["layout"] == "rows"
    for part in ("corpus", "tokenizer", "data", "model", "train", "sample"):
        options = getattr(config, part)
        unset = {name for name in type(options).model_fields if getattr(options, name) is None}
        assert set(kept[part]) == set(type(options).model_fields) - unset


def test_the_layout_that_auto_chose_is_kept(train, tmp_path):
    train("data.layout=auto", "train.max_steps=1")
    assert Run.load(tmp_path / "run").config.data.layout in ("windows", "stream")


def test_a_run_tells_what_computed_it(trained):
    (ready,) = [m for m in Run.load(trained).metrics() if m["event"] == "ready"]
    told = {"device": "cpu", "dtype": "float32", "threads": 1, "processes": 1}
    assert ready.items() >= told.items()
    card = (trained / "README.md").read_text()
    assert f"| computed on | cpu, float32, 1 thread, torch {torch.__version__} |" in card


def test_a_run_names_its_corpus(trained, notes):
    kept = Run.load(trained).corpus()
    assert kept["files"][0]["sha256"] == hashlib.sha256(notes.read_bytes()).hexdigest()
    assert kept["documents"] == 300
    relative = Path(os.path.relpath(notes, trained)).as_posix()
    assert kept["files"][0]["path"] == relative
    assert kept["named"] == {"sources": [relative], "valid": [], "test": []}
    counted = {part: sum(1 for _ in Run.load(trained).held_out(part)) for part in ("valid", "test")}
    assert counted == {part: kept["parts"][part] for part in counted}
    hashes = np.frombuffer((trained / "train_hashes.bin").read_bytes(), np.uint64)
    assert len(hashes) == kept["parts"]["train"]


def test_the_best_weights_are_kept(train, tmp_path):
    # A rate that first helps and then ruins.
    events = train("train.learning_rate=0.3", "train.schedule=constant")
    best = min(kinds(events, Evaluation), key=lambda e: e.scores.loss)
    assert best.step < 20
    assert [e.best for e in kinds(events, Evaluation)][-1] is False
    saved = tmp_path / f"run/checkpoints/step-{best.step:08d}/model.safetensors"
    assert saved.read_bytes() == (tmp_path / "run/model.safetensors").read_bytes()


def test_nothing_in_a_trained_run_is_a_pickle(trained):
    for file in trained.rglob("*"):
        if file.is_file():
            content = file.read_bytes()
            content = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
            assert content[:1] != b"\x80" and content[:2] != b"PK", file


def test_nothing_unpickles(train, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a pickle was read")

    monkeypatch.setattr(torch, "load", refuse)
    monkeypatch.setattr("pickle.load", refuse)
    monkeypatch.setattr("pickle.loads", refuse)
    train()
    train("train.max_steps=22", resume=True)


def test_a_private_run_keeps_no_text_held_out(train, tmp_path, notes):
    train("train.max_steps=1", private=True)
    run = Run.load(tmp_path / "run")
    assert {file.name for file in run.path.iterdir()} == FILES - {"heldout.jsonl.gz"}
    held_out = next(Corpus([notes], run.config.corpus).documents("test")).encode()
    for file in run.path.rglob("*"):
        if file.is_file():
            content = file.read_bytes()
            assert held_out not in content
            if content.startswith(b"\x1f\x8b"):
                assert held_out not in gzip.decompress(content)
    with pytest.raises(RunError, match="--private"):
        list(run.held_out("test"))


def test_a_run_that_becomes_private_forgets_what_it_kept(train, tmp_path):
    train("train.max_steps=1")
    train("train.max_steps=2", private=True, resume=True)
    assert not (tmp_path / "run" / "heldout.jsonl.gz").exists()


def test_held_out_files_are_taken_as_they_are(train, tmp_path):
    given = list(grammar.documents(7, seed=70))
    (tmp_path / "held.txt").write_text("\n".join(given))
    events = train("train.max_steps=1", valid=[tmp_path / "held.txt"])
    assert events[0].held_out == 7
    assert list(Run.load(tmp_path / "run").held_out("valid")) == given


def test_a_corpus_too_small_to_hold_anything_out_is_said(train, tmp_path):
    (tmp_path / "one.txt").write_text("a b")
    with pytest.raises(CorpusError, match=r"too few documents, 1 .*give a larger corpus.*--valid"):
        train(sources=[tmp_path / "one.txt"])


def test_a_notebook_keeps_its_backend_when_a_curve_is_drawn(trained, tmp_path):
    """In a process of its own: a backend is chosen once."""
    program = (
        "import sys, matplotlib\n"
        "matplotlib.use('svg')\n"
        "from textwright.report.loss_curve import draw_loss_curve\n"
        "from textwright.run import Run\n"
        "from pathlib import Path\n"
        "assert draw_loss_curve(Run.load(Path(sys.argv[1])))\n"
        "print(matplotlib.get_backend(), 'matplotlib.pyplot' in sys.modules)\n"
    )
    shutil.copytree(trained, tmp_path / "run")
    (tmp_path / "run" / "loss.png").unlink()
    command = [sys.executable, "-c", program, str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["svg", "False"]
    assert (tmp_path / "run" / "loss.png").exists()


def test_training_and_evaluate_score_in_the_same_way(train, tmp_path):
    events = train("train.dtype=bf16", "data.layout=rows")
    best = min((e.scores for e in kinds(events, Evaluation)), key=lambda scores: scores.loss)
    scores, _ = score_run(Run.load(tmp_path / "run"), part="valid")
    assert scores == best


# What is learned

MARGIN = 8.0  # nats a note, of 24.9 that it holds; 5.9 were measured


@pytest.mark.slow
def test_the_model_comes_near_the_truth_and_never_beats_it(train, tmp_path):
    """On notes never seen, the truth must be likelier than the model says; by the margin at most.

    Were the model better than the truth by more than three standard errors, something would leak.
    """
    file = tmp_path / "notes.txt"
    file.write_text("".join(f"{note}\n" for note in grammar.documents(8_000, seed=1)))
    settings = {
        "data.context_length": 96,
        "model.hidden_size": 96,
        "model.embedding_size": 32,
        "model.dropout": 0.0,
        "train.max_steps": 900,
        "train.evaluate_every": 450,
        "train.evaluate_characters": 20_000,
        "train.batch_size": 16,
        "train.learning_rate": 0.015,
        "train.schedule": "cosine",
        "train.clip_norm": 0.0,
    }
    train(*(f"{key}={value}" for key, value in settings.items()), sources=[file])
    run = Run.load(tmp_path / "run")
    fresh = list(grammar.documents(1_000, seed=99))
    held_out = HeldOut.of(fresh, run.tokenizer, run.escape)
    nats = np.array([of_tokens.sum() for of_tokens in score(models.load(run), held_out.rows)])
    model = -nats - held_out.escape_bits * math.log(2)
    above = np.array([grammar.log_probability(note) for note in fresh]) - model
    error = above.std() / math.sqrt(len(above))
    assert -3 * error < above.mean() < MARGIN
