"""Exports, read by the programs they are for: transformers, ONNX Runtime, llama.cpp."""

import contextlib
import io
import json
import re
import sys
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
import transformers
from small_models import SMALL
from small_runs import DOCUMENTS, make_run

from textwright import models
from textwright.config import OriginRecord
from textwright.errors import ExportError
from textwright.export import export_run, gguf_file, gpt_forms, onnx_model
from textwright.export.tokenizer_file import exported_tokenizer
from textwright.export.transformers_folder import sampling_defaults
from textwright.families import GPTOptions
from textwright.models import TorchBackend
from textwright.models.gguf_header import read_header
from textwright.models.pretrained import find_origin
from textwright.run import Run
from textwright.run.about import about
from textwright.writing.generator import Generator
from textwright.writing.sampling_options import SamplingOptions

PROMPTS = ["The soup", "Serve it at", ""]


@pytest.fixture(params=SMALL)
def run(request, tmp_path):
    return make_run(tmp_path / "run", SMALL[request.param])


@pytest.fixture
def gpt2(tmp_path):
    """A run in GPT-2's form, with a byte-level BPE."""
    options = GPTOptions(layers=2, heads=2, width=8, feedforward_width=20, norm_epsilon=1e-4)
    return make_run(tmp_path / "run", options, "bpe")


def ids_of(run, rows, count):
    drawn = torch.Generator().manual_seed(1)
    return torch.randint(run.tokenizer.vocab_size, (rows, count), generator=drawn)


def never_ending(run):
    """The run's weights with a bias against the stop token, if the output layer has biases, so that
    a text fills the context."""
    weights = run.weights()
    if "output.bias" in weights:
        weights["output.bias"][run.tokenizer.stop_id] = -1e4
    return weights


@torch.no_grad()
def logits_of(run, ids):
    model = models.load(run, "cpu")
    return model.project(model.encode(ids)[0])


def written(run, **options):
    """The ids that textwright writes after each prompt."""
    generator = Generator(TorchBackend(models.load(run, "cpu")), run.tokenizer)
    samples = generator.generate(PROMPTS, SamplingOptions(temperature=0, **options))
    return [sample.ids for sample in samples]


def load(folder):
    """(tokenizer, model) as a user of transformers loads them."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)
    return tokenizer, model.eval()


# transformers


def test_transformers_computes_the_runs_logits(run, tmp_path):
    exported = export_run(run, "transformers", tmp_path / "out")
    assert exported.largest_difference < 1e-5
    _, model = load(tmp_path / "out")
    ids = ids_of(run, 3, 9)
    expected = logits_of(run, ids)
    assert expected.std() > 0.3  # there is something to agree on
    with torch.no_grad():
        torch.testing.assert_close(model(ids).logits, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("beams", [1, 3])
def test_transformers_writes_what_textwright_writes(run, tmp_path, beams):
    export_run(run, "transformers", tmp_path / "out")
    tokenizer, model = load(tmp_path / "out")
    prompts = tokenizer(PROMPTS, return_tensors="pt", padding=True)
    assert not prompts["attention_mask"].all()  # of different lengths, padded on the left
    texts = model.generate(**prompts, do_sample=False, num_beams=beams, max_new_tokens=9)
    stop = run.tokenizer.stop_id
    new = [row[prompts["input_ids"].shape[1] :].tolist() for row in texts]
    new = [row[: row.index(stop)] if stop in row else row for row in new]
    assert new == written(run, beams=beams, max_new_tokens=9)


@pytest.mark.parametrize("name", sorted(SMALL.keys() - {"gpt"}))  # transformers has its own GPT-2
def test_padding_on_either_side_changes_nothing(name, tmp_path):
    run = make_run(tmp_path / "run", SMALL[name])
    export_run(run, "transformers", tmp_path / "out")
    _, model = load(tmp_path / "out")
    ids = ids_of(run, 2, 7)
    mask = torch.tensor([[1, 1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1, 1]])
    with torch.no_grad():
        whole = model(ids, attention_mask=mask, labels=ids.masked_fill(mask == 0, -100))
    for row, own in enumerate(mask.bool()):
        alone = logits_of(run, ids[row, own][None])[0]
        torch.testing.assert_close(whole.logits[row, own], alone, rtol=1e-4, atol=1e-5)
    assert whole.loss.isfinite()


NATIVE = {
    "gpt": transformers.GPT2LMHeadModel,
    "llama": transformers.LlamaForCausalLM,
    "llama-stretched": transformers.LlamaForCausalLM,
    "qwen2": transformers.Qwen2ForCausalLM,
    "qwen3": transformers.Qwen3ForCausalLM,
}


@pytest.mark.parametrize("name", NATIVE)
def test_a_published_form_needs_no_code(name, tmp_path):
    run = make_run(tmp_path / "run", SMALL[name])
    exported = export_run(run, "transformers", tmp_path / "out")
    assert "modeling_textwright.py" not in exported.files
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    assert type(model) is NATIVE[name]
    ids = ids_of(run, 3, 9)
    with torch.no_grad():
        torch.testing.assert_close(model(ids).logits, logits_of(run, ids), rtol=1e-5, atol=1e-5)


def test_another_model_brings_its_code(tmp_path):
    for name in SMALL.keys() - NATIVE.keys():
        run = make_run(tmp_path / name, SMALL[name])
        files = export_run(run, "transformers", tmp_path / f"{name}-out").files
        assert "modeling_textwright.py" in files


@pytest.mark.parametrize("trust", [False, True])
@pytest.mark.parametrize("kind", ["word", "bpe"])
def test_a_qwen2_reads_texts_with_its_own_tokenizer(tmp_path, kind, trust):
    """transformers has a class for the tokenizers of Qwen2, which cuts and normalizes as Qwen does,
    whatever tokenizer.json says."""
    run = make_run(tmp_path / "run", SMALL["qwen2"], kind)
    export_run(run, "transformers", tmp_path / "out")
    read = transformers.AutoTokenizer.from_pretrained(tmp_path / "out", trust_remote_code=trust)
    for text in [*DOCUMENTS, "e\u0301 1234", " two\n\nlines "]:
        ids = [run.tokenizer.stop_id, *run.tokenizer.encode(text).tolist()]
        assert read(text)["input_ids"] == ids
    assert read.eos_token_id == run.tokenizer.stop_id


def test_the_config_does_not_name_the_origin_of_the_weights(tmp_path):
    origin = OriginRecord(source="my/secret/folder", sha256="0")
    run = make_run(tmp_path / "run", SMALL["gpt-book"], origin=origin)
    export_run(run, "transformers", tmp_path / "out")
    assert "secret" not in (tmp_path / "out" / "config.json").read_text("utf-8")


def test_a_folder_that_cannot_be_written_is_named(gpt2, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ExportError, match=r"Cannot write to .*: Not a directory"):
        export_run(gpt2, "onnx", tmp_path / "file" / "out")


def test_training_can_begin_from_an_exported_gpt2(gpt2, tmp_path):
    export_run(gpt2, "transformers", tmp_path / "out")
    origin = find_origin(str(tmp_path / "out"))
    assert GPTOptions(**origin.model) == models.load(gpt2, "cpu").options
    weights = gpt2.weights()
    assert origin.weights().keys() == weights.keys()
    assert all(np.array_equal(origin.weights()[name], weights[name]) for name in weights)
    assert origin.tokenizer.fingerprint == gpt2.tokenizer.fingerprint


@pytest.mark.parametrize("kind", ["word", "char", "bpe", "symbols"])
@pytest.mark.parametrize("lowercase", [True, False])
def test_tokenizers_agree_on_every_text(tmp_path, kind, lowercase):
    run = make_run(tmp_path / "run", SMALL["rnn"], kind, lowercase=lowercase)
    export_run(run, "transformers", tmp_path / "out")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out", trust_remote_code=True)
    ours = run.tokenizer
    assert tokenizer.bos_token_id == tokenizer.eos_token_id == ours.stop_id
    texts = [*DOCUMENTS, "", " two\n\nlines ", "[END OF TEXT] <|endoftext|> [UNK]", "日本 🍜 İ"]
    for text in texts:
        ids = ours.encode(text).tolist()
        assert tokenizer(text)["input_ids"] == [ours.stop_id, *ids]
        if kind != "word" or "[" not in text:
            assert tokenizer.decode([ours.stop_id, *ids], skip_special_tokens=True) == ours.decode(
                ids
            )


def test_words_are_joined_but_for_quotation_marks(tmp_path):
    run = make_run(tmp_path / "run", SMALL["rnn"])
    tokenizer = exported_tokenizer(run)
    tokens = "say \" so \" , o ' clock , don ' t { x } 3 . 5 - quart 10 : 30 1 , 000 and / or"
    assert tokenizer.decoder.decode(tokens.split(" ")) == (
        "say \" so \", o ' clock, don't {x} 3.5-quart 10:30 1,000 and/or"
    )


@pytest.mark.parametrize(
    ("options", "settings", "left_out"),
    [
        ({}, {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0}, []),
        ({"temperature": 0, "top_k": 5, "beams": 3}, {"do_sample": False, "num_beams": 3}, []),
        (
            {"temperature": float("inf"), "top_k": 5, "stop": ["\n"]},
            {"do_sample": True, "top_k": 5, "top_p": 1.0},
            ["stop", "temperature"],
        ),
        (
            {"temperature": 0.5, "no_repeat_ngram": 2, "typical_p": 0.9, "forbid": [3]},
            {
                "do_sample": True,
                "temperature": 0.5,
                "top_k": 0,
                "top_p": 1.0,
                "no_repeat_ngram_size": 2,
                "typical_p": 0.9,
            },
            ["forbid"],
        ),
    ],
)
def test_sampling_options_are_translated_or_listed(options, settings, left_out):
    found, missing = sampling_defaults(SamplingOptions(**options), None)
    assert found == {**settings, "max_new_tokens": 100}
    assert missing == left_out
    transformers.GenerationConfig(**found).validate()


def test_a_text_by_default_ends_with_the_context():
    found, _ = sampling_defaults(SamplingOptions(max_new_tokens=100), 16)
    assert found["max_length"] == 16 and "max_new_tokens" not in found


# ONNX


def test_onnx_runtime_computes_the_runs_logits_with_a_state(run, tmp_path):
    exported = export_run(run, "onnx", tmp_path / "out")
    assert exported.largest_difference < 1e-5
    session = onnxruntime.InferenceSession(tmp_path / "out" / "model.onnx")
    ids = ids_of(run, 3, 9)
    state = {name: np.repeat(array, 3, axis=1) for name, array in onnx_model.start(session).items()}
    found = []
    for part in ids.split([4, 1, 1, 3], dim=1):
        logits, *after = session.run(None, {"ids": part.numpy(), **state})
        state = dict(zip(state, after, strict=True))
        found.append(logits)
    expected = logits_of(run, ids).numpy()
    np.testing.assert_allclose(np.concatenate(found, 1), expected, rtol=1e-4, atol=1e-5)
    outputs = [output.name for output in session.get_outputs()]
    assert outputs == ["logits", *(f"next_{name}" for name in state)]


def test_large_weights_go_into_a_second_file(gpt2, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_model, "ONE_FILE", 100)
    exported = export_run(gpt2, "onnx", tmp_path / "out")
    assert "model.onnx.data" in exported.files
    assert (tmp_path / "out" / "model.onnx").stat().st_size < 60_000


# All formats


@pytest.mark.parametrize("to", ["transformers", "onnx"])
@pytest.mark.parametrize("name", ["lstm", "gpt", "gpt-book", "qwen2"])
def test_the_code_in_the_readme_writes_a_text(tmp_path, monkeypatch, to, name):
    run = make_run(tmp_path / "run", SMALL[name], "char")
    run.keep_weights(never_ending(run))
    export_run(run, to, tmp_path / "out")
    readme = (tmp_path / "out" / "README.md").read_text("utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```", readme, re.DOTALL | re.MULTILINE)
    monkeypatch.chdir(tmp_path / "out")
    torch.manual_seed(0)
    with contextlib.redirect_stdout(io.StringIO()) as shown:
        exec(compile(code, "README.md", "exec"), {})
    text = shown.getvalue().removesuffix("\n")
    assert text and set(text) <= set("".join(DOCUMENTS)) | set("[UNK]")


def test_the_readme_is_the_runs_card(gpt2, tmp_path):
    gpt2.write_text("README.md", "# my model\n\nTrained on soup.\n\n## Use\n\ntextwright …\n")
    export_run(gpt2, "gguf", tmp_path / "out")
    readme = (tmp_path / "out" / "README.md").read_text("utf-8")
    assert readme.startswith("# my model\n\nTrained on soup.\n\n## Use\n\n```\nllama-cli")


def test_a_run_that_one_stands_in_keeps_its_name(gpt2, tmp_path, monkeypatch):
    monkeypatch.chdir(gpt2.path)
    export_run(Run.load(Path()), "gguf", tmp_path / "out")
    assert (tmp_path / "out" / "README.md").read_text("utf-8").startswith("# run\n")
    assert read_header(tmp_path / "out" / "model.gguf").values["general.name"] == "run"


def test_a_card_with_bytes_that_are_no_text_is_taken_along(gpt2, tmp_path):
    gpt2.write_bytes("README.md", b"# my model\n\nCr\xe8me.\n\n## Use\n")
    assert about(gpt2)["card"] == "# my model\n\nCr\ufffdme.\n"
    export_run(gpt2, "gguf", tmp_path / "out")
    readme = (tmp_path / "out" / "README.md").read_text("utf-8")
    assert readme.startswith("# my model\n\nCr\ufffdme.\n\n## Use\n")


@pytest.mark.parametrize("change", [0.1, 0.004])
def test_an_export_that_differs_is_not_kept(gpt2, tmp_path, monkeypatch, change):
    """Float32 sums in another order differ by far less than a mistake in the equations."""
    graph = gpt_forms.onnx_graph

    def spoiled(model):
        with torch.no_grad():
            model.norm.bias += torch.linspace(0, change, len(model.norm.bias))
            built = graph(model)
            model.norm.bias -= torch.linspace(0, change, len(model.norm.bias))
        return built

    monkeypatch.setattr(gpt_forms, "onnx_graph", spoiled)
    with pytest.raises(ExportError, match=r"differ by 0\.\d+, more than 0\.001"):
        export_run(gpt2, "onnx", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_an_export_that_its_reader_is_too_old_for_is_a_sentence(gpt2, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise ValueError("unrecognized model type `qwen3`.\nYou can update it.")

    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", fail)
    with pytest.raises(ExportError) as caught:
        export_run(gpt2, "transformers", tmp_path / "out")
    assert str(caught.value) == (
        "transformers cannot load the export (unrecognized model type `qwen3`), which was not "
        "kept; update it: pip install --upgrade transformers."
    )
    assert not (tmp_path / "out").exists()


def test_an_export_with_other_ids_is_not_kept(gpt2, tmp_path, monkeypatch):
    def without_stop(run):
        tokenizer = exported_tokenizer(run)
        tokenizer.post_processor = None
        return tokenizer

    monkeypatch.setattr(onnx_model, "exported_tokenizer", without_stop)
    with pytest.raises(ExportError, match="other ids than the run"):
        export_run(gpt2, "onnx", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_private_run_is_checked_on_texts_that_it_writes(gpt2, tmp_path):
    (gpt2.path / "heldout.jsonl.gz").unlink()
    stages = []
    exported = export_run(gpt2, "onnx", tmp_path / "out", lambda *stage: stages.append(stage))
    assert exported.largest_difference < 1e-5
    assert stages[:2] == [("Loading", 0, 0), ("Writing", 0, 0)]
    assert stages[2:] == [("Checking", done, 8) for done in range(8)]


# The command line


@pytest.fixture
def tw(tw):
    """`textwright export` → exit code, stdout, stderr."""
    return partial(tw, "export")


def test_the_command_prints_what_it_wrote(tw, gpt2, tmp_path):
    out = tmp_path / "a" / "b"
    code, printed, _ = tw(gpt2.path, "--to", "gguf", "--out", out, "--json")
    assert code == 0
    found = json.loads(printed)
    assert found.pop("largest_difference") < 3e-3
    assert found.pop("without_counts") is False
    assert found == {"format": "gguf", "out": str(out), "files": ["README.md", "model.gguf"]}
    code, printed, err = tw(gpt2.path, "--to", "gguf", "--out", tmp_path / "c")
    assert "model.gguf" in printed and "log-probabilities differ by" in printed
    assert "Checking" in err


def test_an_empty_folder_stays_itself_and_gets_the_files(tw, gpt2, tmp_path, monkeypatch):
    """The current folder, and one that a link leads to."""
    here, end, link = tmp_path / "here", tmp_path / "end", tmp_path / "link"
    here.mkdir()
    end.mkdir()
    link.symlink_to(end)
    monkeypatch.chdir(here)
    for out, folder in ((".", here), (link, end)):
        before = folder.stat().st_ino
        code, printed, _ = tw(gpt2.path, "--to", "gguf", "--out", out)
        assert code == 0 and "model.gguf" in printed
        assert sorted(path.name for path in folder.iterdir()) == ["README.md", "model.gguf"]
        assert folder.stat().st_ino == before
    assert link.is_symlink()


def test_a_failed_export_leaves_an_empty_folder_empty(gpt2, tmp_path, monkeypatch):
    out = tmp_path / "out"
    out.mkdir()
    monkeypatch.setattr(gguf_file, "TOLERANCE", -1.0)
    with pytest.raises(ExportError, match="not kept"):
        export_run(gpt2, "gguf", out)
    assert list(out.iterdir()) == []


def test_wrong_use_is_one_sentence(tw, gpt2, tmp_path, monkeypatch):
    def refused(*argv):
        code, printed, err = tw(*argv)
        assert (code, printed, err.count("\n")) == (2, "", 1)
        return err

    full, file = tmp_path / "full", tmp_path / "file"
    full.mkdir()
    (full / "x").touch()
    file.touch()
    out = tmp_path / "out"
    assert "choose transformers, onnx, gguf" in refused(gpt2.path, "--to", "tf", "--out", out)
    assert "exists already" in refused(gpt2.path, "--to", "onnx", "--out", full)
    assert "exists already" in refused(gpt2.path, "--to", "onnx", "--out", file)
    assert "No run at" in refused(tmp_path / "none", "--to", "onnx", "--out", out)
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert refused(gpt2.path, "--to", "onnx", "--out", out) == (
        "textwright: Exporting to onnx needs onnx: pip install 'textwright[export]'.\n"
    )
