"""GPT-2 in Hugging Face's form: every number is compared with `transformers`."""

import pytest
import torch
import transformers
from published_models import model_of

from textwright.errors import ConfigError
from textwright.families import GPTOptions
from textwright.models import build
from textwright.models.gpt2 import config_of, options_of
from textwright.models.published import as_published, form_of

SHAPES = [
    {"n_layer": 1, "n_head": 1, "n_embd": 4},
    {"n_layer": 2, "n_head": 4, "n_embd": 16, "activation_function": "gelu_pytorch_tanh"},
    {"n_layer": 3, "n_head": 3, "n_embd": 12, "n_inner": 20, "layer_norm_epsilon": 1e-3},
    {"n_layer": 2, "n_head": 2, "n_embd": 8, "activation_function": "relu"},
]
SIZES = {  # the published models: layers, heads, width, parameters
    "gpt2": (12, 12, 768, 124_439_808),
    "gpt2-medium": (24, 16, 1024, 354_823_168),
    "gpt2-large": (36, 20, 1280, 774_030_080),
    "gpt2-xl": (48, 25, 1600, 1_557_611_200),
}
FORM = {"vocab_size": 300, "n_positions": 24, "bos_token_id": 299, "eos_token_id": 299}


def published(spread=0.5, **shape):
    """A GPT-2 of `transformers` with random weights everywhere, biases and norms too."""
    torch.manual_seed(0)
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**{**FORM, **shape})).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=spread)
    return model


def ours(theirs):
    """The same model here, its weights renamed."""
    return model_of(theirs.config.to_dict(), theirs.state_dict())


@pytest.mark.parametrize("shape", SHAPES)
def test_logits_are_those_of_transformers(shape):
    theirs = published(**shape)
    model = ours(theirs)
    ids = torch.randint(300, (3, 24), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        logits = model.project(model.encode(ids)[0])
        expected = theirs(ids).logits
    assert expected.std() > 0.3  # there is something to agree on
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", SIZES)
def test_the_published_sizes_have_their_parameters(name):
    layers, heads, width, parameters = SIZES[name]
    config = transformers.GPT2Config(n_layer=layers, n_head=heads, n_embd=width)
    with torch.device("meta"):
        model = build(GPTOptions(**options_of(config.to_dict())), config.vocab_size, 128)
        theirs = transformers.GPT2LMHeadModel(config)
    assert model.context_length == 1024
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert sum(p.numel() for p in theirs.parameters()) == parameters


def test_transformers_loads_weights_that_are_converted_back():
    model = build(GPTOptions(layers=2, heads=2, width=8, context_length=12), 50, 12).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    config, arrays = as_published(model, 50, 0)
    theirs = transformers.GPT2LMHeadModel(transformers.GPT2Config(**config)).eval()
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    missing, unexpected = theirs.load_state_dict(tensors, strict=False)
    assert (missing, unexpected) == (["lm_head.weight"], [])  # the output matrix is tied
    ids = torch.arange(12)[None]
    with torch.no_grad():
        torch.testing.assert_close(
            theirs(ids).logits, model.project(model.encode(ids)[0]), rtol=1e-5, atol=1e-5
        )
    again = model_of(config, tensors).state_dict()
    assert all(torch.equal(again[name], tensor) for name, tensor in model.state_dict().items())


def test_options_come_back_from_the_config_made_of_them():
    options = GPTOptions(
        layers=3, heads=2, width=8, feedforward_width=20, norm_epsilon=1e-3, context_length=9
    )
    assert GPTOptions(**options_of(config_of(options, 50, 7))) == options


def test_older_forms_of_the_file_are_read():
    theirs = published(**SHAPES[1])
    tensors = theirs.state_dict()
    bare = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
    masks = {f"h.{layer}.attn.bias": torch.ones(1, 1, 24, 24).tril() for layer in range(2)}
    old = {**bare, **masks, "h.0.attn.masked_bias": torch.tensor(-1e4)}
    again, expected = model_of(theirs.config.to_dict(), old).state_dict(), ours(theirs).state_dict()
    assert all(torch.equal(again[name], expected[name]) for name in expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "mistral"}, "is 'mistral', not one of gpt2, llama, qwen2, qwen3"),
        ({"quantization_config": {"bits": 4}}, "its weights are quantized"),
        ({"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx is True"),
        ({"scale_attn_weights": False}, "scale_attn_weights is False"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings is False"),
        ({"activation_function": "silu"}, "activation_function is 'silu'"),
    ],
)
def test_a_form_that_cannot_be_computed_is_refused(change, message):
    config = transformers.GPT2Config(**FORM).to_dict() | change
    with pytest.raises(ValueError, match=message):
        form_of(config).options_of(config)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"norm": "post"}, "model.norm"),
        ({"positions": "sinusoidal"}, "model.positions"),
        ({"heads": 3, "width": 10, "key_width": 3, "value_width": 3}, "model.heads"),
        ({"tie_output": False}, "model.tie_output"),
        ({"key_width": 8}, "model.key_width"),
        ({"key_value_heads": 1}, "model.key_value_heads"),
        ({"activation": "swiglu"}, "model.activation"),
        ({"normalization": "rms"}, "model.normalization"),
        ({"biases": "none"}, "model.biases"),
        ({"query_key_norm": True}, "model.query_key_norm"),
    ],
)
def test_forms_that_no_gpt2_has_are_refused(option, message):
    options = GPTOptions(**{"heads": 2, "width": 8, "context_length": 9, **option})
    with pytest.raises(ConfigError, match=message):
        config_of(options, 50, 0)


def test_tensors_of_another_model_are_refused():
    theirs = published(**SHAPES[0])
    config, tensors = theirs.config.to_dict(), theirs.state_dict()
    with pytest.raises(ValueError, match=r"lack transformer\.h\.1\.attn\.c_attn\.bias"):
        model_of(config | {"n_layer": 2}, tensors)
    with pytest.raises(ValueError, match=r"hold score\.weight, which this model does not have"):
        model_of(config, {**tensors, "score.weight": torch.ones(1)})
    with pytest.raises(ValueError, match=r"c_fc\.weight has shape 4 × 16, not 4 × 20"):
        model_of(config | {"n_inner": 20}, tensors)
