"""One config of all options: where a value comes from, what is refused, and how it is kept."""

import tomllib
from itertools import permutations

import pytest
from pydantic import BaseModel

from textwright.config import (
    FORMAT_VERSION,
    Config,
    TrainOptions,
    load_preset,
    parse_setting,
    presets,
)
from textwright.errors import ConfigError

FILE = """
[train]
epochs = 3
learning_rate = 0.5
[corpus]
unit = "line"
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "my.toml"
    path.write_text(FILE)
    return path


def test_a_flag_beats_the_file_beats_the_preset_beats_the_default(file):
    train = Config.resolve("demo", file, ["train.learning_rate=0.25"]).train
    preset = load_preset("demo")["train"]
    assert train.learning_rate == 0.25
    assert train.epochs == 3 != preset["epochs"]
    assert train.weight_decay == preset["weight_decay"] != TrainOptions().weight_decay
    assert train.beta1 == TrainOptions().beta1


def test_the_last_of_two_settings_counts():
    assert Config.resolve(settings=["train.seed=1", "train.seed=2"]).train.seed == 2


def test_a_file_adds_to_the_tables_of_a_preset(file):
    config = Config.resolve("demo", file)
    assert config.corpus.unit == "line"
    assert config.tokenizer.vocab_size == load_preset("demo")["tokenizer"]["vocab_size"]
    assert config.preset == "demo"


def test_all_problems_are_reported_in_one_sentence(file):
    file.write_text("[train]\nepoch = 3\nbatch_size = 0\n[modle]\nlayers = 2\n")
    with pytest.raises(ConfigError) as caught:
        Config.resolve(file=file, settings=["sample.top_p=2", "train.optimizer=sgd"])
    sentence = str(caught.value)
    assert sentence.count("\n") == 0
    assert "there is no option train.epoch;" in sentence
    assert "there is no option modle" in sentence
    assert "train.batch_size: Input should be greater than or equal to 1 (given: 0)" in sentence
    assert "sample.top_p" in sentence
    assert "'adam', 'adamw' or 'muon' (given: 'sgd')" in sentence
    assert str(file) in sentence


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("train.max_steps=60", 60),
        ("train.learning_rate=1e-4", 1e-4),
        ("corpus.lowercase=true", True),
        ("corpus.unit=line", "line"),
        ('corpus.unit="line"', "line"),
        ("train.sample_prompt=a = b", "a = b"),
        ("corpus.template={title} | {directions}", "{title} | {directions}"),
        ('corpus.drop_prefixes=["No ", "None"]', ["No ", "None"]),
        ("train.sample_prompt=", ""),
        ("sample.temperature=inf", float("inf")),
    ],
)
def test_a_setting_is_a_toml_value_or_else_a_string(setting, value):
    section, key = setting.partition("=")[0].split(".")
    assert parse_setting(setting) == {section: {key: value}}
    assert getattr(getattr(Config.resolve(settings=[setting]), section), key) == value


@pytest.mark.parametrize("setting", ["epochs=3", "train.epochs", "train.=3", ".epochs=3", "=", ""])
def test_a_setting_without_section_and_key_is_refused(setting):
    with pytest.raises(ConfigError, match=r"not of the form section\.key=value"):
        Config.resolve(settings=[setting])


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("45s", 45), ("20m", 1200), ("1.5h", 5400)]
)
def test_a_time_budget_has_a_unit(text, seconds):
    assert Config.resolve(settings=[f"train.time_budget={text}"]).train.time_budget == seconds


@pytest.mark.parametrize("text", ["soon", "s", "m20", "-5m", "2d"])
def test_a_time_budget_that_is_no_duration_is_refused(text):
    with pytest.raises(ConfigError, match=r"train\.time_budget"):
        Config.resolve(settings=[f"train.time_budget={text}"])


@pytest.mark.parametrize("name", ["epochs", "time_budget", "learning_rate", "clip_norm", "epsilon"])
@pytest.mark.parametrize("value", ["inf", "nan"])
def test_numbers_of_training_that_are_not_finite_are_refused(name, value):
    with pytest.raises(ConfigError, match=rf"train\.{name}.*finite"):
        Config.resolve(settings=[f"train.{name}={value}"])


def test_options_that_contradict_each_other_are_refused():
    with pytest.raises(ConfigError, match="width is not a multiple of heads"):
        Config.resolve(settings=["model.family=gpt", "model.width=7"])


@pytest.mark.parametrize("name", presets())
def test_every_preset_resolves_and_has_a_purpose(name):
    config = Config.resolve(name)
    assert config.preset == name
    assert config == Config.check(tomllib.loads(config.to_toml()), "its own TOML")
    assert len(presets()[name]) > 20


def test_a_family_and_its_options_may_be_set_in_any_order():
    settings = ["model.width=64", "model.heads=2", "model.family=gpt", "model.layers=3"]
    configs = [Config.resolve("recipes-lstm", settings=s) for s in permutations(settings)]
    assert all(config == configs[0] for config in configs)
    assert (configs[0].model.width, configs[0].model.layers) == (64, 3)
    assert Config.resolve("wine-gpt", settings=settings).model.key_width == 256  # as its preset has


def test_the_error_for_an_unknown_preset_lists_the_presets():
    with pytest.raises(ConfigError, match=r"No preset is called 'recipes'.*recipes-lstm"):
        Config.resolve("recipes")


def test_a_preset_in_a_file_that_is_no_name_is_refused(file):
    file.write_text('preset = ["demo"]\n')
    with pytest.raises(ConfigError, match=r"No preset is called \['demo'\]"):
        Config.resolve(file=file)


def test_a_config_comes_back_from_its_toml_exactly():
    config = Config.check(
        {
            "train": {"time_budget": "20m", "learning_rate": 0.1, "max_steps": 3},
            "sample": {
                "temperature": float("inf"),
                "stop": ["\n", 'ü " ]'],
                "logit_bias": {"the": -1.5, "=": float("-inf")},
                "forbid": ["a", 7],
            },
            "corpus": {"template": "{a}: {b}\t|", "strip_symbols": "\\'\""},
        },
        "a test",
    )
    assert Config.check(tomllib.loads(config.to_toml()), "its own TOML") == config


def keys(options):
    """Every option of a part that has a value, nested ones too, as section.key."""
    for name in type(options).model_fields:
        value = getattr(options, name)
        if isinstance(value, BaseModel):
            yield from (f"{name}.{key}" for key in keys(value))
        elif value is not None:
            yield name


def test_toml_holds_every_key_with_the_value_used():
    config = Config.resolve("demo", settings=["train.max_steps=7"])
    kept = tomllib.loads(config.to_toml())
    assert kept["format_version"] == FORMAT_VERSION
    for key in keys(config):
        value, used = kept, config
        for part in key.split("."):
            value, used = value[part], getattr(used, part)
        assert value == used, key


def test_a_config_of_another_run_can_be_given_as_a_file(tmp_path):
    config = Config.resolve("anime-lstm", settings=["train.seed=9"])
    (tmp_path / "config.toml").write_text(config.to_toml())
    assert Config.resolve(file=tmp_path / "config.toml") == config


@pytest.mark.parametrize(
    ("content", "sentence"),
    [(b"[train\n", "is not valid TOML"), (b"# \xff\n", "is not valid TOML"), (None, "Cannot read")],
)
def test_a_file_that_cannot_be_read_is_named(file, content, sentence):
    file.unlink() if content is None else file.write_bytes(content)
    with pytest.raises(ConfigError, match=sentence) as caught:
        Config.resolve(file=file)
    assert str(file) in str(caught.value)


def test_every_option_has_help():
    config = Config()
    for part in (config.corpus, config.tokenizer, config.data, config.model, config.sample):
        for name, field in type(part).model_fields.items():
            assert field.description or name == "family", name
    assert all(field.description for field in TrainOptions.model_fields.values())


def test_a_file_may_name_its_preset(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('\ufeffpreset = "recipes-lstm"\n[train]\nepochs = 1\n', encoding="utf-8")
    config = Config.resolve(file=file)
    assert config.preset == "recipes-lstm"
    assert config.tokenizer.kind == "word"
    assert config.train.epochs == 1
    assert Config.resolve("wine-gpt", file).preset == "wine-gpt"
    kept = tmp_path / "kept.toml"  # the whole config of a run, which unset a limit of its preset
    kept.write_text(
        Config.resolve("shakespeare-char-gpt").to_toml().replace("max_steps = 2000\n", "")
    )
    assert Config.resolve(file=kept).train.max_steps is None
    file.write_text('preset = "nobody"')
    with pytest.raises(ConfigError, match="No preset is called 'nobody'"):
        Config.resolve(file=file)


def test_an_unknown_text_encoding_is_refused():
    for name in ("utf-nine", "hex"):
        with pytest.raises(
            ConfigError, match=r"corpus\.encoding: there is no such encoding of text"
        ):
            Config.resolve(settings=[f"corpus.encoding={name}"])
