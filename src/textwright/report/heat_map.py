"""Heat maps: a matrix as an image inside SVG, with the names of its rows and columns.

The image is transparent where a value is 0, so it stands on light and dark paper; the page turns
its lightness round in the dark.
"""

from __future__ import annotations

import base64
import html
import struct
import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

CELL = 16  # pixels
LETTER = 6.6  # pixels of width, about
LONGEST = 30  # letters of a name
MORE, LESS = (11, 92, 116), (180, 70, 10)  # above 0, below 0


def heat_map(values: Floats, rows: Sequence[str], columns: Sequence[str], title: str) -> str:
    """A matrix (R, C) with named rows and columns → HTML. Its largest value has the full shade."""
    rows, columns = (
        [name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…" for name in names]
        for names in (rows, columns)
    )
    left = LETTER * max(map(len, rows), default=0) + 10
    top = LETTER * max(map(len, columns), default=0) + 10
    width, height = left + CELL * len(columns), top + CELL * len(rows)
    names = "".join(
        f'<text x="{left - 6:.0f}" y="{top + CELL * (at + 0.7):.0f}" text-anchor="end">'
        f"{html.escape(name)}</text>"
        for at, name in enumerate(rows)
    )
    names += "".join(
        f'<text transform="translate({left + CELL * (at + 0.7):.0f} {top - 6:.0f}) rotate(-90)">'
        f"{html.escape(name)}</text>"
        for at, name in enumerate(columns)
    )
    image = (
        f'<image x="{left:.0f}" y="{top:.0f}" width="{CELL * len(columns)}" '
        f'height="{CELL * len(rows)}" preserveAspectRatio="none" href="{image_of(values)}"/>'
    )
    label = html.escape(title)
    return (
        f'<div class="scroll heat" role="region" tabindex="0" aria-label="{label}">'
        f'<svg width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'role="img"><title>{label}</title>{image}{names}</svg></div>'
    )


def thumbnails(maps: dict[str, Floats]) -> str:
    """Small heat maps side by side, each with its name and a scale of its own → HTML."""
    figures = "".join(
        f'<figure><img class="map" src="{image_of(values)}" alt="Heat map: {html.escape(name)}">'
        f"<figcaption>{html.escape(name)}</figcaption></figure>"
        for name, values in maps.items()
    )
    return f'<div class="thumbnails">{figures}</div>'


def image_of(values: Floats) -> str:
    """A matrix (R, C) as an image of one pixel a value, in a data URL."""
    sizes = np.abs(values)
    strength = sizes / max(float(sizes.max(initial=0.0)), 1e-12)
    pixels = np.empty((*values.shape, 4), np.uint8)
    pixels[..., :3] = np.where(values[..., None] < 0, LESS, MORE)
    pixels[..., 3] = np.rint(255 * strength)
    return "data:image/png;base64," + base64.b64encode(_png(pixels)).decode("ascii")


def _png(pixels: NDArray[np.uint8]) -> bytes:
    """Pixels (R, C, 4) as PNG (ISO/IEC 15948)."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checked = kind + data
        return struct.pack(">I", len(data)) + checked + struct.pack(">I", zlib.crc32(checked))

    height, width, _ = pixels.shape
    lines = np.concatenate([np.zeros((height, 1), np.uint8), pixels.reshape(height, -1)], 1)
    header = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)  # 8 bits, RGBA
    body = chunk(b"IDAT", zlib.compress(lines.tobytes(), 9))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body + chunk(b"IEND", b"")
