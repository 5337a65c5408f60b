"""A folder that `transformers` loads: natively if the model is a GPT-2, Llama, Qwen2 or Qwen3, else
with its own code.

config.json  generation_config.json  model.safetensors  tokenizer.json  tokenizer_config.json
README.md, escape.json.gz and escape_tokenizer.json for tokens that lose something,
modeling_textwright.py for a model that is not part of transformers, and
tokenization_textwright.py for a Qwen2
"""

from __future__ import annotations

import json
import shutil
from importlib import resources
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save_file

from textwright.comparison.folder_tokens import ESCAPE, ESCAPE_TOKENIZER
from textwright.export.card import context_note, write_card
from textwright.export.check import Reloaded, reading_back
from textwright.export.forms import CODE, forms_of
from textwright.export.tokenizer_file import exported_tokenizer, spacing_note
from textwright.hub import quiet_transformers
from textwright.models import LanguageModel
from textwright.run import Run
from textwright.writing.sampling_options import SamplingOptions

NEEDS: tuple[str, ...] = ("transformers",)
TOLERANCE = 1e-3  # nats; float32 sums in another order differ by about 1e-5

FILTERS = ("top_k", "top_p", "min_p", "typical_p")  # without effect at temperature 0
SAMPLING = {  # ours → theirs, except temperature
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
    """Write all files of the folder."""
    stop_id = run.tokenizer.stop_id
    special = {"bos_token_id": stop_id, "eos_token_id": stop_id, "pad_token_id": stop_id}
    config, tensors = forms_of(model).transformers_files(model, run.tokenizer.vocab_size, stop_id)
    _write_json(folder / "config.json", config | special)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    # safetensors makes the file readable for its owner only, unlike the other files.
    shutil.copymode(folder / "config.json", folder / "model.safetensors")
    custom = "auto_map" in config
    if custom:
        _write_code(f"{run.config.model.family}.py", folder / CODE)
    sampling, left_out = sampling_defaults(run.config.sample, model.context_length)
    _write_json(folder / "generation_config.json", sampling | special)
    _write_tokenizer(run, config["model_type"], model.context_length, folder)
    if not run.tokenizer.lossless and run.has(ESCAPE):
        # So that `textwright bits` and `compare` can charge what the tokens lose.
        for name, copy in ((ESCAPE, ESCAPE), ("tokenizer.json", ESCAPE_TOKENIZER)):
            shutil.copyfile(run.path / name, folder / copy)
    write_card(
        folder,
        run,
        _use(custom),
        [
            "The tokenizer puts the stop token before every text, as in training; an empty prompt "
            "begins a text.",
            context_note(model.context_length),
            spacing_note(run),
            f"`generation_config.json` has no place for these sampling options of the run: "
            f"{', '.join(left_out)}."
            if left_out
            else "",
        ],
        head="---\nlibrary_name: transformers\npipeline_tag: text-generation\n---\n\n",
    )


def reload(folder: Path) -> Reloaded:
    """Load with `AutoModelForCausalLM` and `AutoTokenizer`; the code that they run is our own."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    custom = (folder / CODE).exists()
    with quiet_transformers(), reading_back("transformers"):
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=custom)
        model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=custom).eval()

    @quiet_transformers()
    def encode(text: str) -> list[int]:
        return tokenizer(text)["input_ids"]

    @quiet_transformers()
    @torch.no_grad()
    def logits(ids: np.ndarray) -> np.ndarray:
        return model(torch.from_numpy(ids)[None]).logits[0].numpy()

    return Reloaded(encode, logits)


def sampling_defaults(
    options: SamplingOptions, context_length: int | None
) -> tuple[dict[str, Any], list[str]]:
    """The content of generation_config.json, and the options in use that it has no place for."""
    always = ("top_k", "top_p", "max_new_tokens")  # where transformers' own defaults differ
    wanted = {key: getattr(options, key) for key in always}
    wanted |= options.model_dump(exclude_defaults=True)
    temperature = wanted.pop("temperature", 1.0)
    left_out = [key for key in wanted if key not in SAMPLING]
    settings: dict[str, Any] = {"do_sample": temperature > 0}
    if temperature == 0:
        wanted = {key: value for key, value in wanted.items() if key not in FILTERS}
    elif temperature == inf:
        left_out.append("temperature")
    else:
        settings["temperature"] = temperature
    settings |= {SAMPLING[key]: value for key, value in wanted.items() if key in SAMPLING}
    if context_length is not None and settings["max_new_tokens"] >= context_length:
        del settings["max_new_tokens"]
        settings["max_length"] = context_length  # of prompt and text together
    return settings, left_out


def _write_tokenizer(run: Run, model_type: str, context_length: int | None, folder: Path) -> None:
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
    if model_type == "qwen2":
        # For a qwen2, AutoTokenizer takes Qwen's own class, which cuts texts in Qwen's way, unless
        # the folder brings a class; without trust_remote_code it takes the one named above.
        ours = "tokenization_textwright.TextwrightTokenizer"
        settings["auto_map"] = {"AutoTokenizer": [None, ours]}
        _write_code("tokenizer.py", folder / "tokenization_textwright.py")
    _write_json(folder / "tokenizer_config.json", settings)


def _write_code(name: str, path: Path) -> None:
    """Copy a file of custom_model/."""
    code = resources.files("textwright.export") / "custom_model" / name
    path.write_text(code.read_text("utf-8"), "utf-8")


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n", "utf-8")


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
