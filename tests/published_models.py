"""Models of other projects, loaded here: what tests of their forms share."""

from textwright.families import GPTOptions
from textwright.models import build_with
from textwright.models.places import check, gather, shapes_of
from textwright.models.published import form_of, own_names


def model_of(config, tensors):
    """The model of a config.json and its tensors by name, as `--from` loads it."""
    form = form_of(config)
    options, vocab_size = GPTOptions(**form.options_of(config)), config["vocab_size"]
    places, shapes = form.places(options), shapes_of(options, vocab_size)
    named = {name: tensors[own] for name, own in own_names(form, tensors, places).items()}
    check({name: tuple(tensor.shape) for name, tensor in named.items()}, places, shapes)
    weights = gather(named.items(), places, shapes, vocab_size)
    return build_with(weights, "the test", options, vocab_size, 0).eval()
