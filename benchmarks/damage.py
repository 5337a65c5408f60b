"""A scenario of kills.py: damaged files, of a run and of the cache."""

import random
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from forked import Child, differences, do, run
from scenario import LATER, Place, Row, looks, told

POSITIONS = 8  # bytes flipped in each file, one after another
# Files in which a changed letter or digit may stay, and what is made from them.
UNCHECKED = {
    "samples.md": {"samples.md"},
    "metrics.jsonl": {"metrics.jsonl", "loss.png", "README.md"},
}


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
        self.known = {name: told(do(argv, environment)) for name, argv in looks(self.used).items()}
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
        for begin in sorted({len(content) * n // positions for n in range(positions)}):
            at = min(begin + chance.randrange(1 + len(content) // positions), len(content) - 1)
            flipped = bytearray(content)
            flipped[at] ^= chance.randrange(1, 256)
            self._use(row, name, bytes(flipped), f"byte {at:,} flipped")
        self._use(row, name, content[: len(content) // 2], "second half gone")
        return row

    def _use(self, row: Row, name: str, content: bytes, how: str) -> None:
        path = self.used / name
        for use in [*self.known, "--from", "--resume"]:
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
                child = self._do(looks(self.used)[use])
                same = told(child) == self.known[use]
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
