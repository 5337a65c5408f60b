"""Training speed of presets on the processor and on an accelerator, in fp32 and bf16.

    python benchmarks/accelerator.py CORPORA --out accelerator.json [--steps 300]

Each setting trains the same number of steps without evaluation. The first fifth, in which kernels
are chosen and memory is taken, is not counted. The loss is the mean of the last fifth.
"""

import argparse
import json
import platform
import subprocess
import tempfile
from pathlib import Path

import torch

from textwright.config import Config, presets
from textwright.training.events import Step
from textwright.training.session import train_run

CORPORA = {
    "recipes-lstm": "epicurious_recipes.json.gz",
    "wine-gpt": "winemag-data-130k-v2_first10001.csv.gz",
    "shakespeare-char-gpt": "tinyshakespeare.txt",
    "small-gpt": "tinyshakespeare.txt",
    "as large as GPT-2": "tinyshakespeare.txt",
}
LARGE = [
    *("model.width=768", "model.heads=12", "model.layers=12", "data.context_length=512"),
    *("train.batch_size=16", "tokenizer.vocab_size=8192"),
]
SETTINGS = [("cpu", "fp32"), ("cuda", "fp32"), ("cuda", "bf16")]


def measure(preset: str, corpus: Path, device: str, dtype: str, steps: int) -> dict[str, float]:
    """Tokens a second and the last loss of a training."""
    settings = [f"train.device={device}", f"train.dtype={dtype}", f"train.max_steps={steps}"]
    settings += ["train.evaluate_every=1000000", "train.evaluate_characters=2000"]
    if preset not in presets():
        preset, settings = "small-gpt", [*LARGE, *settings]
    config = Config.resolve(preset, settings=settings)
    with tempfile.TemporaryDirectory() as folder:
        events = train_run([corpus], Path(folder) / "run", config)
        done = [event for event in events if isinstance(event, Step)]
    fifth = steps // 5
    counted = done[fifth:]
    seconds = done[-1].seconds - done[fifth - 1].seconds
    last = done[-fifth:]
    return {
        "tokens_per_second": sum(step.tokens for step in counted) / seconds,
        "milliseconds_a_step": 1000 * seconds / len(counted),
        "loss": sum(step.loss * step.tokens for step in last) / sum(step.tokens for step in last),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("corpora", type=Path, help="The folder of the real corpora.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=300)
    given = parser.parse_args()
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    results = {
        "machine": {"processor": platform.processor() or platform.machine(), "accelerator": name},
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "commit": commit,
        "steps": given.steps,
        "rows": [],
    }
    print("| preset | device | ms a step | tokens/s | loss |\n| --- | --- | ---: | ---: | ---: |")
    for preset, file in CORPORA.items():
        for device, dtype in SETTINGS:
            large = preset not in presets()
            if (large and device == "cpu") or (device == "cuda" and not torch.cuda.is_available()):
                continue
            found = measure(preset, given.corpora / file, device, dtype, given.steps)
            results["rows"].append({"preset": preset, "device": device, "dtype": dtype, **found})
            print(
                f"| `{preset}` | {device}, {dtype} | {found['milliseconds_a_step']:.1f} "
                f"| {found['tokens_per_second']:,.0f} | {found['loss']:.3f} |",
                flush=True,
            )
            given.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
