"""How a place enters a GPT: waves added to token vectors, or those that turn queries and keys."""

import numpy as np

from textwright.backends.weights import Floats
from textwright.families import GPTOptions


def rotary_waves(options: GPTOptions) -> tuple[Floats, Floats]:
    """Cosines and sines (C, K/2) of the angles of each place (Su et al. 2021)."""
    places = np.arange(options.context_length, dtype=np.float32)
    plain, stretch = rotary_frequencies(options)
    angles = places[:, None] * (plain / stretch)
    return np.cos(angles), np.sin(angles)


def rotary_frequencies(options: GPTOptions) -> tuple[Floats, Floats]:
    """Radians from place to place of each pair (K/2,), and by what to divide them (K/2,).

    Llama 3 stretches the waves that do not fit `rotary_low` times into the original context, keeps
    those that fit `rotary_high` times, and interpolates between the two.
    """
    width = options.head_widths[0]
    pairs = np.arange(0, width, 2, dtype=np.float32)
    frequencies = 1 / np.float32(options.rotary_base) ** (pairs / np.float32(width))
    low, high = options.rotary_low, options.rotary_high
    fits = options.rotary_original * frequencies / (2 * np.pi)
    kept = np.clip((fits - low) / (high - low), 0, 1)
    stretch = 1 / ((1 - kept) / options.rotary_factor + kept)
    return frequencies.astype(np.float32), stretch.astype(np.float32)


def sinusoids(count: int, width: int) -> Floats:
    """Positions (count, width) as waves of falling frequency, sine and cosine (Vaswani et al.)."""
    pairs = np.arange(0, width, 2)
    angles = np.arange(count)[:, None] * np.exp(-np.log(10_000) * pairs / width)
    waves = np.stack([np.sin(angles), np.cos(angles)], -1).reshape(count, -1)
    return waves[:, :width].astype(np.float32)
