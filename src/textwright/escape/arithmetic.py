"""An arithmetic coder: choices of known odds to bits and back, with almost no bit wasted."""

import math
from typing import Protocol


class SymbolWriter(Protocol):
    """Takes choices of probability frequency / total; low is where the choice's share begins."""

    def write(self, low: int, frequency: int, total: int) -> None: ...


class BitCounter:
    """A writer that only counts bits."""

    def __init__(self) -> None:
        self.bits = 0.0

    def write(self, low: int, frequency: int, total: int) -> None:
        self.bits += math.log2(total / frequency)


# The arithmetic coder keeps an interval [low, low + width) of 64 binary digits and shifts out the
# leading ones once they are certain. width stays above 2^62, so rounding costs a choice less than
# 1.5 · total / 2^62 bits: too little to measure.
_ONE = 1 << 64
_HALF, _QUARTER = _ONE >> 1, _ONE >> 2


class ArithmeticEncoder:
    """Writes choices into as few bits as their probabilities allow, plus less than two."""

    def __init__(self) -> None:
        self._digits: list[str] = []
        self._low, self._width, self._pending = 0, _ONE, 0

    def write(self, low: int, frequency: int, total: int) -> None:
        begin = self._width * low // total
        self._width = self._width * (low + frequency) // total - begin
        self._low += begin
        while True:
            if self._low + self._width <= _HALF:
                self._put("0")
            elif self._low >= _HALF:
                self._put("1")
                self._low -= _HALF
            elif self._low >= _QUARTER and self._low + self._width <= _HALF + _QUARTER:
                self._pending += 1  # around the middle: the next digit decides this one too
                self._low -= _QUARTER
            else:
                return
            self._low *= 2
            self._width *= 2

    def finish(self) -> str:
        """All digits, as "0"s and "1"s: the fewest that decode alike whatever follows."""
        places = 0
        while True:
            # The first multiple of the unit in the interval, if the unit after it fits as well.
            unit = _ONE >> places
            point = -(-self._low // unit)
            if (point + 1) * unit <= self._low + self._width:
                break
            places += 1
        for place in reversed(range(places)):
            self._put(str(point >> place & 1))
        # No digit follows to settle the pending ones: any value will do.
        if self._pending:
            self._put("0")
        return "".join(self._digits)

    def _put(self, digit: str) -> None:
        self._digits.append(digit + ("1" if digit == "0" else "0") * self._pending)
        self._pending = 0


class ArithmeticDecoder:
    """Reads back what an ArithmeticEncoder wrote, given the same frequencies."""

    def __init__(self, digits: str) -> None:
        self._digits = digits
        self._next = 64
        self._low, self._width = 0, _ONE
        self._value = int(digits[:64].ljust(64, "0"), 2)

    def target(self, total: int) -> int:
        """A number below total; the next choice is the one whose share contains it."""
        return ((self._value - self._low + 1) * total - 1) // self._width

    def take(self, low: int, frequency: int, total: int) -> None:
        begin = self._width * low // total
        self._width = self._width * (low + frequency) // total - begin
        self._low += begin
        while True:
            if self._low + self._width <= _HALF:
                shift = 0
            elif self._low >= _HALF:
                shift = _HALF
            elif self._low >= _QUARTER and self._low + self._width <= _HALF + _QUARTER:
                shift = _QUARTER
            else:
                return
            digit = self._digits[self._next : self._next + 1] == "1"
            self._next += 1
            self._low = (self._low - shift) * 2
            self._width *= 2
            self._value = (self._value - shift) * 2 + digit
