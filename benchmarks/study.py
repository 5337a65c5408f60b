"""The trainings of docs/study.md: LSTM and GPT from nothing, and a GPT begun from trained weights.

    python benchmarks/study.py rates CORPORA MODEL --runs runs/study --minutes 2
    python benchmarks/study.py train CORPORA MODEL --runs runs/study --seeds 3
    python benchmarks/study.py table CORPORA MODEL --runs runs/study

MODEL is what `--from` takes. Equal time: `rates` measures, on a machine that does nothing else, how
many steps each model takes in the given minutes, and `train` takes just as many. So trainings may
run beside other work, and be stopped: those that have ended are kept. Every model of a corpus has
the same documents to train on, and is scored on the same test documents.
"""

import argparse
import json
import shutil
import statistics
import time
from pathlib import Path

from textwright.config import Config
from textwright.evaluation.held_out import held_out_of
from textwright.evaluation.predictors import open_predictor
from textwright.evaluation.scores import HeldOut, Scores, evaluate
from textwright.families import GPTOptions
from textwright.models.pretrained import find_origin
from textwright.run import Run
from textwright.run.origin import choose_config
from textwright.training.events import Step
from textwright.training.session import train_run

# The corpora of the three articles, each with the documents that its preset makes of it.
CORPORA = {
    "synopses": ("anime_synopses.csv.gz", "anime-lstm"),
    "recipes": ("epicurious_recipes.json.gz", "recipes-lstm"),
    "reviews": ("winemag-data-130k-v2_first10001.csv.gz", "wine-gpt"),
}
# No dropout: in minutes, none of these reads its corpus more than a few times.
SMALL = ["tokenizer.kind=bpe", "tokenizer.vocab_size=4096", "model.dropout=0"]
SUITED = GPTOptions.suited(120, dropout=0)["model"]
LLAMA = [f"model.{option}={value}" for option, value in SUITED.items()]
MODELS = {
    "lstm": ("small-lstm", SMALL),
    "gpt": ("small-gpt", [*SMALL, "train.schedule=linear", *LLAMA]),
    "begun": (
        "anime-gpt2",
        ["data.context_length=300", "train.batch_size=4", "train.learning_rate=1e-4"],
    ),
}
SCORED = 100_000  # characters of the test documents, the same ones for every model
MEASURED = 20.0  # seconds of training from which a rate is taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("work", choices=["rates", "train", "table"])
    parser.add_argument("corpora", type=Path)
    parser.add_argument("model")
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=2)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", default=",".join(MODELS), help="these models, with commas")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    given.runs.mkdir(parents=True, exist_ok=True)
    {"rates": measure_rates, "train": train_all, "table": print_table}[given.work](given)


def measure_rates(given: argparse.Namespace) -> None:
    """The steps of each model in the given minutes, into steps.json."""
    steps = {}
    for corpus in CORPORA:
        for model in MODELS:
            seconds = steps_a_second(given, corpus, model)
            steps[f"{corpus}-{model}"] = round(60 * given.minutes * seconds)
            print(corpus, model, f"{seconds:.2f} steps a second", flush=True)
    (given.runs / "steps.json").write_text(json.dumps(steps, indent=1) + "\n")


def steps_a_second(given: argparse.Namespace, corpus: str, model: str) -> float:
    """Of a training that is stopped after some seconds; its first steps are not counted."""
    out, began = given.runs / "rate", 0.0
    shutil.rmtree(out, ignore_errors=True)
    settings = ["train.max_steps=1000000", "train.evaluate_every=1000000"]
    for event in train(given, corpus, model, 0, out, settings):
        if isinstance(event, Step):
            if event.step == 3:
                began = time.perf_counter()
            elif began and time.perf_counter() - began > MEASURED:
                return (event.step - 3) / (time.perf_counter() - began)
    raise SystemExit("The training ended before its rate was known.")


def train_all(given: argparse.Namespace) -> None:
    """Every training that has not ended yet, and its score on the test documents."""
    steps = json.loads((given.runs / "steps.json").read_text())
    for seed in range(given.seeds):
        for corpus in CORPORA:
            for model in given.only.split(","):
                name = f"{corpus}-{model}"
                out = given.runs / f"{name}-{seed}"
                done = given.runs / f"{out.name}.json"
                if done.exists():
                    continue
                shutil.rmtree(out, ignore_errors=True)
                count = steps[name]
                settings = [f"train.max_steps={count}", f"train.evaluate_every={count}"]
                losses = [
                    event.loss
                    for event in train(given, corpus, model, seed, out, settings)
                    if isinstance(event, Step)
                ]
                scores = score(Run.load(out))
                found = {
                    "steps": count,
                    "bits_per_character": scores.bits_per_character,
                    "interval": scores.interval,
                    "documents": scores.documents,
                    "training_loss": statistics.mean(losses[-20:]),
                }
                done.write_text(json.dumps(found) + "\n")
                print(out.name, f"{scores.bits_per_character:.3f}", flush=True)


def score(run: Run) -> Scores:
    """Bits per character of the first test documents."""
    documents, room = [], SCORED
    for document in held_out_of(run, "test").documents:
        documents.append(document)
        room -= len(document)
        if room <= 0:
            break
    held_out = HeldOut.of(documents, run.tokenizer, run.escape)
    return evaluate(open_predictor(run).score, held_out)


def train(given, corpus, model, seed, out, settings):
    """The events of one training."""
    file, documents = CORPORA[corpus]
    preset, own = MODELS[model]
    settings = [
        *own,
        *settings,
        f"train.seed={seed}",
        f"train.threads={given.threads}",
        "train.epochs=1000",
        "train.time_budget=24h",
        "train.early_stopping=0",
        "train.evaluate_characters=20000",
    ]
    origin = find_origin(given.model) if model == "begun" else None
    config = choose_config(preset, settings=settings, init_from=origin)
    parts = {"corpus": Config.resolve(documents).corpus, "sample": Config.resolve().sample}
    config = config.model_copy(update=parts)
    return train_run([given.corpora / file], out, config, init_from=origin)


def print_table(given: argparse.Namespace) -> None:
    """Bits per character of every training, as Markdown: the seeds, their mean, their range."""
    print("| corpus | model | steps | bits per character, seeds | mean |")
    print("| --- | --- | ---: | --- | ---: |")
    for corpus in CORPORA:
        for model in MODELS:
            files = sorted(given.runs.glob(f"{corpus}-{model}-*.json"))
            results = [json.loads(file.read_text()) for file in files]
            bits = [found["bits_per_character"] for found in results]
            if bits:
                seeds = " · ".join(f"{value:.3f}" for value in bits)
                mean, steps = statistics.mean(bits), results[0]["steps"]
                print(f"| {corpus} | {model} | {steps:,} | {seeds} | **{mean:.3f}** |")


if __name__ == "__main__":
    main()
