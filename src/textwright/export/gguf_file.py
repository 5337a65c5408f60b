"""model.gguf, for llama.cpp: a GPT-2, Llama, Qwen2 or Qwen3 with its byte-level BPE.

Weights stay float32; `llama-quantize` makes smaller ones.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import pre_tokenizers

from textwright.backends.positions import rotary_frequencies
from textwright.errors import ConfigError, ExportError
from textwright.export.card import context_note, write_card
from textwright.export.check import TOKENS, Reloaded, reading_back
from textwright.export.forms import forms_of
from textwright.families import GPTOptions
from textwright.models import LanguageModel, build_with
from textwright.models.gguf import open_gguf
from textwright.models.gguf_form import KEYS, LLAMA, STRETCH, places, with_neighbors
from textwright.models.gguf_header import read_header
from textwright.models.gpt import GPT
from textwright.models.places import spread
from textwright.run import Run
from textwright.tokenizer import Tokenizer

NEEDS: tuple[str, ...] = ()
# llama.cpp takes GELU from a table of half floats; a wrong equation changes the first digit.
TOLERANCE = 0.02  # nats

FILE = "model.gguf"


def write(run: Run, model: LanguageModel, folder: Path) -> None:
    """Write model.gguf and a README. Raises ExportError if llama.cpp has no such model."""
    import gguf

    config = _config(run, model)
    assert isinstance(model, GPT)
    options, kind = model.options, config["model_type"]
    writer = gguf.GGUFWriter(folder / FILE, kind)
    writer.add_name(run.path.resolve().name)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    for key, theirs in KEYS[kind].items():
        value = config[theirs]
        add = writer.add_float32 if isinstance(value, float) else writer.add_uint32
        add(f"{kind}.{key}", options.inner_width if value is None else value)
    if "head_dim" in config:
        writer.add_rope_dimension_count(config["head_dim"])
    _add_tokenizer(writer, run)
    weights = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    for name, array in spread(weights, places(kind, options)).items():
        writer.add_tensor(name, with_neighbors(name, array, options) if kind == LLAMA else array)
    if options.rotary_factor > 1:
        writer.add_tensor(STRETCH, rotary_frequencies(options)[1])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    write_card(folder, run, _use(run), [context_note(options.context_length)])


def reload(folder: Path) -> Reloaded:
    """Load with llama.cpp if `llama_cpp` is installed, else as `train --from` does."""
    return _by_llama(folder) if find_spec("llama_cpp") else _by_names(folder)


def _config(run: Run, model: LanguageModel) -> dict[str, Any]:
    """The config.json of the model's form. Raises ExportError that names what no form has."""
    only = (
        "llama.cpp computes a GPT-2 with GELU, a Llama, Qwen2 or Qwen3 only, with a byte-level BPE "
        "that keeps letter case"
    )
    remedy = "export to transformers or onnx"
    tokenizer = run.tokenizer
    try:
        config = forms_of(model).gguf_config(model, tokenizer.vocab_size, tokenizer.stop_id)
    except ConfigError as error:
        reason = str(error).rstrip(".")
        raise ExportError(f"In {run.path} {reason}, and {only}; {remedy}.") from None
    treatment = tokenizer.treatment
    if treatment.kind != "bpe" or treatment.lowercase:
        kind = "that lower-cases" if treatment.kind == "bpe" else f"of kind {treatment.kind}"
        raise ExportError(f"{run.path} has a tokenizer {kind}, and {only}; {remedy}.")
    return config


def _add_tokenizer(writer: Any, run: Run) -> None:
    """Add the vocabulary, the merges, and the rule that every text begins with the stop token."""
    from gguf import TokenType

    tokenizer = run.tokenizer
    stop_id, tokens = tokenizer.stop_id, tokenizer.tokens(range(tokenizer.vocab_size))
    kinds = [TokenType.NORMAL] * len(tokens)
    for at in _unspellable(tokenizer, tokens):
        kinds[at] = TokenType.CONTROL
        (tokens[at],) = tokenizer.texts([at])  # stored in plain letters, not as bytes
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(tokenizer.treatment.cut)
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges([" ".join(pair) for pair in tokenizer.merges])
    writer.add_bos_token_id(stop_id)
    writer.add_eos_token_id(stop_id)
    writer.add_add_bos_token(True)


def _unspellable(tokenizer: Tokenizer, tokens: list[str]) -> list[int]:
    """Ids of the tokens that no text is encoded to: the stop, and others that came with weights."""
    spelled = {*pre_tokenizers.ByteLevel.alphabet(), *map("".join, tokenizer.merges)}
    found = [at for at, token in enumerate(tokens) if token not in spelled]
    # Llama 3's pieces that are tokens need no merges.
    alone = tokenizer.encode_batch(tokenizer.texts(found))
    return [at for at, ids in zip(found, alone, strict=True) if ids.tolist() != [at]]


def _by_llama(folder: Path) -> Reloaded:
    from llama_cpp import GGML_TYPE_F32, Llama

    header = read_header(folder / FILE)
    context = header.values[f"{header.values['general.architecture']}.context_length"]
    with reading_back("llama-cpp-python"):
        model = Llama(
            str(folder / FILE),
            n_ctx=min(context, TOKENS),
            logits_all=True,
            type_k=GGML_TYPE_F32,
            type_v=GGML_TYPE_F32,
            verbose=False,
        )

    def logits(ids: np.ndarray) -> np.ndarray:
        model.reset()
        model.eval(ids.tolist())
        return np.array(model.scores[: len(ids)], np.float32)

    return Reloaded(lambda text: model.tokenize(text.encode(), add_bos=True, special=False), logits)


def _by_names(folder: Path) -> Reloaded:
    """Load the file as weights to begin from, which proves that all is there and undamaged."""
    origin = open_gguf(folder / FILE, FILE)
    tokenizer = origin.tokenizer
    options = GPTOptions(**origin.model)
    model = build_with(origin.weights(), origin.path, options, tokenizer.vocab_size, 0).eval()

    @torch.no_grad()
    def logits(ids: np.ndarray) -> np.ndarray:
        return model.project(model.encode(torch.from_numpy(ids)[None])[0])[0].numpy()

    return Reloaded(lambda text: [tokenizer.stop_id, *tokenizer.encode(text).tolist()], logits)


def _use(run: Run) -> str:
    new = run.config.sample.max_new_tokens
    return f"""```
llama-cli -m {FILE} -no-cnv -p "" -n {new} --temp 1.0 --top-k 0 --top-p 1.0 --min-p 0
```

Weights are float32; `llama-quantize` makes smaller ones. llama.cpp puts the stop token before every
text, as in training."""
