"""Heat maps: the image holds the matrix, the names stand beside it."""

import base64
import re
import struct
import zlib

import numpy as np

from textwright.report.heat_map import LESS, MORE, heat_map, image_of, thumbnails


def pixels_of(url):
    """The (R, C, 4) pixels of an image that `image_of` made, by the format's definition."""
    data = base64.b64decode(url.removeprefix("data:image/png;base64,"))
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, at = {}, 8
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        (checksum,) = struct.unpack(">I", data[at + 8 + length : at + 12 + length])
        assert checksum == zlib.crc32(kind + body)
        chunks[kind] = body
        at += 12 + length
    width, height = struct.unpack(">II", chunks[b"IHDR"][:8])
    lines = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, -1)
    assert not lines[:, 0].any()  # no filter
    return lines[:, 1:].reshape(height, width, 4)


def test_a_pixel_is_as_dense_as_its_value_is_large_and_its_color_is_the_sign():
    pixels = pixels_of(image_of(np.array([[0.0, 0.5, 1.0], [-1.0, -0.2, 0.0]])))
    assert pixels[..., 3].tolist() == [[0, 128, 255], [255, 51, 0]]
    assert (pixels[0, 1, :3] == MORE).all() and (pixels[1, 0, :3] == LESS).all()
    assert not pixels_of(image_of(np.zeros((2, 2))))[..., 3].any()


def test_rows_and_columns_have_their_names_and_nothing_is_markup():
    drawn = heat_map(np.eye(2), ["<b>", "long " * 20], ["x", "y"], 'a "title"')
    assert re.findall(r"<text [^>]*>([^<]*)</text>", drawn)[0] == "&lt;b&gt;"
    assert "…" in drawn and "long " * 10 not in drawn
    assert 'aria-label="a &quot;title&quot;"' in drawn
    assert thumbnails({"one": np.eye(2), "two": np.eye(2)}).count("<img") == 2
