"""What fine-tuning gains and costs: held-out bits per character before and after some steps.

    python benchmarks/fine_tuning.py MODEL CORPUS --preset anime-gpt2 --out tuning.json \\
        [--steps 50,100,200] [--characters 100000] [--set KEY=VALUE …]

MODEL is what `--from` takes. Three trainings: all weights, LoRA, and a model from nothing (the
preset `small-gpt`, with the same documents held out) that trains for as long as the first one did.
Prints a Markdown table and texts of each, and writes all of it as JSON.
"""

import argparse
import json
import platform
import resource
import tempfile
from pathlib import Path

import torch

from textwright.api import load
from textwright.config import Config
from textwright.evaluation.runs import score_run
from textwright.models.pretrained import find_origin
from textwright.run import Run
from textwright.run.origin import choose_config
from textwright.training.events import Evaluation, Finished, Ready
from textwright.training.session import train_run

PROMPTS = ["After years", "A shinigami", "During the war"]
VARIANTS = {
    "all weights": ["train.learning_rate=1e-4"],
    "LoRA, rank 16": ["train.lora_rank=16", "train.learning_rate=1e-3"],
}


def memory(device: str) -> int:
    """Peak memory in bytes: torch's tensors on CUDA, else of the process."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def follow(config, corpus, out, origin=None):
    """Train → bits per character by step, seconds, and the machine."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    found = {"bits": {}, "loss": {}}
    for event in train_run([corpus], out, config, init_from=origin):
        if isinstance(event, Ready):
            found |= {"device": event.device, "dtype": event.dtype, "parameters": event.parameters}
            found |= {"trained": event.trained}
        elif isinstance(event, Evaluation):
            found["bits"][event.step] = event.scores.bits_per_character
            found["loss"][event.step] = event.scores.loss
            found["interval"] = event.scores.interval
        elif isinstance(event, Finished):
            found |= {"seconds": event.seconds, "steps": event.step}
    found["memory"] = memory(found["device"])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model")
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--preset", default="anime-gpt2")
    parser.add_argument("--steps", default="50,100,200")
    parser.add_argument("--characters", type=int, default=100_000)
    parser.add_argument("--only", action="append", help="one of the trainings; repeatable")
    parser.add_argument("--set", action="append", default=[], dest="settings")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    steps = [int(step) for step in given.steps.split(",")]
    common = [
        f"train.max_steps={steps[-1]}",
        f"train.evaluate_every={steps[0]}",
        f"train.evaluate_characters={given.characters}",
        "train.early_stopping=0",
        "sample.max_new_tokens=80",
        "sample.beams=1",
        *given.settings,
    ]
    results = {"machine": platform.machine(), "torch": torch.__version__, "trainings": {}}
    with tempfile.TemporaryDirectory() as folder:
        origin = find_origin(given.model)
        for name, settings in VARIANTS.items():
            if given.only and name not in given.only:
                continue
            out = Path(folder) / name
            config = choose_config(given.preset, settings=[*common, *settings], init_from=origin)
            report(results, name, follow(config, given.corpus, out, origin), out, given.out)
        first = next(iter(results["trainings"].values()))
        if not given.only or "from nothing" in given.only:
            out = Path(folder) / "from nothing"
            budget = [f"train.time_budget={first['seconds']}", "train.max_steps=1000000"]
            kept = [s for s in common if not s.startswith(("train.max", "data.", "train.batch"))]
            config = Config.resolve(
                "small-gpt", settings=[*kept, *budget, "train.evaluate_every=500"]
            )
            corpus = Config.resolve(given.preset).corpus
            config = config.model_copy(update={"corpus": corpus})
            report(results, "from nothing", follow(config, given.corpus, out), out, given.out)


def report(results, name, found, out, file):
    """Print a row and the texts, and write everything so far."""
    writer = load(out, device="cuda" if torch.cuda.is_available() else "cpu")
    samples = writer.generate(PROMPTS, seed=1)
    test, _ = score_run(Run.load(out))
    found["test"] = {"bits_per_character": test.bits_per_character, "interval": test.interval}
    found["texts"] = [sample.prompt + sample.text for sample in samples]
    results["trainings"][name] = found
    file.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    bits = ", ".join(f"{step}: {value:.3f}" for step, value in found["bits"].items())
    print(
        f"| {name} | {found['trained']:,} of {found['parameters']:,} | {bits} "
        f"| {test.bits_per_character:.3f} ({test.interval[0]:.3f} to {test.interval[1]:.3f}) "
        f"| {found['steps']} | {found['seconds']:.0f} s | {found['memory'] / 1e9:.1f} GB |",
        flush=True,
    )
    for text in found["texts"]:
        print(f"    {text!r}", flush=True)


if __name__ == "__main__":
    main()
