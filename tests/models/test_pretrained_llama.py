"""Weights to begin from: a Llama, Qwen2 or Qwen3 in a folder, with the tokenizer of the GPT-2."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from safetensors.numpy import load_file, save_file

import textwright as tw
import textwright.training.session
from textwright.cli import main
from textwright.config import Config
from textwright.errors import ConfigError, PretrainedError
from textwright.export import export_run
from textwright.models import load, places
from textwright.models.pretrained import find_origin
from textwright.run import Run
from textwright.run.origin import choose_config
from textwright.training.events import Evaluation
from textwright.training.session import train_run

CONTEXT = 64
KINDS = {
    "llama": ("Llama", {"num_key_value_heads": 2, "tie_word_embeddings": True}),
    "qwen2": ("Qwen2", {"num_key_value_heads": 1}),
    "qwen3": ("Qwen3", {"num_key_value_heads": 4, "head_dim": 8, "tie_word_embeddings": True}),
}


@pytest.fixture(scope="session")
def folders(gpt2_folder, tmp_path_factory):
    """A folder of each kind as transformers saves it, random weights everywhere."""
    made, stop = {}, json.loads((gpt2_folder / "config.json").read_text())["eos_token_id"]
    for name, (kind, shape) in KINDS.items():
        torch.manual_seed(0)
        config = getattr(transformers, f"{kind}Config")(
            vocab_size=stop + 1,
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=CONTEXT,
            bos_token_id=stop,
            eos_token_id=stop,
            **shape,
        )
        model = getattr(transformers, f"{kind}ForCausalLM")(config)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        made[name] = tmp_path_factory.mktemp("published") / name
        model.save_pretrained(made[name])
        shutil.copy(gpt2_folder / "tokenizer.json", made[name])
    return made


@pytest.fixture(params=KINDS)
def kind(request, folders):
    return folders[request.param]


@pytest.fixture
def folder(folders, tmp_path):
    """A copy of the Llama, which a test may change."""
    return shutil.copytree(folders["llama"], tmp_path / "llama")


@pytest.fixture
def train(notes, tmp_path, monkeypatch):
    """Train from an origin on the notes → the events."""
    monkeypatch.setattr(textwright.training.session, "draw_loss_curve", lambda run: False)
    tiny = {"max_steps": 4, "evaluate_every": 2, "batch_size": 8, "threads": 1, "dtype": "fp32"}

    def go(origin, *settings, out="run"):
        begins = find_origin(str(origin))
        more = [f"train.{key}={value}" for key, value in tiny.items()]
        more += ["corpus.unit=line", "data.context_length=40", "data.layout=rows"]
        more += ["sample.max_new_tokens=8"]
        config = Config.resolve(settings=[*more, *settings], **begins.inherited())
        return list(train_run([notes], tmp_path / out, config, init_from=begins))

    return go


def test_weights_that_were_trained_without_dropout_go_on_without(folders):
    for kind in ("llama", "qwen2", "qwen3"):
        origin = find_origin(str(folders[kind]))
        for settings, dropout in ((), 0.0), (("model.dropout=0.2",), 0.2):
            settings = [*settings, "data.context_length=40"]
            chosen = choose_config("anime-gpt2", settings=settings, init_from=origin)
            assert chosen.model.dropout == dropout


def rewrite(file, **changes):
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def refusal(path):
    """The sentence with which weights are refused before there is a run."""
    with pytest.raises(PretrainedError) as raised:
        origin = find_origin(str(path))
        origin.inherited()
        origin.record()
        origin.weights()
    sentence = str(raised.value)
    assert "\n" not in sentence
    assert str(path) in sentence
    return sentence


def test_greedy_text_and_beams_are_those_of_transformers(kind, train, tmp_path):
    """The run's only step is too small to change the loss: it keeps the weights it began with."""
    train(kind, "train.learning_rate=1e-9", "train.max_steps=1")
    writer = tw.load(tmp_path / "run")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(kind).eval()
    prompt = "Stir the soup"
    ids = [writer.tokenizer.stop_id, *writer.tokenizer.encode(prompt).tolist()]
    same = {"do_sample": False, "max_new_tokens": 20, "min_new_tokens": 12, "pad_token_id": 0}
    for beams in (1, 3):
        with torch.no_grad():
            read = theirs.generate(torch.tensor([ids]), num_beams=beams, **same)
        expected = read[0, len(ids) :].tolist()
        if expected[-1] == writer.tokenizer.stop_id:
            expected.pop()
        options = {"max_new_tokens": 20, "min_new_tokens": 12, "beams": beams}
        (sample,) = writer.generate(prompt, temperature=0, **options)
        assert sample.ids == expected


def test_a_trained_run_goes_back_to_transformers_without_code(kind, train, tmp_path):
    train(kind, "train.learning_rate=0.01")
    exported = export_run(Run.load(tmp_path / "run"), "transformers", tmp_path / "out")
    assert exported.largest_difference < 1e-5
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    before = transformers.AutoModelForCausalLM.from_pretrained(kind)
    assert type(model) is type(before)
    assert any(not torch.equal(a, b) for a, b in zip(*map(_tensors, (model, before)), strict=True))
    assert find_origin(str(tmp_path / "out")).model == find_origin(str(kind)).model


def _tensors(model):
    return list(model.state_dict().values())


def test_weights_in_parts_are_the_same_weights(folders, tmp_path):
    kind = folders["qwen3"]
    model = transformers.AutoModelForCausalLM.from_pretrained(kind)
    model.save_pretrained(tmp_path / "parts", max_shard_size="10KB")
    shutil.copy(kind / "tokenizer.json", tmp_path / "parts")
    assert len(list((tmp_path / "parts").glob("*.safetensors"))) > 2
    whole, parts = (find_origin(str(f)).weights() for f in (kind, tmp_path / "parts"))
    assert whole.keys() == parts.keys()
    assert all(np.array_equal(whole[name], parts[name]) for name in whole)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_halved_precision_is_widened(folders, dtype, tmp_path):
    kind = folders["qwen2"]
    model = transformers.AutoModelForCausalLM.from_pretrained(kind).to(dtype)
    model.save_pretrained(tmp_path / "half")
    shutil.copy(kind / "tokenizer.json", tmp_path / "half")
    weights = find_origin(str(tmp_path / "half")).weights()
    assert {array.dtype for array in weights.values()} == {np.dtype(np.float32)}
    queries = model.model.layers[1].self_attn.q_proj.weight.detach().float()
    joined = weights["blocks.1.attention.input.weight"]
    assert np.array_equal(joined[: len(queries)], queries)


def test_rows_without_a_token_are_left_out(folders, gpt2_folder, tmp_path):
    model = transformers.AutoModelForCausalLM.from_pretrained(folders["qwen2"])
    rows = model.config.vocab_size
    model.resize_token_embeddings(rows + 7)
    model.save_pretrained(tmp_path / "longer")
    shutil.copy(gpt2_folder / "tokenizer.json", tmp_path / "longer")
    weights = find_origin(str(tmp_path / "longer")).weights()
    assert len(weights["embedding"]) == len(weights["output.weight"]) == rows


def test_any_context_up_to_the_models_trains_and_writes(folders, train, tmp_path):
    train(folders["llama"], f"data.context_length={CONTEXT}", out="long")
    train(folders["llama"], "data.context_length=12", out="short")
    for name in ("long", "short"):
        writer = tw.load(tmp_path / name)
        assert load(writer.run, "cpu").context_length == CONTEXT
        (sample,) = writer.generate("Stir", max_new_tokens=CONTEXT + 9, min_new_tokens=CONTEXT + 9)
        assert len(sample.ids) == CONTEXT + 9
    with pytest.raises(ConfigError, match="looks back on 64"):
        train(folders["llama"], "data.context_length=65")


def test_recomputed_blocks_take_the_same_steps(folders, train, tmp_path):
    def weights(name, *settings):
        train(folders["qwen3"], "model.dropout=0.1", *settings, out=name)
        return (tmp_path / name / "model.safetensors").read_bytes()

    assert weights("kept") == weights("recomputed", "train.recompute_blocks=true")


def test_adapters_begin_as_the_model_they_adapt_and_gain(folders, train, tmp_path):
    settings = ("train.lora_rank=2", "train.learning_rate=0.02", "train.max_steps=10")
    events = train(folders["qwen2"], *settings)
    losses = [e.scores.loss for e in events if isinstance(e, Evaluation)]
    plain = train(folders["qwen2"], "train.max_steps=1", out="plain")
    assert losses[0] == next(e for e in plain if isinstance(e, Evaluation)).scores.loss
    assert losses[-1] < losses[0] - 0.03
    adapters = load_file(tmp_path / "run" / "model.safetensors")
    assert len(adapters) == 2 * 4 * 2  # a and b, of four matrices, in two blocks
    exported = export_run(Run.load(tmp_path / "run"), "transformers", tmp_path / "out")
    assert exported.largest_difference < 1e-5


def test_a_model_that_cannot_be_computed_is_refused_in_a_sentence(folder):
    rewrite(folder / "config.json", hidden_act="relu")
    assert "its hidden_act is 'relu'; only 'silu' can be computed here" in refusal(folder)
    rewrite(folder / "config.json", hidden_act="silu", num_key_value_heads=3)
    assert "heads is not a multiple of key_value_heads; name a GPT-2, Llama" in refusal(folder)
    rewrite(folder / "config.json", num_key_value_heads=2, num_attention_heads=0)
    assert "config.json" in refusal(folder)
    rewrite(folder / "config.json", num_attention_heads=4, num_hidden_layers="two")
    assert "layers: Input should be a valid integer" in refusal(folder)
    for size in (None, -1, "many"):
        rewrite(folder / "config.json", num_hidden_layers=2, vocab_size=size)
        assert f"its vocab_size is {size!r}" in refusal(folder)
    rewrite(folder / "config.json", vocab_size=401, rope_scaling="llama3")
    assert "its rope_scaling is 'llama3', not a table" in refusal(folder)
    rewrite(folder / "config.json", model_type="gemma3")
    assert "'gemma3', not one of gpt2, llama, qwen2, qwen3; name a GPT-2" in refusal(folder)
    (folder / "config.json").write_text("[]")
    assert "it is no table of keys" in refusal(folder)


def test_a_missing_shard_is_named(folder):
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="10KB")
    shard = sorted(folder.glob("model-00002-of-*"))[0]
    shard.unlink()
    found = refusal(folder)
    assert f"lacks {shard.name}, which model.safetensors.index.json names; fetch" in found


def test_a_damaged_shard_is_named(folder):
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="10KB")
    shard = sorted(folder.glob("model-00002-of-*"))[0]
    shard.write_bytes(shard.read_bytes()[:-8])
    assert f"The {shard.name} of " in refusal(folder)
    assert "; fetch or copy it again." in refusal(folder)


def test_tensors_that_do_not_fit_are_refused_before_they_are_read(folder, monkeypatch):
    tensors = load_file(folder / "model.safetensors")
    monkeypatch.setattr("textwright.models.pretrained.gather", None)  # it would read them
    norm = "model.norm.weight"

    def stored(**changed):
        save_file({**tensors, **changed}, folder / "model.safetensors", {"format": "pt"})
        return refusal(folder)

    assert "model.norm.weight has shape 9, not 16" in stored(**{norm: np.ones(9, np.float32)})
    assert "hold score.weight, which this model does not have" in stored(
        **{"score.weight": np.ones(2, np.float32)}
    )
    assert "model.norm.weight is stored as I8" in stored(**{norm: np.ones(16, np.int8)})
    del tensors[norm]
    assert "they lack model.norm.weight" in stored()


def test_a_model_larger_than_memory_is_refused_before_it_is_read(folder, monkeypatch):
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    need = 4 * sum(parameter.numel() for parameter in model.parameters())
    monkeypatch.setattr(places, "free_memory", lambda: need)
    assert find_origin(str(folder)).weights()
    monkeypatch.setattr(places, "free_memory", lambda: need - 1)
    monkeypatch.setattr("textwright.models.pretrained.gather", None)
    found = refusal(folder)
    assert f"has {need // 4:,} weights, which need 0.0 GB of memory in float32" in found
    assert "are free; name a smaller model." in found


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak from /proc")
def test_weights_are_held_once(gpt2_folder, tmp_path):
    """Loading needs the memory of the weights in float32, and that of one file."""
    config = transformers.LlamaConfig(
        vocab_size=401, hidden_size=512, intermediate_size=2048, num_hidden_layers=8
    )
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(config).bfloat16()
    model.save_pretrained(tmp_path, max_shard_size="10MB")
    shutil.copy(gpt2_folder / "tokenizer.json", tmp_path)
    need = 4 * sum(parameter.numel() for parameter in model.parameters())
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from textwright.families import GPTOptions\n"
        "from textwright.models import build_with\n"
        "from textwright.models.pretrained import find_origin\n"
        "origin = find_origin(sys.argv[1])\n"
        "size = origin.tokenizer.vocab_size\n"
        "def peak():\n"
        "    _, _, rest = Path('/proc/self/status').read_text().partition('VmHWM:')\n"
        "    return 1024 * int(rest.split()[0])\n"
        "origin.record()\n"  # all that is imported later is imported
        "before = peak()\n"
        "build_with(origin.weights(), origin.path, GPTOptions(**origin.model), size, 0)\n"
        "print(peak() - before)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True
    )
    assert need < int(ran.stdout) < 1.4 * need


@pytest.fixture
def summarized(monkeypatch, capsys):
    """The document, or the error, of `textwright summary`."""

    def call(*argv):
        monkeypatch.setattr("sys.argv", ["textwright", "summary", *map(str, argv)])
        with pytest.raises(SystemExit) as ended:
            main()
        printed, err = capsys.readouterr()
        return err if ended.value.code else printed

    return call


def test_summary_prints_the_parameters_without_the_weights(kind, folder, summarized, tmp_path):
    bare = tmp_path / "bare"
    bare.mkdir()
    shutil.copy(kind / "config.json", bare)
    found = json.loads(summarized(bare, "--json"))
    model = transformers.AutoModelForCausalLM.from_pretrained(kind)
    assert found["parameters"]["total"] == sum(p.numel() for p in model.parameters())
    assert found["context_length"] == CONTEXT
    assert found["vocabulary"] == model.config.vocab_size
    assert "blocks.1.attention.input" in summarized(kind)
    assert "A trained model keeps its options" in summarized(kind, "--set", "model.layers=3")
    rewrite(folder / "config.json", model_type="gemma3")
    assert "'gemma3', not one of" in summarized(folder)
