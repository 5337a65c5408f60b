"""What a run records of its corpus, where it finds it again, and what a private run leaves."""

import json
import os
import shutil
import socket
import subprocess
import sys

import pytest

from textwright.compute import processes
from textwright.config import Config
from textwright.corpus import Corpus
from textwright.errors import CorpusError, RunError
from textwright.run import Run
from textwright.training import preparation
from textwright.training.cache import clear_cache, encode_corpus
from textwright.training.preparation import prepare_run, record_corpus, recorded_names

NOTHING = {"sources": [], "valid": [], "test": []}
CONFIG = Config.resolve("demo")

# One of two processes, as torchrun would start it, that prepares a private run.
PROGRAM = """
import os, sys
from pathlib import Path
import torch
from textwright.compute import processes
from textwright.config import Config
from textwright.corpus import Corpus
from textwright.run import Run
from textwright.training.preparation import prepare_run, record_corpus

notes, out = Path(sys.argv[1]), Path(sys.argv[2])
processes.start(torch.device("cpu"))
corpus = Corpus(notes, Config.resolve("demo").corpus)
if processes.leads():
    run = Run.create(out, Config.resolve("demo"))
processes.wait()
run = Run.load(out)
record_corpus(run, corpus, {"sources": [str(notes)], "valid": [], "test": []}, private=True)
prepared = prepare_run(run, corpus, None, lambda *done: None)
processes.wait()
print(os.listdir(os.environ["TEXTWRIGHT_CACHE"]), int(prepared.train.ids.sum()))
processes.stop()
"""


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    folder.mkdir()
    monkeypatch.setenv("TEXTWRIGHT_CACHE", str(folder))
    return folder


@pytest.fixture
def record(tmp_path, monkeypatch):
    """Begin a run in runs/one on some corpus, as if from the folder tmp_path → the run."""
    monkeypatch.chdir(tmp_path)

    def go(sources, private=False, **held_out):
        named = {**NOTHING, "sources": sources, **held_out}
        run = Run.create(tmp_path / "runs" / "one", CONFIG)
        record_corpus(run, Corpus(sources, CONFIG.corpus, **held_out), named, private)
        return run

    return go


@pytest.fixture
def texts(notes, tmp_path):
    """Two corpora in a folder texts, and one file to hold out."""
    folder = tmp_path / "texts"
    folder.mkdir()
    for name in ("a.txt", "b.txt", "held.txt"):
        shutil.copy(notes, folder / name)
    return folder


# What is recorded


def test_files_and_names_are_recorded_as_seen_from_the_run_folder(record, texts, tmp_path):
    named = ["texts/a.txt", str(texts), "texts/[ab].txt"]
    kept = record(named, valid=["texts/held.txt"]).corpus()
    assert kept["named"] == {
        "sources": ["../../texts/a.txt", "../../texts", "../../texts/[ab].txt"],
        "valid": ["../../texts/held.txt"],
        "test": [],
    }
    assert {file["path"] for file in kept["files"]} == {
        "../../texts/a.txt",
        "../../texts/b.txt",
        "../../texts/held.txt",
    }
    assert str(tmp_path) not in json.dumps(kept)


def test_the_name_of_a_hub_data_set_is_recorded_as_it_is(record, texts, monkeypatch):
    found = preparation.leads_to_files
    monkeypatch.setattr(preparation, "leads_to_files", lambda name: "cook" not in name)
    monkeypatch.setattr(Corpus, "__init__", hub_corpus(texts, Corpus.__init__))
    run = record(["cook/soups"])
    assert run.corpus()["named"]["sources"] == ["cook/soups"]
    monkeypatch.setattr(preparation, "leads_to_files", found)
    assert recorded_names(run, NOTHING)["sources"] == ["cook/soups"]


def hub_corpus(texts, init):
    """A corpus whose sources, of the hub, were fetched to a file."""
    return lambda self, sources, *given, **options: init(self, texts / "a.txt", *given, **options)


def test_a_private_run_records_names_without_folders(record, texts):
    run = record(["texts/a.txt"], private=True, valid=["texts/held.txt"])
    kept = run.corpus()
    assert [file["path"] for file in kept["files"]] == ["a.txt", "held.txt"]
    assert "named" not in kept
    assert "texts" not in (run.path / "corpus.json").read_text("utf-8")
    assert not run.has("heldout.jsonl.gz")


@pytest.mark.parametrize("name", ["heldout.jsonl.gz", "train_hashes.bin"])
def test_what_is_lost_of_the_corpus_is_written_again(record, texts, name):
    run = record(["texts/a.txt"])
    before = (run.path / name).read_bytes()
    (run.path / name).unlink()
    if name == "heldout.jsonl.gz":
        with pytest.raises(RunError, match=r"it is missing.*with train --resume"):
            list(Run.load(run.path).held_out("test"))
    named = {**NOTHING, "sources": ["texts/a.txt"]}
    record_corpus(run, Corpus("texts/a.txt", CONFIG.corpus), named, private=False)
    assert (run.path / name).read_bytes() == before


def test_a_run_that_becomes_private_forgets_where_its_corpus_is(record, texts):
    run = record(["texts/a.txt"])
    corpus = Corpus("texts/a.txt", CONFIG.corpus)
    named = {**NOTHING, "sources": ["texts/a.txt"]}
    record_corpus(run, corpus, named, private=True)
    kept = Run.load(run.path).corpus()
    assert [file["path"] for file in kept["files"]] == ["a.txt"]
    assert "named" not in kept
    record_corpus(run, corpus, named, private=False)  # and does not remember
    assert Run.load(run.path).corpus() == kept


# Where it is found again


@pytest.mark.parametrize("sources", [["texts/a.txt"], ["texts"], ["texts/[ab].*"]])
def test_a_corpus_is_found_again_from_any_folder(record, texts, tmp_path, monkeypatch, sources):
    run = record(sources, test=["texts/held.txt"])
    before = Corpus(sources, CONFIG.corpus, test=["texts/held.txt"]).fingerprint
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    found = recorded_names(run, NOTHING)
    assert Corpus(**found, options=CONFIG.corpus).fingerprint == before
    monkeypatch.chdir(run.path)
    found = recorded_names(Run.load(run.path), NOTHING)
    assert Corpus(**found, options=CONFIG.corpus).fingerprint == before


def test_run_and_corpus_may_move_together_even_into_a_folder_like_a_pattern(
    record, texts, tmp_path, monkeypatch
):
    record(["texts/[ab].txt"])
    (moved := tmp_path / "moved [1]").mkdir()
    shutil.move(tmp_path / "texts", moved / "texts")
    shutil.move(tmp_path / "runs", moved / "runs")
    monkeypatch.chdir("/")
    found = recorded_names(Run.load(moved / "runs" / "one"), NOTHING)
    files = Corpus(**found, options=CONFIG.corpus).files["sources"]
    assert [file.path for file in files] == [moved / "texts/a.txt", moved / "texts/b.txt"]


def test_what_is_named_now_comes_first(record, texts):
    run = record(["texts/a.txt"], valid=["texts/held.txt"])
    named = {**NOTHING, "sources": ["texts/b.txt"]}
    found = recorded_names(run, named)
    assert found["sources"] == ["texts/b.txt"]
    assert found["valid"] == [str(texts / "held.txt")]


@pytest.mark.parametrize("absolute", [True, False])
def test_an_older_run_recorded_names_as_they_were_given(record, texts, tmp_path, absolute):
    run = record(["texts/a.txt"])
    name = str(texts / "a.txt") if absolute else "texts/a.txt"
    old = {**run.corpus(), "named": {**NOTHING, "sources": [name]}}
    run.write_text("corpus.json", json.dumps(old), for_good=True)
    assert recorded_names(run, NOTHING)["sources"] == [name]


def test_a_corpus_that_is_gone_is_named(record, texts):
    run = record(["texts/a.txt"])
    (texts / "a.txt").unlink()
    with pytest.raises(RunError) as caught:
        recorded_names(run, NOTHING)
    assert str(caught.value) == (
        f"../../texts/a.txt, the corpus of {run.path}, is gone; name it again: textwright train "
        f"CORPUS --resume --out {run.path}"
    )


def test_a_private_run_asks_for_its_corpus(record, texts):
    run = record(["texts/a.txt"], private=True, valid=["texts/held.txt"])
    sentence = (
        f"{run.path} is private and does not record where its corpus is; name it again: "
        f"textwright train CORPUS --resume --out {run.path} --valid FILE"
    )
    named = {**NOTHING, "sources": ["texts/a.txt"]}
    for given in (NOTHING, named):
        with pytest.raises(RunError) as caught:
            recorded_names(run, given)
        assert str(caught.value) == sentence
    named["valid"] = ["texts/held.txt"]
    assert recorded_names(run, named) == named


def test_of_several_processes_the_first_tells_what_a_folder_records(record, texts, monkeypatch):
    """It may just have deleted what a killed training left."""
    run = record(["texts/a.txt"])
    (texts / "b.txt").write_text("".join(f"line {n}\n" for n in range(300)), "utf-8")
    monkeypatch.setattr(processes, "leads", lambda: False)
    monkeypatch.setattr(processes, "gather", lambda value: [None, value])
    record_corpus(run, Corpus("texts/b.txt", CONFIG.corpus), NOTHING, private=False)


def test_a_run_that_was_killed_before_it_recorded_anything_takes_the_names_given(tmp_path):
    run = Run.create(tmp_path / "run", CONFIG)
    named = {**NOTHING, "sources": ["a.txt"]}
    assert recorded_names(run, named) == named


# What stands in the cache


def prepare(run, sources, on_progress=lambda stage, done, total: None):
    return prepare_run(run, Corpus(sources, CONFIG.corpus), None, on_progress)


def test_a_private_run_leaves_nothing_in_the_cache_and_reads_the_same(record, texts, home):
    open_ids = prepare(record(["texts/a.txt"]), "texts/a.txt").train.ids.tolist()
    assert len(list(home.iterdir())) == 1
    clear_cache()
    shutil.rmtree("runs")
    run = record(["texts/a.txt"], private=True)
    private = prepare(run, "texts/a.txt")
    assert list(home.iterdir()) == []
    assert private.train.ids.tolist() == open_ids
    # It stays private when it is resumed without --private.
    prepare(Run.load(run.path), "texts/a.txt")
    assert list(home.iterdir()) == []


def test_two_processes_of_a_private_run_leave_nothing_in_the_cache(notes, home, tmp_path):
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    together = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    together |= {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(notes), str(tmp_path / "run")],
            env={**os.environ, **together, "RANK": rank, "LOCAL_RANK": rank},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in ("0", "1")
    ]
    try:
        printed = [process.communicate(timeout=120) for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0, 0], printed
    corpus, run = Corpus(notes, CONFIG.corpus), Run.load(tmp_path / "run")
    ids = encode_corpus(corpus, run.tokenizer)["train"].ids
    assert [out for out, _ in printed] == [f"[] {int(ids.sum())}\n"] * 2


def test_a_corpus_that_changes_before_the_end_of_the_preparation_is_refused(
    record, texts, monkeypatch
):
    run = record(["texts/a.txt"])
    measure = preparation.HeldOut.of

    def measure_and_change(*given):
        measured = measure(*given)
        (texts / "a.txt").write_text("something else", "utf-8")
        return measured

    monkeypatch.setattr(preparation.HeldOut, "of", measure_and_change)
    with pytest.raises(CorpusError, match=r"a\.txt changed while it was read: start again"):
        prepare(run, "texts/a.txt")


def test_a_halved_copy_in_the_cache_is_encoded_again_and_never_trained_on(record, texts, home):
    run = record(["texts/a.txt"])
    before = prepare(run, "texts/a.txt").train.ids.tolist()
    (folder,) = home.iterdir()
    (ids := folder / "train.ids").write_bytes(ids.read_bytes()[: ids.stat().st_size // 4 * 2])
    stages = []
    after = prepare(run, "texts/a.txt", lambda stage, done, total: stages.append(stage))
    assert after.train.ids.tolist() == before
    assert "Encoding again, because train.ids in the cache is damaged" in stages
