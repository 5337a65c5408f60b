"""Commands of textwright as forked children of a process that has imported everything.

A child begins at once, in whatever environment it is given, and may be killed. The parent trains
once to warm up, but starts no thread, so that it may fork. Linux only.
"""

import fcntl
import importlib
import json
import mmap
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce, wraps
from pathlib import Path

from textwright.cli import main

PATIENCE = 120.0  # seconds after which a child has hung
PIPE_BYTES = 1 << 20  # a child writes less than this, so nobody needs to read while it runs
ELSEWHERE = "starting or ending"
PHASES = {
    "reading the corpus": ["textwright.corpus:Corpus.scan"],
    "recording the corpus": ["textwright.training.start:record_corpus"],
    "building the vocabulary": ["textwright.training.preparation:_tokenizer"],
    "encoding": ["textwright.training.preparation:_encode"],
    "fitting the escape code": ["textwright.training.preparation:_escape"],
    "measuring the held-out documents": ["textwright.training.preparation:_sample"],
    "building the model": ["textwright.training.session:_build_trainer"],
    "going back to a checkpoint": [
        "textwright.training.session:_take_up",
        "textwright.run.checkpoints:Checkpoints.newest",
    ],
    "a step": ["textwright.training.trainer:Trainer.train_step"],
    "an evaluation": ["textwright.training.trainer:Trainer._evaluate"],
    "writing a text": ["textwright.training.session:_preview"],
    "writing a checkpoint": ["textwright.run.checkpoints:Checkpoints.keep"],
    "writing the weights": ["textwright.run.folder:Run.keep_weights"],
    "writing metrics.jsonl or samples.md": ["textwright.run.folder:Run.append"],
    "drawing the picture": ["textwright.training.session:draw_loss_curve"],
    "writing the card": ["textwright.training.session:write_model_card"],
}
NAMES = [ELSEWHERE, *PHASES]

_children: list["Child"] = []
_now = mmap.mmap(-1, 16)  # the phase of each process of a training, shared with the children


@dataclass
class Child:
    """A command in a process of its own. code: as a shell gives it, negative for a signal."""

    pid: int
    pipe: int
    code: int | None = None
    output: str = ""

    def poll(self) -> bool:
        """Whether it has ended."""
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
                self.output = os.read(self.pipe, PIPE_BYTES).decode("utf-8", "replace")
                os.close(self.pipe)
        return self.code is not None

    def wait(self, seconds: float = PATIENCE) -> bool:
        """Wait until it has ended, or for so long; returns whether it has."""
        end = time.monotonic() + seconds
        while not self.poll() and time.monotonic() < end:
            time.sleep(0.001)
        return self.poll()

    def kill(self) -> None:
        if self.code is None:
            os.kill(self.pid, signal.SIGKILL)
            self.wait()


def start(
    argv: Sequence[str],
    environment: Mapping[str, str] | None = None,
    before: Callable[[], None] = lambda: None,
) -> Child:
    """Begin a command. before: called in the child first."""
    out, into = os.pipe()
    fcntl.fcntl(into, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    pid = os.fork()
    if pid:
        os.close(into)
        _children.append(Child(pid, out))
        return _children[-1]
    code = 1
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        for handle, name in ((1, "stdout"), (2, "stderr")):
            os.dup2(into, handle)
            setattr(sys, name, os.fdopen(handle, "w", encoding="utf-8"))
        os.environ.update(environment or {})
        _now[_rank()] = 0
        before()
        code = call(argv)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)


def run(
    argv: Sequence[str],
    environment: Mapping[str, str] | None = None,
    before: Callable[[], None] = lambda: None,
) -> Child:
    """A command, from beginning to end. Raises TimeoutError if it hangs."""
    child = start(argv, environment, before)
    if not child.wait():
        child.kill()
        raise TimeoutError(f"{' '.join(argv)} hung: {child.output}")
    return child


def kill_all() -> None:
    """Kill the children that still run."""
    for child in _children:
        child.kill()


def do(argv: Sequence[str], environment: Mapping[str, str] | None = None) -> Child:
    """A command that has to work. Raises RuntimeError with what it wrote if it does not."""
    child = run(argv, environment)
    if child.code:
        raise RuntimeError(f"{' '.join(argv)}: exit {child.code}: {child.output}")
    return child


def call(argv: Sequence[str]) -> int:
    """The command line in this process → its exit code."""
    sys.argv = ["textwright", *argv]
    try:
        main()
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def warm_up(argv: Sequence[str]) -> None:
    """Import what a training needs by training here, and watch the phases of all trainings to come.

    Raises RuntimeError if that left a thread behind, after which a fork would not be safe.
    """
    with _silence():
        code = call(argv)
    if code or len(os.listdir("/proc/self/task")) > 1:
        raise RuntimeError("the first training failed or left a thread behind")
    for phase, places in PHASES.items():
        for place in places:
            _watch(place, NAMES.index(phase))


def phase(rank: int = 0) -> str:
    """What a process of the training is doing, or did last."""
    return NAMES[_now[rank]]


def differences(run: Path, other: Path) -> list[str]:
    """The files in which two runs differ: all of them to the bit, except for times of day."""
    names = {
        path.relative_to(folder).as_posix()
        for folder in (run, other)
        for path in folder.rglob("*")
        if not path.is_dir()
    }
    return sorted(name for name in names if _content(run, name) != _content(other, name))


def _content(run: Path, name: str) -> object:
    path = run / name
    if not path.exists():
        return None
    if path.name == "metrics.jsonl":
        records = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        return [_untimed(record) for record in records if record["event"] != "ready"]
    if path.name == "progress.json":
        return _untimed(json.loads(path.read_text("utf-8"))["progress"])
    if path.name == "README.md":
        return re.sub(r"^textwright generate .*", "", path.read_text("utf-8"), flags=re.MULTILINE)
    if path.name == "config.toml":  # may be resumed to another step
        return re.sub(r"^max_steps = .*", "", path.read_text("utf-8"), flags=re.MULTILINE)
    return path.read_bytes()


def _untimed(record: dict[str, object]) -> dict[str, object]:
    return {key: value for key, value in record.items() if key != "seconds"}


def _watch(place: str, number: int) -> None:
    """Let a function note its phase while it runs."""
    module, _, path = place.partition(":")
    *parents, last = path.split(".")
    owner = reduce(getattr, parents, importlib.import_module(module))
    function = getattr(owner, last)

    @wraps(function)
    def watched(*args: object, **named: object) -> object:
        rank = _rank()
        before, _now[rank] = _now[rank], number
        result = function(*args, **named)
        _now[rank] = before  # not after an error: it is what ended the phase
        return result

    setattr(owner, last, watched)


def _rank() -> int:
    return int(os.environ.get("RANK", "0"))


@contextmanager
def _silence() -> Iterator[None]:
    """Nothing that this process writes is seen."""
    kept = [os.dup(1), os.dup(2)]
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        for number, handle in enumerate(kept, 1):
            os.dup2(handle, number)
            os.close(handle)
        os.close(nowhere)
