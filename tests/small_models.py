"""A small model of every kind, by its options: what tests run over."""

from textwright.families import GPTOptions, LSTMOptions

SMALL = {
    "lstm": LSTMOptions(embedding_size=6, hidden_size=8, layers=2),
    "gru": LSTMOptions(cell="gru", embedding_size=6, hidden_size=8, layers=2),
    "rnn": LSTMOptions(cell="rnn", embedding_size=6, hidden_size=8),
    "tied": LSTMOptions(embedding_size=8, hidden_size=8, tie_output=True, dropout=0.5),
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
}
