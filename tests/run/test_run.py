"""The run folder: made, loaded, kept whole, moved, and its damaged files named."""

import contextlib
import errno
import gzip
import json
import os
import shutil

import numpy as np
import pytest

import textwright.run.folder
from textwright.config import FORMAT_VERSION, Config
from textwright.errors import ConfigError, RunError, TextwrightError, TokenizerError
from textwright.escape import EscapeCode
from textwright.run import SAMPLE_MARK, Checkpoint, Run
from textwright.tokenizer import Tokenizer, TokenizerOptions

DOCUMENTS = ["one two three", "Two, one. Three!", "three ünd two"]


def weights(value=1.0):
    return {"embedding": np.full((3, 2), value, np.float32)}


def checkpoint(step, best=None):
    progress = {
        "step": step,
        "best_step": step if best is None else best,
        "best_loss": float("inf"),
    }
    return Checkpoint(step, progress, weights(step), {"random.cpu": np.arange(3, dtype=np.uint8)})


def metric(event, step):
    """A line of metrics.jsonl, with all that is read of it."""
    scores = {"loss": 2.0, "bits_per_character": 1.0, "interval": [0.9, 1.1]}
    known = {
        "ready": {"device": "cpu", "dtype": "float32", "threads": 1, "processes": 1, "torch": "2"},
        "step": {"epoch": 0.5, "loss": 2.0},
        "evaluation": {"epoch": 0.5, "scores": scores, "best": True},
    }
    return {"event": event, "step": step, **known[event]}


def steps(run):
    return sorted(int(f.name[5:]) for f in (run.path / "checkpoints").iterdir())


@pytest.fixture
def run(tmp_path):
    """A run with something in each of its files, as training would leave it."""
    made = Run.create(tmp_path / "runs" / "mine", Config.resolve("demo"))
    tokenizer = Tokenizer.train(TokenizerOptions(kind="word"), DOCUMENTS)
    made.keep_tokenizer(tokenizer)
    made.keep_escape(EscapeCode.fit(tokenizer, DOCUMENTS))
    made.keep_weights(weights())
    made.keep_held_out([("valid", "one two"), ("test", "zwei \udcff\n"), ("test", "")])
    made.write_text("corpus.json", '{"documents": 3}')
    made.append("metrics.jsonl", json.dumps(metric("step", 10)) + "\n")
    made.checkpoints.keep(checkpoint(10))
    made.checkpoints.keep(checkpoint(20))
    return made


def test_a_loaded_run_has_all_that_was_kept(run):
    again = Run.load(run.path)
    assert again.config == run.config
    assert again.tokenizer.fingerprint == run.tokenizer.fingerprint
    assert again.escape.bits(DOCUMENTS[1]) == run.escape.bits(DOCUMENTS[1]) > 0
    assert np.array_equal(again.weights()["embedding"], weights()["embedding"])
    assert list(again.held_out("test")) == ["zwei \udcff\n", ""]
    assert list(again.held_out("valid")) == ["one two"]
    assert again.corpus() == {"documents": 3}
    last = again.checkpoints.newest()
    assert (last.step, last.progress) == (20, checkpoint(20).progress)
    assert np.array_equal(last.weights["embedding"], checkpoint(20).weights["embedding"])
    assert last.tensors["random.cpu"].dtype == np.uint8


@pytest.mark.parametrize("name", ["README.md", "config.toml", "model.safetensors"])
def test_files_that_do_not_belong_to_a_run_are_not_overwritten(tmp_path, name):
    (tmp_path / name).write_text("a file of the user")
    (tmp_path / "log.txt").write_text("a name that no run uses")
    with pytest.raises(
        RunError, match=rf"{name} that does not belong to a run.*name another --out"
    ):
        Run.create(tmp_path, Config.resolve("demo"))
    (tmp_path / name).unlink()
    Run.create(tmp_path, Config.resolve("demo"))


def test_a_folder_that_holds_a_run_is_not_written_over(run):
    with pytest.raises(RunError, match=r"holds a run already.*--resume.*--out"):
        Run.create(run.path, Config())
    assert Run.load(run.path).config.preset == "demo"


def test_a_run_may_begin_in_a_folder_that_holds_other_things(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    Run.create(tmp_path, Config())
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_if_there_is_no_run_the_command_that_trains_one_is_named(tmp_path):
    with pytest.raises(RunError, match=r"No run at .*nothing\. Train one: textwright train"):
        Run.load(tmp_path / "nothing")


@pytest.mark.parametrize("version", [str(FORMAT_VERSION + 1), "0", '"x"'])
def test_another_format_version_is_refused(run, version):
    file = run.path / "config.toml"
    line = f"format_version = {FORMAT_VERSION}"
    assert line in file.read_text()
    file.write_text(file.read_text().replace(line, f"format_version = {version}"))
    with pytest.raises(RunError, match=r"has format version .*this textwright reads"):
        Run.load(run.path)


def test_an_unknown_key_in_a_kept_config_is_named(run):
    file = run.path / "config.toml"
    file.write_text(file.read_text().replace("[train]", "[train]\nspeed = 3"))
    with pytest.raises(ConfigError, match=r"config\.toml: there is no option train\.speed"):
        Run.load(run.path)


def read(run, name):
    """Read a file of a run as the package does."""
    again = Run.load(run.path)
    reads = {
        "config.toml": lambda: None,
        "tokenizer.json": lambda: again.tokenizer,
        "escape.json.gz": lambda: again.escape,
        "model.safetensors": again.weights,
        "corpus.json": again.corpus,
        "heldout.jsonl.gz": lambda: list(again.held_out("test")),
    }
    return reads.get(name, again.checkpoints.newest)()


FILES = [
    "config.toml",
    "tokenizer.json",
    "escape.json.gz",
    "model.safetensors",
    "corpus.json",
    "heldout.jsonl.gz",
    "checkpoints/step-00000020/progress.json",
    "checkpoints/step-00000020/model.safetensors",
    "checkpoints/step-00000020/trainer.safetensors",
]


@pytest.mark.parametrize("how", ["truncated", "empty", "garbled"])
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_named_with_what_to_do(run, name, how):
    file = run.path / name
    whole = file.read_bytes()
    # After an equals sign if there is one: cut between two lines, TOML is sound.
    end = len(whole) * 2 // 3
    left = {
        "truncated": whole[: whole.find(b"=", end) + 1 or end],
        "empty": b"",
        "garbled": b"\xff\x00" * 40,
    }
    file.write_bytes(left[how])
    with pytest.raises((RunError, TokenizerError)) as caught:
        read(run, name)
    sentence = str(caught.value)
    assert str(file) in sentence or str(run.path) in sentence
    assert name.rpartition("/")[2] in sentence or name == "config.toml"
    assert any(advice in sentence.lower() for advice in ("train again", "restore it", "delete"))
    assert sentence.endswith(".")


@pytest.mark.parametrize("name", [name for name in FILES if name != "heldout.jsonl.gz"])
def test_a_missing_file_is_named(run, name):
    (run.path / name).unlink()
    with pytest.raises(TextwrightError) as caught:
        read(run, name)
    assert name.rpartition("/")[2] in str(caught.value) or name == "config.toml"


def test_held_out_documents_that_do_not_decompress_are_named(run):
    file = run.path / "heldout.jsonl.gz"
    file.write_bytes(file.read_bytes()[:10] + b"\xff" * 40)
    with pytest.raises(RunError, match=r"heldout\.jsonl\.gz is damaged"):
        list(run.held_out("test"))


def test_a_damaged_checkpoint_can_be_deleted_and_the_one_before_it_read(run):
    (run.path / "checkpoints/step-00000020/model.safetensors").write_bytes(b"")
    with pytest.raises(RunError, match=r"delete the folder .*step-00000020 and resume") as caught:
        run.checkpoints.newest()
    shutil.rmtree(str(caught.value).split("delete the folder ")[1].split(" and resume")[0])
    assert run.checkpoints.newest().step == 10


def test_the_last_two_checkpoints_and_the_best_of_each_are_kept(run):
    for step in (30, 40, 50):
        run.checkpoints.keep(checkpoint(step, best=20))
    assert steps(run) == [20, 40, 50]
    run.checkpoints.keep(checkpoint(60))
    assert steps(run) == [20, 50, 60]  # resuming from 50 needs the weights of 20
    run.checkpoints.keep(checkpoint(70))
    assert steps(run) == [60, 70]


def test_a_copy_beside_the_checkpoints_is_none_of_them(run):
    copy = run.path / "checkpoints" / "step-00000020.bak"
    shutil.copytree(copy.with_suffix(""), copy)
    assert run.checkpoints.steps() == [10, 20]
    run.checkpoints.keep(checkpoint(30))
    assert run.checkpoints.steps() == [20, 30]
    assert copy.exists()


def test_a_run_that_was_moved_works(run, tmp_path):
    moved = shutil.move(run.path, tmp_path / "elsewhere")
    again = Run.load(moved)
    assert again.tokenizer.vocab_size == run.tokenizer.vocab_size
    assert again.checkpoints.newest().step == 20
    assert list(again.held_out("valid")) == ["one two"]


def test_the_weights_may_be_read_by_those_who_may_read_the_config(run):
    (run.path / "config.toml").chmod(0o640)
    run.keep_weights(weights())
    assert (run.path / "model.safetensors").stat().st_mode & 0o777 == 0o640


def test_the_error_for_missing_held_out_documents_names_private(run):
    (run.path / "heldout.jsonl.gz").unlink()
    with pytest.raises(RunError, match=r"--private.*name a corpus"):
        list(run.held_out("test"))


def test_the_same_held_out_documents_give_the_same_bytes(run):
    before = (run.path / "heldout.jsonl.gz").read_bytes()
    run.keep_held_out([("valid", "one two"), ("test", "zwei \udcff\n"), ("test", "")])
    assert (run.path / "heldout.jsonl.gz").read_bytes() == before


def test_a_line_of_metrics_cut_short_by_a_kill_is_left_out(run):
    run.append("metrics.jsonl", '{"event": "step", "st')
    assert run.metrics() == [metric("step", 10)]


def full(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@contextlib.contextmanager
def a_full_disk(monkeypatch, run):
    """Files can be begun, but there is no room to write them."""

    def stopped(arrays, path, metadata):
        path.write_bytes(b"half")
        full()

    with monkeypatch.context() as patched:
        patched.setattr(textwright.run.arrays, "save_file", stopped)
        patched.setattr(textwright.run.folder.Path, "write_text", full)
        patched.setattr(textwright.run.folder.Path, "write_bytes", full)
        patched.setattr(textwright.run.folder.gzip, "GzipFile", full)
        opened = textwright.run.folder.Path.open
        patched.setattr(
            textwright.run.folder.Path,
            "open",
            lambda path, mode="r", **how: (
                full() if set(mode) & set("wa") else opened(path, mode, **how)
            ),
        )
        yield


@pytest.mark.parametrize(
    "write",
    [
        lambda run: run.keep_weights(weights(2)),
        lambda run: run.checkpoints.keep(checkpoint(30)),
        lambda run: run.checkpoints.keep(checkpoint(20)),
        lambda run: run.append("metrics.jsonl", "{}"),
        lambda run: run.write_text("corpus.json", "{}"),
        lambda run: run.write_bytes("train_hashes.bin", b""),
        lambda run: run.write_config(Config()),
        lambda run: run.keep_held_out([]),
        lambda run: run.keep_tokenizer(run.tokenizer),
        lambda run: run.keep_escape(run.escape),
    ],
)
def test_a_full_disk_is_reported_and_saved_files_stay(run, monkeypatch, write):
    with a_full_disk(monkeypatch, run), pytest.raises(RunError) as caught:
        write(run)
    assert str(caught.value) == (
        f"Cannot write to {run.path}: the disk is full; what was saved before is intact, and "
        "--resume continues from there."
    )
    test_a_loaded_run_has_all_that_was_kept(Run.load(run.path))
    assert run.metrics() == [metric("step", 10)]


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RunError, match=r"Cannot write to .*file/run: Not a directory"):
        Run.create(tmp_path / "file" / "run", Config())


def test_a_half_written_checkpoint_is_not_read(run, monkeypatch):
    with a_full_disk(monkeypatch, run), contextlib.suppress(RunError):
        run.checkpoints.keep(checkpoint(30))
    assert run.checkpoints.newest().step == 20
    run.checkpoints.keep(checkpoint(30))
    assert steps(run) == [20, 30]


def test_nothing_in_a_run_is_a_pickle(run):
    """No file begins like a pickle or like a zip, in which torch.save puts one."""
    files = [file for file in run.path.rglob("*") if file.is_file()]
    assert len(files) == 14
    for file in files:
        head = file.read_bytes()
        head = gzip.decompress(head) if head[:2] == b"\x1f\x8b" else head
        assert head[:1] != b"\x80" and head[:2] != b"PK", file


@pytest.mark.parametrize(
    ("evaluated", "kept"),
    [
        (4, ["ready 2", "step 2", "evaluation 2", "ready 4", "step 4", "evaluation 4"]),
        (2, ["ready 2", "step 2", "evaluation 2", "ready 4", "step 4"]),
    ],
)
def test_metrics_and_samples_are_cut_back_to_the_checkpoint(run, evaluated, kept):
    run.write_text("metrics.jsonl", "")
    for step in (2, 4, 6):
        for event in ("ready", "step", "evaluation"):
            run.append("metrics.jsonl", json.dumps(metric(event, step)) + "\n")
        run.append(
            "samples.md",
            f"{SAMPLE_MARK}{step}\n\ntext of {step}: {SAMPLE_MARK}one\n{SAMPLE_MARK}two\n\n",
        )
    run.rewind(4, evaluated)
    assert [f"{m['event']} {m['step']}" for m in run.metrics()] == kept
    samples = (run.path / "samples.md").read_text()
    assert ("text of 4" in samples) == (evaluated == 4)
    assert "text of 2" in samples
    assert "text of 6" not in samples
    assert samples.count(f"{SAMPLE_MARK}two") == 1 + (evaluated == 4)
