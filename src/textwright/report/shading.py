"""Texts whose tokens are shaded: by one value each, or by what a chosen token looks back on.

Both work by pointer, touch and arrow keys; on paper and without scripts they show what they begin
with. A page that holds some ends with `BEHAVIOR`.
"""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from textwright.report.page import Html, Table

Floats = NDArray[np.float64]

BEHAVIOR = Html(
    "<script>\n"
    + resources.files("textwright.report").joinpath("templates/shading.js").read_text("utf-8")
    + "</script>"
)


@dataclass(frozen=True)
class ShadedText:
    """A text with a shade for each token: levels (T,) from −1 to 1, where 0 has none.

    says: what is told of each token when it is chosen, in lines · gap: stands between tokens ·
    label: what the shades mean · table: the same in numbers.
    """

    texts: Sequence[str]
    levels: Sequence[float]
    says: Sequence[str]
    gap: str
    label: str
    table: Table

    def html(self) -> str:
        text = _text(self.texts, self.levels, self.gap, self.label, self.says)
        return (
            f'<div class="shading">{text}{_SAYS}'
            f"<details><summary>As a table</summary>{self.table.html()}</details></div>"
        )

    def markdown(self) -> str:
        return self.table.markdown()


@dataclass(frozen=True)
class LookingBack:
    """A text in which the earlier tokens are shaded that a chosen token looks back on.

    names: of the tokens, with white space visible · looks: by name, each (T, T): row t has the
    weights of the tokens 0 … t; the first is shown at the beginning, in its last row · rows: what
    row t is about (T) · percent: weights are shares; else they are nats, and may be below 0.
    """

    texts: Sequence[str]
    names: Sequence[str]
    looks: Mapping[str, Floats]
    rows: Sequence[str]
    gap: str
    label: str
    percent: bool

    def html(self) -> str:
        first = next(iter(self.looks.values()))
        newest = first[-1] / max(float(np.abs(first[-1]).max()), 1e-12)
        scale = 1000  # whole numbers: tenths of a percent, or thousandths of a nat
        weights = [
            [np.rint(look[t, : t + 1] * scale).astype(int).tolist() for t in range(len(look))]
            for look in self.looks.values()
        ]
        data = json.dumps(
            {
                "names": list(self.names),
                "rows": list(self.rows),
                "looks": weights,
                "percent": self.percent,
            },
            ensure_ascii=False,
            separators=(",", ":"),
        ).replace("</", "<\\/")
        chooser = ""
        if len(self.looks) > 1:
            options = "".join(f"<option>{html.escape(name)}</option>" for name in self.looks)
            chooser = f"<label>Show <select>{options}</select></label>"
        return (
            f'<div class="shading looking">{chooser}'
            f"{_text(self.texts, newest.tolist(), self.gap, self.label)}{_SAYS}"
            f'<script type="application/json">{data}</script></div>'
        )

    def markdown(self) -> str:
        form = "{:.1%}" if self.percent else "{:+.3f}"
        newest = zip(self.names, *(look[-1] for look in self.looks.values()), strict=True)
        rows = [[text, *map(form.format, weights)] for text, *weights in newest]
        return Table(["token", *self.looks], rows, self.rows[-1]).markdown()


_SAYS = (
    '<p class="says" aria-live="polite">Point at a token, tap it, or move along the text with the '
    "arrow keys.</p>"
)


def _text(
    texts: Sequence[str],
    levels: Sequence[float],
    gap: str,
    label: str,
    says: Sequence[str] | None = None,
) -> str:
    spans = []
    for place, (text, level) in enumerate(zip(texts, levels, strict=True)):
        kind = "token less" if level < 0 else "token"
        said = f' data-says="{html.escape(says[place])}"' if says else ""
        shown = html.escape(text.replace("\n", "⏎\n"))
        spans.append(f'<span class="{kind}" style="--level:{abs(level):.3f}"{said}>{shown}</span>')
    return (
        f'<div class="shaded" tabindex="0" role="group" aria-label="{html.escape(label)}">'
        f"{gap.join(spans)}</div>"
    )
