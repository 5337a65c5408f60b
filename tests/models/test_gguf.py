"""Weights to begin from in GGUF files, which are written here as llama.cpp's converter does, from
models of `transformers`; every number is compared with theirs."""

import json
import random

import gguf
import numpy as np
import pytest
import torch
import transformers
from gguf import GGMLQuantizationType, TokenType
from gguf.quants import dequantize, quantize

from textwright.cli import main
from textwright.errors import PretrainedError, TokenizerError
from textwright.families import GPTOptions
from textwright.models import build_with, gguf_header, places
from textwright.models.gguf import open_gguf
from textwright.models.pretrained import find_again, find_origin
from textwright.tokenizer.byte_level import read_pretrained

COMMON = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 48,
    "rms_norm_eps": 1e-5,
}
LLAMA_3 = {
    "rope_type": "llama3",
    "rope_theta": 50.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 40,
}
MODELS = {
    "gpt2": ("GPT2", {"n_layer": 2, "n_head": 2, "n_embd": 32, "n_positions": 48}),
    "llama": ("Llama", {**COMMON, "tie_word_embeddings": False}),
    "llama-stretched": (
        "Llama",
        {
            **COMMON,
            "num_attention_heads": 2,
            "rope_parameters": LLAMA_3,
            "tie_word_embeddings": True,
        },
    ),
    "qwen2": ("Qwen2", {**COMMON, "tie_word_embeddings": True}),
    "qwen3": ("Qwen3", {**COMMON, "head_dim": 16, "tie_word_embeddings": False}),
}
NAMES = {  # of a block, transformers → GGUF
    **{"ln_1": "attn_norm", "ln_2": "ffn_norm", "attn.c_attn": "attn_qkv"},
    **{"attn.c_proj": "attn_output", "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down"},
    **{"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"},
    **{f"self_attn.{part}_proj": f"attn_{part}" for part in "qkv"},
    **{f"self_attn.{part}_norm": f"attn_{part}_norm" for part in "qk"},
    **{"self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate"},
    **{"mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"},
}
ENDS = {
    **{"transformer.wte": "token_embd", "transformer.wpe": "position_embd"},
    **{"transformer.ln_f": "output_norm", "model.embed_tokens": "token_embd"},
    **{"model.norm": "output_norm", "lm_head": "output"},
}


def renamed(theirs):
    part, _, kind = theirs.rpartition(".")
    if part in ENDS:
        return f"{ENDS[part]}.{kind}"
    _, _, layer, inner = part.split(".", 3)
    return f"blk.{layer}.{NAMES[inner]}.{kind}"


def neighbors(rows, heads):
    """The order of rows that llama.cpp's converter gives queries and keys (its `permute`)."""
    halves = rows.reshape(heads, 2, rows.shape[0] // heads // 2, *rows.shape[1:])
    return halves.swapaxes(1, 2).reshape(rows.shape)


def tensors_of(model):
    """GGUF's tensors of a model of transformers."""
    config, found = model.config, {}
    for name, tensor in model.state_dict().items():
        array = tensor.numpy()
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        if config.model_type == "gpt2" and array.ndim == 2 and ".h." in name:
            array = np.ascontiguousarray(array.T)
        if config.model_type == "llama" and "q_proj" in name:
            array = neighbors(array, config.num_attention_heads)
        if config.model_type == "llama" and "k_proj" in name:
            array = neighbors(array, config.num_key_value_heads)
        found[renamed(name)] = array
    if config.model_type == "llama" and config.rope_parameters["rope_type"] == "llama3":
        found["rope_freqs.weight"] = converters_factors(config)
    return found


def converters_factors(config):
    """What llama.cpp's converter writes for Llama 3's scaling."""
    table, width = config.rope_parameters, config.head_dim
    longest = table["original_max_position_embeddings"] / table["low_freq_factor"]
    shortest = table["original_max_position_embeddings"] / table["high_freq_factor"]
    factors = []
    for pair in range(0, width, 2):
        length = 2 * np.pi * table["rope_theta"] ** (pair / width)
        share = (table["original_max_position_embeddings"] / length - table["low_freq_factor"]) / (
            table["high_freq_factor"] - table["low_freq_factor"]
        )
        between = 1 / ((1 - share) / table["factor"] + share)
        factors.append(1 if length < shortest else table["factor"] if length > longest else between)
    assert len({*factors} - {1, table["factor"]}) > 1
    return np.array(factors, np.float32)


def values_of(model, folder):
    """The keys and values of a file with this model and the folder's tokenizer."""
    config = model.config
    kind, old = config.model_type, config.model_type == "gpt2"
    content = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = content["model"]["vocab"]
    tokens = sorted(vocabulary, key=vocabulary.get)
    stop = tokens.index("<|endoftext|>")
    types = [TokenType.CONTROL if at == stop else TokenType.NORMAL for at in range(len(tokens))]
    shape = {
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "feed_forward_length": 4 * config.hidden_size if old else config.intermediate_size,
        "block_count": config.num_hidden_layers,
        "attention.head_count": config.num_attention_heads,
    }
    if old:
        shape["attention.layer_norm_epsilon"] = config.layer_norm_epsilon
    else:
        head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        shape |= {
            "attention.layer_norm_rms_epsilon": config.rms_norm_eps,
            "attention.head_count_kv": config.num_key_value_heads,
            "attention.key_length": head,
            "attention.value_length": head,
            "rope.freq_base": float(config.rope_parameters["rope_theta"]),
            "rope.dimension_count": head,
        }
    return {f"{kind}.{key}": value for key, value in shape.items()} | {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": list(map(int, types)),
        "tokenizer.ggml.merges": [" ".join(pair) for pair in content["model"]["merges"]],
        "tokenizer.ggml.eos_token_id": stop,
    }


def write(path, kind, values, tensors, stored="F32"):
    """Write a GGUF file. stored: how matrices are; a tensor may also be (bytes, kind)."""
    writer = gguf.GGUFWriter(path, kind)
    for key, value in values.items():
        if isinstance(value, list):
            writer.add_array(key, value)
        else:
            add = {bool: "bool", int: "uint32", float: "float32", str: "string"}[type(value)]
            getattr(writer, f"add_{add}")(key, value)
    for name, tensor in tensors.items():
        if isinstance(tensor, tuple):
            writer.add_tensor(name, tensor[0], raw_dtype=tensor[1])
        elif stored == "F32" or tensor.ndim == 1:
            writer.add_tensor(name, tensor)
        else:
            how = GGMLQuantizationType[stored]
            writer.add_tensor(name, quantize(tensor, how), raw_dtype=how)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="module")
def made(gpt2_folder):
    """(model of transformers, values, tensors) of each of MODELS."""
    size = len(json.loads((gpt2_folder / "tokenizer.json").read_text())["model"]["vocab"])

    def make(name):
        kind, shape = MODELS[name]
        torch.manual_seed(0)
        config = getattr(transformers, f"{kind}Config")(vocab_size=size, **shape)
        name = "GPT2LMHeadModel" if kind == "GPT2" else f"{kind}ForCausalLM"
        model = getattr(transformers, name)(config).eval()
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        return model, values_of(model, gpt2_folder), tensors_of(model)

    return make


@pytest.fixture
def llama(made, tmp_path):
    """Write the small Llama with some values and tensors changed (None: left out) → the file."""
    _, values, tensors = made("llama")

    def change(values_changed=(), tensors_changed=(), kind="llama"):
        new = {**values, **dict(values_changed)}, {**tensors, **dict(tensors_changed)}
        kept = ({k: v for k, v in part.items() if v is not None} for part in new)
        return write(tmp_path / "model.gguf", kind, *kept)

    return change


def model_of(origin):
    size = origin.tokenizer.vocab_size
    return build_with(origin.weights(), origin.path, GPTOptions(**origin.model), size, 0).eval()


def refusal(path, error=PretrainedError):
    with pytest.raises(error) as raised:
        origin = find_origin(str(path))
        origin.record()
        origin.weights()
    sentence = str(raised.value)
    assert "\n" not in sentence and sentence.endswith(".")
    return sentence


@pytest.mark.parametrize("name", MODELS)
def test_logits_and_ids_are_those_of_transformers(made, gpt2_folder, tmp_path, name):
    theirs, values, tensors = made(name)
    file = write(tmp_path / "model.gguf", theirs.config.model_type, values, tensors)
    origin = find_origin(str(file))
    model = model_of(origin)
    ids = torch.randint(origin.vocab_size, (3, 48), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = theirs(ids).logits
        assert expected.std() > 0.3  # there is something to agree on
        logits = model.project(model.encode(ids)[0])
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)
    assert origin.tokenizer.fingerprint == read_pretrained(gpt2_folder).fingerprint


def test_llama_3s_scaling_is_found_in_its_factors(made, tmp_path):
    _, values, tensors = made("llama-stretched")
    model = open_gguf(write(tmp_path / "m.gguf", "llama", values, tensors), "m.gguf").model
    found = [model[f"rotary_{key}"] for key in ("base", "factor", "low", "high", "original")]
    assert found == [50.0, 8.0, 1.0, 4.0, 40]


@pytest.mark.parametrize("stored", ["F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"])
def test_numbers_in_few_bits_are_widened(made, tmp_path, stored):
    _, values, tensors = made("qwen2")
    file = write(tmp_path / "model.gguf", "qwen2", values, tensors, stored)
    weights = find_origin(str(file)).weights()
    assert {array.dtype for array in weights.values()} == {np.dtype(np.float32)}
    kind = GGMLQuantizationType[stored]
    original = tensors["token_embd.weight"]
    assert np.array_equal(weights["embedding"], dequantize(quantize(original, kind), kind))
    assert 0 < np.abs(weights["embedding"] - original).max() < 0.2
    gate = quantize(tensors["blk.1.ffn_gate.weight"], kind)
    joined = weights["blocks.1.feedforward.input.weight"]
    assert np.array_equal(joined[: len(joined) // 2], dequantize(gate, kind))


@pytest.mark.parametrize("stored", ["Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL"])
def test_kinds_that_only_llama_cpp_writes_are_read(tmp_path, stored):
    kind = GGMLQuantizationType[stored]
    block, size = gguf.GGML_QUANT_SIZES[kind]
    # Bytes of which any two are a half float of moderate size.
    rows = np.random.default_rng(0).integers(0, 64, (3, 2 * size), np.uint8)
    file = write(tmp_path / "model.gguf", "llama", {}, {"rows": (rows, kind)})
    header = gguf_header.read_header(file)
    assert header.tensors["rows"].shape == (3, 2 * block)
    read = header.read("rows")
    assert np.array_equal(read, dequantize(rows, kind)) and len(np.unique(read)) > 10


def test_only_the_header_is_read_for_shape_and_tokenizer(llama, monkeypatch):
    file = llama()
    monkeypatch.setattr(gguf_header.np, "fromfile", None)
    origin = find_origin(str(file))
    assert origin.model["layers"] == 2 and origin.tokenizer.stop_id == origin.vocab_size - 1
    assert origin.inherited()["given"]["model"] == origin.model


def test_summary_prints_the_parameters_in_a_header(llama, made, monkeypatch, capsys):
    file = llama()
    monkeypatch.setattr(gguf_header.np, "fromfile", None)
    monkeypatch.setattr("sys.argv", ["textwright", "summary", str(file), "--json"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    found = json.loads(capsys.readouterr().out)
    assert found["parameters"]["total"] == sum(p.numel() for p in made("llama")[0].parameters())


def test_the_record_names_the_file_and_notices_a_change(llama):
    file = llama()
    kept = find_origin(str(file)).record()
    assert kept.source == str(file)
    assert find_again(kept).path == file
    with file.open("r+b") as changed:
        changed.seek(-4, 2)
        changed.write(b"\1\2\3\4")
    with pytest.raises(PretrainedError, match="are not those that the config records"):
        find_again(kept)


def test_tokens_that_only_pad_the_vocabulary_are_left_out(llama, made):
    _, values, tensors = made("llama")
    unused = {
        "tokenizer.ggml.tokens": [*values["tokenizer.ggml.tokens"], "[PAD1]", "[PAD2]"],
        "tokenizer.ggml.token_type": [*values["tokenizer.ggml.token_type"], 5, 5],
    }
    rows = {
        name: np.pad(tensors[name], ((0, 5), (0, 0)))
        for name in ("token_embd.weight", "output.weight")
    }
    origin = find_origin(str(llama(unused, rows)))
    assert origin.tokenizer.vocab_size == origin.vocab_size - 5
    weights = origin.weights()
    for ours, theirs in (("embedding", "token_embd.weight"), ("output.weight", "output.weight")):
        assert np.array_equal(weights[ours], tensors[theirs])


def test_the_stop_token_ended_documents_not_answers(llama, made):
    """As in SmolLM2-Instruct: eos ends an answer, and documents ended with <|endoftext|>."""
    _, values, _ = made("llama")
    *others, _, last = values["tokenizer.ggml.tokens"]  # the one before last is the last merge's
    changed = {
        "tokenizer.ggml.merges": values["tokenizer.ggml.merges"][:-1],
        "tokenizer.ggml.eos_token_id": len(others),
    }
    for end, stop in ((last, len(others) + 1), ("<s>", len(others))):
        changed["tokenizer.ggml.tokens"] = [*others, "<|im_end|>", end]
        assert find_origin(str(llama(changed))).tokenizer.stop_id == stop


def test_an_older_gpt2_holds_its_embedding_twice(made, tmp_path):
    _, values, tensors = made("gpt2")
    twice = {**tensors, "output.weight": tensors["token_embd.weight"]}
    weights = find_origin(str(write(tmp_path / "m.gguf", "gpt2", values, twice))).weights()
    assert np.array_equal(weights["embedding"], tensors["token_embd.weight"])
    twice["output.weight"] = twice["output.weight"] + 1
    file = write(tmp_path / "m.gguf", "gpt2", values, twice)
    assert "its output matrix is not its embedding" in refusal(file)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"llama.expert_count": 8}, "it has a mixture of experts, which cannot"),
        ({"llama.attention.sliding_window": 16}, "it has a sliding window of attention"),
        ({"llama.attn_logit_softcapping": 50.0}, "it has soft-capped attention"),
        ({"llama.final_logit_softcapping": 30.0}, "it has soft-capped logits"),
        ({"llama.rope.scaling.type": "yarn"}, "it has rotary positions of type yarn"),
        ({"llama.rope.scale_linear": 2.0}, "linearly scaled rotary positions"),
        ({"llama.rope.dimension_count": 4}, "its partial_rotary_factor is 0.5"),
        ({"llama.attention.value_length": 4}, "its attention.value_length is 4, not 8"),
        ({"llama.attention.head_count_kv": [2, 4]}, "its blocks differ in attention.head_count_kv"),
        ({"llama.attention.head_count_kv": 3}, "heads is not a multiple of key_value_heads"),
        ({"llama.block_count": None}, "it lacks llama.block_count"),
        ({"llama.embedding_length": None}, "it lacks llama.embedding_length"),
        ({"llama.block_count": 1_000_000_000}, "it has 1000000000 blocks, but 21 tensors"),
        ({"llama.block_count": "two"}, "it is damaged"),
        ({"split.count": 3}, "it is one of several parts; join them"),
        ({"tokenizer.ggml.tokens": None}, "it lacks tokenizer.ggml.tokens"),
        ({"tokenizer.ggml.eos_token_id": None}, "it lacks tokenizer.ggml.eos_token_id"),
        ({"tokenizer.ggml.model": "llama"}, "its tokenizer is 'llama', not a byte-level BPE"),
        ({"tokenizer.ggml.model": "bert"}, "its tokenizer is 'bert'"),
        ({"tokenizer.ggml.pre": None}, "it does not say how text is cut"),
    ],
)
def test_what_cannot_be_computed_is_named(llama, values, message):
    sentence = refusal(llama(values))
    assert message in sentence and "GPT-2, Llama, Qwen2 or Qwen3" in sentence


def test_values_left_out_are_those_of_llama_cpp(made, tmp_path):
    """As many heads of keys and values as of queries, even head widths, base 10,000."""
    _, values, tensors = made("llama-stretched")
    left_out = ("head_count_kv", "key_length", "value_length", "freq_base", "dimension_count")
    kept = {key: value for key, value in values.items() if not key.endswith(left_out)}
    del tensors["rope_freqs.weight"]
    model = open_gguf(write(tmp_path / "m.gguf", "llama", kept, tensors), "m.gguf").model
    options = GPTOptions(**model)
    assert (options.shared_heads, options.head_widths) == (2, (16, 16))
    assert options.rotary_base == 10_000


def test_values_without_effect_are_no_reason_to_refuse(llama):
    neutral = {
        "llama.expert_count": 0,
        "llama.attention.causal": True,
        "llama.rope.scaling.type": "none",
        "llama.logit_scale": 1.0,
        "llama.attention.head_count_kv": [2, 2],
    }
    assert find_origin(str(llama(neutral))).model["key_value_heads"] == 2


def test_another_architecture_is_named_with_what_is_unlike(llama):
    changed = {"gemma2.attention.sliding_window": 4096, "gemma2.final_logit_softcapping": 30.0}
    assert (
        "its architecture is gemma2, not gpt2, llama, qwen2, qwen3 (it has a sliding window of "
        "attention and soft-capped logits)"
    ) in refusal(llama(changed, kind="gemma2"))
    assert "its architecture is mamba, not gpt2" in refusal(llama(kind="mamba"))


def test_a_text_cut_in_another_way_is_refused(llama):
    sentence = refusal(llama({"tokenizer.ggml.pre": "tekken"}), TokenizerError)
    assert "'tekken'" in sentence and "gpt-2, llama-bpe, qwen2, qwen35, smollm" in sentence


@pytest.mark.parametrize(
    ("name", "cut"), [("llama-v3", "llama-bpe"), ("deepseek-r1-qwen", "qwen2")]
)
def test_other_names_of_a_way_to_cut_text_are_known(llama, name, cut):
    found = find_origin(str(llama({"tokenizer.ggml.pre": name}))).tokenizer
    assert found.treatment.cut == cut


def test_a_tokenizer_larger_than_the_embedding_is_refused(llama, made):
    _, values, _ = made("llama")
    tokens = [*values["tokenizer.ggml.tokens"], "soupspoon"]
    types = [*values["tokenizer.ggml.token_type"], 1]
    changed = {"tokenizer.ggml.tokens": tokens, "tokenizer.ggml.token_type": types}
    assert "but its tokenizer has" in refusal(llama(changed))


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"blk.1.ffn_up.weight": None}, "lack blk.1.ffn_up.weight"),
        ({"blk.0.attn_q.scale": np.ones(1, np.float32)}, "hold blk.0.attn_q.scale"),
        ({"blk.0.ffn_up.weight": np.ones((64, 16), np.float32)}, "has shape 64 × 16, not 64 × 32"),
        ({"token_embd.weight": None}, "lacks token_embd.weight"),
        ({"rope_freqs.weight": np.ones(4, np.float32) + 1}, "is not Llama 3's scaling"),
        ({"rope_freqs.weight": np.array([1, 2, 9, 8], np.float32)}, "is not Llama 3's scaling"),
        ({"output.weight": np.ones((4, 32), np.int8)}, "output.weight is stored as I8"),
        (
            {"output.weight": (np.zeros((4, 292), np.uint8), GGMLQuantizationType.Q8_K)},
            "output.weight is stored as Q8_K, which cannot be read here",
        ),
    ],
)
def test_tensors_of_another_model_are_refused(llama, tensors, message):
    assert message in refusal(llama((), tensors))


def test_a_model_larger_than_memory_is_refused_before_it_is_read(llama, monkeypatch):
    file = llama()
    monkeypatch.setattr(places, "free_memory", lambda: 1000)
    monkeypatch.setattr(gguf_header.np, "fromfile", None)
    assert "weights, which need" in refusal(file) and "name a smaller model" in refusal(file)


def test_a_file_cut_anywhere_is_refused_in_a_sentence(llama, tmp_path):
    whole = llama().read_bytes()
    file = tmp_path / "cut.gguf"
    for end in [*range(0, 200, 7), *range(200, len(whole), 997), len(whole) - 1]:
        file.write_bytes(whole[:end])
        with pytest.raises(
            PretrainedError, match=r"cannot be used: it (ends early|does not begin)"
        ):
            open_gguf(file, "cut.gguf")


def test_damage_in_the_header_never_ends_in_another_error(llama, tmp_path):
    whole = bytearray(llama().read_bytes())
    file, draw = tmp_path / "damaged.gguf", random.Random(0)
    for _ in range(300):
        damaged = whole.copy()
        for _ in range(3):
            damaged[draw.randrange(len(whole) // 8)] = draw.randrange(256)
        file.write_bytes(damaged)
        try:
            open_gguf(file, "damaged.gguf")
        except PretrainedError as error:
            assert "\n" not in str(error)


def test_other_files_and_versions_are_refused(llama, tmp_path):
    file = llama()
    content = file.read_bytes()
    file.write_bytes(b"PK\3\4" + content[4:])
    assert "it does not begin with GGUF" in refusal(file)
    file.write_bytes(content[:4] + b"\1\0\0\0" + content[8:])
    assert "its version is 1, not 2 or 3" in refusal(file)
    file.write_bytes(b"")
    assert "it does not begin with GGUF" in refusal(file)
