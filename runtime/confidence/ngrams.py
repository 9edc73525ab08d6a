"""A prompt as a set of hashed n-grams: of characters, and of words.

The same on every machine and in every version: coefficients are bound to these buckets.
Knows no coefficients.
"""

from __future__ import annotations

import re
import zlib
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

BUCKETS = 1 << 13
HEAD, TAIL = 1500, 500  # bytes looked at: what is asked stands at the start or at the end
_WORD = re.compile(rb"[a-z\x80-\xff]+|[0-9]+|[^\sa-z0-9]")
_PRIME = np.uint32(0x01000193)
_SIZES = (3, 4, 5)  # characters (bytes of UTF-8)


@lru_cache(maxsize=8)  # the same prompt is looked at before and after its answer
def ngrams(text: str) -> NDArray[np.intp]:
    """The buckets, each once and in order, of a text's 3- to 5-grams of bytes and 1- to 2-grams
    of words. Case and white space do not count, and all digits are one digit."""
    data = _plain(text)
    found = np.zeros(BUCKETS, dtype=np.bool_)
    letters = np.frombuffer(data, np.uint8).astype(np.uint32)
    for size in _SIZES:
        found[_bucket(_windows(letters, size), size)] = True
    words = np.array([zlib.crc32(word) for word in _WORD.findall(data)], dtype=np.uint32)
    for size in (1, 2):
        found[_bucket(_windows(words, size), 10 + size)] = True
    buckets = np.flatnonzero(found)
    buckets.flags.writeable = False
    return buckets


def _plain(text: str) -> bytes:
    if len(text) > HEAD + TAIL:
        text = text[:HEAD] + " " + text[-TAIL:]
    text = " ".join(text.casefold().split())
    data = re.sub(rb"\d", b"0", text.encode("utf-8", "replace"))
    if len(data) > HEAD + TAIL:
        data = data[:HEAD] + b" " + data[-TAIL:]
    return b" " + data + b" "


def _windows(units: NDArray[np.uint32], size: int) -> NDArray[np.uint32]:
    """One hash for each run of `size` units (FNV-1 over the units, modulo 2^32)."""
    count = max(len(units) - size + 1, 0)
    total = np.full(count, 0x811C9DC5, dtype=np.uint32)
    for offset in range(size):
        total = total * _PRIME ^ units[offset : offset + count]
    return total


def _bucket(hashes: NDArray[np.uint32], salt: int) -> NDArray[np.intp]:
    """Well mixed (the finalizer of MurmurHash3), then folded into the buckets."""
    mixed = hashes ^ np.uint32(salt * 0x9E3779B1 & 0xFFFFFFFF)
    mixed = (mixed ^ mixed >> np.uint32(16)) * np.uint32(0x85EBCA6B)
    mixed = (mixed ^ mixed >> np.uint32(13)) * np.uint32(0xC2B2AE35)
    return ((mixed ^ mixed >> np.uint32(16)) % np.uint32(BUCKETS)).astype(np.intp)
