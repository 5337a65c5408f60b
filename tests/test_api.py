"""From a corpus to text in three calls, and the same text by either backend."""

import inspect
from typing import get_type_hints

import numpy as np
import pytest
from conftest import SAMPLING
from seeds import count_differences

import textwright
from textwright import models
from textwright.api import Writer
from textwright.config import Config
from textwright.errors import ConfigError, GenerationError, RunError, TextwrightError
from textwright.run import Run
from textwright.training.session import train_run
from textwright.writing.generator import Generator
from textwright.writing.sampling_options import SamplingOptions


def test_train_and_write(notes, tiny, tmp_path):
    steps = []
    settings = [*tiny, "train.max_steps=3"]
    writer = textwright.train(
        notes,
        out=tmp_path / "run",
        preset="demo",
        settings=settings,
        on_event=lambda event: steps.append(getattr(event, "step", None)),
    )
    assert 3 in steps
    again = textwright.load(str(tmp_path / "run"))
    assert writer.generate("Slow", seed=5) == again.generate("Slow", seed=5)


def test_a_config_can_be_given_whole(notes, tiny, tmp_path):
    config = Config.resolve("demo", settings=[*tiny, "train.max_steps=1", "model.cell=gru"])
    writer = textwright.train([str(notes)], out=tmp_path / "run", config=config)
    assert writer.run.config.model.cell == "gru"
    assert writer.generate(max_new_tokens=3)[0].text
    with pytest.raises(ConfigError, match="leave out preset and settings"):
        textwright.train(notes, out=tmp_path / "other", config=config, settings=["train.seed=2"])


def test_settings_change_what_a_resumed_run_may_change_and_no_more(notes, tiny, tmp_path):
    out = tmp_path / "run"
    first = textwright.train(notes, out=out, preset="demo", settings=[*tiny, "train.max_steps=1"])
    again = textwright.train([], out=out, settings=["train.max_steps=2"], resume=True)
    assert [m["step"] for m in again.run.metrics() if m["event"] == "step"] == [1, 2]
    assert again.run.config.model == first.run.config.model
    with pytest.raises(ConfigError, match=r"cannot change model\.hidden_size from 8 to 9"):
        textwright.train([], out=out, settings=["model.hidden_size=9"], resume=True)


def test_what_shapes_a_model_comes_from_the_run_it_starts_from(notes, trained, tmp_path):
    settings = ["train.max_steps=1", "train.threads=1"]
    origin = Run.load(trained)
    writer = textwright.train(notes, out=tmp_path / "run", settings=settings, init_from=origin)
    model = writer.run.config.model
    assert model == origin.config.model


def test_what_is_streamed_is_what_is_generated(writer):
    (sample,) = writer.generate("Slow", seed=3, max_new_tokens=20, temperature=0.8)
    pieces = list(writer.stream("Slow", seed=3, max_new_tokens=20, temperature=0.8))
    assert "".join(pieces) == sample.text
    assert len(pieces) > 5


def test_the_same_seed_gives_the_same_text_and_another_another(writer):
    first = writer.generate("Slow", seed=1, num=3, max_new_tokens=15)
    assert first == writer.generate("Slow", seed=1, num=3, max_new_tokens=15)
    assert first != writer.generate("Slow", seed=2, num=3, max_new_tokens=15)
    assert len({sample.text for sample in first}) == 3


def test_a_text_does_not_depend_on_what_is_written_beside_it(writer):
    prompts = ["Slow", "", "Winter rice for two. Rinse"]
    together = writer.generate(prompts, num=2, seed=4, max_new_tokens=15)
    alone = [s for p in prompts for s in writer.generate(p, num=2, seed=4, max_new_tokens=15)]
    options = writer.options(max_new_tokens=15)
    assert count_differences(writer.generator, options, 4, together, alone) <= 1


@pytest.mark.parametrize("options", [{}, {"temperature": 0}, {"top_k": 5}, {"top_p": 0.8}])
def test_both_backends_write_the_same_text(writer, trained, options):
    torch_backend = models.TorchBackend(models.load(writer.run, "cpu"))
    by_torch = Generator(torch_backend, writer.tokenizer)
    options = writer.options(max_new_tokens=40, **options)
    prompts = ["Slow", "", "Golden rice for"]
    ours = writer.generator.generate(prompts, options, num=3, seed=11)
    theirs = by_torch.generate(prompts, options, num=3, seed=11)
    assert count_differences(writer.generator, options, 11, ours, theirs) <= 1
    row = np.array([[0, 5, 9, 3]])
    ours, _ = writer.generator.backend.prefill(row, np.array([4]))
    theirs, _ = torch_backend.prefill(row, np.array([4]))
    assert ours == pytest.approx(theirs, abs=1e-4)


def test_a_run_s_own_sampling_is_the_default(writer):
    assert writer.options().max_new_tokens == 12
    assert len(writer.generate(min_new_tokens=12)[0].ids) == 12
    assert writer.options(top_k=3).max_new_tokens == 12


def test_an_option_that_is_none_is_refused(writer):
    with pytest.raises(GenerationError, match="temperature"):
        writer.generate(temperature=-1)
    with pytest.raises(GenerationError, match="batch size is 0"):
        writer.generate(batch_size=0)


@pytest.mark.parametrize("name", ["stream", "generate", "fill", "options"])
def test_every_sampling_option_is_spelled_out(name):
    """With its type, and None for the run's own value, in the order of SamplingOptions."""
    call = getattr(Writer, name)
    hints, options = get_type_hints(call), get_type_hints(SamplingOptions)
    parameters = inspect.signature(call).parameters.values()
    named = {p.name: p for p in parameters if p.name in SamplingOptions.model_fields}
    assert list(named) == list(SamplingOptions.model_fields)
    for option, parameter in named.items():
        assert parameter.kind is parameter.KEYWORD_ONLY and parameter.default is None
        assert hints[option] == options[option] | None
    for parameter in set(parameters) - set(named.values()):
        assert parameter.kind is not parameter.VAR_KEYWORD


def test_train_spells_out_what_a_training_takes():
    parameters = inspect.signature(textwright.train).parameters
    for name, parameter in inspect.signature(train_run).parameters.items():
        assert name in parameters
        if name != "out":  # which the public call wants by name
            assert parameters[name].kind in (parameter.kind, parameter.KEYWORD_ONLY)


@pytest.mark.parametrize(
    "call", [textwright.train, Writer.stream, Writer.generate, Writer.fill, Writer.options]
)
def test_every_parameter_of_a_public_call_has_a_line(call):
    lines = [line.partition(":")[0] for line in inspect.getdoc(call).splitlines()]
    for name in inspect.signature(call).parameters:
        if name != "self" and (call is Writer.options or name not in SamplingOptions.model_fields):
            assert name in lines


@pytest.mark.parametrize("name", ["stream", "generate", "fill"])
def test_every_sampling_option_reaches_the_sampler(writer, formed, monkeypatch, name):
    writer = textwright.load(formed) if name == "fill" else writer
    given = {**SAMPLING, "logit_bias": {2: 1.5}, "forbid": [3]}
    assert given.keys() == SamplingOptions.model_fields.keys()
    caught = []

    def catch(generator, *arguments, **_):
        caught.append(arguments[-1])
        raise GenerationError("caught")

    for method in ("stream", "generate", "fill"):
        monkeypatch.setattr(Generator, method, catch)
    with pytest.raises(GenerationError, match="caught"):
        list(getattr(writer, name)({"course": "Soup"} if name == "fill" else "Slow", **given))
    assert caught[0].model_dump() == given


def test_texts_do_not_depend_on_how_many_are_written_at_the_same_time(writer):
    one = writer.generate(["Slow", ""], num=3, seed=4, batch_size=1)
    assert one == writer.generate(["Slow", ""], num=3, seed=4, batch_size=6)


def test_where_no_run_is_the_error_says_how_to_make_one(tmp_path):
    with pytest.raises(RunError, match="textwright train"):
        textwright.load(tmp_path)


def test_the_public_names_are_these():
    assert set(textwright.__all__) == {"TextwrightError", "Writer", "compare", "load", "train"}
    assert issubclass(RunError, TextwrightError)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = textwright.nothing
