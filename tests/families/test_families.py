"""A new family is a file that names its code, and a line in FAMILIES; no other room mentions it.

This file is such a family: its hidden vectors are a decaying sum of the token vectors so far.
"""

from typing import ClassVar, Literal

import numpy as np
import pytest
import torch
from pydantic import Field
from torch import nn

import textwright as tw
from textwright.config import Config
from textwright.errors import ConfigError, ExportError
from textwright.evaluation.runs import score_run
from textwright.export import export_run
from textwright.families import FAMILIES, Family, implementation
from textwright.models import LanguageModel, Trace
from textwright.models.lstm import RecurrentState
from textwright.models.parameters import parameter_table
from textwright.run import Run
from textwright.training.dataset import choose_layout
from textwright.training.encoded import Documents


class FadingOptions(Family):
    """A family of one layer without any matrix."""

    layouts: ClassVar = ("rows", "stream")
    model: ClassVar = "test_families:Fading"

    family: Literal["fading"] = "fading"
    width: int = Field(16, ge=1, description="Width of a token's vector.")

    @property
    def title(self):
        return "fading memory"

    def describe(self, context_length):
        return f"width {self.width}"


class Fading(LanguageModel):
    context_length = None
    state_class = RecurrentState

    def __init__(self, options, vocab_size):
        super().__init__()
        self.options = options
        self.embedding = nn.Parameter(torch.randn(vocab_size, options.width) * 0.1)
        self.fade = nn.Parameter(torch.full((options.width,), 0.5))

    output_weight = property(lambda self: self.embedding)
    output_bias = property(lambda self: None)

    def encode(self, ids, state=None, lengths=None, begins=None):
        vectors = nn.functional.embedding(ids, self.embedding)
        state = self.start(len(ids)) if state is None else state
        hidden, steps = state.hidden[0], []
        for vector in vectors.unbind(1):
            hidden = self.fade * hidden + vector
            steps.append(hidden)
        hidden = torch.stack(steps, 1)
        ends = torch.full((len(ids),), ids.shape[1]) if lengths is None else lengths
        last = hidden[torch.arange(len(ids)), ends - 1]
        return hidden, RecurrentState(last[None], None, state.lengths + ends)

    def start(self, rows):
        zeros = self.embedding.new_zeros(1, rows, self.options.width)
        return RecurrentState(zeros, None, torch.zeros(rows, dtype=torch.long))

    def trace(self, ids):
        return Trace(hidden=self.encode(ids)[0])


@pytest.fixture
def fading(monkeypatch):
    monkeypatch.setitem(FAMILIES, "fading", FadingOptions)


SETTINGS = ["model.family=fading", "train.max_steps=60", "train.learning_rate=0.05"]
SETTINGS += ["counts.longest=0"]  # which would predict better from the first step on


def test_a_new_family_trains_writes_scores_and_resumes(fading, notes, tmp_path):
    out = tmp_path / "run"
    writer = tw.train(notes, out=out, settings=[*SETTINGS, "train.evaluate_every=20"])
    losses = [m["scores"]["loss"] for m in writer.run.metrics() if m["event"] == "evaluation"]
    assert losses[-1] < losses[0]
    [sample] = writer.generate("The", seed=1, max_new_tokens=20)
    assert sample.text
    scores, _ = score_run(Run.load(out))
    assert 0 < scores.bits_per_character < 8
    assert "fading memory" in (out / "README.md").read_text("utf-8")
    tw.train([], out=out, resume=True, settings=["train.max_steps=61"])
    assert Run.load(out).checkpoints.newest().step == 61
    table = parameter_table(writer.run.config.model, writer.tokenizer.vocab_size, 0)
    assert table["parameters"]["total"] == 16 * writer.tokenizer.vocab_size + 16
    with pytest.raises(ExportError, match="Models of family fading cannot be exported"):
        export_run(writer.run, "onnx", tmp_path / "onnx")


def test_options_of_a_new_family_are_checked_like_any_other(fading):
    with pytest.raises(ConfigError, match=r"no option model\.hidden_size of family fading"):
        Config.resolve(settings=[*SETTINGS, "model.hidden_size=3"])
    with pytest.raises(
        ConfigError, match=r"fading cannot train on data\.layout windows; choose rows"
    ):
        Config.resolve(settings=[*SETTINGS, "data.layout=windows"])
    with pytest.raises(ConfigError, match=r"lora_rank works with model\.family gpt only"):
        Config.resolve(settings=[*SETTINGS, "train.lora_rank=2"])


def test_auto_takes_the_last_layout_of_a_new_family_for_long_documents(fading, monkeypatch):
    monkeypatch.setattr(FadingOptions, "layouts", ("rows", "windows"))
    config = Config.resolve(settings=["model.family=fading", "data.context_length=4"])
    long = Documents(np.arange(1, 20, dtype=np.uint16), np.array([0, 9, 19]), stop_id=0)
    assert choose_layout(config, long).data.layout == "windows"


def test_an_unknown_family_is_refused():
    with pytest.raises(ConfigError, match="no family 'fading'; choose lstm or gpt"):
        Config.resolve(settings=SETTINGS)


@pytest.mark.parametrize("family", FAMILIES.values())
def test_the_code_that_a_family_names_can_be_imported(family):
    for reference in filter(None, (family.model, family.backend, family.exports)):
        assert implementation(reference)
