"""A folder of another project is scored as what it was made from, and as it writes."""

import json
import shutil

import numpy as np
import pytest
import torch
from conftest import TINY_GPT, train_tiny
from short_comparison import SHORT

from textwright.comparison.audit import audit
from textwright.comparison.comparison import compare_models, open_subject
from textwright.comparison.model_folder import ModelFolder
from textwright.comparison.subjects import Writing
from textwright.corpus import CorpusOptions
from textwright.errors import (
    EvaluationError,
    TextwrightError,
)
from textwright.export import export_run
from textwright.run import Run
from textwright.writing.backend import window_start

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def words(notes, tmp_path_factory):
    """A GPT over words, whose tokens lose spelling and spacing."""
    return train_tiny(notes, [*TINY_GPT, "tokenizer.vocab_size=60"], tmp_path_factory, "demo-gpt")


def test_a_folder_made_from_a_run_scores_its_bits(bpe, exported):
    found = compare_models([bpe, exported], **SHORT)
    run, folder = found.models
    assert folder.kind == "folder"
    assert folder.score.bits_per_character == pytest.approx(run.score.bits_per_character, abs=1e-3)
    assert folder.score.tokens == run.score.tokens
    assert found.pairs[0].interval == pytest.approx((0.0, 0.0), abs=1e-3)
    assert "not known here" in folder.remarks[0]
    assert folder.parameters == run.parameters
    assert len(folder.written.texts) == len(found.prompts) == 2


def test_a_folders_tokens_must_give_the_text_back(exported, tmp_path):
    folder = tmp_path / "lossy"
    shutil.copytree(exported, folder)
    file = next(folder.glob("tokenizer.json"))
    content = json.loads(file.read_text("utf-8"))
    content["normalizer"] = {"type": "Lowercase"}
    file.write_text(json.dumps(content), "utf-8")
    with pytest.raises(EvaluationError, match=r"does not give the text back: from 'Aha' its"):
        ModelFolder(folder, "cpu").measure(["Aha"], lambda done, total: None)


def test_an_export_whose_tokens_lose_something_pays_as_its_run_does(words, fresh, tmp_path):
    folder = tmp_path / "words"
    export_run(Run.load(words), "transformers", folder)
    fresh.write_text("Ah,   the SOUP of Zürich!\nTake 3 onions ,then wait.\n", "utf-8")
    run, export = (
        audit(name, [fresh], options=options, device="cpu")
        for name, options in ((words, None), (folder, CorpusOptions(unit="line")))
    )
    assert export.score.bits_per_character == pytest.approx(run.score.bits_per_character, abs=1e-3)
    assert export.proof.bytes == len(fresh.read_bytes()) - 2  # without the ends of lines
    assert "escape code" in export.remarks[0]
    found = compare_models([words, folder], **SHORT)
    assert found.pairs[0].interval == pytest.approx((0.0, 0.0), abs=1e-3)
    (folder / "escape_tokenizer.json").unlink()
    with pytest.raises(TextwrightError, match=r"No tokenizer at .*escape_tokenizer.json"):
        ModelFolder(folder, "cpu")
    (folder / "escape.json.gz").unlink()
    with pytest.raises(EvaluationError, match="textwright runs and their exports, which pay"):
        audit(folder, [fresh], options=CorpusOptions(unit="line"), device="cpu")


def test_a_folder_writes_past_its_context_as_it_is_scored(gpt2_folder):
    folder = ModelFolder(gpt2_folder, "cpu")
    prompts = ["Take", "Now peel the long carrots and wait. " * 30]
    lengths = [len(folder.tokens.encode(prompt)[0]) for prompt in prompts]
    assert lengths[0] < 128 < lengths[1]
    written = folder.write(prompts, Writing(temperature=0, characters=9_999), 150)
    expected = []
    for prompt in prompts:
        ids = [folder.start, *folder.tokens.encode(prompt)[0]]
        begun = len(ids)
        while len(ids) < begun + 150 and folder.stop not in ids[begun:]:
            seen = torch.tensor([ids[window_start(len(ids), 128) :]])
            with torch.inference_mode():
                ids.append(int(folder.model(seen).logits[0, -1].argmax()))
        expected.append([token for token in ids[begun:] if token != folder.stop])
    assert written.texts == [folder.tokens.decode(new) for new in expected]
    assert written.tokens == sum(map(len, expected)) > 150


@pytest.mark.parametrize("part", ["generate", "forward"])
def test_a_folder_whose_model_finds_no_memory_says_so(exported, monkeypatch, part):
    folder = ModelFolder(exported, "cpu")

    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(folder.model, part, full)
    with pytest.raises(MemoryError):
        if part == "generate":
            folder.write(["Take"], Writing(), 5)
        else:
            folder.codec().backend.prefill(np.array([[folder.start]]), np.array([1]))


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda folder: (folder / "config.json").unlink(), "it has no config.toml and no config"),
        (lambda folder: (folder / "model.safetensors").unlink(), "holds no safetensors"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"x"), "cannot load the model"),
        (lambda folder: (folder / "config.json").write_text("{"), "config.json is damaged"),
        (
            lambda folder: (folder / "config.json").write_text('{"auto_map": {}}'),
            "brings its own code, which is not run here",
        ),
    ],
)
def test_a_foreign_folder_is_refused_with_a_sentence(exported, tmp_path, damage, sentence):
    folder = tmp_path / "folder"
    shutil.copytree(exported, folder)
    damage(folder)
    with pytest.raises(EvaluationError, match=sentence):
        open_subject(folder, "cpu")


def test_an_empty_or_missing_folder_is_refused_with_a_sentence(tmp_path):
    with pytest.raises(EvaluationError, match="neither a run nor a folder with a model"):
        open_subject(tmp_path)
    with pytest.raises(EvaluationError, match="There is no "):
        open_subject(tmp_path / "none")
