"""Parts of long work that are kept: found again to the last bit, never stale, never in the way."""

import errno
import json
import math
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pytest

from textwright.comparison import audit
from textwright.comparison.run_subject import RunSubject
from textwright.evaluation import kept as keeping
from textwright.evaluation import runs
from textwright.evaluation.kept import NOTHING_KEPT, Array, KeptResults, fingerprint
from textwright.inspection import cues
from textwright.memorisation import capability, memorisation
from textwright.run import Run
from textwright.writing.generator import Generator

# Runs a sweep, and sends Ctrl-C to itself when it writes with the setting number n.
PROGRAM = """
import os, signal, sys
from textwright.cli import main
from textwright.writing.generator import Generator

count, *command = sys.argv[1:]
stream, called = Generator.stream, []

def stopping(*args, **kwargs):
    called.append(1)
    if len(called) == int(count):
        os.kill(os.getpid(), signal.SIGINT)
    return stream(*args, **kwargs)

Generator.stream = stopping
sys.argv = ["textwright", *command]
signal.signal(signal.SIGINT, signal.default_int_handler)
main()
"""


@dataclass(frozen=True)
class Part:
    """All kinds of values."""

    numbers: list[Array]
    by_length: dict[int, tuple[float, float]]
    text: str
    nothing: float | None = None


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("TEXTWRIGHT_CACHE", str(folder))
    return folder


def counting(value):
    """A function that gives the value, and the list of its calls."""
    calls = []
    return (lambda: calls.append(1) or value), calls


PART = Part([np.array([0.1, 1 / 3, math.pi * 1e-30])], {3: (math.inf, -0.0)}, "\udcff é\n")


def test_a_part_is_found_again_to_the_last_bit():
    compute, calls = counting(PART)
    first = KeptResults.in_cache().recall(Part, compute, seed=1)
    again = KeptResults.in_cache().recall(Part, compute, seed=1)
    assert len(calls) == 1
    for found in (first, again):
        assert found.numbers[0].tobytes() == PART.numbers[0].tobytes()
        assert found.by_length == PART.by_length
        assert math.copysign(1, found.by_length[3][1]) == -1
        assert (found.text, found.nothing) == (PART.text, None)


def test_what_depends_on_something_else_is_another_part(monkeypatch):
    compute, calls = counting(1)
    results = KeptResults.in_cache()
    results.recall(int, compute, seed=1)
    results.recall(int, compute, seed=2)
    results.given(device="cpu").recall(int, compute, seed=1)
    results.given(device="cpu").given(device="cuda").recall(int, compute, seed=1)
    monkeypatch.setattr(keeping, "code_fingerprint", lambda: "another version")
    results.recall(int, compute, seed=1)
    assert len(calls) == 5


def test_fresh_results_are_computed_again_and_replace_the_old():
    KeptResults.in_cache().recall(int, lambda: 1, seed=1)
    assert KeptResults.in_cache(fresh=True).recall(int, lambda: 2, seed=1) == 2
    assert KeptResults.in_cache().recall(int, lambda: 3, seed=1) == 2


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-5],
        lambda data: b"",
        lambda data: data[:15] + bytes([data[15] ^ 1]) + data[16:],
        lambda data: b"no gzip at all",
    ],
)
def test_a_damaged_part_is_computed_again(home, damage):
    KeptResults.in_cache().recall(list[int], lambda: [*range(100)], seed=1)
    (file,) = (home / "results").iterdir()
    file.write_bytes(damage(file.read_bytes()))
    assert KeptResults.in_cache().recall(list[int], lambda: [7], seed=1) == [7]
    assert KeptResults.in_cache().recall(list[int], lambda: [8], seed=1) == [7]


def test_a_part_of_another_form_is_computed_again():
    KeptResults.in_cache().recall(str, lambda: "text", seed=1)
    assert KeptResults.in_cache().recall(int, lambda: 7, seed=1) == 7


def test_a_full_disk_takes_away_no_result(monkeypatch):
    def full(path):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(keeping, "replacing", full)
    results = KeptResults.in_cache()
    assert results.recall(int, lambda: 7, seed=1) == 7
    assert results.counts["kept"] == 0


def test_nothing_is_kept_where_nobody_asks_for_it(home):
    assert NOTHING_KEPT.recall(int, lambda: 7, seed=1) == 7
    assert not home.exists()


def test_nothing_is_kept_of_a_file_that_cannot_be_read(tmp_path, home):
    results = KeptResults.in_cache().of_files([tmp_path / "gone.safetensors"])
    assert results.recall(int, lambda: 7) == 7
    assert not home.exists()


def test_of_a_private_run_nothing_is_kept(trained, home, tmp_path):
    private = tmp_path / "private"
    shutil.copytree(trained, private)
    Run.load(private).forget_held_out()
    assert KeptResults.in_cache().about(Run.load(private)).recall(int, lambda: 7) == 7
    assert not home.exists()
    KeptResults.in_cache().about(Run.load(trained)).recall(int, lambda: 7)
    assert home.exists()


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "escape.json.gz"])
def test_other_weights_or_tokens_are_another_run(trained, tmp_path, name):
    other = tmp_path / "other"
    shutil.copytree(trained, other)
    results = KeptResults.in_cache()
    same = results.about(Run.load(other)).depends
    assert same == results.about(Run.load(trained)).depends  # a copy is the same run
    (other / name).write_bytes(b"other")
    assert results.about(Run.load(other)).depends != same


def test_what_a_run_writes_with_does_not_change_what_it_predicts(trained, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(trained, other)
    config = other / "config.toml"
    config.write_text(config.read_text("utf-8").replace("top_k = 0", "top_k = 3"), "utf-8")
    assert Run.load(other).config.sample.top_k == 3
    results = KeptResults.in_cache()
    assert results.about(Run.load(other)).depends == results.about(Run.load(trained)).depends


def test_fingerprints_tell_where_a_text_ends():
    assert fingerprint(["ab", "c"]) != fingerprint(["a", "bc"])
    assert fingerprint([np.array([1, 2])]) != fingerprint([np.array([1]), np.array([2])])


# Commands that are stopped, and given again


@pytest.fixture(autouse=True)
def interruptible():
    """Ctrl-C interrupts, which it does not in what a shell runs in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def watched(tw, monkeypatch):
    """A command line that is watched: (owner of a function, its name, command…) → exit code,
    stdout, stderr, number of calls. stop: the call at which Ctrl-C comes."""

    def run(owner, name, *command, stop=0):
        given, calls = getattr(owner, name), []

        def counted(*args, **kwargs):
            calls.append(1)
            if len(calls) == stop:
                signal.raise_signal(signal.SIGINT)
            return given(*args, **kwargs)

        with monkeypatch.context() as patched:
            patched.setattr(owner, name, counted)
            return *tw(*command), len(calls)

    return run


@pytest.mark.parametrize("kind", ["trained", "mixed"])
def test_a_comparison_that_was_stopped_goes_on_and_ends_alike(watched, kind, request, tmp_path):
    run, other = request.getfixturevalue(kind), tmp_path / "other"
    shutil.copytree(run, other)
    config = other / "config.toml"  # of other weights, as far as anyone knows
    config.write_text(config.read_text("utf-8").replace("seed = 0", "seed = 7"), "utf-8")
    writing = (RunSubject, "write")
    command = ["compare", run, other, "--characters", 20, "--no-easy", "--json"]
    code, out, err, _ = watched(*writing, *command, stop=2)
    assert (code, out) == (130, "")
    assert re.search(r"interrupted; \d+ parts of the work kept: the same command goes on", err)
    went_on = watched(*writing, *command)
    at_once = watched(*writing, *command)
    anew = watched(*writing, *command, "--fresh")
    assert [went_on[3], at_once[3], anew[3]] == [1, 0, 2]  # models that write
    assert at_once[1] == went_on[1]
    assert without_speed(anew[1]) == without_speed(went_on[1])


def test_a_sweep_that_was_stopped_goes_on_and_ends_alike(watched, trained):
    command = ["sweep", trained, "--temperatures", "0.7,1,1.2", "--texts", 10]
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, "3", *map(str, command)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (130, "")
    assert "2 parts of the work kept: the same command goes on from there" in ended.stderr
    writing = (Generator, "stream")
    went_on = watched(*writing, *command)
    assert "Kept from before: 2 parts; --fresh computes them again" in went_on[2]
    at_once = watched(*writing, *command)
    anew = watched(*writing, *command, "--fresh")
    assert [went_on[3], at_once[3], anew[3]] == [1, 0, 3]  # settings that are written with
    assert at_once[1] == went_on[1] == anew[1] != ""


def test_a_memorisation_that_was_stopped_goes_on_and_ends_alike(watched, trained, monkeypatch):
    monkeypatch.setattr(capability, "PASSAGES", 40)
    command = ["memorisation", trained, "--texts", 4, "--json"]
    reading = (memorisation, "measure_capability")
    code, out, err, _ = watched(*reading, *command, stop=2)
    assert (code, out) == (130, "")
    assert "the same command goes on from there" in err
    went_on = watched(*reading, *command)
    at_once = watched(*reading, *command)
    anew = watched(*reading, *command, "--fresh")
    checkpoints = len(json.loads(anew[1])["checkpoints"])
    assert [went_on[3], at_once[3], anew[3]] == [checkpoints - 1, 0, checkpoints]
    assert at_once[1] == went_on[1] == anew[1] != ""


def test_an_audit_is_kept_with_its_proof(watched, trained):
    command = ["bits", trained, "--documents", 3]
    first = watched(audit, "prove", *command)
    again = watched(audit, "prove", *command)
    assert [first[3], again[3]] == [1, 0]
    assert again[1] == first[1] != ""


def test_scores_are_kept(watched, formed):
    command = ["evaluate", formed, "--fields", "--json"]
    first = watched(runs, "adherence", *command)
    again = watched(runs, "adherence", *command)
    assert [first[3], again[3]] == [1, 0]
    assert again[1] == first[1] != ""


def test_cues_are_kept_by_run(watched, trained, mixed, tmp_path):
    pairs = tmp_path / "pairs.txt"
    pairs.write_text("Peel 3 onions and wait.\tPeel 4 onions and wait.\n", "utf-8")
    following = (cues, "follow_cues")
    command = ["cues", "--pairs", pairs, "--distances", "1,2", "--json"]
    assert watched(*following, *command, trained)[3] == 1
    both = watched(*following, *command, trained, mixed)
    again = watched(*following, *command, trained, mixed)
    assert [both[3], again[3]] == [1, 0]
    assert again[1] == both[1] != ""


# Gives commands, where torch and transformers cannot be imported.
WITHOUT_TORCH = """
import json, sys
sys.modules |= {"torch": None, "transformers": None, "matplotlib": None}
from textwright.cli import app
for command in json.loads(sys.argv[1]):
    app(command, standalone_mode=False)
"""


def test_what_is_kept_is_told_without_torch(tw, formed, tmp_path):
    pairs = tmp_path / "pairs.txt"
    pairs.write_text("Peel 3 onions and wait.\tPeel 4 onions and wait.\n", "utf-8")
    commands = [
        ["compare", formed, "--documents", 3, "--out", tmp_path / "page.html"],
        ["bits", formed, "--documents", 3],
        ["evaluate", formed, "--fields"],
        ["sweep", formed, "--temperatures", "0.7,1", "--texts", 10],
        ["cues", formed, "--pairs", pairs, "--distances", "1"],
    ]
    commands = [[*map(str, command), "--json"] for command in commands]
    told = ""
    for command in commands:
        code, out, err = tw(*command)
        assert code == 0, err
        told += out
    again = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, json.dumps(commands)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert again.returncode == 0, again.stderr
    assert again.stdout == told


def without_speed(document: str) -> object:
    found = json.loads(document)
    for run in found["runs"]:
        del run["tokens_per_second"], run["characters_per_second"]
    return found
