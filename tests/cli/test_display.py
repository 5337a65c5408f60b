"""What is shown is what users wrote, whatever characters are in it."""

import pytest

from textwright.cli import display
from textwright.cli.display import Progression, show_scores, show_survey, show_tables
from textwright.config import Config
from textwright.evaluation.scores import Scores
from textwright.inspection.next_tokens import Candidate, NextTokens
from textwright.training.survey import Estimate, Survey

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


def test_tokens_and_contexts_are_shown_as_they_are(capsys):
    candidate = Candidate("[/b]", 1, "[/b]", 0.5)
    show_tables([NextTokens("a [/b]\nb", [], {1.0: 0.5}, {1.0: [candidate]})])
    shown = capsys.readouterr().out
    assert "a [/b]⏎b" in shown
    assert "50.00%  [/b]" in shown


@pytest.mark.parametrize("row_loss", [None, 1.25])
def test_losses_within_a_row_are_shown_of_rows_only(capsys, row_loss):
    show_scores(Scores(1.0, 2.7, 1.4, 1.4, 3, 30, (1.3, 1.5), row_loss, row_loss))
    assert ("within a row" in capsys.readouterr().out) == (row_loss is not None)


@pytest.mark.parametrize(("documents", "told"), [(1, "1 document, "), (2_000, "2,000 documents, ")])
def test_one_document_is_not_several(capsys, documents, told):
    show_scores(Scores(1.0, 2.7, 1.4, 1.4, documents, 30, (1.3, 1.5)))
    assert capsys.readouterr().out.startswith(told)
