"""A training that is killed anywhere goes on to the same bits."""

import json
import os
import subprocess
import sys

import pytest
from small_runs import assert_same_run

# Each case has the arguments of a command line and, maybe, a signal to be sent at the n-th call of
# a function. Cases with one, and those that resume them, run in children of a process that has
# all imported and warm, having run the cases without a signal itself.
NURSERY = """
import importlib, json, os, signal, sys
from functools import reduce
sys.modules["matplotlib"] = None  # as if it were not installed: a picture takes long to draw
from textwright.cli import main

def strike(place, turn, names):
    module, _, path = place.partition(":")
    *parents, last = path.split(".")
    owner = reduce(getattr, parents, importlib.import_module(module))
    struck, calls = getattr(owner, last), []
    def striking(*args, **how):
        calls.append(1)
        if len(calls) == turn:
            for name in names.split():
                os.kill(os.getpid(), getattr(signal, name))
        return struck(*args, **how)
    setattr(owner, last, striking)

def run(case):
    sys.argv = ["textwright", *case["argv"]]
    try:
        main()
    except SystemExit as ended:
        return ended.code or 0

whole, *cases = json.load(sys.stdin)
for case in whole:
    assert run(case) == 0
for case in cases:
    child = os.fork()
    if not child:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        said = os.open(case["said"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(said, 1), os.dup2(said, 2)
        if case["strike"]:
            strike(*case["strike"])
        code = 1
        try:
            code = run(case)
        finally:
            os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""

STEP = "textwright.training.trainer:Trainer.train_step"
EVALUATION = "textwright.training.trainer:Trainer._evaluate"
ROWS = ["train.checkpoint_every=5"]
STREAM = ["data.layout=stream", "train.checkpoint_every=3", "train.batch_size=4"]
STRIKES = {
    "reading the corpus": (ROWS, "textwright.corpus:Corpus.scan", 1, "SIGKILL"),
    "learning the vocabulary": (ROWS, "textwright.tokenizer:Tokenizer.train", 1, "SIGKILL"),
    "measuring what is lost": (ROWS, "textwright.run.folder:Run.keep_escape", 1, "SIGKILL"),
    "after the first checkpoint": (ROWS, EVALUATION, 1, "SIGKILL"),
    "amid a checkpoint": (ROWS, "textwright.run.arrays:save_file", 6, "SIGKILL"),
    "after an evaluation": (ROWS, "textwright.run.folder:Run.keep_weights", 2, "SIGKILL"),
    "amid an epoch of rows": (ROWS, STEP, 14, "SIGKILL"),
    "amid a carried state": (STREAM, STEP, 15, "SIGKILL"),
    "before the end": (STREAM, "textwright.training.session:draw_loss_curve", 1, "SIGKILL"),
    "Ctrl-C while reading": (ROWS, "textwright.corpus:Corpus.scan", 1, "SIGINT"),
    "Ctrl-C amid an epoch": (STREAM, STEP, 11, "SIGINT"),
    "Ctrl-C at an evaluation": (ROWS, EVALUATION, 2, "SIGINT"),
    "Ctrl-C twice": (ROWS, STEP, 8, "SIGINT SIGINT"),
    "SIGTERM while reading": (ROWS, "textwright.corpus:Corpus.scan", 1, "SIGTERM"),
    "SIGTERM twice amid an epoch": (STREAM, STEP, 11, "SIGTERM SIGTERM"),
    "a closed terminal": (ROWS, STEP, 8, "SIGHUP"),
}


@pytest.fixture(scope="module")
def struck(notes, tiny, tmp_path_factory):
    """Every strike, and the resumption after it, each in a process of its own → exit codes, and the
    folder in which run and what was said lie under the strike's name."""
    folder = tmp_path_factory.mktemp("struck")

    def case(name, settings, strike=None, resume=False):
        flags = [part for setting in [*tiny, *settings] for part in ("--set", setting)]
        argv = ["train", str(notes), "--out", str(folder / name), "--preset", "demo", *flags]
        said = folder / (f"{name} resumed.txt" if resume else f"{name}.txt")
        argv += ["--resume"] * resume
        return {"argv": argv, "strike": strike, "said": str(said)}

    whole = [case("rows", ROWS), case("stream", STREAM)]
    cases = []
    for name, (settings, *strike) in STRIKES.items():
        cases += [case(name, settings, strike), case(name, settings, resume=True)]
    environment = {
        **os.environ,
        "TEXTWRIGHT_CACHE": str(folder / "cache"),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", NURSERY],
        input=json.dumps([whole, *cases]),
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    codes = [int(code) for code in done.stdout.split()]
    assert len(codes) == len(cases), done.stderr
    return folder, dict(zip(STRIKES, zip(codes[::2], codes[1::2], strict=True), strict=True))


@pytest.mark.parametrize(
    "name", [name for name, strike in STRIKES.items() if strike[3] == "SIGKILL"]
)
def test_a_killed_run_resumes_to_the_same_bits(struck, name):
    folder, codes = struck
    killed, resumed = codes[name]
    assert killed == -9
    assert resumed == 0, (folder / f"{name} resumed.txt").read_text()
    assert_same_run(folder / name, folder / ("rows" if STRIKES[name][0] is ROWS else "stream"))


@pytest.mark.parametrize(
    "name", [name for name, strike in STRIKES.items() if strike[3] != "SIGKILL"]
)
def test_a_stopped_training_says_so_in_a_sentence_and_goes_on(struck, name):
    folder, codes = struck
    stopped, resumed = codes[name]
    said = (folder / f"{name}.txt").read_text()
    assert "Traceback" not in said
    assert stopped == 130, said
    assert not (folder / name / ".lock-holder").exists()
    if "while reading" in name or name == "Ctrl-C twice":
        assert "interrupted" in said.lower()
    else:
        assert "--resume continues from there" in said
    assert resumed == 0, (folder / f"{name} resumed.txt").read_text()
    assert_same_run(folder / name, folder / ("rows" if STRIKES[name][0] is ROWS else "stream"))
