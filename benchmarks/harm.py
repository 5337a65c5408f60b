"""Scenarios of kills.py: a full disk, no permission, a clock that jumps."""

import ctypes
import json
import os
import random
import resource
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from forked import Child, differences, do, phase, run, start
from scenario import LATER, Place, Row, looks, told

PAGE = 4096
ROOM = 64 << 20  # bytes, for all
MOMENTS = 100  # at which a disk becomes full
NOBODY = 65534


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
    known = {name: told(do(argv, environment)) for name, argv in looks(out).items()}

    def tried(argv: Sequence[str], cache: Path = cache) -> Child:
        return run(argv, {"TEXTWRIGHT_CACHE": str(cache)}, lambda: os.setuid(NOBODY))

    row.refused(tried(place.train(home / "new")), str(home / "new"))
    row.refused(tried(place.train(out, *LATER)), str(out))
    for name, argv in looks(out).items():
        child = tried(argv)
        row.same(child, [name] * (told(child) != known[name]), "read as ever")
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
        for name, argv in {**looks(out), "resume": place.train(out, *LATER)}.items():
            child = tried(argv)
            if child.code or (name != "resume" and told(child) != known[name]):
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
