"""Short texts of all scripts, on which a rebuilt tokenizer is compared with its original."""

import unicodedata
from collections.abc import Iterator
from itertools import cycle, product

_BLOCK = 32  # code points whose characters stand in one text
_BETWEEN = (" ", "\n", "1", "'s ", ". ", "  ", "\t", "-", "\r\n", "a", ".\n\n", "\u0301", "")
_BLANKS = (" ", "\t", "\n", "\r", "\x1c", "\x85", "\u00a0", "\u2003", "\u2028", "\u3000", "\u200b")
_AROUND = (("", ""), ("a", "b"), (".", "1"), ("中", "!"))
_MANY = ("CJK UNIFIED", "HANGUL SYLLABLE", "TANGUT IDEOGRAPH")  # an eighth of these is enough
_NO_TEXT = ("Cn", "Co", "Cs")  # unassigned, private, surrogate
_PARTICULAR = (
    *("0 12 123 1234 12345678", "3.14 1,000,000 10:30", "2⁷ Ⅻ½", "٣٤٥٦१२३४५"),
    *("I'm we'LL they'Re it'S 'tis o'clock", "'ſ 'Twas d'été ’s", "''s '''ve", "don't1 can't\n"),
    *("e\u0301\n", "\u1100\u1161\u11a8", "A\u030a\u0327 \u212b", "n\u0303o\u0302 \u1e9b\u0323"),
    *("👩‍👩‍👧‍👦👍🏽 🧑🏿‍🚀", "🇺🇳🇯🇵🏴\U000e0067\U000e0062", "1️⃣#️⃣ ❤️‍🔥", "☕️.\n☕︎"),
    *("f(x)=[1,2]; // ok\n\n\tif (a_b != 'c')\r\n\t\treturn;\n", "<|a|> </s> [INST] {{}} \\n"),
    *(
        "...\n...",
        "?!\r\n\r\n",
        " .",
        "  .\n ",
        "—\n\n—",
        "$5 €6%",
        "_a_1_",
        "http://a.b/c?d=e&f#g",
    ),
)


def texts_of_all_scripts() -> Iterator[str]:
    """Texts of up to a hundred characters.

    They hold the characters of all scripts, alone and beside letters, marks, digits and white
    space; runs of all kinds of white space; numbers, contractions and emoji.
    """
    for start in range(0, 0x110000, _BLOCK):
        block = map(chr, range(start, start + _BLOCK))
        letters = [letter for letter in block if unicodedata.category(letter) not in _NO_TEXT]
        name = unicodedata.name(letters[0], "") if letters else ""
        if letters and (not name.startswith(_MANY) or start % (8 * _BLOCK) == 0):
            yield "".join(letters)
            yield "".join(map("".join, zip(letters, cycle(_BETWEEN), strict=False)))
    for blanks in (run for length in (1, 2, 3) for run in product(_BLANKS, repeat=length)):
        for before, after in _AROUND:
            yield before + "".join(blanks) + after
    yield from _PARTICULAR
