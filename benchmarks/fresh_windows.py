"""The held-out loss of a run in fresh windows, as character models are often reported.

    python benchmarks/fresh_windows.py RUN

Both held-out parts are cut into windows of the run's context, each read by itself: a window's
first character is predicted from one character, its last from all before it. `textwright evaluate`
lets every token see at least half a context, so its loss is lower; compare published figures of
this kind with this one.
"""

import argparse
from pathlib import Path

import numpy as np

from textwright.evaluation.neural import score
from textwright.models import load
from textwright.run import Run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", type=Path)
    run = Run.load(parser.parse_args().run)
    length = run.config.data.context_length
    windows = []
    for part in ("valid", "test"):
        for text in run.held_out(part):
            ids = run.tokenizer.encode(text)
            starts = range(0, len(ids) - 1, length)
            windows += [ids[start : start + length + 1] for start in starts]
    nats = np.concatenate(score(load(run), windows))
    print(f"{nats.mean():.4f} nats a token over {len(nats):,} tokens, {len(windows):,} windows")


if __name__ == "__main__":
    main()
