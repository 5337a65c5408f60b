"""Weights to begin from: a GPT-2 in a folder or on the hub, or a run."""

import errno
import hashlib
import json
import shutil

import numpy as np
import pytest
import torch
import transformers
from safetensors.numpy import load_file

import textwright as tw
import textwright.training.session
from textwright import grammar
from textwright.cli import main
from textwright.config import Config
from textwright.errors import (
    ConfigError,
    PretrainedError,
    TokenizerError,
)
from textwright.evaluation.runs import score_run
from textwright.models.pretrained import Pretrained, find_again, find_origin
from textwright.run import Run
from textwright.run.origin import choose_config
from textwright.tokenizer.byte_level import read_pretrained
from textwright.training import survey
from textwright.training.events import Evaluation, Step
from textwright.training.session import train_run

STOP = "<|endoftext|>"
TEXTS = [
    "After years of  two  spaces,\ttabs\u00a0and\r\n\r\nlines   ",
    "   begins with space; ends with one ",
    "Don't they'll WE'VE 1234567890 3.14",
    "日本語の文章 и русский текст, ελληνικά, العربية 🍜👩‍👩‍👧 e\u0301 \u200b\ufeff",
    "",
    " ",
    "\n",
]


@pytest.fixture
def folder(gpt2_folder, tmp_path):
    """A copy of the GPT-2 folder, which a test may change."""
    return shutil.copytree(gpt2_folder, tmp_path / "gpt2")


@pytest.fixture
def train(gpt2_folder, notes, tmp_path, monkeypatch):
    """Train from the folder (or another origin) on the notes → the events."""
    monkeypatch.setattr(textwright.training.session, "draw_loss_curve", lambda run: False)
    tiny = {"max_steps": 4, "evaluate_every": 2, "batch_size": 8, "threads": 1, "dtype": "fp32"}

    def go(*settings, out="run", origin=gpt2_folder, **how):
        begins = find_origin(str(origin)) if origin else None
        taken = begins.inherited() if begins else {}
        more = [f"train.{key}={value}" for key, value in tiny.items()]
        more += ["corpus.unit=line", "data.context_length=40", "data.layout=rows"]
        more += ["sample.max_new_tokens=8"]
        config = Config.resolve(settings=[*more, *settings], **taken)
        return list(train_run([notes], tmp_path / out, config, init_from=begins, **how))

    return go


def rewrite(file, **changes):
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def refusal(path, error=PretrainedError):
    with pytest.raises(error) as raised:
        origin = find_origin(str(path))
        origin.inherited()
        origin.weights()
    sentence = str(raised.value)
    assert "\n" not in sentence
    return sentence


# The tokenizer


def test_ids_are_those_of_transformers(gpt2_folder):
    theirs = transformers.GPT2Tokenizer.from_pretrained(gpt2_folder)
    ours = read_pretrained(gpt2_folder)
    assert ours.vocab_size == len(theirs)
    assert ours.stop_id == theirs.eos_token_id == ours.vocab_size - 1
    for text in [*TEXTS, "".join(TEXTS), *grammar.documents(20, seed=9)]:
        assert ours.encode(text).tolist() == theirs.encode(text)
        assert ours.decode(ours.encode(text)) == text


def test_no_text_spells_the_stop(gpt2_folder):
    ours = read_pretrained(gpt2_folder)
    for text in (STOP, f"a{STOP}b", f" {STOP}\n{STOP}"):
        ids = ours.encode(text)
        assert ours.stop_id not in ids
        assert ours.decode(ids) == text
    assert ours.decode([ours.stop_id]) == ""


def test_vocabulary_and_merges_alone_are_a_tokenizer(gpt2_folder, tmp_path):
    model = json.loads((gpt2_folder / "tokenizer.json").read_text())["model"]
    (tmp_path / "vocab.json").write_text(json.dumps(model["vocab"]))
    lines = ["#version: 0.2", *(" ".join(pair) for pair in model["merges"])]
    (tmp_path / "merges.txt").write_text("\n".join(lines) + "\n")
    assert read_pretrained(tmp_path).fingerprint == read_pretrained(gpt2_folder).fingerprint


def test_added_tokens_can_be_written_but_not_spelled(folder):
    theirs = transformers.GPT2Tokenizer.from_pretrained(folder)
    theirs.add_special_tokens({"pad_token": "<pad me>"})
    theirs.save_pretrained(folder)
    ours = read_pretrained(folder)
    assert ours.vocab_size == len(theirs)
    assert theirs.pad_token_id not in ours.encode("<pad me>")
    assert ours.decode([theirs.pad_token_id]) == "<pad me>"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"normalizer": {"type": "Lowercase"}}, "changes text first, with Lowercase"),
        ({"pre_tokenizer": {"type": "Whitespace"}}, "pre_tokenizer has type 'Whitespace'"),
        ({"pre_tokenizer": None}, "pre_tokenizer has type None"),
        ({"model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}}, "'WordLevel'"),
        ({"model": {"type": "BPE", "vocab": {STOP: 0, "a": 1}, "merges": []}}, "lacks"),
    ],
)
def test_a_tokenizer_of_another_form_is_refused(folder, change, message):
    rewrite(folder / "tokenizer.json", **change)
    with pytest.raises(TokenizerError, match=message):
        read_pretrained(folder)


def test_a_folder_without_a_tokenizer_is_refused(tmp_path):
    with pytest.raises(TokenizerError, match=r"neither tokenizer\.json, nor vocab\.json"):
        read_pretrained(tmp_path)


# The weights


def test_greedy_text_and_beams_are_those_of_transformers(gpt2_folder, train, tmp_path):
    """The run's only step is too small to change the loss: it keeps the weights it began with."""
    train("train.learning_rate=1e-9", "train.max_steps=1")
    writer = tw.load(tmp_path / "run")
    theirs = transformers.GPT2LMHeadModel.from_pretrained(gpt2_folder).eval()
    prompt = "Stir the soup"
    ids = [writer.tokenizer.stop_id, *writer.tokenizer.encode(prompt).tolist()]
    same = {"do_sample": False, "max_new_tokens": 20, "pad_token_id": 0}
    for beams, more in ((1, {}), (1, {"min_new_tokens": 12}), (3, {"min_new_tokens": 12})):
        with torch.no_grad():
            read = theirs.generate(torch.tensor([ids]), num_beams=beams, **same, **more)
        expected = read[0, len(ids) :].tolist()
        if expected[-1] == writer.tokenizer.stop_id:
            expected.pop()
        options = {"temperature": 0, "max_new_tokens": 20, "beams": beams, **more}
        (sample,) = writer.generate(prompt, **options)
        assert sample.ids == expected
        assert len(expected) >= more.get("min_new_tokens", 0)


def test_weights_in_parts_are_the_same_weights(gpt2_folder, tmp_path):
    model = transformers.GPT2LMHeadModel.from_pretrained(gpt2_folder)
    model.save_pretrained(tmp_path / "parts", max_shard_size="10KB")
    for name in ("tokenizer.json",):
        shutil.copy(gpt2_folder / name, tmp_path / "parts")
    assert len(list((tmp_path / "parts").glob("*.safetensors"))) > 1
    whole, parts = (find_origin(str(f)).weights() for f in (gpt2_folder, tmp_path / "parts"))
    assert whole.keys() == parts.keys()
    assert all(np.array_equal(whole[name], parts[name]) for name in whole)


def test_halved_precision_is_widened(gpt2_folder, tmp_path):
    model = transformers.GPT2LMHeadModel.from_pretrained(gpt2_folder).bfloat16()
    model.save_pretrained(tmp_path / "bf16")
    shutil.copy(gpt2_folder / "tokenizer.json", tmp_path / "bf16")
    weights = find_origin(str(tmp_path / "bf16")).weights()
    assert {array.dtype for array in weights.values()} == {np.dtype(np.float32)}
    assert np.array_equal(weights["positions"], model.transformer.wpe.weight.detach().float())


def test_embedding_rows_without_a_token_are_left_out(folder):
    model = transformers.GPT2LMHeadModel.from_pretrained(folder)
    model.resize_token_embeddings(model.config.vocab_size + 7)
    model.save_pretrained(folder)
    origin = find_origin(str(folder))
    assert len(origin.weights()["embedding"]) == origin.tokenizer.vocab_size


def test_anything_but_a_known_model_is_refused_in_a_sentence(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "no config.toml" in refusal(tmp_path / "empty")
    assert "neither a run nor" in refusal(tmp_path / "nowhere")
    rewrite(folder / "config.json", scale_attn_by_inverse_layer_idx=True)
    assert "scale_attn_by_inverse_layer_idx" in refusal(folder)
    rewrite(folder / "config.json", model_type="mistral")
    assert "'mistral', not one of gpt2, llama, qwen2, qwen3" in refusal(folder)
    rewrite(folder / "config.json", model_type="llama")
    assert "it lacks hidden_size; name a GPT-2, Llama, Qwen2 or Qwen3" in refusal(folder)
    (folder / "config.json").write_text("{")
    assert "config.json" in refusal(folder)


def test_pickled_weights_are_never_read(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert "never read" in refusal(folder)


def test_damaged_and_missing_weights_are_named(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:200])
    assert "model.safetensors" in refusal(folder)
    file.unlink()
    index = {"weight_map": {"wte.weight": "model-00001-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "model-00001-of-00002" in refusal(folder)


@pytest.mark.parametrize(
    ("index", "reason"),
    [
        ({}, "it lacks weight_map"),
        ({"weight_map": ["model.safetensors"]}, "it is damaged"),
        ({"weight_map": {"wte.weight": 1}}, "it is damaged"),
        ([], "it is damaged"),
    ],
)
def test_an_index_that_names_no_files_is_refused(folder, index, reason):
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert f"cannot be used: {reason}; name a GPT-2" in refusal(folder)


def test_a_tokenizer_larger_than_the_embedding_is_refused(folder):
    theirs = transformers.GPT2Tokenizer.from_pretrained(folder)
    theirs.add_tokens(["soupspoon"])
    theirs.save_pretrained(folder)
    assert "but its tokenizer has" in refusal(folder)


# The hub, from a copy in a cache folder as the hub's client lays it out.


@pytest.fixture
def hub(gpt2_folder, tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    model = tmp_path / "hub" / "models--cook--gpt2"
    (model / "refs").mkdir(parents=True)
    (model / "refs" / "main").write_text("a" * 40)
    return shutil.copytree(gpt2_folder, model / "snapshots" / ("a" * 40))


def test_a_model_of_the_hub_is_read_by_name(hub, gpt2_folder):
    origin = find_origin("cook/gpt2")
    assert isinstance(origin, Pretrained)
    assert origin.revision == "a" * 40
    assert origin.weights().keys() == find_origin(str(gpt2_folder)).weights().keys()
    assert find_origin(f"cook/gpt2@{'a' * 40}").path == origin.path


def test_a_model_that_is_not_here_is_refused_in_a_sentence(hub):
    assert "connection" in refusal("cook/stews")
    assert "cook/stews--" in refusal("cook/stews--")


def test_a_full_disk_is_not_taken_for_a_lost_connection(hub, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("huggingface_hub.snapshot_download", full)
    assert "cannot be saved (No space left on device)" in refusal("cook/gpt2")


def test_a_mistyped_path_is_not_asked_of_the_hub(tmp_path, monkeypatch):
    (tmp_path / "runs").mkdir()
    monkeypatch.chdir(tmp_path)
    assert "neither a run nor a folder runs/nowhere" in refusal("runs/nowhere")
    assert "openai-community/gpt2" in refusal("gpt2")


# Fine-tuning


def test_a_run_records_its_origin_and_the_loss_before_training(train, gpt2_folder, tmp_path):
    events = train("train.learning_rate=0.03", "train.max_steps=10")
    evaluations = [e for e in events if isinstance(e, Evaluation)]
    assert [e.step for e in evaluations] == [0, 2, 4, 6, 8, 10]
    assert evaluations[-1].scores.loss < evaluations[0].scores.loss - 0.5
    kept = Run.load(tmp_path / "run").config
    sha256 = hashlib.sha256((gpt2_folder / "model.safetensors").read_bytes()).hexdigest()
    assert kept.origin.model_dump() == {
        "source": str(gpt2_folder),
        "revision": "",
        "sha256": sha256,
    }
    assert kept.tokenizer.kind == "pretrained"
    assert kept.model.context_length == 128


def test_the_loss_before_is_that_of_transformers(train, gpt2_folder, tmp_path):
    events = train("train.max_steps=1")
    before = next(e for e in events if isinstance(e, Evaluation))
    theirs = transformers.GPT2LMHeadModel.from_pretrained(gpt2_folder).eval()
    run = Run.load(tmp_path / "run")
    stop, nats, count = run.tokenizer.stop_id, 0.0, 0
    for text in run.held_out("valid"):
        row = torch.tensor([[stop, *run.tokenizer.encode(text), stop]])
        assert row.shape[1] <= 128  # beyond it, this package chooses what the model looks back on
        with torch.no_grad():
            loss = theirs(row, labels=row).loss
        nats, count = nats + loss.item() * (row.shape[1] - 1), count + row.shape[1] - 1
    assert before.scores.loss == pytest.approx(nats / count, rel=1e-5)


def test_a_config_finds_its_recorded_origin_again(train, gpt2_folder, notes, tmp_path):
    train("train.max_steps=2")
    kept = Run.load(tmp_path / "run").config
    again = list(train_run([notes], tmp_path / "again", kept))
    assert again[0].run.config.origin == kept.origin
    first, second = (
        (tmp_path / name / "model.safetensors").read_bytes() for name in ("run", "again")
    )
    assert first == second
    changed = kept.origin.model_copy(update={"sha256": "0" * 64})
    with pytest.raises(PretrainedError, match="not those that"):
        find_again(changed)


def test_a_corpus_is_measured_with_the_tokenizer_of_the_origin(
    gpt2_folder, notes, monkeypatch, capsys
):
    monkeypatch.setattr(survey, "MEASURED_SECONDS", 0.0)
    words = ["corpus", str(notes), "--from", str(gpt2_folder), "--set", "corpus.unit=line"]
    monkeypatch.setattr("sys.argv", ["textwright", *words, "--threads", "1", "--json"])
    with pytest.raises(SystemExit, match="0"):
        main()
    found = json.loads(capsys.readouterr().out)
    assert found["vocabulary"] == read_pretrained(gpt2_folder).vocab_size
    assert found["documents"] == 300


def test_a_preset_for_fine_tuning_names_the_weights_it_needs(notes, tmp_path):
    with pytest.raises(TokenizerError, match="openai-community/gpt2"):
        list(train_run([notes], tmp_path / "run", Config.resolve("anime-gpt2")))
    assert not (tmp_path / "run").exists()


def test_the_weights_decide_the_shape_whatever_the_preset(gpt2_folder):
    config = Config.resolve(
        "anime-gpt2",
        **find_origin(str(gpt2_folder)).inherited(),
        settings=["data.context_length=40"],
    )
    assert (config.model.layers, config.model.width, config.model.dropout) == (2, 16, 0.1)
    assert config.train.learning_rate == 1e-4
    with pytest.raises(ConfigError, match="looks back on 128"):
        Config.resolve("anime-gpt2", **find_origin(str(gpt2_folder)).inherited())


def test_a_run_begins_with_a_shorter_context_than_that_of_its_weights(train, notes, tmp_path):
    train("train.max_steps=2")
    origin = find_origin(str(tmp_path / "run"))
    shorter = choose_config(
        settings=["data.context_length=40", "train.max_steps=1", "corpus.unit=line"],
        init_from=origin,
    )
    *_, last = train_run([notes], tmp_path / "shorter", shorter, init_from=origin)
    assert last.step == 1
    assert Run.load(tmp_path / "shorter").config.model.context_length == 128
    with pytest.raises(ConfigError, match=r"set data\.context_length=128 or less"):
        choose_config(settings=["data.context_length=200"], init_from=origin)


def test_a_run_that_is_resumed_keeps_its_options_where_its_origin_is_named_again(
    train, notes, tmp_path
):
    train("train.max_steps=2", "train.learning_rate=2e-4")
    kept = Run.load(tmp_path / "run").config
    origin = find_origin(kept.origin.source)
    config = choose_config(resume=tmp_path / "run", init_from=origin)
    assert config.train == kept.train
    *_, last = train_run([notes], tmp_path / "run", config, init_from=origin, resume=True)
    assert last.step == 2


def test_damaged_weights_are_refused_before_there_is_a_run(gpt2_folder, notes, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(gpt2_folder, broken)
    weights = (broken / "model.safetensors").read_bytes()
    (broken / "model.safetensors").write_bytes(weights[:1000])
    with pytest.raises(PretrainedError, match=r"model\.safetensors of .*broken cannot be used"):
        list(train_run([notes], tmp_path / "run", init_from=find_origin(str(broken))))
    assert not (tmp_path / "run").exists()


def test_a_file_is_no_model(notes):
    with pytest.raises(
        PretrainedError, match="is a file, and no GGUF file; --from takes the folder"
    ):
        find_origin(str(notes))


def test_recomputed_blocks_take_the_same_steps(train, tmp_path):
    def weights(name, *settings):
        train("model.dropout=0.1", *settings, out=name)
        return (tmp_path / name / "model.safetensors").read_bytes()

    assert weights("kept") == weights("recomputed", "train.recompute_blocks=true")


def test_the_card_shows_the_origin_and_the_loss_before_training(train, tmp_path):
    train("train.learning_rate=0.03")
    metrics = [m for m in Run.load(tmp_path / "run").metrics() if m["event"] == "evaluation"]
    card = (tmp_path / "run" / "README.md").read_text()
    assert f"before training | {metrics[0]['scores']['loss']:.4f} nats" in card
    assert "| began from |" in card


# Adapters (LoRA)

LORA = ("train.lora_rank=2", "train.lora_alpha=6", "train.learning_rate=0.02")


def test_adapters_begin_as_the_model_they_adapt_and_gain(train):
    plain = next(e for e in train("train.max_steps=1", out="plain") if isinstance(e, Evaluation))
    events = [e for e in train(*LORA, "train.max_steps=10") if isinstance(e, Evaluation)]
    assert events[0].scores.loss == plain.scores.loss
    assert events[-1].scores.loss < plain.scores.loss - 0.1


def test_the_base_stays_and_only_adapters_are_saved(train, gpt2_folder, tmp_path):
    ready = train(*LORA)[0]
    run = Run.load(tmp_path / "run")
    base, origin = run.base(), find_origin(str(gpt2_folder)).weights()
    assert base.keys() == origin.keys()
    assert all(np.array_equal(base[name], origin[name]) for name in origin)
    saved = [run.checkpoints.newest().weights, load_file(tmp_path / "run" / "model.safetensors")]
    for adapters in saved:
        assert {name.rpartition(".")[2] for name in adapters} == {"lora_a", "lora_b"}
        assert len(adapters) == 2 * 4 * 2  # a and b, of four matrices, in two blocks
    assert ready.trained == sum(array.size for array in saved[0].values()) < ready.parameters / 4
    moments = [n for n in run.checkpoints.newest().tensors if n.endswith(".exp_avg")]
    assert len(moments) == 16


def test_merged_weights_are_the_base_and_the_adapters(train, tmp_path):
    """Merged weights score as the adapters beside the base did in training."""
    events = train(*LORA, "train.max_steps=6")
    best = min(e.scores.loss for e in events if isinstance(e, Evaluation))
    run = Run.load(tmp_path / "run")
    scores, _ = score_run(run, part="valid", device="cpu")
    assert scores.loss == pytest.approx(best, rel=1e-6)
    merged, base = run.weights(), run.base()
    adapters = load_file(tmp_path / "run" / "model.safetensors")
    changed = {name for name in base if not np.array_equal(base[name], merged[name])}
    assert changed == {n.replace("lora_a", "weight") for n in adapters if n.endswith("lora_a")}
    for name in changed:
        a, b = (adapters[name.replace("weight", f"lora_{letter}")] for letter in "ab")
        update = (merged[name] - base[name]).astype(np.float64)
        np.testing.assert_allclose(update, 6 / 2 * b.astype(np.float64) @ a, atol=1e-6)
        assert np.linalg.matrix_rank(update, tol=1e-4) == 2
    moved = shutil.move(tmp_path / "run", tmp_path / "elsewhere")
    assert tw.load(moved).generate("Stir", max_new_tokens=3)[0].ids


def test_adapters_resume_bit_by_bit(train, notes, tmp_path):
    settings = (*LORA, "model.dropout=0.1")
    whole = train(*settings, out="whole")
    config = Run.load(tmp_path / "whole").config
    begins = find_origin(config.origin.source)
    events = train_run([notes], tmp_path / "first", config, init_from=begins)
    for event in events:
        if isinstance(event, Step):
            events.close()  # saves this step too; after a kill it would be lost
            break
    again = list(train_run([notes], tmp_path / "first", config, resume=True))
    assert [e.step for e in again if isinstance(e, Step)] == [2, 3, 4]
    assert whole[-1].step == 4
    for name in ("model.safetensors", "base.safetensors"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_run_begins_from_merged_adapters(train, tmp_path):
    events = train(*LORA)
    best = min(e.scores.loss for e in events if isinstance(e, Evaluation))
    after = train("train.max_steps=1", origin=tmp_path / "run", out="next")
    assert not (tmp_path / "next" / "base.safetensors").exists()
    assert Run.load(tmp_path / "next").config.train.lora_rank == 0
    before = next(e for e in after if isinstance(e, Evaluation))
    assert before.scores.loss == pytest.approx(best, rel=1e-6)


def test_adapters_need_weights_and_a_gpt(train):
    with pytest.raises(ConfigError, match="name them with --from"):
        train(*LORA, "model.family=gpt", origin=None)
    with pytest.raises(ConfigError, match=r"train\.lora_rank works with model\.family gpt only"):
        train(*LORA, "model.family=lstm", origin=None)
