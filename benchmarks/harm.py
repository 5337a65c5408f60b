"""What else may befall a run: a full disk, no permission, damaged files, a clock that jumps.

Each scenario yields rows for the table: what was tried, how often, what came of it, and whether
anything good was lost. kills.py runs them.
"""

import ctypes
import json
import os
import random
import re
import resource
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from forked import Child, differences, do, phase, run, start

PAGE = 4096
ROOM = 64 << 20  # bytes, for all
MOMENTS = 100  # at which a disk becomes full
POSITIONS = 8  # bytes flipped in each file, one after another
NOBODY = 65534
LATER = ["--resume", "--set", "train.max_steps=20"]
# Files in which a changed letter or digit may stay, and what is made from them.
UNCHECKED = {
    "samples.md": {"samples.md"},
    "metrics.jsonl": {"metrics.jsonl", "loss.png", "README.md"},
}
# Sentences that say what to do.
REMEDY = re.compile(
    r"--resume|restore|delete|name |train (again|a new|it)|free some|choose|leave|try |give|"
    r"should be|must be|set |--out|permission",
    re.IGNORECASE,
)


@dataclass
class Place:
    """Where all is done. notes: the corpus · settings: of a small LSTM · stride: 1, or more to try
    only one in so many · trained: finished runs, by name."""

    folder: Path
    notes: Path
    settings: Sequence[str]
    stride: int
    trained: dict[str, Path] = field(default_factory=dict)

    def train(self, out: Path, *more: str) -> list[str]:
        """A command line that trains an LSTM for 10 steps."""
        argv = ["train", str(self.notes), "--preset", "demo", "--out", str(out)]
        argv += [part for setting in self.settings for part in ("--set", setting)]
        return [*argv, "--set", "train.max_steps=10", *more]


@dataclass
class Row:
    """A row of the table. outcomes: what came of each try · wrong: what should not have been."""

    scenario: str
    what: str
    outcomes: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def refused(self, child: Child, *names: str) -> bool:
        """Count a command that ended with a sentence that names what it is about and a remedy."""
        sentence = " ".join(child.output.split())
        good = child.code == 2 and "Traceback" not in sentence and bool(REMEDY.search(sentence))
        good = good and all(name in sentence for name in names)
        if good:
            self.outcomes["refused in a sentence"] += 1
        else:
            self.wrong.append(_end_of(child))
        return good

    def same(self, child: Child, found: Sequence[str], outcome: str) -> None:
        """Count a training that should have come to the same files."""
        if child.code or found:
            self.wrong.append(f"not {outcome}: {list(found)}, {_end_of(child)}")
        else:
            self.outcomes[outcome] += 1


# A full disk


def fill_disk(place: Place, chance: random.Random) -> Iterator[Row]:
    """Train on a disk of one page, of two pages, … until there is room for all."""
    home = place.folder / "disk"
    for folder in (home / "small", home / "large"):
        folder.mkdir(parents=True)
    whole = home / "large" / "run"
    do(place.train(whole), {"TEXTWRIGHT_CACHE": str(home / "large" / "cache")})
    disk = home / "small"
    try:
        _mount(disk, PAGE)
    except OSError as error:
        yield Row("full disk", f"not tried: a tmpfs cannot be mounted ({error})")
    else:
        try:
            yield from _fill_tmpfs(place, disk, whole, chance)
        finally:
            _call_mount("umount2", str(disk).encode(), 2)
    yield _limit_files(place, home / "limited", whole)


def _fill_tmpfs(place: Place, disk: Path, whole: Path, chance: random.Random) -> Iterator[Row]:
    environment = {"TEXTWRIGHT_CACHE": str(disk / "cache")}
    argv = place.train(disk / "run")
    at: Counter[str] = Counter()
    row = Row("full disk", "then room for all, and `--resume`")
    size, full = PAGE, True
    while full:
        _mount(disk, size, again=True)
        child = run(argv, environment)
        full = child.code != 0
        if full and row.refused(child, str(disk)):
            at[phase()] += 1
            _mount(disk, ROOM, again=True)
            child = run([*argv, "--resume"], environment)
            row.same(child, differences(disk / "run", whole), "the same to the bit after --resume")
        _empty(disk)
        size += PAGE * place.stride
    yield row
    began = time.monotonic()
    do(argv, environment)
    _empty(disk)
    seconds = time.monotonic() - began
    row = Row("full disk", "at a random moment; then room, and `--resume`")
    for _ in range(MOMENTS // place.stride):
        _mount(disk, ROOM, again=True)
        child = start(argv, environment)
        child.wait(chance.uniform(0, seconds))
        _fill(disk)
        child.wait()
        if not child.code:
            row.outcomes["needed no more room"] += 1
        elif row.refused(child, str(disk)):
            at[phase()] += 1
        _mount(disk, ROOM, again=True)
        child = run([*argv, "--resume"], environment)
        row.same(child, differences(disk / "run", whole), "the same to the bit after --resume")
        _empty(disk)
    yield row
    row = Row("full disk", "each time a page more, and `--resume`")
    size, child = PAGE, None
    while child is None or child.code:
        _mount(disk, size, again=True)
        child = run([*argv, "--resume"], environment)
        if child.code and row.refused(child, str(disk)):
            at[phase()] += 1
        size += PAGE * place.stride
    row.same(child, differences(disk / "run", whole), "the same to the bit in the end")
    yield row
    yield Row("full disk", "where it struck", at)


def _limit_files(place: Place, folder: Path, whole: Path) -> Row:
    """No file may grow beyond a limit, which is how a quota looks where no disk can be mounted."""
    row = Row("largest size of a file", "then no limit, and `--resume`")
    largest = max(path.stat().st_size for path in whole.rglob("*"))
    for limit in range(256, largest, 1536 * place.stride):
        out = folder / "run"
        environment = {"TEXTWRIGHT_CACHE": str(folder / "cache")}

        def limited(limit: int = limit) -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

        argv = place.train(out)
        child = run(argv, environment, limited)
        if not row.refused(child, str(folder)):
            break
        child = run([*argv, "--resume"], environment)
        row.same(child, differences(out, whole), "the same to the bit after --resume")
        shutil.rmtree(folder)
    return row


def _fill(disk: Path) -> None:
    """Leave no room on a tmpfs."""
    while True:
        now = os.statvfs(disk)
        with suppress(OSError):  # it grew in the meantime
            used = (now.f_blocks - now.f_bfree) * now.f_frsize
            return _mount(disk, max(PAGE, used), again=True)


def _empty(disk: Path) -> None:
    for inside in disk.iterdir():
        shutil.rmtree(inside)


def _mount(folder: Path, size: int, again: bool = False) -> None:
    """Put a tmpfs of so many bytes on a folder, or give it another size."""
    _call_mount("mount", b"tmpfs", str(folder).encode(), b"tmpfs", 32 * again, b"size=%d" % size)


def _call_mount(name: str, *arguments: object) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


# No permission


def forbid(place: Place, chance: random.Random) -> Iterator[Row]:
    """Work as a user who may not write, or not read."""
    row = Row("no permission", "to write or to read, as an ordinary user")
    if os.geteuid():
        row.what = "not tried: it needs root, to become an ordinary user"
        yield row
        return
    home = place.folder / "forbidden"
    cache, theirs = home / "cache", home / "theirs"
    environment = {"TEXTWRIGHT_CACHE": str(cache)}
    out = home / "own" / "run"
    do(place.train(out), environment)
    theirs.mkdir()
    os.chown(theirs, NOBODY, NOBODY)
    whole = home / "whole" / "run"
    shutil.copytree(out, whole)
    do(place.train(whole, *LATER), environment)
    looks = {name: _told(do(argv, environment)) for name, argv in _looks(out).items()}

    def tried(argv: Sequence[str], cache: Path = cache) -> Child:
        return run(argv, {"TEXTWRIGHT_CACHE": str(cache)}, lambda: os.setuid(NOBODY))

    row.refused(tried(place.train(home / "new")), str(home / "new"))
    row.refused(tried(place.train(out, *LATER)), str(out))
    for name, argv in _looks(out).items():
        child = tried(argv)
        row.same(child, [name] * (_told(child) != looks[name]), "read as ever")
    row.same(tried(place.train(theirs / "a")), [], "trained from a cache that cannot be written")
    closed, empty = home / "closed", home / "empty"
    closed.mkdir(mode=0o700)
    empty.mkdir(mode=0o755)
    for folder in (closed, empty):
        name = f"{theirs}/{folder.name}"
        row.refused(tried(place.train(Path(name)), folder), str(folder), "TEXTWRIGHT_CACHE")
    for path in [out, *sorted(out.rglob("*"))][:: place.stride]:
        mode = path.stat().st_mode
        path.chmod(0)
        for name, argv in {**_looks(out), "resume": place.train(out, *LATER)}.items():
            child = tried(argv)
            if child.code or (name != "resume" and _told(child) != looks[name]):
                row.refused(child, str(out))
            else:
                row.outcomes["read as ever"] += 1
        begun = theirs / "begun"
        child = tried(place.train(begun, "--from", str(out)))
        if child.code:
            row.refused(child, str(out))
        shutil.rmtree(begun, ignore_errors=True)
        path.chmod(mode)
    place.notes.chmod(0o600)
    row.refused(tried(place.train(theirs / "b")), str(place.notes))
    place.notes.chmod(0o644)
    child = run(place.train(out, *LATER), environment)
    row.same(child, differences(out, whole), "the same to the bit when permitted again")
    yield row


# Damaged files


def damage(place: Place, chance: random.Random) -> Iterator[Row]:
    """Flip a byte of each file of a run, at several places, or cut off its second half; then use
    the run in every way. Adapters are among the runs if the kills have trained what they adapt."""
    home, positions = place.folder / "damaged", max(1, POSITIONS // place.stride)
    environment = {"TEXTWRIGHT_CACHE": str(home / "cache")}
    kinds = {"LSTM": place.train(home / "LSTM" / "good" / "run")}
    if origin := place.trained.get("GPT, windows"):
        kinds["adapters"] = _adapting(place, home / "adapters" / "good" / "run", origin)
    for kind, argv in kinds.items():
        folder = home / kind
        good = folder / "good" / "run"
        do(argv, environment)
        uses = Uses(place, folder, environment)
        files = sorted(p for p in good.rglob("*") if p.is_file() and p.stat().st_size)
        for path in files[:: place.stride]:
            yield uses.of_damaged(path.relative_to(good).as_posix(), chance, positions, kind)
    yield _damage_cache(place, home, chance, positions)


def _adapting(place: Place, out: Path, origin: Path) -> list[str]:
    settings = [s for s in place.settings if s.startswith(("train.", "data.", "sample."))]
    argv = ["train", str(place.notes), "--preset", "demo-gpt", "--out", str(out)]
    argv += [part for setting in settings for part in ("--set", setting)]
    argv += ["--set", "train.lora_rank=2", "--set", "train.max_steps=10"]
    return [*argv, "--from", str(origin)]


class Uses:
    """All uses of a run, and what came of them while it was whole."""

    def __init__(self, place: Place, folder: Path, environment: dict[str, str]):
        self.place, self.folder, self.environment = place, folder, environment
        self.good, self.used = folder / "good" / "run", folder / "used" / "run"
        self._copy()
        self.looks = {
            name: _told(do(argv, environment)) for name, argv in _looks(self.used).items()
        }
        self.begun = folder / "begun" / "run"
        do(self._from(), environment)
        self.of_begun = (self.begun / "model.safetensors").read_bytes()
        self.resumed = folder / "resumed" / "run"
        do(self._resume(), environment)
        shutil.copytree(self.used, self.resumed)

    def of_damaged(self, name: str, chance: random.Random, positions: int, kind: str) -> Row:
        """One file, damaged in several ways."""
        row = Row(f"damaged file of a run ({kind})", f"`{name}`")
        content = (self.good / name).read_bytes()
        for start in sorted({len(content) * n // positions for n in range(positions)}):
            at = min(start + chance.randrange(1 + len(content) // positions), len(content) - 1)
            flipped = bytearray(content)
            flipped[at] ^= chance.randrange(1, 256)
            self._use(row, name, bytes(flipped), f"byte {at:,} flipped")
        self._use(row, name, content[: len(content) // 2], "second half gone")
        return row

    def _use(self, row: Row, name: str, content: bytes, how: str) -> None:
        path = self.used / name
        for use in [*self.looks, "--from", "--resume"]:
            self._copy()
            path.write_bytes(content)
            if use == "--from":
                child = self._do(self._from())
                kept = self.begun / "model.safetensors"
                same = not child.code and kept.read_bytes() == self.of_begun
            elif use == "--resume":
                child = self._do(self._resume())
                found = [] if child.code else differences(self.used, self.resumed)
                same = not found
            else:
                child = self._do(_looks(self.used)[use])
                same = _told(child) == self.looks[use]
            if child.code:
                named = str(self.used) if name == "config.toml" else path.name
                if not row.refused(child, named):
                    row.wrong[-1] = f"{how}, {use}: {row.wrong[-1]}"
                elif use == "--resume":
                    self._follow(row, child, name, how)
            elif same:
                row.outcomes["no harm"] += 1
            elif name == "config.toml":
                row.outcomes["taken as meant"] += 1
            elif use == "--resume" and {*found} <= UNCHECKED.get(name, set()):
                row.outcomes["kept as it is"] += 1
            else:
                differing = found if use == "--resume" else use
                row.wrong.append(f"{how}, {use}: silently other: {differing}")

    def _follow(self, row: Row, child: Child, name: str, how: str) -> None:
        """Do what the sentence says, where that is not to restore a copy."""
        sentence = " ".join(child.output.split())
        path = self.used / name
        if f"delete the folder {path.parent}" in sentence:
            shutil.rmtree(path.parent)
        elif "delete that line" in sentence:
            number = int(re.search(r"Line ([\d,]+) of", sentence)[1].replace(",", ""))
            lines = path.read_bytes().splitlines(keepends=True)
            path.write_bytes(b"".join(lines[: number - 1] + lines[number:]))
        elif "or delete it" in sentence:
            path.unlink()
        else:
            return
        child = self._do(self._resume())
        found = [] if child.code else differences(self.used, self.resumed)
        # What was deleted is gone; all else is as ever.
        gone = {name, "loss.png", "README.md"} if name == "metrics.jsonl" else {path.name}
        if name.startswith("checkpoints"):
            gone = set()
        found = [name for name in found if name not in gone]
        row.same(child, found, "resumed to the same after the remedy")
        if row.wrong and child.code:
            row.wrong[-1] = f"{how}, after the remedy: {row.wrong[-1]}"

    def _copy(self) -> None:
        shutil.rmtree(self.used.parent, ignore_errors=True)
        shutil.copytree(self.good, self.used)

    def _do(self, argv: Sequence[str]) -> Child:
        return run(argv, self.environment)

    def _resume(self) -> list[str]:
        return ["train", "--out", str(self.used), *LATER]

    def _from(self) -> list[str]:
        shutil.rmtree(self.begun.parent, ignore_errors=True)
        argv = ["train", str(self.place.notes), "--from", str(self.used), "--out", str(self.begun)]
        return [*argv, *("--set", "train.max_steps=2", "--set", "train.lora_rank=0")]


def _damage_cache(place: Place, home: Path, chance: random.Random, positions: int) -> Row:
    """Encoded corpora are made again."""
    row = Row("damaged file of the cache", "each, then a new training")
    environment = {"TEXTWRIGHT_CACHE": str(home / "cache of its own")}
    whole = home / "new" / "run"
    do(place.train(whole), environment)
    [folder] = Path(environment["TEXTWRIGHT_CACHE"]).iterdir()
    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        cases = [content[: len(content) // 2]]
        for _ in range(positions):
            flipped = bytearray(content)
            flipped[chance.randrange(len(content))] ^= chance.randrange(1, 256)
            cases.append(bytes(flipped))
        for case in cases:
            path.write_bytes(case)
            out = home / "again" / "run"
            child = run(place.train(out), environment)
            row.same(child, differences(out, whole), "the same to the bit")
            shutil.rmtree(out.parent)
    return row


# The clock


def move_clock(place: Place, chance: random.Random) -> Iterator[Row]:
    """Let the time of day jump by days, forward and back, at every look at it."""
    row = Row("clock that jumps", "by up to 400 days at every look")
    home = place.folder / "clock"
    environment = {"TEXTWRIGHT_CACHE": str(home / "cache")}
    whole = home / "whole" / "run"
    do(place.train(whole), environment)
    real = time.time

    def jump() -> None:
        time.time = lambda: real() + chance.uniform(-400, 400) * 86_400

    out = home / "jumped" / "run"
    child = run(place.train(out, "--time-budget", "1h"), environment, jump)
    found = [name for name in differences(out, whole) if name != "config.toml"]
    row.same(child, found, "the same to the bit")
    out = home / "budget" / "run"
    argv = place.train(out, "--time-budget", "1s", "--set", "train.max_steps=1000000")
    argv += ["--set", "train.epochs=100000", "--set", "train.early_stopping=0"]
    for resume in ([], ["--resume"]):
        began = time.monotonic()
        child = run([*argv, *resume], environment, jump)
        passed = time.monotonic() - began
        steps = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        seconds = [step["seconds"] for step in steps if step["event"] == "step"]
        kept = 1 <= seconds[-1] < 1.5 and seconds == sorted(seconds) and passed < 60
        row.same(child, [] if kept else [f"{seconds[-1]} seconds"], "the time budget kept")
    yield row


def _looks(out: Path) -> dict[str, list[str]]:
    """The commands that read a run."""
    return {
        "generate": ["generate", str(out), "--prompt", "The", "--num", "2", "--seed", "1"],
        "evaluate": ["evaluate", str(out), "--json"],
        "inspect": ["inspect", str(out), "--prompt", "The", "--json"],
    }


def _end_of(child: Child) -> str:
    """The exit code, the last line that a command wrote, and the last place in a traceback."""
    lines = child.output.strip().splitlines() or [""]
    places = [line.strip() for line in lines if "/textwright/" in line and "line" in line]
    return f"exit {child.code}: {' '.join([*places[-1:], lines[-1]])}"


def _told(child: Child) -> str:
    """What a command printed, without a speed."""
    return "\n".join(
        line
        for line in child.output.splitlines()
        if "second" not in line and "tokens/s" not in line
    )


Scenario = Callable[[Place, random.Random], Iterator[Row]]
SCENARIOS: dict[str, Scenario] = {
    "disk": fill_disk,
    "permission": forbid,
    "damage": damage,
    "clock": move_clock,
}
