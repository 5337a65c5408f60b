"""Measure how often the readable joining of words restores the spacing of real text.

    python benchmarks/word_spacing.py DATA      (the folder of the real corpora)

A gap is the place between two neighboring tokens; it is right where a space stands in the joined
text if and only if white space stands there in the document. The commonest mistakes are listed
with the tokens before and after the gap.
"""

import argparse
import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from textwright.corpus import Corpus, CorpusOptions
from textwright.tokenizer import Tokenizer, TokenizerOptions

CORPORA = {
    "epicurious_recipes.json.gz": CorpusOptions(template="Recipe for {title} | {directions}"),
    "winemag-data-130k-v2_first10001.csv.gz": CorpusOptions(template="{description}"),
    "anime_synopses.csv.gz": CorpusOptions(template="{sypnopsis}"),
    "nietzsche.txt": CorpusOptions(unit="block"),
    "tinyshakespeare.txt": CorpusOptions(unit="block"),
}


def measure(documents: Iterable[str]) -> dict[str, Any]:
    """Number of gaps, the share joined wrongly, and the commonest mistakes."""
    documents = list(documents)
    # A vocabulary that holds every word, so that only spacing can be lost.
    tokenizer = Tokenizer.train(TokenizerOptions(kind="word", vocab_size=1_000_000_000), documents)
    gaps = 0
    mistakes: Counter[str] = Counter()
    for document in documents:
        decoder = tokenizer.decoder()
        before, end_before = "", 0
        for token_id, start, end in tokenizer.spans(document):
            joined = decoder.push(token_id)
            token = document[start:end]
            if before:
                gaps += 1
                spaced = start > end_before
                if joined.startswith(" ") != spaced:
                    shown = " ".join("word" if t[0].isalnum() else t for t in (before, token))
                    mistakes[f"{shown} {'(lost)' if spaced else '(added)'}"] += 1
            before, end_before = token, end
    share = mistakes.total() / max(gaps, 1)
    return {"gaps": gaps, "wrong": round(share, 6), "mistakes": dict(mistakes.most_common(5))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, help="write the results as JSON")
    arguments = parser.parse_args()
    results = {}
    for name, options in CORPORA.items():
        held_out = Corpus([arguments.data / name], options).documents("test")
        results[name] = measure(held_out)
        found = results[name]
        print(f"{name:40} {found['gaps']:8} gaps  {found['wrong']:.2%} wrong  {found['mistakes']}")
    if arguments.out:
        arguments.out.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
