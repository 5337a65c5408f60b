"""A tokenizer that reads texts as the tokenizer.json beside it says."""

from transformers import PreTrainedTokenizerFast


class TextwrightTokenizer(PreTrainedTokenizerFast):
    """Stands here so that transformers does not take the tokenizer of Qwen in its place."""
