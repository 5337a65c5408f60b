"""The log-likelihoods that lm-eval gets from a server, beside the run's own score.

    python benchmarks/lm_eval_task.py RUN --lm-eval .venv-lm/bin/lm_eval

`pip install 'lm_eval[api]'` in an environment of its own gives the command. Two tasks are made of
the documents that the run holds out: whole documents (loglikelihood_rolling), and which of four
continuations is the document's (multiple_choice). Nothing is loaded from a network. The score
beside it is that of `textwright evaluate`, token by token. Exits with 1 where they differ by more
than 1e-3.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from serving import Server

from textwright.evaluation.predictors import open_predictor
from textwright.run import Run

MOST = 1e-3  # nats of one answer
TASKS = {
    "own_documents": """
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{text}}"
metric_list:
  - metric: bits_per_byte
""",
    "own_continuations": """
output_type: multiple_choice
doc_to_text: "{{context}}"
doc_to_choice: "{{choices}}"
doc_to_target: "{{label}}"
metric_list:
  - metric: acc
""",
}


def prepare(folder: Path, texts: Sequence[str]) -> None:
    """Write the tasks and what they ask."""
    chance = random.Random(7)
    cut = [text.rsplit(" ", 6) for text in texts if len(text.split(" ")) > 12]
    ends = [" ".join(words[1:]) for words in cut]
    asked: dict[str, list[dict[str, Any]]] = {
        "own_documents": [{"text": text} for text in texts],
        "own_continuations": [],
    }
    for number, words in enumerate(cut):
        others = chance.sample([end for end in ends if end != ends[number]], 3)
        label = chance.randrange(4)
        choices = [*others[:label], ends[number], *others[label:]]
        asked["own_continuations"].append({"context": words[0], "choices": choices, "label": label})
    for name, task in TASKS.items():
        data = folder / f"{name}.jsonl"
        data.write_text("".join(f"{json.dumps(one)}\n" for one in asked[name]), "utf-8")
        files = f"task: {name}\ndataset_path: json\ndataset_kwargs:\n  data_files:\n"
        files += f"    test: {data}\ntest_split: test"
        (folder / f"{name}.yaml").write_text(files + task, "utf-8")


def ask(command: str, folder: Path, server: Server, name: str, batch_size: int) -> None:
    """Let lm-eval ask the server."""
    model = f"model={name},base_url={server.url}/v1/completions,tokenizer_backend=remote"
    model += ",max_length=100000"
    told = {
        "model": "local-completions",
        "model_args": model,
        "batch_size": batch_size,
        "tasks": ",".join(TASKS),
        "include_path": folder,
        "output_path": folder / "out",
    }
    flags = [text for name, value in told.items() for text in (f"--{name}", str(value))]
    subprocess.run(
        [command, "--log_samples", *flags],
        env=os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "cache")},
        check=True,
    )


def compare(folder: Path, run: Run) -> float:
    """Print how far the answers are from the run's own score; return the largest difference."""
    predictor, tokenizer, worst = open_predictor(run, "cpu"), run.tokenizer, 0.0
    stop = tokenizer.stop_id
    print("| task | log-likelihoods | mean, nats | largest difference |")
    print("| --- | ---: | ---: | ---: |")
    for name in TASKS:
        [logged] = folder.glob(f"out/**/samples_{name}_*.jsonl")
        rows, kept, found = [], [], []
        for sample in map(json.loads, logged.read_text("utf-8").splitlines()):
            for given, answers in zip(sample["arguments"].values(), sample["resps"], strict=True):
                *context, text = given.values()
                before = "".join(context)
                rows.append(np.array([stop, *tokenizer.encode(before + text), stop]))
                kept.append(len(tokenizer.encode(before)))
                answer = answers[0]
                found.append(float(answer[0] if isinstance(answer, list) else answer))
        nats = predictor.score(rows)
        own = [-float(n[skip:-1].sum()) for n, skip in zip(nats, kept, strict=True)]
        apart = np.abs(np.array(found) - own)
        print(f"| {name} | {len(own)} | {np.mean(own):.3f} | {apart.max():.1e} |")
        worst = max(worst, float(apart.max()))
    return worst


def main() -> None:
    """Make the tasks, serve the run, ask, compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--lm-eval", default="lm_eval", help="the command")
    parser.add_argument("--documents", type=int, default=50)
    parser.add_argument("--batch-size", type=int, default=1, help="prompts of a request")
    given = parser.parse_args()
    run = Run.load(given.run)
    texts = [text for text in run.held_out("test") if text.strip()][: given.documents]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder, texts)
        server = Server(given.run, [], os.cpu_count() or 1)
        try:
            ask(given.lm_eval, folder, server, given.run.resolve().name, given.batch_size)
        finally:
            server.end()
        worst = compare(folder, run)
    sys.exit(worst > MOST)


if __name__ == "__main__":
    main()
