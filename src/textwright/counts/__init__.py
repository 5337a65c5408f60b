"""What text repeats: n-gram counts of a corpus, smoothed into a language model, and its mixture with
a neural one. NumPy alone."""
