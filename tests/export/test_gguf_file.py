"""Runs as GGUF files, read by llama.cpp where it is installed, and as weights to begin from."""

import gguf
import numpy as np
import pytest
import torch
from small_models import MODERN, SMALL
from small_runs import CONTEXT, DOCUMENTS, make_run
from test_export import ids_of, logits_of

from textwright.errors import ExportError
from textwright.export import export_run, gguf_file
from textwright.families import GPTOptions, LSTMOptions
from textwright.models import TorchBackend
from textwright.models import load as load_model
from textwright.models.gguf_header import read_header
from textwright.models.pretrained import find_origin
from textwright.tokenizer.byte_level import rebuild
from textwright.writing.generator import Generator
from textwright.writing.sampling_options import SamplingOptions

GPT2 = GPTOptions(layers=2, heads=2, width=8, feedforward_width=20, norm_epsilon=1e-4)
FORMS = {
    "gpt2": GPT2,
    **{name: SMALL[name] for name in ("llama", "llama-stretched", "qwen2", "qwen3")},
    "llama-biased": GPTOptions(layers=2, heads=2, width=8, **MODERN | {"biases": "all"}),
    "llama-wide": GPTOptions(layers=1, heads=2, width=8, key_width=6, value_width=6, **MODERN),
    "llama-stretched-otherwise": GPTOptions(
        **{"layers": 1, "heads": 1, "width": 32, "rotary_base": 50.0, "rotary_factor": 3.0},
        **{"rotary_low": 2.0, "rotary_high": 6.0, "rotary_original": 60},
        **MODERN,
    ),
}
TEXTS = [*DOCUMENTS, "", " two\n\nlines ", "<|endoftext|>", "日本 🍜", "a1234\t5'll\r\n\r\n  x"]


@pytest.fixture(params=FORMS)
def run(request, tmp_path):
    """A run of each form that llama.cpp computes, with a byte-level BPE."""
    return make_run(tmp_path / "run", FORMS[request.param], "bpe")


@pytest.fixture
def without_llama(monkeypatch):
    monkeypatch.setattr(gguf_file, "find_spec", lambda name: None)


def llama_cpp():
    return pytest.importorskip(
        "llama_cpp", reason="llama.cpp itself reads the file if llama-cpp-python is installed"
    )


def cut_otherwise(run, cut):
    """Give a run the same vocabulary with another cut, and an entry that no text can spell."""
    tokenizer = run.tokenizer
    tokens = tokenizer.tokens(range(tokenizer.vocab_size))
    tokens[-1] = "<|im_end|>"  # the last merge's
    merges = list(map(" ".join, tokenizer.merges[:-1]))
    run.keep_tokenizer(rebuild(tokens, merges, cut, "<|endoftext|>"))


def test_the_file_holds_every_weight_and_the_tokenizer(run, without_llama, tmp_path):
    exported = export_run(run, "gguf", tmp_path / "out")
    assert exported.files == ["README.md", "model.gguf"]
    assert exported.largest_difference < 1e-5
    origin = find_origin(str(tmp_path / "out" / "model.gguf"))
    weights, kept = origin.weights(), run.weights()
    assert weights.keys() == kept.keys()
    assert all(np.array_equal(weights[name], kept[name]) for name in kept)
    assert origin.tokenizer.fingerprint == run.tokenizer.fingerprint


def test_other_readers_find_the_shape(tmp_path):
    run = make_run(tmp_path / "run", SMALL["qwen3"], "bpe")
    export_run(run, "gguf", tmp_path / "out")
    fields = gguf.GGUFReader(tmp_path / "out" / "model.gguf").fields
    found = {name: field.contents() for name, field in fields.items()}
    assert found["general.architecture"] == "qwen3"
    assert found["qwen3.context_length"] == CONTEXT
    assert found["qwen3.feed_forward_length"] == 32
    assert found["qwen3.attention.head_count_kv"] == 2
    assert found["qwen3.attention.key_length"] == 8
    assert found["qwen3.rope.freq_base"] == 500.0
    assert found["tokenizer.ggml.pre"] == "gpt-2"
    assert found["tokenizer.ggml.tokens"] == run.tokenizer.tokens(range(run.tokenizer.vocab_size))


def test_a_tied_output_is_left_out(tmp_path):
    for name in ("llama", "qwen2"):
        export_run(make_run(tmp_path / name, SMALL[name], "bpe"), "gguf", tmp_path / f"{name}.out")
        held = read_header(tmp_path / f"{name}.out" / "model.gguf").tensors
        assert ("output.weight" in held) == (name == "llama")


@pytest.mark.parametrize("cut", ["llama-bpe", "qwen2", "qwen35", "smollm"])
def test_a_tokenizer_that_came_with_weights_keeps_its_cut(tmp_path, without_llama, cut):
    run = make_run(tmp_path / "run", SMALL["llama"], "bpe")
    cut_otherwise(run, cut)
    export_run(run, "gguf", tmp_path / "out")
    values = read_header(tmp_path / "out" / "model.gguf").values
    kinds = values["tokenizer.ggml.token_type"]
    assert values["tokenizer.ggml.pre"] == cut
    assert {at for at, kind in enumerate(kinds) if kind == gguf.TokenType.CONTROL} == {
        run.tokenizer.stop_id,
        run.tokenizer.vocab_size - 1,
    }


def test_llama_cpp_computes_the_runs_logits(run, tmp_path):
    llama_cpp()
    exported = export_run(run, "gguf", tmp_path / "out")
    reloaded = gguf_file.reload(tmp_path / "out")
    ids = ids_of(run, 1, CONTEXT)
    expected = logits_of(run, ids)[0].log_softmax(-1)
    found = torch.from_numpy(reloaded.logits(ids[0].numpy())).log_softmax(-1)
    assert expected.std() > 0.3  # there is something to agree on
    # A table of half floats for GELU; float32 sums in another order elsewhere.
    most = 3e-3 if run.config.model.activation == "gelu" else 1e-4
    assert (found - expected).abs().max() < most and exported.largest_difference < most
    for text in TEXTS:
        ids = run.tokenizer.encode(text).tolist()
        assert reloaded.encode(text) == [run.tokenizer.stop_id, *ids]


def test_llama_cpp_continues_with_the_same_tokens(run, tmp_path):
    llama = llama_cpp()
    export_run(run, "gguf", tmp_path / "out")
    exact = {"type_k": llama.GGML_TYPE_F32, "type_v": llama.GGML_TYPE_F32}
    file = str(tmp_path / "out" / "model.gguf")
    model = llama.Llama(file, n_ctx=CONTEXT, verbose=False, **exact)
    generator = Generator(TorchBackend(load_model(run, "cpu")), run.tokenizer)
    for prompt in ("The", "Se", ""):
        (ours,) = generator.generate(prompt, SamplingOptions(temperature=0, max_new_tokens=8))
        ids = model.tokenize(prompt.encode(), add_bos=True, special=False)
        assert len(ids) < CONTEXT - 8
        theirs = []
        for token in model.generate(ids, temp=0.0):
            if token == run.tokenizer.stop_id or len(theirs) == 8:
                break
            theirs.append(token)
        assert theirs == ours.ids


@pytest.mark.parametrize("cut", ["gpt-2", "llama-bpe", "qwen2", "qwen35", "smollm"])
def test_llama_cpp_reads_texts_as_the_same_tokens(tmp_path, cut):
    llama_cpp()
    run = make_run(tmp_path / "run", SMALL["llama"], "bpe")
    cut_otherwise(run, cut)
    export_run(run, "gguf", tmp_path / "out")
    reloaded = gguf_file.reload(tmp_path / "out")
    for text in [*TEXTS, "<|im_end|>", "x<|im_end|>y"]:
        ids = run.tokenizer.encode(text).tolist()
        assert reloaded.encode(text) == [run.tokenizer.stop_id, *ids]


@pytest.mark.parametrize(
    ("options", "tokenizer", "reason"),
    [
        (LSTMOptions(embedding_size=4, hidden_size=4), {"kind": "bpe"}, "is recurrent"),
        (GPTOptions(layers=1, width=8, norm="post"), {"kind": "bpe"}, r"model\.norm is 'post'"),
        (
            GPTOptions(layers=1, width=8, activation="relu"),
            {"kind": "bpe"},
            r"model\.activation is 'relu'",
        ),
        (
            GPTOptions(layers=1, width=8, query_key_norm=True, rotary_factor=4.0, **MODERN),
            {"kind": "bpe"},
            r"model\.rotary_factor is 4, which only a Llama has",
        ),
        (
            GPTOptions(
                **{"layers": 1, "heads": 2, "width": 8, "key_width": 6, "value_width": 6},
                **MODERN | {"biases": "queries_keys_values"},
            ),
            {"kind": "bpe"},
            r"model\.key_width is 6, but width / heads in every Qwen2",
        ),
        (SMALL["gpt-mixed"], {"kind": "bpe"}, r"model\.norm is 'post'"),
        (GPTOptions(layers=1, width=8), {"kind": "char"}, "a tokenizer of kind char"),
        (
            GPTOptions(layers=1, width=8),
            {"kind": "bpe", "lowercase": True},
            "a tokenizer that lower-cases",
        ),
    ],
)
def test_forms_that_llama_cpp_lacks_are_refused(tmp_path, options, tokenizer, reason):
    run = make_run(tmp_path / "run", options, **tokenizer)
    with pytest.raises(ExportError, match=rf"{reason}.*; export to transformers or onnx\."):
        export_run(run, "gguf", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
