"""A run whose files were damaged or left half made: it works as ever, or a sentence names the file
and the remedy, and the remedy works.
"""

import errno
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

from textwright.config import Config
from textwright.errors import ConfigError, CorpusError, PretrainedError, RunError, TextwrightError
from textwright.evaluation.runs import score_run
from textwright.models.pretrained import find_origin
from textwright.run import Checkpoint, Run
from textwright.run.lock import locked
from textwright.training import session
from textwright.training.session import train_run

ROOT = Path(__file__).parents[2]


@pytest.fixture
def run(trained, notes, tmp_path, monkeypatch):
    """A run that may be damaged, at step 20, beside its corpus as it was when it was trained."""
    monkeypatch.setattr(session, "draw_loss_curve", lambda run: False)
    home = tmp_path / "runs" / "notes"
    shutil.copytree(trained, home)
    return Run.load(home)


@pytest.fixture
def resume(notes):
    """Train a run for two more steps."""

    def go(run, steps=22, **how):
        base = run.config.model_dump(exclude_none=True)
        config = Config.resolve(settings=[f"train.max_steps={steps}"], base=base)
        return list(train_run([notes], run.path, config, resume=True, **how))

    return go


def flip(path, what, by=1):
    """Change the last byte of the first place where `what` stands in a file."""
    content = bytearray(path.read_bytes())
    content[content.index(what) + len(what) - 1] ^= by
    path.write_bytes(content)


# Left by a kill


def test_what_a_kill_left_is_removed_and_the_users_files_are_not(run, resume):
    left = [".model.safetensors.part", ".loss.png.part", ".metrics.jsonl.part", ".config.toml.part"]
    for name in left:
        (run.path / name).mkdir()
        (run.path / name / ".tmp123456").write_text("half")
    for name in (".my.old", ".my.part"):
        (run.path / name).write_text("the user's")
    (run.path / "checkpoints" / ".step-00000018.part").mkdir()
    resume(run, steps=20)
    hidden = {path.name for path in run.path.rglob(".*")}
    assert hidden == {".lock", ".my.old", ".my.part"}


def test_a_checkpoint_that_a_kill_left_without_its_name_is_resumed_from(run, resume):
    folder = run.path / "checkpoints"
    shutil.rmtree(folder / "step-00000015")
    (folder / "step-00000020").rename(folder / ".step-00000020.old")
    (ready, *_) = resume(run)
    assert ready.progress.step == 20


def test_a_checksum_that_a_kill_kept_from_being_recorded_is_recorded_later(run, resume):
    checksums = run.path / "checksums.json"
    whole = checksums.read_bytes()
    checksums.unlink()
    resume(run, steps=20)
    assert checksums.read_bytes() == whole


# checksums.json


def test_a_damaged_checksum_is_not_taken_for_a_damaged_file(run, resume):
    checksums = run.path / "checksums.json"
    whole = checksums.read_bytes()
    sums = json.loads(whole)
    sums["tokenizer.json"] = sums["tokenizer.json"][::-1]
    checksums.write_text(json.dumps(sums))
    with pytest.raises(RunError, match=r"checksums\.json is damaged .*or delete it") as caught:
        _ = Run.load(run.path).tokenizer
    assert "tokenizer.json" not in str(caught.value)
    checksums.unlink()
    resume(run)
    assert checksums.read_bytes() == whole


# metrics.jsonl and samples.md


@pytest.mark.parametrize(
    ("what", "by"),
    [(b'"loss', 1), (b'"evaluation', 1), (b'"bits_per_character', 1), (b'"step": ', 0x80)],
    ids=["a key", "an event", "a score", "no UTF-8"],
)
def test_a_damaged_line_of_metrics_is_named_and_may_be_deleted(run, resume, what, by):
    metrics = run.path / "metrics.jsonl"
    flip(metrics, what, by)
    with pytest.raises(RunError, match=r"Line \d+ of .*metrics\.jsonl is damaged") as caught:
        resume(run)
    number = int(re.search(r"Line (\d+)", str(caught.value))[1])
    lines = metrics.read_bytes().splitlines(keepends=True)
    metrics.write_bytes(b"".join([*lines[: number - 1], *lines[number:]]))
    assert resume(run)[-1].step == 22


def test_a_damaged_last_line_of_metrics_is_not_taken_for_one_cut_short(run):
    metrics = run.path / "metrics.jsonl"
    content = bytearray(metrics.read_bytes())
    content[-2] ^= 1  # the closing brace
    metrics.write_bytes(content)
    with pytest.raises(RunError, match=rf"Line {content.count(10)} of"):
        run.metrics()


def test_metrics_that_end_before_the_checkpoint_are_named_and_may_be_deleted(run, resume):
    metrics = run.path / "metrics.jsonl"
    metrics.write_bytes(metrics.read_bytes()[: metrics.stat().st_size // 2])
    with pytest.raises(RunError, match=r"metrics\.jsonl ends before step 20.*or delete it"):
        resume(run)
    metrics.unlink()
    resume(run, steps=20)
    assert [m["event"] for m in run.metrics()] == ["ready"]
    # The card leaves out what is not known any more, rather than name another step the best.
    assert "held-out loss" not in (run.path / "README.md").read_text()


def test_the_card_names_the_step_whose_weights_were_kept(run, resume):
    """metrics.jsonl was deleted, and no later evaluation is the best."""
    (run.path / "metrics.jsonl").unlink()
    progress = run.checkpoints.newest()
    better = {**progress.progress, "best_loss": 0.0}
    run.checkpoints.keep(Checkpoint(20, better, progress.weights, progress.tensors))
    resume(run)
    assert [m["step"] for m in run.metrics() if m["event"] == "evaluation"] == [22]
    assert "held-out loss" not in (run.path / "README.md").read_text()


def test_samples_with_bytes_that_are_no_text_are_kept(run, resume):
    samples = run.path / "samples.md"
    flip(samples, b"## Step 10\n\n", 0x80)
    resume(run)
    text = samples.read_text("utf-8")
    assert "\ufffd" in text
    assert re.findall(r"^## Step (\d+)$", text, re.MULTILINE)[0] == "5"


@pytest.mark.parametrize("cut", ["## St", "## Step 2", "## Step 25\n", "## Step 25\n\na text\nof"])
def test_a_sample_that_a_full_disk_cut_short_is_removed(run, resume, cut):
    samples = run.path / "samples.md"
    whole = samples.read_bytes()
    samples.write_bytes(whole + cut.encode())
    resume(run, steps=20)
    assert samples.read_bytes() == whole


# Files that training can write again


@pytest.mark.parametrize("name", ["heldout.jsonl.gz", "train_hashes.bin"])
@pytest.mark.parametrize("harm", ["flipped", "halved"])
def test_what_comes_from_the_corpus_is_written_again(run, resume, name, harm):
    file = run.path / name
    whole = file.read_bytes()
    half = len(whole) // 2
    file.write_bytes(
        whole[:half] + (bytes([whole[half] ^ 1]) + whole[half + 1 :]) * (harm[0] == "f")
    )
    resume(run, steps=20)
    assert file.read_bytes() == whole


def test_damaged_held_out_documents_name_their_remedy(run):
    flip(run.path / "heldout.jsonl.gz", b"\x1f\x8b\x08")
    with pytest.raises(
        RunError, match=r"heldout\.jsonl\.gz is damaged .*from the corpus with train"
    ):
        score_run(run)


def test_damaged_weights_are_written_again_from_the_best_checkpoint(run, resume):
    weights = run.path / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 4]))
    with pytest.raises(RunError, match=r"from the best checkpoint with train --resume"):
        run.weights()
    resume(run, steps=20)
    assert weights.read_bytes() == whole


@pytest.mark.parametrize("name", ["progress.json", "model.safetensors", "trainer.safetensors"])
def test_a_damaged_checkpoint_is_deleted_and_training_comes_to_the_same(run, resume, name):
    whole = {p.name: p.read_bytes() for p in run.path.glob("*") if p.is_file()}
    file = run.path / "checkpoints" / "step-00000020" / name
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    with pytest.raises(RunError, match=r"delete the folder .* and resume without it") as caught:
        resume(run)
    shutil.rmtree(re.search(r"delete the folder (.*) and resume", str(caught.value))[1])
    resume(run, steps=20)
    timed = {"metrics.jsonl", "README.md", "loss.png"}
    for name in whole.keys() - timed:
        assert (run.path / name).read_bytes() == whole[name], name


def test_nobody_is_asked_to_delete_a_run_that_stands_in_a_folder_of_checkpoints(run, tmp_path):
    moved = tmp_path / "checkpoints" / "mine"
    shutil.copytree(run.path, moved)
    flip(moved / "tokenizer.json", b'"version"')
    with pytest.raises(RunError, match=r"tokenizer\.json is damaged") as caught:
        _ = Run.load(moved).tokenizer
    assert "delete the folder" not in str(caught.value)


# config.toml


def test_a_config_that_fits_no_checkpoint_is_named(run, resume):
    config = run.path / "config.toml"
    whole = config.read_text("utf-8")
    config.write_text(whole.replace('optimizer = "adamw"', 'optimizer = "muon"'), "utf-8")
    with pytest.raises(RunError, match=r"config\.toml \(its moments are those of another"):
        resume(Run.load(run.path))
    config.write_text(whole, "utf-8")
    flip(config, b"hidden_size = 8")
    with pytest.raises(RunError, match=r"step 20 in .* does not fit its config\.toml .*restore it"):
        resume(Run.load(run.path))
    with pytest.raises(RunError, match=r"do not fit the model of its config .*restore it"):
        score_run(Run.load(run.path))


def test_a_damaged_option_names_the_file_and_the_remedy(run):
    flip(run.path / "config.toml", b"typical_p")
    with pytest.raises(ConfigError, match=r"config\.toml: there is no option .*from a copy\."):
        Run.load(run.path)


# No permission, no room


def forbidden(*_, **__):
    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "some file")


@pytest.mark.parametrize(
    "read",
    [
        lambda run: run.tokenizer,
        lambda run: run.metrics(),
        lambda run: run.record(),
        lambda run: Run.load(run.path),
    ],
)
def test_a_file_that_may_not_be_read_is_a_sentence(run, monkeypatch, read):
    for name in ("open", "read_bytes", "read_text"):
        monkeypatch.setattr(Path, name, forbidden)
    with pytest.raises(TextwrightError, match=r"^Cannot read .*Permission denied"):
        read(run)


def test_a_folder_that_may_not_be_read_is_nothing_to_begin_from(run, monkeypatch):
    monkeypatch.setattr(Path, "exists", forbidden)
    with pytest.raises(PretrainedError, match=r"^Cannot read .*notes: Permission denied; name"):
        find_origin(str(run.path))


def test_a_cache_that_may_not_be_read_is_a_sentence(run, resume, monkeypatch):
    monkeypatch.setattr("textwright.training.cache.open_encoded", forbidden)
    with pytest.raises(CorpusError, match=r"Permission denied; .*TEXTWRIGHT_CACHE"):
        resume(run)


def test_a_lock_needs_no_room_for_the_name_of_its_holder(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_text", full)
        with locked(tmp_path / "run"):
            assert not FileLock(tmp_path / "run" / ".lock").is_locked


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks_stops_no_training(tmp_path, monkeypatch, number):
    fcntl = pytest.importorskip("fcntl")

    def lockless(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", lockless)
    with locked(tmp_path), locked(tmp_path):  # a lock of another kind would outlive a kill
        assert {path.name for path in tmp_path.iterdir()} <= {".lock", ".lock-holder"}


def test_a_holder_of_the_lock_that_cannot_be_read_is_named_as_far_as_it_can(tmp_path):
    with locked(tmp_path):
        (tmp_path / ".lock-holder").write_bytes(b"process 7 on \xff")
        with pytest.raises(RunError, match="is being trained by process 7 on"), locked(tmp_path):
            pass


# All of it, a little


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="forks, and mounts a disk")
def test_a_few_kills_and_harms_lose_nothing(tmp_path):
    """The soak of benchmarks/kills.py, cut short; it exits with 1 if anything was lost."""
    command = [sys.executable, str(ROOT / "benchmarks" / "kills.py"), "--kills", "7", "--sparse"]
    done = subprocess.run(
        [*command, "--out", str(tmp_path / "kills.json")],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    record = json.loads((tmp_path / "kills.json").read_text())
    assert sum(sum(case["kills"].values()) for case in record["kills"].values()) == 7
    assert {row["scenario"] for row in record["rows"]} >= {"clock that jumps"}
