"""Chooses what `textwright train my.txt` leaves open, from the corpus and the time there is; for
`--preset counts`, the tokens.

docs/choices.md says what each choice gained, on which corpora, and what did not help.
"""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Mapping
from typing import Any, TypeVar

import torch

from textwright.compute.device import choose_device, choose_dtype
from textwright.compute.memory import free_memory
from textwright.config import CHOSEN, Config, TrainOptions, merge
from textwright.corpus import Corpus, Summary
from textwright.corpus.tally import SEVERAL
from textwright.models import build_empty
from textwright.models.contract import BY_TOKEN
from textwright.tokenizer import TokenizerOptions
from textwright.wording import clock

Value = TypeVar("Value")

SECONDS = 600.0
SAMPLED = 2_000_000  # characters, from which the alphabet is counted
EMOJI_STYLES = "\ufe0e\ufe0f"  # marks after an emoji that no word needs
ITEM = 20  # characters on average, up to which documents are names or single words
MARKED = 0.02  # share of marks, such as vowel signs, among letters from which words need them
# Weights of a model times tokens that two cores read in a second with products of this type, within
# a factor of two. By them it is foreseen how often a corpus will be read.
WEIGHTS_A_SECOND = {torch.float32: 12e9, torch.bfloat16: 30e9}
# More cores read more, but not by as much: 16 took a quarter of the time of two (docs/results.md).
SCALING = 0.75
# An accelerator takes so many steps of any such model: they wait for their operations to be started
# (docs/results.md).
STEPS_A_SECOND = 100

# Where a corpus is read so many times, what a step writes into the weights fades by weight decay
# while it is read once (Wang & Aitchison 2024); where it is read fewer times, more slowly by as
# much.
OFTEN = 6
DECAYS = (0.01, 4.0)  # the least and the most; more than 4 was not tried

WARMUP = 50  # steps, or a sixth of all where they are few
# Evaluations on the way, as foreseen; fewer where they would take more than this share of the time.
EVALUATIONS, EVALUATING = 10, 0.1
SCORING = 2.0  # how long a token takes in an evaluation, where training on it takes 1
HELD_OUT = 0.05  # of a corpus, for validation
SAVING = 300.0  # seconds from one checkpoint to the next, as foreseen

# How far a corpus is learned by heart: epochs times the weights in layers, of which the GPT of ten
# minutes has so many.
LAYERS = 1.33e6
# Up to so far: dropout.
DROPOUT = {4: 0.0, 8: 0.1, 20: 0.2, math.inf: 0.3}
# Up to so far, if as many epochs were read as there is time for: share of the tokens that are split
# at first, and dropout beside it.
SPLIT = {12: (0.0, 0.0), 40: (0.2, 0.2), 100: (0.3, 0.2), math.inf: (0.4, 0.3)}
# Where fewer than SEVERAL documents have more windows than these on average, a model sees too few
# beginnings, and paragraphs are opened in a share of the windows.
LONG, OPENED = 20, 0.1
LONGEST = 8  # n-gram that may be counted beside the model
COUNTING = 180  # bytes of memory that counting takes for each token (docs/training.md)
FREE = 0.8  # share of the free memory that it may take
# Tokens that stand for all in the softmax of a step, where there are twice as many or more.
SAMPLED_SOFTMAX = 2_048
TRAINING: dict[str, Any] = {
    "epochs": 32,  # after which held-out loss hardly falls, however small the corpus
    "batch_size": 8,
    "learning_rate": 3e-3,
    "beta2": 0.99,
    "schedule": "linear",
    "counted_embedding": True,
    "early_stopping": 0,  # the rate reaches 0 at the end of the time, and not before
    "evaluate_characters": 100_000,  # a mixture that is fitted to more needs as many bits
}


def choose_recipe(config: Config, corpus: Corpus) -> tuple[Config, str]:
    """The config with a value for every option that was not set, and a line that says why.

    Does nothing for a config of another preset.
    """
    if config.preset not in CHOSEN:
        return config, ""
    given = config.model_dump(exclude_unset=True)
    summary, signs = corpus.scan(), _signs(corpus)
    characters = _own_characters(summary)
    kind = _kind(config, given, summary)
    recipe: dict[str, Any] = {"tokenizer": _tokenizer(kind, characters, signs)}
    often = 0.0
    if not config.model.counted:
        tokenizer = _complete(recipe, given).tokenizer
        spelled = _spelled(tokenizer, _common(signs))
        training, often = _training(config, given, tokenizer.model_dump(), spelled, summary)
        recipe |= training
    chosen = _complete(recipe, given)
    return chosen, _say(chosen, characters, often, "longest" in given.get("counts", {}))


def _training(
    config: Config,
    given: dict[str, Any],
    tokenizer: dict[str, Any],
    spelled: float,
    corpus: Summary,
) -> tuple[dict[str, Any], float]:
    """What a neural model, beside counts, needs for a corpus, and how often there is time to read
    it; given: what was set · tokenizer: its options · spelled: characters of a token."""
    tokens = _own_characters(corpus) / spelled
    seconds = config.train.time_budget or SECONDS
    sampled = _sampled(config.train, tokenizer["vocab_size"])
    suited = _suited(config, given, seconds, 0.0)
    weights, layers = _sizes(suited, given, tokenizer["vocab_size"], sampled)
    plan = merge(merge({"train": TRAINING, "data": config.data.model_dump()}, suited), given)
    a_step = plan["train"]["batch_size"] * plan["data"]["context_length"]  # in tokens
    a_second = _speed(config.train, weights, a_step)
    an_epoch = tokens / a_step  # in steps
    often = min(
        seconds * a_second / tokens,
        given.get("train", {}).get("epochs", math.inf),
        (config.train.max_steps or math.inf) / an_epoch,
    )
    epochs = min(often, plan["train"]["epochs"])
    steps = round(epochs * an_epoch)
    scored = min(HELD_OUT * tokens, (plan["train"]["evaluate_characters"] or math.inf) / spelled)
    suited = _suited(config, given, seconds, _up_to(DROPOUT, epochs * layers / LAYERS))
    training = {
        **TRAINING,
        "sampled_softmax": sampled,
        "warmup_steps": min(WARMUP, steps // 6),
        "weight_decay": _weight_decay(epochs, plan["train"]["learning_rate"] * an_epoch),
        "time_budget": seconds,
        "evaluate_every": _evaluate_every(steps, scored, a_step),
        "checkpoint_every": max(50, round(SAVING * a_second / a_step)),
    }
    if (
        corpus.documents < SEVERAL
        and tokens > LONG * plan["data"]["context_length"] * corpus.documents
        and plan["data"]["layout"] != "rows"
    ):
        training["open_paragraphs"] = OPENED
    longest = LONGEST if _countable(tokens) else 0
    recipe = merge({"counts": {"longest": longest}, "train": training}, suited)
    if given.get("train", {}).get("optimizer") == "adam":  # which has no decay
        recipe["train"]["weight_decay"] = 0.0
    split, dropout = _up_to(SPLIT, often * layers / LAYERS)
    if split and _complete({**recipe, "tokenizer": tokenizer}, given).splittable:
        recipe = merge(recipe, {"train": {"split_tokens": split}, "model": {"dropout": dropout}})
    return recipe, often


def _complete(recipe: dict[str, Any], given: dict[str, Any]) -> Config:
    return Config.check(merge(recipe, given), source="the options")


def _sampled(options: TrainOptions, vocab_size: int) -> int:
    """Tokens of a sampled softmax, 0 for all: an accelerator would gain no time."""
    if "sampled_softmax" in options.model_fields_set:
        return options.sampled_softmax
    small = vocab_size < 2 * SAMPLED_SOFTMAX
    return 0 if small or choose_device(options.device).type != "cpu" else SAMPLED_SOFTMAX


def _sizes(
    suited: dict[str, Any], given: dict[str, Any], vocab_size: int, sampled: int
) -> tuple[int, int]:
    """The weights of the model that would be trained, those that a sampled softmax spares left
    out, and those of its layers, whose rows do not belong to tokens."""
    shape = {table: options for table, options in suited.items() if table != "train"}
    found = _complete(shape, given)
    model = build_empty(found.model, vocab_size, found.data.context_length)
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    layers = sum(size for name, size in sizes.items() if not name.startswith(BY_TOKEN))
    left_out = max(0, vocab_size - sampled) if sampled else 0
    spared = left_out * model.output_weight.shape[1] // 2  # the optimizer moves all rows
    return sum(sizes.values()) - spared, layers


def _suited(
    config: Config, given: dict[str, Any], seconds: float, dropout: float
) -> dict[str, dict[str, Any]]:
    """What the family suits to the time, with as many heads as a width that was set divides into,
    each about as wide."""
    suited = config.model.suited(seconds, dropout)
    model, width = suited.get("model", {}), given.get("model", {}).get("width")
    if width and "heads" in model:
        usual = model["width"] / model["heads"]
        even = [heads for heads in range(1, width // 2 + 1) if width % (2 * heads) == 0]
        model["heads"] = min(even or [1], key=lambda heads: abs(width / heads - usual))
    return suited


def _countable(tokens: float) -> bool:
    free = free_memory()
    return free is None or COUNTING * tokens < FREE * free


def _speed(options: TrainOptions, weights: int, a_step: int) -> float:
    """The tokens that are read in a second; a_step: tokens of a step."""
    device = choose_device(options.device)
    if device.type == "cuda":
        return STEPS_A_SECOND * a_step
    threads = options.threads or torch.get_num_threads()
    products = WEIGHTS_A_SECOND[choose_dtype(options.dtype, device)]
    return products / weights * (threads / 2) ** SCALING


def _up_to(table: Mapping[float, Value], much: float) -> Value:
    return next(value for most, value in table.items() if much <= most)


def _weight_decay(epochs: float, moved: float) -> float:
    """moved: the learning rates of all steps of one epoch together, as if none fell."""
    least, most = DECAYS
    return round(min(most, max(least, min(1, epochs / OFTEN) / moved)), 2)


def _evaluate_every(steps: int, scored: float, a_step: float) -> int:
    """Steps from one evaluation to the next; scored: tokens of one, a_step: of a step."""
    an_evaluation = SCORING * scored / a_step  # in steps
    return round(max(50, steps / EVALUATIONS, an_evaluation / EVALUATING))


def _own_characters(summary: Summary) -> float:
    """The characters of a corpus, without those of files that are only held out."""
    sizes: Counter[str] = Counter()
    for file in summary.files:
        sizes[file["role"]] += file["bytes"]
    return summary.characters * sizes["sources"] / sizes.total()


def _signs(corpus: Corpus) -> Counter[str]:
    """How often each character occurs at the beginning of the training text."""
    signs: Counter[str] = Counter()
    left = SAMPLED
    for piece in corpus.pieces("train"):
        text = piece.text[:left]
        signs.update(text)
        left -= len(text)
        if not left:
            break
    return signs


def _common(signs: Counter[str]) -> int:
    """The number of different characters that occur ten times or more."""
    return sum(count >= 10 for count in signs.values())


def _kind(config: Config, given: dict[str, Any], summary: Summary) -> str:
    """Characters for a list of names or words, unless something was set that is for merged ones."""
    merged = {"kind", "vocab_size", "cut"} & given.get("tokenizer", {}).keys()
    if merged or config.train.split_tokens or summary.characters > ITEM * summary.documents:
        return config.tokenizer.kind
    return "char"


def _tokenizer(kind: str, characters: float, signs: Counter[str]) -> dict[str, Any]:
    """Options of a tokenizer of this kind."""
    chosen: dict[str, Any] = {"kind": kind}
    if kind == "char":
        chosen["vocab_size"] = min(8_192, 2 ** math.ceil(math.log2(len(signs) + 3)))
    if kind == "bpe":
        chosen["vocab_size"] = _vocabulary(characters, _common(signs))
        classes: Counter[str] = Counter()
        for sign, count in signs.items():
            if sign not in EMOJI_STYLES:
                classes[unicodedata.category(sign)[0]] += count
        chosen["cut"] = "qwen35" if classes["M"] > MARKED * classes["L"] else "gpt-2"
    return chosen


def _vocabulary(characters: float, common: int) -> int:
    """A token should occur often enough to be learned, so the vocabulary grows with the text; and a
    script of thousands of signs needs room for them."""
    size = 2 ** round(math.log2(1_024 * (characters / 600_000) ** 1.3))
    room = min(8_192, 2 ** math.ceil(math.log2(2 * common + 256)))
    return min(16_384, max(512, size, room))


def _spelled(tokenizer: TokenizerOptions, common: int) -> float:
    """How many characters a token spells on average."""
    if tokenizer.kind == "char":
        return 1.0
    if tokenizer.kind in ("word", "symbols"):
        return 4.5
    if common >= 500:
        return 1.2
    return max(1.0, 2.6 + 0.55 * math.log2(tokenizer.vocab_size / 1_024))


def _say(config: Config, characters: float, often: float, counts_set: bool) -> str:
    """often: there is time to read the text so many times · counts_set: by the user."""
    model, train = config.model, config.train
    what = f"{model.title} ({model.describe(config.data.context_length)})"
    words = f"{config.tokenizer.vocab_size:,} {config.tokenizer.kind} tokens"
    if config.tokenizer.kind == "char":
        words = "single characters"
    if config.tokenizer.cut == "qwen35":
        words += " that keep vowel signs within words"
    if model.counted:
        return f"Chosen for {characters:,.0f} characters: {what}, over {words}."
    beside = " with counts beside it" if config.counts.longest else ""
    if not (config.counts.longest or counts_set):
        beside = " without counts beside it, for which too little memory is free"
    seconds, hour = train.time_budget or 0, ""
    if often > train.epochs:
        hour = (
            f" It ends earlier if the text has been read {train.epochs:g} times, after which more "
            "time brings little."
        )
    elif seconds < 3600:
        hour = " Another time: --time-budget 1h (a larger model, some percent fewer bits)."
    return (
        f"Chosen for {characters:,.0f} characters and {clock(seconds)} of training: {what}"
        f"{beside}, over {words}.{hour} Another choice: --preset NAME or --set OPTION."
    )
