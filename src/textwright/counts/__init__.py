"""What a corpus repeats: n-grams, counted into a language model, and mixed with a neural one."""
