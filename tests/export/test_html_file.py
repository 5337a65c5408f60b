"""The page of a run as a file: what is in it, what int8 costs, and what is refused."""

import gzip
import json
import re
import shutil

import numpy as np
import pytest
from safetensors.numpy import load
from small_models import SMALL
from small_runs import make_run

from textwright.cli import main
from textwright.errors import ExportError
from textwright.export import export_html, html_file
from textwright.export.html_page import link, read_page, read_web
from textwright.export.html_payload import dequantized, quantized
from textwright.run import Run

MODULES = ["worker.js", "offline.js"]


def read(path):
    """What a page says about its run, and its arrays."""
    described, packed = read_page(path.read_text("utf-8"))
    return described, load(gzip.decompress(packed))


def test_float32_weights_are_those_of_the_run(trained, tmp_path):
    run = Run.load(trained)
    export_html(run, tmp_path / "a.html", weights="float32")
    _, arrays = read(tmp_path / "a.html")
    for name, array in run.weights().items():
        np.testing.assert_array_equal(arrays[name], array)


@pytest.mark.parametrize("weights", ["float32", "int8"])
def test_the_counts_beside_a_model_go_along_and_how_they_are_mixed(mixed, tmp_path, weights):
    run = Run.load(mixed)
    export_html(run, tmp_path / "a.html", weights=weights)
    described, arrays = read(tmp_path / "a.html")
    mixture = run.mixture()
    kept = described["engine"]["mixture"]
    assert kept == {"weights": mixture.weights.tolist(), "powers": list(mixture.powers)}
    for n, level in enumerate(run.counts.levels, 1):
        np.testing.assert_array_equal(arrays[f"counts.{n}.probability"], level.probability)


def test_int8_rounds_each_row_to_half_a_step():
    weights = {
        "w": np.random.default_rng(0).normal(size=(5, 40)).astype(np.float32) * [[1]] * 3,
        "zero": np.zeros((2, 3), np.float32),
        "bias": np.ones(4, np.float32),
    }
    weights["w"] = weights["w"].astype(np.float32)
    arrays = quantized(weights)
    assert arrays["w"].dtype == np.int8
    back = dequantized(arrays)
    assert back.keys() == weights.keys()
    step = np.abs(weights["w"]).max(1, keepdims=True) / 127
    assert (np.abs(back["w"] - weights["w"]) <= step * 0.5001).all()
    for name in ("zero", "bias"):
        np.testing.assert_array_equal(back[name], weights[name])


def test_the_cost_of_int8_is_the_difference_of_two_scores(trained, tmp_path):
    from textwright.evaluation.runs import score_run

    page = export_html(Run.load(trained), tmp_path / "a.html")
    assert page.characters > 500
    # The run with the weights of the page, scored as any run.
    other = tmp_path / "rounded"
    shutil.copytree(trained, other)
    run = Run.load(other)
    _, arrays = read(tmp_path / "a.html")
    run.keep_weights(dequantized(arrays))
    whole = [
        score_run(Run.load(path), device="cpu")[0].bits_per_character for path in (trained, other)
    ]
    assert page.cost == pytest.approx(whole[1] - whole[0], abs=1e-6)


def test_a_cost_above_the_limit_is_refused_unless_accepted(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(html_file, "MOST", -1.0)
    with pytest.raises(
        ExportError, match=r"cost .* bits per character.*--weights float32.*--lossy"
    ):
        export_html(Run.load(trained), tmp_path / "a.html")
    assert not (tmp_path / "a.html").exists()
    export_html(Run.load(trained), tmp_path / "a.html", lossy=True)
    assert (tmp_path / "a.html").exists()


def test_no_document_is_inside(trained, tmp_path):
    run = Run.load(trained)
    export_html(run, tmp_path / "a.html")
    page = (tmp_path / "a.html").read_text("utf-8")
    for part in ("test", "valid"):
        for document in run.held_out(part):
            assert document[:30] not in page


def test_a_private_run_is_measured_on_its_own_texts(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "private")
    (tmp_path / "private" / "heldout.jsonl.gz").unlink()
    page = export_html(Run.load(tmp_path / "private"), tmp_path / "a.html")
    assert page.characters > 0


def test_names_and_licenses_cannot_leave_their_place(tmp_path):
    evil = "</script><script>alert(1)</script><!-- & \u2028"
    run = make_run(tmp_path / "<b>run & co", SMALL["rnn"])
    export_html(run, tmp_path / "a.html", weights="float32", license=evil)
    text = (tmp_path / "a.html").read_text("utf-8")
    assert "<title>&lt;b&gt;run &amp; co</title>" in text
    assert "alert(1)</script>" not in text
    assert read(tmp_path / "a.html")[0]["license"] == evil


def test_the_page_forbids_all_scripts_but_its_own():
    """A policy with hashes: an injected script would not run, and no request leaves the page."""
    for module in MODULES:
        assert "</script" not in link(module)
        assert "<!--" not in link(module)
        assert not re.search(r"^(import|export)\b", link(module), re.M)


def test_names_at_the_top_of_modules_are_unique():
    """So that modules can be put into one scope."""
    for module in MODULES:
        found = re.findall(r"^(?:async )?(?:function|class|const|let) (\w+)", link(module), re.M)
        twice = {name for name in found if found.count(name) > 1}
        assert not twice
    assert "https:" not in read_web("index.html")


@pytest.mark.parametrize(
    ("corpus", "fields", "left_out"),
    [
        ({"template": "{title}: {text}"}, ["title", "text"], []),
        ({"template": "{title}: {text}", "stem": True}, [], ["fields (corpus.stem)"]),
        ({"template": "Of {text}"}, [], []),
    ],
)
def test_fields_that_can_be_given_go_along(tmp_path, corpus, fields, left_out):
    run = make_run(tmp_path / "run", SMALL["rnn"], corpus=corpus)
    assert export_html(run, tmp_path / "a.html", weights="float32").left_out == left_out
    described, _ = read(tmp_path / "a.html")
    assert described["fields"] == fields
    assert ("form" in described["engine"]) == bool(fields)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--out", "a.txt"], "should end in .html"),
        (["--out", "there.html"], "exists already"),
        (["--out", "a.html", "--weights", "int4"], "--weights is int8 or float32, not 'int4'"),
        (["--out", "no/../a.html", "--to", "onnx", "--lossy"], "are for --to html"),
    ],
)
def test_wrong_use_is_a_sentence(trained, tmp_path, monkeypatch, capsys, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.html").write_text("mine", "utf-8")
    monkeypatch.setattr(
        "sys.argv", ["textwright", "export", str(trained), "--to", "html", *arguments]
    )
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 2
    assert sentence in " ".join(capsys.readouterr().err.split())
    assert (tmp_path / "there.html").read_text("utf-8") == "mine"


def test_the_command_prints_one_document(trained, tmp_path, monkeypatch, capsys):
    out = tmp_path / "a.html"
    arguments = ["export", str(trained), "--to", "html", "--out", str(out), "--json"]
    monkeypatch.setattr("sys.argv", ["textwright", *arguments])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 0
    told = json.loads(capsys.readouterr().out)
    assert told["bytes"] == out.stat().st_size
    assert {"format": "html", "weights": "int8", "left_out": []}.items() <= told.items()
    assert set(told) == {"format", "out", "weights", "bytes", "cost", "characters", "left_out"}
