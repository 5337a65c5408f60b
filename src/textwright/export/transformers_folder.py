"""A folder that `transformers` loads: natively where the model is a GPT-2, else with its code.

config.json  generation_config.json  model.safetensors  tokenizer.json  tokenizer_config.json
README.md, and modeling_textwright.py for what transformers does not know
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save_file

from textwright.config import LSTMOptions
from textwright.errors import ConfigError
from textwright.export.card import context_note, write_card
from textwright.export.check import Reloaded
from textwright.export.tokenizer_file import exported_tokenizer, spacing_note
from textwright.models import GPT, LanguageModel, gpt2
from textwright.run import Arrays, Run
from textwright.writing.sampling import SamplingOptions

NEEDS: tuple[str, ...] = ("transformers",)

CODE = "modeling_textwright.py"
FILTERS = ("top_k", "top_p", "min_p", "typical_p")  # of what is drawn from
SAMPLING = {  # ours → theirs; temperature is told apart
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "typical_p": "typical_p",
    "repetition_penalty": "repetition_penalty",
    "no_repeat_ngram": "no_repeat_ngram_size",
    "min_new_tokens": "min_new_tokens",
    "max_new_tokens": "max_new_tokens",
    "beams": "num_beams",
    "length_penalty": "length_penalty",
    "early_stopping": "early_stopping",
}


def write(run: Run, model: LanguageModel, folder: Path) -> None:
    """All files of the folder."""
    stop_id = run.tokenizer.stop_id
    special = {"bos_token_id": stop_id, "eos_token_id": stop_id, "pad_token_id": stop_id}
    config, tensors = _model_files(model, run.tokenizer.vocab_size, stop_id)
    _write_json(folder / "config.json", config | special)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    # safetensors lets its owner alone read it; the other files know who else may.
    shutil.copymode(folder / "config.json", folder / "model.safetensors")
    custom = "auto_map" in config
    if custom:
        file = f"{run.config.model.family}.py"
        code = resources.files("textwright.export") / "custom_model" / file
        (folder / CODE).write_text(code.read_text("utf-8"), "utf-8")
    sampling, left_out = sampling_defaults(run.config.sample, model.context_length)
    _write_json(folder / "generation_config.json", sampling | special)
    _write_tokenizer(run, model.context_length, folder)
    write_card(
        folder,
        run,
        _use(custom),
        [
            "The tokenizer puts the stop token before every text, as in training; an empty prompt "
            "begins a text.",
            context_note(model.context_length),
            spacing_note(run),
            f"Of the run's sampling options, {', '.join(left_out)} cannot be said in "
            "`generation_config.json`."
            if left_out
            else "",
        ],
        head="---\nlibrary_name: transformers\npipeline_tag: text-generation\n---\n\n",
    )


def reload(folder: Path) -> Reloaded:
    """As `AutoModelForCausalLM` and `AutoTokenizer` load it; the code it runs is our own."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with _quiet():
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
        model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True).eval()

    @_quiet()
    def encode(text: str) -> list[int]:
        return tokenizer(text)["input_ids"]

    @_quiet()
    @torch.no_grad()
    def logits(ids: np.ndarray) -> np.ndarray:
        return model(torch.from_numpy(ids)[None]).logits[0].numpy()

    return Reloaded(encode, logits)


def sampling_defaults(
    options: SamplingOptions, context_length: int | None
) -> tuple[dict[str, Any], list[str]]:
    """What generation_config.json says, and the options in use that it cannot say."""
    always = ("top_k", "top_p", "max_new_tokens")  # where transformers' own defaults differ
    wanted = {key: getattr(options, key) for key in always}
    wanted |= options.model_dump(exclude_defaults=True)
    temperature = wanted.pop("temperature", 1.0)
    left_out = [key for key in wanted if key not in SAMPLING]
    said: dict[str, Any] = {"do_sample": temperature > 0}
    if temperature == 0:
        wanted = {key: value for key, value in wanted.items() if key not in FILTERS}
    elif temperature == inf:
        left_out.append("temperature")
    else:
        said["temperature"] = temperature
    said |= {SAMPLING[key]: value for key, value in wanted.items() if key in SAMPLING}
    if context_length is not None and said["max_new_tokens"] >= context_length:
        del said["max_new_tokens"]
        said["max_length"] = context_length  # of prompt and text together
    return said, left_out


def _write_tokenizer(run: Run, context_length: int | None, folder: Path) -> None:
    stop_id = run.tokenizer.stop_id
    (stop,) = run.tokenizer.tokens([stop_id])
    tokenizer = exported_tokenizer(run)
    tokenizer.add_special_tokens([stop])
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **dict.fromkeys(("bos_token", "eos_token", "pad_token"), stop),
        "padding_side": "left",
        "split_special_tokens": True,  # a text that spells the stop token does not end there
        "clean_up_tokenization_spaces": False,
    }
    if context_length is not None:
        settings["model_max_length"] = context_length
    _write_json(folder / "tokenizer_config.json", settings)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n", "utf-8")


def _model_files(
    model: LanguageModel, vocab_size: int, stop_id: int
) -> tuple[dict[str, Any], Arrays]:
    """config.json and the tensors: GPT-2's where the model has its form, else those of CODE."""
    weights = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    options: Any = model.options
    if isinstance(model, GPT):
        try:
            config = gpt2.config_of(options, vocab_size, stop_id)
            return config, gpt2.to_gpt2(weights, options.layers)
        except ConfigError:
            tensors = weights | {"positions": model.positions.numpy(force=True)}
    else:
        tensors = lstm_tensors(weights, options)
    module = CODE.removesuffix(".py")
    config = {
        "architectures": ["TextwrightForCausalLM"],
        "model_type": f"textwright-{options.family}",
        "auto_map": {
            "AutoConfig": f"{module}.TextwrightConfig",
            "AutoModelForCausalLM": f"{module}.TextwrightForCausalLM",
        },
        "vocab_size": vocab_size,
        "tie_word_embeddings": False,  # the code does it itself
        **options.model_dump(exclude={"family", "initialization", "init_from"}),
    }
    return config, tensors


def lstm_tensors(weights: Arrays, options: LSTMOptions) -> Arrays:
    """Weights by canonical name, as `torch.nn.LSTM`, GRU and RNN name theirs."""
    tensors = {"embedding.weight": weights["embedding"], "output_bias": weights["output.bias"]}
    if not options.tie_output:
        tensors["output_weight"] = weights["output.weight"]
    for layer in range(options.layers):
        bias = weights[f"layers.{layer}.bias"]
        theirs = {
            "weight_ih": weights[f"layers.{layer}.input_weight"],
            "weight_hh": weights[f"layers.{layer}.recurrent_weight"],
            "bias_ih": bias,
            "bias_hh": weights.get(f"layers.{layer}.recurrent_bias", np.zeros_like(bias)),
        }
        tensors |= {f"cells.{name}_l{layer}": tensor for name, tensor in theirs.items()}
    return tensors


def _use(custom: bool) -> str:
    trust = ", trust_remote_code=True" if custom else ""
    note = f"\n\n`{CODE}` computes the model; look at it before you trust it." if custom else ""
    return f"""```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("."{trust})
model = AutoModelForCausalLM.from_pretrained("."{trust})
prompt = tokenizer("", return_tensors="pt")
text = model.generate(**prompt)[0]
print(tokenizer.decode(text, skip_special_tokens=True))
```{note}"""


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' own bars and remarks."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
