"""Llama, Qwen2 and Qwen3 in Hugging Face's form: every number is compared with `transformers`."""

import numpy as np
import pytest
import torch
import transformers
from published_models import model_of
from small_models import MODERN

from textwright.backends.numpy_gpt import NumpyGPT
from textwright.errors import ConfigError
from textwright.families import GPTOptions
from textwright.models import build
from textwright.models.llama import config_of, options_of
from textwright.models.published import as_published, form_of

VOCABULARY, CONTEXT = 97, 64
FORM = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 52,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": CONTEXT,
    "rms_norm_eps": 1e-5,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": None,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
SHAPES = {
    "llama": ("Llama", {}),
    "llama-tied": ("Llama", {"num_key_value_heads": 4, "tie_word_embeddings": True}),
    "llama-stretched": ("Llama", {"num_key_value_heads": 1, "rope_parameters": LLAMA3}),
    "llama-wide-heads": ("Llama", {"head_dim": 12, "rms_norm_eps": 1e-3}),
    "llama-biases": (
        "Llama",
        {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True},
    ),
    "qwen2": ("Qwen2", {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}),
    "qwen2-tied": ("Qwen2", {"num_key_value_heads": 4, "tie_word_embeddings": True}),
    "qwen3": ("Qwen3", {"head_dim": 16}),
    "qwen3-tied": (
        "Qwen3",
        {"head_dim": 8, "num_key_value_heads": 4, "tie_word_embeddings": True},
    ),
    "qwen3-stretched": ("Qwen3", {"head_dim": 16, "rope_parameters": LLAMA3}),
}
SIZES = {  # published models: config.json and the number of parameters
    "SmolLM2-135M": (
        {
            "model_type": "llama",
            "vocab_size": 49_152,
            "hidden_size": 576,
            "intermediate_size": 1536,
            "num_hidden_layers": 30,
            "num_attention_heads": 9,
            "num_key_value_heads": 3,
            "max_position_embeddings": 8192,
            "rope_theta": 100_000,
            "rope_scaling": None,
            "tie_word_embeddings": True,
        },
        134_515_008,
    ),
    "Llama-3.2-1B": (
        {
            "model_type": "llama",
            "vocab_size": 128_256,
            "hidden_size": 2048,
            "intermediate_size": 8192,
            "num_hidden_layers": 16,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "head_dim": 64,
            "max_position_embeddings": 131_072,
            "rope_theta": 500_000.0,
            "rope_scaling": {
                "factor": 32.0,
                "high_freq_factor": 4.0,
                "low_freq_factor": 1.0,
                "original_max_position_embeddings": 8192,
                "rope_type": "llama3",
            },
            "tie_word_embeddings": True,
        },
        1_235_814_400,
    ),
    "Qwen2.5-0.5B": (
        {
            "model_type": "qwen2",
            "vocab_size": 151_936,
            "hidden_size": 896,
            "intermediate_size": 4864,
            "num_hidden_layers": 24,
            "num_attention_heads": 14,
            "num_key_value_heads": 2,
            "max_position_embeddings": 32_768,
            "max_window_layers": 24,
            "sliding_window": 32_768,
            "use_sliding_window": False,
            "tie_word_embeddings": True,
        },
        494_032_768,
    ),
    "Qwen3-0.6B": (
        {
            "model_type": "qwen3",
            "vocab_size": 151_936,
            "hidden_size": 1024,
            "intermediate_size": 3072,
            "num_hidden_layers": 28,
            "num_attention_heads": 16,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "max_position_embeddings": 40_960,
            "rope_theta": 1_000_000,
            "tie_word_embeddings": True,
        },
        596_049_920,
    ),
}


def published(name, **more):
    """A model of `transformers` with random weights everywhere, biases and norms too."""
    torch.manual_seed(0)
    kind, shape = SHAPES[name]
    # A copy: transformers completes the table of rotary positions in place.
    shape = {key: dict(v) if isinstance(v, dict) else v for key, v in shape.items()}
    config = getattr(transformers, f"{kind}Config")(**{**FORM, **shape, **more})
    model = getattr(transformers, f"{kind}ForCausalLM")(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def ours(theirs):
    """The same model here, its weights renamed."""
    return model_of(theirs.config.to_dict(), theirs.state_dict())


def ids_of(*shape):
    return torch.randint(VOCABULARY, shape, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
@pytest.mark.parametrize("name", SHAPES)
def test_logits_are_those_of_transformers(name):
    theirs = published(name)
    model, ids = ours(theirs), ids_of(3, CONTEXT)
    expected = theirs(ids).logits
    assert expected.std() > 0.3  # there is something to agree on
    logits = model.project(model.encode(ids)[0])
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)
    traced = model.project(model.trace(ids).hidden)
    torch.testing.assert_close(traced, expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("name", SHAPES)
def test_the_numpy_backend_computes_the_logits_of_transformers(name):
    theirs = published(name)
    model, ids = ours(theirs), ids_of(2, CONTEXT)
    weights = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    backend = NumpyGPT(weights, model.options)
    logits, state = backend.prefill(ids[:, :40].numpy(), np.array([40, 40]))
    found = [logits]
    for column in ids[:, 40:].T.numpy():
        logits, state = backend.step(column, state)
        found.append(logits)
    expected = theirs(ids).logits[:, 39:]
    torch.testing.assert_close(torch.from_numpy(np.stack(found, 1)), expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("name", SHAPES)
def test_weights_that_are_converted_back_are_those_of_transformers(name):
    theirs = published(name)
    config, arrays = as_published(ours(theirs), VOCABULARY, 0)
    again = type(theirs)(type(theirs.config)(**config)).eval()
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    missing, unexpected = again.load_state_dict(tensors, strict=False)
    tied = theirs.config.tie_word_embeddings
    assert (missing, unexpected) == (["lm_head.weight"] if tied else [], [])
    kept = again.state_dict()
    assert all(torch.equal(kept[name], tensor) for name, tensor in theirs.state_dict().items())
    ids = ids_of(2, CONTEXT)
    assert torch.equal(again(ids).logits, theirs(ids).logits)


@pytest.mark.parametrize("name", SIZES)
def test_published_models_have_their_parameters(name):
    config, parameters = SIZES[name]
    with torch.device("meta"):
        options = GPTOptions(**form_of(config).options_of(config))
        model = build(options, config["vocab_size"], 128)
    assert model.context_length == config["max_position_embeddings"]
    assert sum(p.numel() for p in model.parameters()) == parameters


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("llama", {}),
        ("llama", {"key_value_heads": 2, "tie_output": False, "feedforward_width": 20}),
        ("llama", {"rotary_factor": 4.0, "rotary_low": 2.0, "rotary_original": 16}),
        ("llama", {"biases": "all", "rotary_base": 500.0}),
        ("llama", {"key_width": 8, "value_width": 8}),
        ("qwen2", {"biases": "queries_keys_values", "tie_output": False}),
        ("qwen3", {"query_key_norm": True, "key_value_heads": 1}),
        ("qwen3", {"query_key_norm": True, "heads": 3, "key_width": 6, "value_width": 6}),
    ],
)
def test_options_come_back_from_the_config_made_of_them(kind, options):
    chosen = GPTOptions(**{"heads": 4, "width": 16, "context_length": 9, **MODERN, **options})
    config = config_of(chosen, 50, 7)
    assert config["model_type"] == kind
    again = GPTOptions(**options_of(config))
    wide = {"feedforward_width": chosen.inner_width}
    assert again == chosen.model_copy(update=wide)


@torch.no_grad()
def test_older_forms_of_the_file_are_read():
    theirs = published("llama-stretched")
    config, tensors = theirs.config.to_dict(), theirs.state_dict()
    table = dict(config.pop("rope_parameters"))
    older = {"rope_theta": table.pop("rope_theta"), "rope_scaling": table}
    table["type"] = table.pop("rope_type")
    for key in ("head_dim", "layer_types", "attention_bias", "mlp_bias", "tie_word_embeddings"):
        config.pop(key, None)
    for layer in range(2):
        tensors[f"model.layers.{layer}.self_attn.rotary_emb.inv_freq"] = torch.ones(4)
    model, ids = model_of(config | older, tensors), ids_of(1, CONTEXT)
    logits = model.project(model.encode(ids)[0])
    torch.testing.assert_close(logits, theirs(ids).logits, rtol=1e-5, atol=1e-5)


def test_a_tied_output_matrix_that_is_stored_again_and_a_body_alone_are_read():
    theirs = published("llama-tied")
    config, tensors = theirs.config.to_dict(), theirs.state_dict()
    assert "lm_head.weight" in tensors
    body = {
        name.removeprefix("model."): tensor
        for name, tensor in tensors.items()
        if name.startswith("model.")
    }
    expected = ours(theirs).state_dict()
    found = model_of(config, body).state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("llama", {"hidden_act": "gelu"}, "its hidden_act is 'gelu'; only 'silu'"),
        ("llama", {"attention_bias": True}, "its attention_bias is True; only biases in all"),
        ("llama", {"mlp_bias": True}, "its mlp_bias is True"),
        ("qwen3", {"attention_bias": True}, "its attention_bias is True"),
        ("qwen2", {"use_sliding_window": True}, "its use_sliding_window is True; only False"),
        ("qwen2", {"layer_types": ["sliding_attention"]}, "layer_types have 'sliding_attention'"),
        (
            "llama",
            {"rope_parameters": {"rope_type": "yarn", "factor": 4.0}},
            "its rope_type is 'yarn'; only 'default' and 'llama3'",
        ),
        ("llama", {"rope_scaling": {"type": "linear", "factor": 2.0}}, "its rope_type is 'linear'"),
        ("llama", {"partial_rotary_factor": 0.5}, "its partial_rotary_factor is 0.5"),
        ("llama", {"rope_scaling": {"rope_type": "llama3"}}, "it lacks factor"),
        ("llama", {"model_type": "qwen2_moe"}, "its model_type is 'qwen2_moe', not one of"),
        ("llama", {"quantization_config": {"bits": 4}}, "its weights are quantized"),
    ],
)
def test_a_form_that_cannot_be_computed_is_refused(name, change, message):
    config = published(name).config.to_dict() | change
    with pytest.raises(ValueError, match=message):
        form_of(config).options_of(config)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"norm": "post"}, "model.norm"),
        ({"normalization": "layer"}, "model.normalization"),
        ({"positions": "learned"}, "model.positions"),
        ({"activation": "gelu"}, "model.activation"),
        ({"embedding_scale": 2.0}, "model.embedding_scale"),
        ({"value_width": 2}, "model.value_width"),
        ({"heads": 3, "key_width": 4, "value_width": 4}, "model.heads"),
        ({"biases": "all", "tie_output": False}, "model.biases"),
        ({"biases": "queries_keys_values", "query_key_norm": True}, "model.query_key_norm"),
    ],
)
def test_forms_that_none_of_the_three_has_are_refused(option, message):
    options = GPTOptions(**{"heads": 2, "width": 8, "context_length": 9, **MODERN, **option})
    with pytest.raises(ConfigError, match=rf"{message} is .*, which no Llama, Qwen2 or Qwen3 has"):
        config_of(options, 50, 0)


def test_tensors_of_another_model_are_refused():
    theirs = published("qwen2")
    config, tensors = theirs.config.to_dict(), theirs.state_dict()
    with pytest.raises(ValueError, match=r"lack model\.layers\.2\.input_layernorm\.weight"):
        model_of(config | {"num_hidden_layers": 3}, tensors)
    with pytest.raises(ValueError, match=r"hold model\.layers\.0\.self_attn\.k_proj\.bias, which"):
        model_of(config | {"model_type": "llama"}, tensors)
    with pytest.raises(ValueError, match=r"k_proj\.weight has shape 16 × 32, not 32 × 32"):
        model_of(config | {"num_key_value_heads": 4}, tensors)
