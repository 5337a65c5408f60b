"""`textwright cues`: its table, JSON, page, and one sentence for wrong use."""

import json
import re
from functools import partial

import pytest

PAIRS = "Slow onions for six.\tSlow carrots for six.\nQuick rice for two.\tQuick fish for two.\n"


@pytest.fixture
def tw(tw, tmp_path):
    """`textwright cues`, beside a file of pairs → exit code, stdout, stderr."""
    (tmp_path / "pairs.tsv").write_text(PAIRS, "utf-8")
    return partial(tw, "cues")


def test_runs_stand_beside_each_other_by_distance(tw, trained, formed):
    argv = [trained, formed, "--pairs", "pairs.tsv", "--distances", "2,1,50"]
    found = json.loads(tw(*argv, "--json")[1])
    assert found["pairs"] == 2
    assert [run["run"] for run in found["runs"]] == [str(trained), str(formed)]
    for run in found["runs"]:
        assert [at["distance"] for at in run["distances"]] == [1, 2]  # no pair reaches 50
        for at in run["distances"]:
            assert at["pairs"] == 2
            assert 0 <= at["divergence"]["mean"] <= 1
            assert at["attention"] is None and 0 < at["saliency"]["mean"] < 1
    out = tw(*argv)[1]
    saved = found["runs"][1]["distances"][0]["saved"]["mean"]
    assert str(formed) in out and f"{saved:+.3f} (" in out


def test_a_page_holds_a_picture_for_each_measure(tw, formed, tmp_path):
    code, out, err = tw(formed, "--field", "course", "--num", "4", "--html", "cues.html")
    assert (code, out) == (0, ""), err
    page = (tmp_path / "cues.html").read_text("utf-8")
    titles = re.findall(r"<figcaption>([^<]+)</figcaption>", page)
    assert len(titles) == 3  # an LSTM has no attention
    assert "An example" in page and "Soup" in page and "Dish" in page


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        ([], "--pairs FILE or by --field NAME"),
        (["--pairs", "pairs.tsv", "--field", "course"], "--pairs FILE or by --field NAME"),
        (["--pairs", "missing.tsv"], "Cannot read missing.tsv"),
        (["--field", "course"], "without a template"),
        (["--pairs", "pairs.tsv", "--distances", "0,1"], "whole numbers from 1 on"),
        (["--pairs", "pairs.tsv", "--distances", "1,inf"], "whole numbers from 1 on"),
        (["--pairs", "pairs.tsv", "--distances", "x"], "should be numbers"),
        (["--pairs", "pairs.tsv", "--distances", "90"], "No pair can be used"),
        (["--pairs", "pairs.tsv", "--html", "cues.txt"], "should end in .html or .md"),
    ],
)
def test_wrong_use_is_one_sentence(tw, trained, argv, sentence):
    code, out, err = tw(trained, *argv)
    assert (code, out) == (2, "")
    assert sentence in err.strip().splitlines()[-1]
