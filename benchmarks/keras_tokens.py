"""Compare textwright's word tokenizer with the source's: vocabulary and ids against Keras.

    python benchmarks/keras_tokens.py epicurious_recipes.json.gz winemag-data-130k-v2.csv.gz

S1 and S4 pad punctuation with spaces, squeeze runs of spaces, and leave lower-casing, splitting at
white space and the vocabulary of 10,000 to Keras' `TextVectorization`. Both learn here from the
same documents, then encode them. Two slips of the source are not repeated: its pattern does not
pad the backslash, and Keras lower-cases and splits ASCII only. Documents where that matters are
counted and left out.

The order of words of equal frequency does not matter, nor which of them are the last to enter the
vocabulary: ids are compared through their words, and a word that ties for the last places may be
[UNK] in one of the two. Any other difference is a disagreement and gives exit code 1.

Needs TensorFlow with Keras 3 beside textwright; peak memory is about 2 GB.
"""

import argparse
import csv
import gzip
import json
import re
import string
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras_reference import describe_machine

from textwright.tokenizer import Tokenizer, TokenizerOptions

VOCAB_SIZE = 10_000
WINE_FIELDS = ("country", "province", "variety", "description")
PADDED = re.compile("([" + re.escape(string.punctuation.replace("\\", "")) + "\n])")


def read_documents(path: Path) -> list[str]:
    """The documents of S1 (a JSON list) or S4 (a CSV), read without textwright."""
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        if ".json" in path.name:
            return [
                f"Recipe for {record['title']} | {' '.join(record['directions'])}"
                for record in json.load(file)
                if record["title"] and record["directions"]
            ]
        return [
            "wine review : " + " : ".join(record[field] for field in WINE_FIELDS)
            for record in csv.DictReader(file)
            if all(record[field] for field in WINE_FIELDS)
        ]


def differs_by_design(document: str) -> bool:
    """True if one of the source's two slips changes this document."""
    beyond_ascii = [letter for letter in document if letter > "\x7f" or "\x1c" <= letter <= "\x1f"]
    return "\\" in document or any(
        letter.isspace() or letter.lower() != letter for letter in beyond_ascii
    )


def pad(document: str) -> str:
    """The source's step before Keras: spaces around punctuation, runs of spaces squeezed."""
    return re.sub(" +", " ", PADDED.sub(r" \1 ", document))


def compare(documents: list[str]) -> dict[str, Any]:
    """Counts of agreements and disagreements, and both speeds in the same run."""
    padded = [pad(document) for document in documents]
    layer = keras.layers.TextVectorization(
        max_tokens=VOCAB_SIZE, standardize="lower", split="whitespace", ragged=True
    )
    options = TokenizerOptions(kind="word", lowercase=True, vocab_size=VOCAB_SIZE)
    _, adapt_seconds = timed(lambda: layer.adapt(padded, batch_size=256))
    tokenizer, train_seconds = timed(lambda: Tokenizer.train(options, documents))
    theirs, their_seconds = timed(lambda: list(encode_with(layer, padded)))
    ours, our_seconds = timed(lambda: tokenizer.encode_batch(documents))

    counts = Counter(word for document in padded for word in document.lower().split())
    their_words = layer.get_vocabulary()
    our_words = tokenizer.tokens(range(tokenizer.vocab_size))
    edge = min(counts[word] for word in our_words[2:])
    strays = set(their_words[2:]) ^ set(our_words[2:])
    # Keras' ids as ours; words that only we hold become unknown, as they are to Keras.
    as_ours = np.array([0] + [tokenizer.id_of(word) or 1 for word in their_words[1:]])
    shared = np.arange(tokenizer.vocab_size)
    shared[[tokenizer.id_of(word) for word in strays if tokenizer.id_of(word)]] = 1
    megabytes = sum(len(document.encode()) for document in documents) / 1e6
    return {
        "documents": len(documents),
        "tokens": sum(len(ids) for ids in ours),
        "vocabulary": {"keras": len(their_words), "textwright": len(our_words)},
        "ids_2_to_9": our_words[2:10],
        "ranks_with_unlike_frequency": sum(
            counts[their] != counts[our]
            for their, our in zip(their_words[2:], our_words[2:], strict=False)
        ),
        "words_in_one_vocabulary_only": len(strays),
        "of_them_not_tied_at_the_edge": sum(counts[word] != edge for word in strays),
        "documents_with_unlike_ids": sum(
            not np.array_equal(as_ours[their], shared[our])
            for their, our in zip(theirs, ours, strict=True)
        ),
        "tokens_with_the_very_same_id": sum(
            int((their == our).sum())
            for their, our in zip(theirs, ours, strict=True)
            if len(their) == len(our)
        ),
        "megabytes_per_second": {
            "keras adapt": round(megabytes / adapt_seconds, 1),
            "textwright train": round(megabytes / train_seconds, 1),
            "keras encode": round(megabytes / their_seconds, 1),
            "textwright encode": round(megabytes / our_seconds, 1),
        },
    }


def encode_with(layer: keras.layers.TextVectorization, padded: list[str]) -> Iterable[np.ndarray]:
    for begin in range(0, len(padded), 256):
        ragged = layer(padded[begin : begin + 256])
        yield from np.split(ragged.values.numpy(), ragged.row_splits.numpy()[1:-1])


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    begin = time.perf_counter()
    return work(), time.perf_counter() - begin


def agree(result: dict[str, Any]) -> bool:
    sizes = result["vocabulary"]
    return sizes["keras"] == sizes["textwright"] and not (
        result["ranks_with_unlike_frequency"]
        or result["of_them_not_tied_at_the_edge"]
        or result["documents_with_unlike_ids"]
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpora", nargs="+", type=Path, help="recipes .json.gz, reviews .csv.gz")
    parser.add_argument("--out", type=Path, help="write the results as JSON")
    arguments = parser.parse_args()

    results = {}
    for path in arguments.corpora:
        documents = read_documents(path)
        alike = [document for document in documents if not differs_by_design(document)]
        result = {"left_out": len(documents) - len(alike), **compare(alike)}
        results[path.name] = {"agree": agree(result), **result}
        print(f"{path.name}")
        for key, value in results[path.name].items():
            print(f"  {key.replace('_', ' '):32} {value}")
    if arguments.out:
        content = {"machine": describe_machine(0), "results": results}
        arguments.out.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return 0 if all(result["agree"] for result in results.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
