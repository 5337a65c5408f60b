"""Files or hub names → documents: reading, template, cleaning, split, fingerprint."""

from textwright.corpus.corpus import Corpus
from textwright.corpus.documents import CorpusOptions
from textwright.corpus.split import FEW_DOCUMENTS, PARTS, Part, Piece
from textwright.corpus.tally import Summary

__all__ = ["FEW_DOCUMENTS", "PARTS", "Corpus", "CorpusOptions", "Part", "Piece", "Summary"]
