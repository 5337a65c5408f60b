"""A small model of every kind, by its options: what tests run over."""

from textwright.families import GPTOptions, LSTMOptions

# The block of Llama, Qwen2 and Qwen3.
MODERN = {
    "activation": "swiglu",
    "normalization": "rms",
    "positions": "rotary",
    "biases": "none",
    "norm_epsilon": 1e-4,
}

SMALL = {
    "lstm": LSTMOptions(embedding_size=6, hidden_size=8, layers=2),
    "gru": LSTMOptions(cell="gru", embedding_size=6, hidden_size=8, layers=2),
    "rnn": LSTMOptions(cell="rnn", embedding_size=6, hidden_size=8),
    "tied": LSTMOptions(embedding_size=8, hidden_size=8, tie_output=True, dropout=0.5),
    "projected": LSTMOptions(
        embedding_size=6, hidden_size=8, layers=2, tie_output=True, dropout=0.5, variational=True
    ),
    "gpt": GPTOptions(layers=2, heads=2, width=8),
    "gpt-book": GPTOptions(
        layers=1,
        heads=2,
        width=6,
        key_width=5,
        value_width=3,
        feedforward_width=7,
        activation="relu",
        norm="post",
        positions="sinusoidal",
        tie_output=False,
        dropout=0.5,
    ),
    "llama": GPTOptions(layers=2, heads=4, width=16, key_value_heads=2, tie_output=False, **MODERN),
    "llama-stretched": GPTOptions(
        layers=1, heads=2, width=12, rotary_factor=8.0, rotary_original=10, **MODERN
    ),
    "qwen2": GPTOptions(
        layers=2, heads=4, width=16, key_value_heads=1, **MODERN | {"biases": "queries_keys_values"}
    ),
    "qwen3": GPTOptions(
        layers=2,
        heads=2,
        width=12,
        key_width=8,
        value_width=8,
        query_key_norm=True,
        rotary_base=500.0,
        **MODERN,
    ),
    "gpt-mixed": GPTOptions(  # what no published form has
        layers=2,
        heads=4,
        width=12,
        key_value_heads=2,
        key_width=4,
        value_width=5,
        query_key_norm=True,
        positions="rotary",
        activation="gelu",
        norm="post",
        normalization="layer",
        biases="queries_keys_values",
        tie_output=False,
    ),
}
