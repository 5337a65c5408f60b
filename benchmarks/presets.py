"""Held-out bits per character of every preset, trained on the same text for the same time.

    python benchmarks/presets.py winemag-data-130k-v2_first10001.csv.gz --template "{description}"

Each preset keeps its tokenizer, layout, model and optimizer, and trains on the whole corpus until
its time is up (evaluations not counted); its rate falls over that time. `default` is no preset at
all. A preset that begins from pretrained weights is left out. Prints one JSON object a preset.
"""

import argparse
import json
import tempfile
from pathlib import Path

from textwright.config import Config, presets
from textwright.corpus import CorpusOptions
from textwright.evaluation.runs import score_run
from textwright.run import Run
from textwright.training.events import Ready
from textwright.training.session import train_run


def trained_for(config: Config, corpus: str, out: Path) -> dict[str, object]:
    """Train in `out` and score the test part."""
    events = list(train_run([corpus], out, config))
    ready, finished = next(e for e in events if isinstance(e, Ready)), events[-1]
    run = Run.load(out)
    valid, _ = score_run(run, part="valid", device="cpu")
    test, _ = score_run(run, device="cpu")
    return {
        "parameters": ready.parameters,
        "steps": finished.step,
        "epochs": finished.epoch,
        "seconds": finished.seconds,
        "valid": valid.bits_per_character,
        "test": test.bits_per_character,
        "interval": test.interval,
    }


def main() -> None:
    """Train and score each preset, one after another."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus")
    parser.add_argument("--template", default="", help="corpus.template, for a corpus with fields")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--preset", action="append", help="only this one; repeatable")
    given = parser.parse_args()
    for name in given.preset or ["default", *presets()]:
        config = Config.resolve(preset="" if name == "default" else name)
        if config.tokenizer.kind == "pretrained":
            continue
        ends = {
            "time_budget": 60 * given.minutes,
            "epochs": 1e6,
            "max_steps": None,
            "early_stopping": 0,
            "threads": given.threads,
        }
        parts = {
            "corpus": CorpusOptions(template=given.template),
            "train": config.train.model_copy(update=ends),
        }
        with tempfile.TemporaryDirectory() as folder:
            found = trained_for(config.model_copy(update=parts), given.corpus, Path(folder) / name)
        print(json.dumps({"preset": name, **found}), flush=True)


if __name__ == "__main__":
    main()
