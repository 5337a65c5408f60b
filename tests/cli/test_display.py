"""What is shown is what users wrote, whatever characters are in it."""

import shutil
from types import SimpleNamespace

import pytest

from textwright.api import load
from textwright.cli import display
from textwright.cli.display import (
    Progression,
    TrainDisplay,
    show_scores,
    show_stream,
    show_survey,
)
from textwright.config import Config
from textwright.evaluation.scores import Scores
from textwright.families import GPTOptions
from textwright.report.model_card import write_model_card
from textwright.run import Run
from textwright.training.events import Step
from textwright.training.survey import Estimate, Survey
from textwright.writing.sampling_options import sampling_options

ODD = 'contains "[/b]" and [bold] :warning: \\'


def survey_that_dropped(reason: str) -> Survey:
    return Survey(
        documents=9,
        characters=1_000,
        words=200,
        duplicates=0,
        dropped={reason: 2},
        cut=0.0,
        padded=0.0,
        unknown=0.0,
        estimate=Estimate(1.0, 1),
        parts={"train": 7},
        vocabulary=30,
        tokens=900,
        layout="stream",
        repeated={},
        choices=[],
    )


def test_a_survey_shows_the_reasons_of_users_as_they_are(capsys):
    show_survey(survey_that_dropped(ODD), Config())
    assert ODD in capsys.readouterr().out


def test_a_stage_may_have_brackets(capsys):
    with Progression() as progression:
        progression.show(ODD, 0, 1)
    assert ODD in capsys.readouterr().err


def test_the_live_bar_may_have_brackets_too():
    progression = Progression()
    progression.show(ODD, 0, 1, note="[/x]")
    with display.out.capture() as shown:
        display.out.print(progression.bar.get_renderable())
    assert ODD in shown.get()


@pytest.mark.parametrize(
    ("settings", "shown", "percent"),
    [([], "step 10/1,000", 1), (["train.time_budget=60"], "step 10", 50)],
)
def test_the_bar_shows_what_will_end_the_training(settings, shown, percent):
    training = TrainDisplay()
    config = Config.resolve(settings=settings)
    training.ready = SimpleNamespace(total_steps=1_000, run=SimpleNamespace(config=config))
    training._step(Step(10, 0.1, 2.0, 1e-3, 1.0, tokens=100, seconds=30.0, micro_batches=1))
    [task] = training.progression.bar.tasks
    assert (task.description, task.percentage) == (shown, percent)


@pytest.mark.parametrize("row_loss", [None, 1.25])
def test_losses_within_a_row_are_shown_of_rows_only(capsys, row_loss):
    show_scores(Scores(1.0, 2.7, 1.4, 1.4, 3, 30, (1.3, 1.5), row_loss, row_loss))
    assert ("within a row" in capsys.readouterr().out) == (row_loss is not None)


@pytest.mark.parametrize(
    ("count", "shown"), [(1, "1 document, 1 token\n"), (2_000, "2,000 documents, 2,000 tokens\n")]
)
def test_one_document_is_not_several(capsys, count, shown):
    show_scores(Scores(1.0, 2.7, 1.4, 1.4, count, count, (1.3, 1.5)))
    assert capsys.readouterr().out.startswith(shown)


def test_one_token_is_not_several(capsys, trained):
    options = sampling_options(max_new_tokens=1, min_new_tokens=1)
    show_stream(load(trained).generator.stream("Slow", options))
    assert capsys.readouterr().err.startswith("1 token, ")


def test_a_model_card_of_one_document_says_so(trained, tmp_path, monkeypatch):
    shutil.copytree(trained, tmp_path / "run")
    run = Run.load(tmp_path / "run")
    corpus = {**run.corpus(), "documents": 1, "characters": 5_000}
    monkeypatch.setattr(run, "corpus", lambda: corpus)
    write_model_card(run)
    assert "\n1 document, 5,000 characters; held out" in (run.path / "README.md").read_text("utf-8")


def test_one_block_is_not_several():
    assert GPTOptions(layers=1, heads=2, width=8).describe(512).startswith("1 block of 2 heads, ")
