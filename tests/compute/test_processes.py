"""Two processes take the steps that one would, and each can continue a training of the other."""

import json
import os
import socket
import subprocess
import sys

import pytest

from textwright.config import Config
from textwright.run import Run
from textwright.training.session import train_run

STREAM = ["data.layout=stream", "train.accumulate=2"]
UNEVEN = ["train.batch_size=31", "train.clip_norm=1"]  # one process has a row more
TIMEOUT = 240  # seconds, if the processes hang

# One of several processes, as torchrun would have started it, for one training after another.
PROGRAM = """
import json, os, signal, sys
from textwright.cli import main
from textwright.training.trainer import Trainer

given, strike = json.loads(sys.argv[1]), sys.argv[2]
train_step = Trainer.train_step

def struck(trainer):
    if trainer.progress.step == 5 and os.environ["RANK"] == "1":
        exec(strike)
    return train_step(trainer)

Trainer.train_step = struck
for port, argv in given:
    os.environ["MASTER_PORT"] = str(port)
    sys.argv = ["textwright", *argv]
    try:
        main()
    except SystemExit as ended:
        if ended.code:
            raise
"""

# Joins a group, imports what keeps one alive, and ends without leaving it.
UNLEFT = """
import atexit, gc, weakref
import torch
from torch import distributed
from textwright.compute import processes

@atexit.register
def look():
    gc.collect()
    print(distributed.is_initialized(), group())

processes.start(torch.device("cpu"))
group = weakref.ref(distributed.group.WORLD)
torch.optim.Adam([torch.zeros(1, requires_grad=True)])
assert processes.total(torch.ones(())) == 2
"""


# The first process ends while the second joins.
LEFT = """
import os, time, torch
import torch.distributed as dist
from textwright.compute import processes
from textwright.errors import TrainingError

if os.environ["RANK"] == "0":
    store = dist.TCPStore("127.0.0.1", int(os.environ["MASTER_PORT"]), 2, True)  # until both came
    time.sleep(1)
    os._exit(9)
try:
    processes.start(torch.device("cpu"))
except TrainingError as error:
    print(error)
"""


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def start(world, trainings, folder, strike="", codes=(0, 0)):
    """Run command lines, one after another, in `world` processes → the output of each. strike: code
    that the second process runs before its sixth step."""
    given = json.dumps([(free_port(), argv) for argv in trainings])
    cache = {"TEXTWRIGHT_CACHE": str(folder / "cache")}
    return run(world, [PROGRAM, given, strike], cache, codes)


def run(world, program, environment, codes):
    """Run a program with its arguments in `world` processes → the output of each."""
    together = {"WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "GLOO_SOCKET_IFNAME": "lo"}
    together |= {"MASTER_PORT": str(free_port()), "OMP_NUM_THREADS": "1", **environment}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", *program],
            env={**os.environ, **together, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(world)
    ]
    try:
        outputs = [process.communicate(timeout=TIMEOUT) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert tuple(process.returncode for process in processes) == codes, outputs
    return outputs


def losses(folder):
    metrics = Run.load(folder).metrics()
    steps = [m["loss"] for m in metrics if m["event"] == "step"]
    return steps, [m["scores"]["loss"] for m in metrics if m["event"] == "evaluation"]


@pytest.fixture(scope="module")
def trained(notes, tiny, tmp_path_factory):
    """The same training by one process, by two, and begun by one and continued by two. The same on
    one continuous stream, by one, and begun by one, continued by two and ended by one."""
    folder = tmp_path_factory.mktemp("worlds")
    settings = [*tiny, "model.dropout=0", "train.schedule=constant", *UNEVEN]

    def alone(out, *more, resume=False):
        config = Config.resolve("demo", settings=[*settings, *more])
        for _ in train_run([notes], folder / out, config, resume=resume):
            pass

    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("TEXTWRIGHT_CACHE", str(folder / "cache of one"))
        alone("one")
        alone("both", "train.max_steps=7")
        alone("stream", *STREAM)
        alone("stream by turns", *STREAM, "train.max_steps=7")
    argv = ["train", str(notes), "--preset", "demo", "--json"]
    argv += [part for setting in settings for part in ("--set", setting)]
    two = [*argv, "--out", str(folder / "two")]
    both = [*argv, "--out", str(folder / "both"), "--resume"]
    turns = [*argv, "--out", str(folder / "stream by turns"), "--resume"]
    turns += [part for setting in STREAM for part in ("--set", setting)]
    outputs = start(2, [two, both, [*turns, "--set", "train.max_steps=13"]], folder)
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("TEXTWRIGHT_CACHE", str(folder / "cache of one"))
        alone("stream by turns", *STREAM, resume=True)
    return folder, outputs


@pytest.mark.parametrize("name", ["two", "both"])
def test_two_processes_give_the_losses_of_one(trained, name):
    folder, _ = trained
    steps, evaluations = losses(folder / "one")
    assert losses(folder / name)[0] == pytest.approx(steps, abs=1e-4)
    assert losses(folder / name)[1][-1] == pytest.approx(evaluations[-1], abs=1e-4)
    assert len(steps) == 20
    assert steps[-1] < steps[0] - 0.1


def test_a_carried_state_continues_with_any_number_of_processes(trained):
    folder, _ = trained
    steps, evaluations = losses(folder / "stream")
    by_turns = losses(folder / "stream by turns")
    assert by_turns[0] == pytest.approx(steps, abs=1e-5)
    assert by_turns[1][-1] == pytest.approx(evaluations[-1], abs=1e-5)
    assert len(steps) == 20


def test_only_the_first_process_prints(trained):
    """One JSON document for each training, and nothing from the second process."""
    (first, complaints), (second, others) = trained[1]
    decoder = json.JSONDecoder()
    ends = []
    while first := first.lstrip():
        summary, end = decoder.raw_decode(first)
        ends.append(summary["steps"])
        first = first[end:]
    assert ends == [20, 20, 13]
    assert second == ""
    assert "Training" not in complaints + others


@pytest.mark.parametrize(
    ("strike", "codes", "sentence"),
    [
        ("signal.raise_signal(signal.SIGINT)", (130, 130), "Stopped at step 6; --resume continues"),
        ("os._exit(9)", (2, 9), "The processes of this training lost touch"),
    ],
    ids=["Ctrl-C", "a death"],
)
def test_what_ends_one_process_ends_all_with_a_sentence(
    notes, tiny, tmp_path, strike, codes, sentence
):
    argv = ["train", str(notes), "--preset", "demo", "--out", str(tmp_path / "run")]
    argv += [part for setting in [*tiny, *STREAM] for part in ("--set", setting)]
    (_, first), (_, second) = start(2, [argv], tmp_path, strike, codes)
    assert sentence in first
    assert "Traceback" not in first + second
    assert second == ""
    saved = sorted(folder.name for folder in (tmp_path / "run/checkpoints").iterdir())
    assert saved[-1] == ("step-00000006" if codes[1] == 130 else "step-00000005")


def test_a_death_while_the_processes_meet_is_told_in_a_sentence():
    _, (said, _) = run(2, [LEFT], {}, (9, 0))
    assert "The processes of this training lost touch" in said


def test_a_group_and_its_threads_end_before_python_does():
    """A thread that needed Python's lock while Python ends would abort the process (SIGABRT)."""
    wrote = run(2, [UNLEFT], {}, (0, 0))
    assert [out for out, _ in wrote] == ["False None\n"] * 2


def test_a_run_of_two_processes_is_like_any_other(trained):
    one, two = (Run.load(trained[0] / name) for name in ("one", "two"))
    assert one.config == two.config
    assert one.tokenizer.fingerprint == two.tokenizer.fingerprint
    assert one.weights().keys() == two.weights().keys()
    assert {f.name for f in one.path.iterdir()} == {f.name for f in two.path.iterdir()}
