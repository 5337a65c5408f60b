"""A run as a whole: what it leaves, how it is resumed, and that it learns no more and no less than
there is to learn.
"""

import gzip
import hashlib
import json
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
from small_runs import FILES, assert_same_run

import textwright.run.arrays
import textwright.training.session
from textwright import grammar, models
from textwright.config import Config
from textwright.corpus import Corpus
from textwright.errors import (
    ConfigError,
    CorpusError,
    GenerationError,
    RunError,
    TrainingError,
)
from textwright.evaluation.neural import score
from textwright.evaluation.runs import score_run
from textwright.evaluation.scores import HeldOut
from textwright.run import Run
from textwright.run.origin import choose_config
from textwright.tokenizer import Tokenizer
from textwright.training import preparation
from textwright.training.cache import encode_corpus
from textwright.training.events import Preview, Ready
from textwright.training.session import train_run
from textwright.training.trainer import Evaluation, Finished, Step, Trainer


@pytest.fixture
def train(notes, tiny, tmp_path, monkeypatch):
    """Train on the notes → the events. No picture is drawn: that takes longer than the training."""
    monkeypatch.setattr(textwright.training.session, "draw_loss_curve", lambda run: False)

    def go(*settings, out="run", sources=(notes,), **how):
        config = Config.resolve("demo", settings=[*tiny, *settings])
        return list(train_run(sources, tmp_path / out, config, **how))

    return go


def kinds(events, kind):
    return [event for event in events if isinstance(event, kind)]


# What a run leaves


def test_training_yields_what_happens_and_why_it_ends(train, tmp_path):
    events = train()
    assert isinstance(events[0], Ready)
    assert [e.step for e in kinds(events, Step)] == list(range(1, 21))
    assert [e.step for e in kinds(events, Evaluation)] == [5, 10, 15, 20]
    assert [e.step for e in kinds(events, Preview)] == [5, 10, 15, 20]
    assert isinstance(events[-1], Finished) and events[-1].reason == "max_steps"
    assert {file.name for file in (tmp_path / "run").iterdir()} == FILES


def test_a_sampled_softmax_trains_other_weights(train, tmp_path):
    weights = []
    for size in (0, 64):
        train("tokenizer.kind=bpe", "tokenizer.vocab_size=400", f"train.sampled_softmax={size}")
        weights.append(Run.load(tmp_path / "run").weights()["embedding"])
        shutil.rmtree(tmp_path / "run")
    assert not np.array_equal(*weights)
    np.testing.assert_allclose(*weights, atol=0.05)


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


# One training at a time


@pytest.fixture
def training(notes, tiny, tmp_path):
    """A training in a process of its own, which sleeps at its third step until it is killed."""
    program = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from textwright.config import Config\n"
        "from textwright.training.session import train_run\n"
        "notes, out, *settings = sys.argv[1:]\n"
        "for event in train_run([notes], Path(out), Config.resolve('demo', settings=settings)):\n"
        "    if event.kind == 'step' and event.step == 3:\n"
        "        print('ready', flush=True)\n"
        "        time.sleep(600)\n"
    )
    argv = [sys.executable, "-c", program, str(notes), str(tmp_path / "run"), *tiny]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        yield process
        process.kill()


def test_a_second_training_in_a_folder_is_refused_until_the_first_is_gone(
    training, train, tmp_path, notes
):
    sentence = rf"run is being trained by process {training.pid} on .*name another --out"
    for resume in (False, True):
        with pytest.raises(RunError, match=sentence):
            train(resume=resume)
    assert Run.load(tmp_path / "run").checkpoints.steps() == [0]  # reading needs no lock
    training.kill()
    training.wait()
    events = train(resume=True)
    assert events[-1].step == 20
    train(out="whole")
    assert_same_run(tmp_path / "run", tmp_path / "whole")


def test_a_training_that_comes_to_nothing_leaves_no_folder(train, tmp_path):
    (tmp_path / "empty.txt").touch()
    with pytest.raises(CorpusError):
        train(sources=[tmp_path / "empty.txt"], out="nothing")
    assert not (tmp_path / "nothing").exists()


# The options of a run that is resumed


def test_resuming_with_a_preset_keeps_the_settings_of_the_run(train, tmp_path, notes):
    train("train.max_steps=5", "train.clip_norm=0.7", "sample.top_k=9")
    kept = Run.load(tmp_path / "run").config
    for preset in ("demo", "wine-gpt", ""):
        config = choose_config(preset, settings=["train.epochs=101"], resume=tmp_path / "run")
        assert config.train.clip_norm == 0.7
        assert config.sample.top_k == 9
        assert config.train.max_steps == 5
        assert config.data == kept.data
        assert config.train.epochs == 101
    other = choose_config("nietzsche-char-lstm", resume=tmp_path / "run")
    assert other.train.epsilon == 1e-7 != kept.train.epsilon  # which the run had from its preset


def test_what_changes_in_a_run_that_is_resumed_is_reported(train, tmp_path, notes):
    train("train.max_steps=2")
    config = choose_config(
        settings=["train.max_steps=3", "sample.top_p=0.9"], resume=tmp_path / "run"
    )
    ready = next(events := train_run([notes], tmp_path / "run", config, resume=True))
    assert ready.changed == ["train.max_steps: 2 → 3", "sample.top_p: 1.0 → 0.9"]
    events.close()
    again = next(events := train_run([notes], tmp_path / "run", resume=True))
    assert again.changed == []
    events.close()


# After a kill


def test_best_weights_metrics_and_checkpoint_agree_when_a_run_is_resumed(train, tmp_path, notes):
    """The best weights may be from an evaluation after the checkpoint that is resumed from."""
    train("train.max_steps=10")
    run = Run.load(tmp_path / "run")
    kept = run.weights()
    run.keep_weights({name: array + 1 for name, array in kept.items()})
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "step-00000005")
    ended = {**run.metrics()[-1], "step": 15}
    assert ended["event"] == "evaluation"
    run.append("metrics.jsonl", json.dumps(ended) + "\n")
    events = train_run([notes], tmp_path / "run", resume=True)
    next(events)
    assert all(np.array_equal(kept[name], array) for name, array in run.weights().items())
    assert [m["step"] for m in run.metrics() if m["event"] == "evaluation"] == [5, 10]
    events.close()


def test_weights_of_an_evaluation_that_no_checkpoint_knows_are_taken_back(train, tmp_path, notes):
    train("train.max_steps=5")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "step-00000005")
    events = train_run([notes], tmp_path / "run", resume=True)
    next(events)
    assert not (tmp_path / "run" / "model.safetensors").exists()
    assert [m["event"] for m in Run.load(tmp_path / "run").metrics()] == ["ready", "ready"]
    events.close()


# Resuming


def test_weights_of_another_run_are_gone_on_from(train, trained, tmp_path):
    origin = Run.load(trained)
    new = tmp_path / "new.txt"
    new.write_text("".join(f"{note} Zanzibar.\n" for note in grammar.documents(60, seed=8)))
    events = train("train.max_steps=5", init_from=origin, sources=[new])
    fresh = train("train.max_steps=5", out="fresh", sources=[new])
    run = Run.load(tmp_path / "run")
    assert run.tokenizer.fingerprint == origin.tokenizer.fingerprint
    assert run.tokenizer.unknown("Zanzibar") == ["Zanzibar"]
    assert kinds(events, Step)[0].loss < kinds(fresh, Step)[0].loss - 0.1


@pytest.mark.parametrize("setting", ["model.hidden_size=9", "tokenizer.kind=char"])
def test_what_the_weights_of_another_run_are_cannot_be_set(trained, setting):
    key, _, value = setting.partition("=")
    with pytest.raises(
        ConfigError, match=rf"{key} is .* in the weights that --from names.*{value}"
    ):
        choose_config(settings=[setting], init_from=Run.load(trained))


def test_a_preset_says_how_another_runs_weights_go_on_not_what_they_are(trained):
    origin = Run.load(trained)
    config = choose_config("nietzsche-char-lstm", init_from=origin)
    assert config.tokenizer == origin.config.tokenizer
    assert config.model == origin.config.model
    assert config.train.batch_size == 8
    assert choose_config(init_from=origin).data.layout == "auto"  # another corpus, another layout
    assert choose_config(init_from=origin).data.context_length == 24


def test_weights_without_a_checkpoint_are_not_trained_over(train, tmp_path):
    train("train.max_steps=5")
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    before = (tmp_path / "run" / "model.safetensors").read_bytes()
    with pytest.raises(RunError, match="holds a run already"):
        train("train.max_steps=5")
    with pytest.raises(RunError, match=r"no checkpoint to continue from; .* --from"):
        train("train.max_steps=5", resume=True)
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == before


def test_a_device_that_is_full_outside_a_step_is_said(train, monkeypatch):
    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(textwright.training.session, "evaluate", full)
    with pytest.raises(TrainingError, match=r"Memory ran out; what was saved before is intact"):
        train("train.max_steps=5")


def test_another_corpus_cannot_be_resumed_with(train, tmp_path):
    train("train.max_steps=1")
    (tmp_path / "other.txt").write_text("".join(f"{n}\n" for n in grammar.documents(250, seed=9)))
    with pytest.raises(RunError, match=r"not the one that .*run was begun with; train a new run"):
        train(sources=[tmp_path / "other.txt"], resume=True)


def test_a_run_resumes_without_its_corpus_being_named(train, tmp_path):
    train("train.max_steps=5")
    events = train("train.max_steps=7", sources=[], resume=True)
    assert [e.step for e in kinds(events, Step)] == [6, 7]


def test_held_out_files_are_resumed_with_or_told_to_be_others(train, notes, tmp_path):
    shutil.copy(notes, tmp_path / "held.txt")
    (tmp_path / "other.txt").write_text("another text")
    train("train.max_steps=1", valid=[tmp_path / "held.txt"])
    events = train("train.max_steps=2", resume=True)  # the corpus is named again, held.txt is not
    assert events[-1].step == 2
    with pytest.raises(RunError, match="not the one that"):
        train(sources=[], valid=[tmp_path / "other.txt"], resume=True)


def test_a_sample_that_cannot_be_written_stops_nothing(train, tmp_path):
    few = ("sample.no_repeat_ngram=1", "sample.min_new_tokens=99", "sample.max_new_tokens=99")
    events = train("tokenizer.kind=char", *few)
    assert events[-1].step == 20
    assert "No token was left to choose" in (tmp_path / "run" / "samples.md").read_text()


def test_of_few_documents_each_is_scored_by_its_share(tmp_path):
    (tmp_path / "a.txt").write_text("A short note. " * 20)
    (tmp_path / "b.txt").write_text("A long story, told at length. " * 20_000)
    corpus = Corpus([tmp_path], Config().corpus)
    tokenizer = Tokenizer.train(Config().tokenizer, corpus.documents("train"))
    encoded = encode_corpus(corpus, tokenizer)
    short, long = preparation._sample(corpus, "train", encoded, 100_000)
    assert 1 <= len(short) < 280
    assert len(long) == pytest.approx(100_000, rel=0.01)
    for whole, sampled in zip(
        corpus.documents("train"), preparation._sample(corpus, "train", encoded, 0), strict=True
    ):
        assert whole == sampled


def test_what_the_best_loss_is_of_cannot_change(train):
    train("train.max_steps=1")
    with pytest.raises(ConfigError, match=r"cannot change train\.evaluate_characters from"):
        train("train.evaluate_characters=300", resume=True)


@pytest.mark.parametrize(("before", "now"), [("muon", "adamw"), ("adamw", "muon")])
def test_an_optimizer_with_other_moments_is_refused_and_the_config_stays(
    train, tmp_path, before, now
):
    train("train.max_steps=2", f"train.optimizer={before}")
    kept = (tmp_path / "run" / "config.toml").read_bytes()
    sentence = rf"cannot change train\.optimizer from '{before}' to '{now}'; leave it as it was"
    with pytest.raises(ConfigError, match=sentence):
        train("train.max_steps=3", f"train.optimizer={now}", resume=True)
    assert (tmp_path / "run" / "config.toml").read_bytes() == kept
    events = train("train.max_steps=3", f"train.optimizer={before}", resume=True)
    assert events[-1].step == 3


def test_options_that_are_refused_while_a_run_is_taken_up_leave_its_config(train, tmp_path):
    train("train.max_steps=2")
    kept = (tmp_path / "run" / "config.toml").read_bytes()
    with pytest.raises(GenerationError, match="xylophone"):
        train("train.max_steps=3", 'sample.forbid=["xylophone"]', resume=True)
    assert (tmp_path / "run" / "config.toml").read_bytes() == kept
    assert train("train.max_steps=3", resume=True)[-1].step == 3


def test_adam_goes_on_as_adamw(train):
    train("train.max_steps=2", "train.weight_decay=0", "train.optimizer=adam")
    events = train("train.max_steps=3", "train.optimizer=adamw", resume=True)
    assert events[-1].step == 3


def test_a_finished_run_resumes_to_its_end_at_once(train):
    train()
    (ready, finished) = train(resume=True)
    assert ready.progress.best_step > 0
    assert (finished.step, finished.reason) == (20, "max_steps")


def test_closing_the_events_saves_the_last_whole_step(notes, tiny, tmp_path):
    config = Config.resolve("demo", settings=tiny)
    events = train_run([notes], tmp_path / "run", config)
    for event in events:
        if isinstance(event, Step) and event.step == 8:
            break
    events.close()
    assert Run.load(tmp_path / "run").checkpoints.newest().step == 8


def test_a_diverged_loss_leaves_what_was_saved(train, tmp_path, monkeypatch):
    real = Trainer.train_step

    def ruin(trainer):
        if trainer.progress.step == 12:
            with torch.no_grad():
                trainer.model.embedding.fill_(math.nan)
        return real(trainer)

    monkeypatch.setattr(Trainer, "train_step", ruin)
    with pytest.raises(TrainingError, match=r"nan at step 13.*learning_rate"):
        train()
    monkeypatch.setattr(Trainer, "train_step", real)
    run = Run.load(tmp_path / "run")
    assert run.checkpoints.newest().step == 10
    assert np.isfinite(run.weights()["embedding"]).all()


def test_a_full_disk_while_training_is_said_and_resumed_from(train, tmp_path, monkeypatch):
    train(out="whole")
    calls = []

    real = textwright.run.arrays.save_file

    def fill_up(arrays, path, metadata):
        calls.append(path)
        if len(calls) == 6:
            raise OSError(28, "No space left on device")
        real(arrays, path, metadata)

    monkeypatch.setattr(textwright.run.arrays, "save_file", fill_up)
    with pytest.raises(RunError, match=r"the disk is full.*--resume"):
        train()
    monkeypatch.setattr(textwright.run.arrays, "save_file", real)
    train(resume=True)
    assert_same_run(tmp_path / "run", tmp_path / "whole")


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
