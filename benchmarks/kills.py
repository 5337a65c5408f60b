"""What a training survives: kills, a full disk, folders without permission, damage, the clock.

    python benchmarks/kills.py --kills 300 --out kills.json --table kills.md

Kills small trainings at random moments, uniform over the time that they take, and lets `--resume`
continue them, which may be killed again. In the end all files must be those of a training that
nothing disturbed, to the bit. Then come the scenarios of harm.py and damage.py. Linux only; a full
disk and folders without permission need root. Ends by itself, and leaves only its two files.
"""

import argparse
import json
import os
import platform
import random
import signal
import socket
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}

import numpy as np
import torch
from damage import damage
from forked import Child, differences, kill_all, phase, start, warm_up
from harm import fill_disk, forbid, move_clock
from scenario import Place, Scenario
from speed import commit, processor
from tables import write_tables

from textwright import grammar

TINY = [
    *("model.dropout=0.2", "data.context_length=24", "sample.max_new_tokens=12"),
    *("train.epochs=100", "train.batch_size=32", "train.learning_rate=0.005"),
    *("train.schedule=constant", "train.max_steps=20", "train.evaluate_every=5"),
    *("train.checkpoint_every=2", "train.threads=1", "train.dtype=fp32"),
]
LSTM = ["model.embedding_size=8", "model.hidden_size=8"]
GPT = ["model.layers=2", "model.heads=2", "model.width=16"]
STREAM = ["data.layout=stream", "train.batch_size=4", "train.accumulate=2"]
SCENARIOS: dict[str, Scenario] = {
    "disk": fill_disk,
    "permission": forbid,
    "damage": damage,
    "clock": move_clock,
}
GRACE = 20.0  # seconds that the other process has to notice a death, before it is ended too


@dataclass(frozen=True)
class Case:
    """A kind of training. origin: it begins from the weights of the case of this name."""

    settings: list[str]
    preset: str = "demo"
    processes: int = 1
    flags: tuple[str, ...] = ()
    origin: str = ""


CASES = {
    "LSTM, rows": Case(LSTM),
    "LSTM, stream with carried state": Case([*LSTM, *STREAM]),
    "LSTM, rows, private": Case(LSTM, flags=("--private",)),
    "GPT, windows": Case([*GPT, "data.layout=windows"], "demo-gpt"),
    "adapters of a GPT": Case(["train.lora_rank=2"], "demo-gpt", origin="GPT, windows"),
    "LSTM, rows, two processes": Case(LSTM, processes=2),
    "LSTM, stream, two processes": Case([*LSTM, *STREAM], processes=2),
}


@dataclass
class Result:
    """What became of the trainings of a case."""

    kills: Counter[str] = field(default_factory=Counter)
    resumed: int = 0
    finished: int = 0
    wrong: list[str] = field(default_factory=list)
    noticed: int = 0  # deaths after which the other process ended by itself
    ended: int = 0  # deaths after which it had to be ended, as torchrun does


class Soak:
    """Kills the trainings of one case, in a folder of its own."""

    def __init__(self, place: Place, name: str, chance: random.Random):
        self.place, self.name, self.case, self.chance = place, name, CASES[name], chance
        self.folder = place.folder / name.replace(" ", "-").replace(",", "")
        self.whole = self.folder / "whole" / "run"
        self.result = Result()

    def measure(self) -> float:
        """Train undisturbed, twice → the seconds it took. Raises RuntimeError if that fails."""
        seconds = []
        for out in (self.whole, self.folder / "again" / "run"):
            began = time.monotonic()
            children = self.begin(out)
            for child in children:
                child.wait()
            if any(child.code for child in children):
                raise RuntimeError(f"{self.name}: {children[0].output}")
            seconds.append(time.monotonic() - began)
        if found := differences(self.whole, out):
            raise RuntimeError(f"{self.name}: two undisturbed trainings differ in {found}")
        return min(seconds)

    def begin(self, out: Path, resume: bool = False) -> list[Child]:
        """Start all processes of a training, as torchrun would."""
        case = self.case
        argv = ["train", str(self.place.notes), "--preset", case.preset, "--out", str(out)]
        argv += [part for setting in [*TINY, *case.settings] for part in ("--set", setting)]
        argv += case.flags
        if case.origin:
            argv += ["--from", str(self.place.trained[case.origin])]
        if resume:
            known = list(out.glob("checkpoints/step-*")) and "--private" not in case.flags
            short = known and self.chance.random() < 0.5
            argv = ["train", "--out", str(out), "--resume"] if short else [*argv, "--resume"]
        together = {"WORLD_SIZE": str(case.processes), "MASTER_ADDR": "127.0.0.1"}
        together |= {"MASTER_PORT": str(_free_port()), "GLOO_SOCKET_IFNAME": "lo"}
        together |= {"TEXTWRIGHT_CACHE": str(out.parent / "cache")}  # none is encoded yet
        return [
            start(argv, {**together, "RANK": str(rank), "LOCAL_RANK": str(rank)})
            for rank in range(case.processes)
        ]

    def kill_until_it_ends(self, number: int, kills: int, seconds: float) -> int:
        """One training, killed again and again until an attempt ends first → kills, at most
        `kills`."""
        out, done, result = self.folder / str(number) / "run", 0, self.result
        while True:
            moment = self.chance.uniform(0, seconds) if done < kills else 1e9
            victim = self.chance.randrange(self.case.processes)
            children = self.begin(out, resume=done > 0)
            result.resumed += done > 0
            if children[victim].wait(min(moment, 120)):
                break
            at = phase(victim)
            children[victim].kill()
            self._end_others(children)
            if moment == 1e9:
                result.wrong.append(f"{number}: hung: {children[0].output}")
                return done
            result.kills[at] += 1
            done += 1
        for child in children:
            child.wait()
            child.kill()
        result.finished += 1
        if any(child.code for child in children):
            result.wrong.append(f"{number}: {children[0].output}")
        else:
            found = differences(self.whole, out)
            found += [path.name for path in (out.parent / "cache").glob("building-*")]
            result.wrong += [f"{number}: differs in {', '.join(found)}"] * bool(found)
        return done

    def _end_others(self, children: list[Child]) -> None:
        for child in children:
            if child.code is None:
                alone = child.wait(GRACE)
                self.result.noticed += alone
                self.result.ended += not alone
                child.kill()
            if "Traceback" in child.output:
                self.result.wrong.append(child.output)


def soak(place: Place, kills: int, seed: int) -> dict[str, Result]:
    """Spread the kills over all cases."""
    results = {}
    for index, name in enumerate(CASES):
        case = Soak(place, name, random.Random(f"{seed} {name}"))
        seconds = case.measure()
        place.trained[name] = case.whole
        left = kills * (index + 1) // len(CASES) - kills * index // len(CASES)
        number = 0
        while left > 0:
            left -= case.kill_until_it_ends(number, left, seconds)
            number += 1
        results[name] = case.result
        killed, result = sum(case.result.kills.values()), case.result
        print(
            f"{name}: {killed} kills of trainings of {seconds:.1f} s, {result.finished} ended, "
            f"{len(result.wrong)} wrong",
            flush=True,
        )
        for sentence in result.wrong:
            print(f"  {sentence}", flush=True)
    return results


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def main() -> int:
    """Read the command line, kill, harm, write the tables → 1 if anything was lost, else 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scenario", action="append", choices=SCENARIOS, help="only this; or none")
    parser.add_argument("--sparse", action="store_true", help="try little of each scenario")
    parser.add_argument("--out", type=Path, help="write all figures to this file, as JSON")
    parser.add_argument("--table", type=Path, help="write the tables to this file, not to stdout")
    given = parser.parse_args()
    began = time.monotonic()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # and clean up
    with ExitStack() as stack:
        name = stack.enter_context(tempfile.TemporaryDirectory(prefix="kills-"))
        stack.callback(kill_all)
        folder = Path(name)
        folder.chmod(0o755)  # an ordinary user may look into it
        os.environ["TEXTWRIGHT_CACHE"] = str(folder / "cache")
        notes = folder / "notes.txt"
        notes.write_text("".join(f"{note}\n" for note in grammar.documents(300, seed=3)), "utf-8")
        place = Place(folder, notes, [*TINY, *LSTM], 12 if given.sparse else 1)
        warm_up(place.train(folder / "first"))
        kills = soak(place, given.kills, given.seed) if given.kills else {}
        rows = []
        for scenario in given.scenario or SCENARIOS:
            for row in SCENARIOS[scenario](place, random.Random(f"{given.seed} {scenario}")):
                rows.append(row)
                print(f"{row.scenario}: {row.what}: {dict(row.outcomes)}", flush=True)
                for sentence in row.wrong:
                    print(f"  WRONG {sentence}", flush=True)
    record = {
        "machine": processor(),
        "cores": os.cpu_count(),
        "commit": commit(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "seed": given.seed,
        "minutes": round((time.monotonic() - began) / 60, 1),
        "kills": {name: vars(result) for name, result in kills.items()},
        "rows": [vars(row) for row in rows],
    }
    if given.out:
        given.out.write_text(json.dumps(record, indent=1) + "\n", "utf-8")
    write_tables(record, given.table)
    lost = [*rows, *kills.values()]
    return int(any(found.wrong for found in lost))


if __name__ == "__main__":
    sys.exit(main())
