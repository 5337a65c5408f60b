"""One training at a time in a folder, and how it is gone on with."""

import json
import math
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from small_runs import assert_same_run, kinds

import textwright.run.arrays
import textwright.training.session
from textwright import grammar
from textwright.config import Config
from textwright.corpus import Corpus
from textwright.errors import (
    ConfigError,
    CorpusError,
    GenerationError,
    RunError,
    TrainingError,
)
from textwright.run import Run
from textwright.run.origin import choose_config
from textwright.tokenizer import Tokenizer
from textwright.training import preparation
from textwright.training.cache import encode_corpus
from textwright.training.events import Step
from textwright.training.session import train_run
from textwright.training.trainer import Trainer

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


def test_a_device_that_is_full_when_a_run_resumes_is_said(train, monkeypatch):
    train("train.max_steps=1")

    def full(*_, **__):
        raise RuntimeError("MPS backend out of memory")

    monkeypatch.setattr(Trainer, "restore", full)
    with pytest.raises(TrainingError, match="Memory ran out"):
        train("train.max_steps=2", resume=True)


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
