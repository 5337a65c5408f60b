"""model.gguf, for llama.cpp: a GPT-2 with a byte-level BPE, which it calls `gpt2`.

Weights stay float32; `llama-quantize` makes smaller ones.
"""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
import torch
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel

from textwright.errors import ConfigError, ExportError
from textwright.export.card import context_note, write_card
from textwright.export.check import Reloaded
from textwright.export.forms import forms_of
from textwright.families import GPTOptions
from textwright.models import LanguageModel
from textwright.models.gpt import GPT
from textwright.run import Run

NEEDS: tuple[str, ...] = ("gguf",)
# llama.cpp takes GELU from a table of half floats; a wrong equation changes the first digit.
TOLERANCE = 0.02  # nats

FILE = "model.gguf"
ENDS = {
    "embedding": "token_embd.weight",
    "positions": "position_embd.weight",
    "norm.weight": "output_norm.weight",
    "norm.bias": "output_norm.bias",
}
PARTS = {  # ours → GGUF's, each with a weight and a bias
    "attention_norm": "attn_norm",
    "attention.input": "attn_qkv",
    "attention.output": "attn_output",
    "feedforward_norm": "ffn_norm",
    "feedforward.input": "ffn_up",
    "feedforward.output": "ffn_down",
}


def write(run: Run, model: LanguageModel, folder: Path) -> None:
    """Write model.gguf and a README. Raises ExportError if llama.cpp has no such model."""
    import gguf

    options = _options(run, model)
    weights = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    writer = gguf.GGUFWriter(folder / FILE, "gpt2")
    writer.add_name(run.path.name)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_context_length(options.context_length)
    writer.add_embedding_length(options.width)
    writer.add_feed_forward_length(options.inner_width)
    writer.add_block_count(options.layers)
    writer.add_head_count(options.heads)
    writer.add_layer_norm_eps(options.norm_epsilon)
    _add_tokenizer(writer, run)
    for ours, theirs in _names(options.layers).items():
        writer.add_tensor(theirs, weights[ours])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    write_card(folder, run, _use(run), [context_note(options.context_length)])


def reload(folder: Path) -> Reloaded:
    """Load with llama.cpp if `llama_cpp` is installed, else by the names in the file."""
    return _by_llama(folder) if find_spec("llama_cpp") else _by_names(folder)


def _options(run: Run, model: LanguageModel) -> GPTOptions:
    """The options of a model in GPT-2's form. Raises ExportError that names what differs."""
    only = "llama.cpp computes GPT-2's form only, with a byte-level BPE that keeps letter case"
    remedy = "export to transformers or onnx"
    tokenizer = run.tokenizer
    try:
        options = forms_of(model).gguf_options(model, tokenizer.vocab_size, tokenizer.stop_id)
    except ConfigError as error:
        reason = str(error).rstrip(".")
        raise ExportError(f"In {run.path} {reason}, and {only}; {remedy}.") from None
    treatment = tokenizer.treatment
    if treatment.kind != "bpe" or treatment.lowercase:
        kind = "that lower-cases" if treatment.kind == "bpe" else f"of kind {treatment.kind}"
        raise ExportError(f"{run.path} has a tokenizer {kind}, and {only}; {remedy}.")
    return options


def _names(layers: int) -> dict[str, str]:
    """Canonical name → GGUF's."""
    names = dict(ENDS)
    for layer in range(layers):
        for ours, theirs in PARTS.items():
            for kind in ("weight", "bias"):
                names[f"blocks.{layer}.{ours}.{kind}"] = f"blk.{layer}.{theirs}.{kind}"
    return names


def _add_tokenizer(writer: Any, run: Run) -> None:
    """Add the vocabulary, the merges, and the rule that every text begins with the stop token."""
    from gguf import TokenType

    stop_id, size = run.tokenizer.stop_id, run.tokenizer.vocab_size
    kinds = [TokenType.NORMAL] * size
    kinds[stop_id] = TokenType.CONTROL
    model = json.loads((run.path / "tokenizer.json").read_text("utf-8"))["model"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(run.tokenizer.tokens(range(size)))
    writer.add_token_types(kinds)
    writer.add_token_merges([" ".join(pair) for pair in model["merges"]])
    writer.add_bos_token_id(stop_id)
    writer.add_eos_token_id(stop_id)
    writer.add_add_bos_token(True)


def _by_llama(folder: Path) -> Reloaded:
    from llama_cpp import GGML_TYPE_F32, Llama

    model = Llama(
        str(folder / FILE),
        n_ctx=0,  # the model's own
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
    """Load the file's arrays into our model by GGUF's names, and its merges into `tokenizers`."""
    import gguf

    reader = gguf.GGUFReader(folder / FILE)

    def value(name: str) -> Any:
        return reader.fields[name].contents()

    tokens, stop_id = value("tokenizer.ggml.tokens"), value("tokenizer.ggml.bos_token_id")
    options = GPTOptions(
        layers=value("gpt2.block_count"),
        heads=value("gpt2.attention.head_count"),
        width=value("gpt2.embedding_length"),
        feedforward_width=value("gpt2.feed_forward_length"),
        norm_epsilon=value("gpt2.attention.layer_norm_epsilon"),
        context_length=value("gpt2.context_length"),
    )
    arrays = {tensor.name: torch.from_numpy(np.array(tensor.data)) for tensor in reader.tensors}
    model = GPT(options, len(tokens)).eval()
    model.load_state_dict({ours: arrays[theirs] for ours, theirs in _names(options.layers).items()})
    merges = [tuple(merge.split(" ")) for merge in value("tokenizer.ggml.merges")]
    rust = tokenizers.Tokenizer(BPE({token: at for at, token in enumerate(tokens)}, merges))
    rust.pre_tokenizer = ByteLevel(add_prefix_space=False)

    @torch.no_grad()
    def logits(ids: np.ndarray) -> np.ndarray:
        return model.project(model.encode(torch.from_numpy(ids)[None])[0])[0].numpy()

    return Reloaded(lambda text: [stop_id, *rust.encode(text).ids], logits)


def _use(run: Run) -> str:
    new = run.config.sample.max_new_tokens
    return f"""```
llama-cli -m {FILE} -no-cnv -p "" -n {new} --temp 1.0 --top-k 0 --top-p 1.0 --min-p 0
```

Weights are float32; `llama-quantize` makes smaller ones. llama.cpp puts the stop token before every
text, as in training."""
