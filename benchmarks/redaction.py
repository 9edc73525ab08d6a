"""How much planted personal data the redactor finds, and how much other text it changes.

Writes recall by class with 95% intervals, and the share of other text changed: of characters
around planted items, of characters of clean look-alikes, and of look-alike texts. An item is
found when every character of it is replaced.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ondevice import files
from ondevice.runtime.cloud.detectors import find
from ondevice.runtime.cloud.redact import Redactor
from recipes.personal_data import CLASSES, LANGUAGES, Sample, clean, hand_written, planted


def run(items: int = 4000, texts: int = 4000, seed: int = 2024) -> dict[str, Any]:
    """All figures for `items` planted items and `texts` clean texts made with a seed."""
    start = time.perf_counter()
    with_items, without = planted(items, seed), clean(texts, seed)
    result = _recall(with_items) | _damage(with_items, without)
    redactor = Redactor()
    kept = 0
    begun = time.perf_counter()
    for sample in with_items:
        hidden = redactor.hide(sample.text)
        kept += redactor.restore(hidden.text, hidden.found) == sample.text
    per_text = (time.perf_counter() - begun) / len(with_items)
    return {
        "seed": seed,
        "languages": len(LANGUAGES),
        **result,
        "by_hand": _by_hand(),
        "restored_exactly": kept / len(with_items),
        "milliseconds_a_text": round(per_text * 1e3, 3),
        "seconds": round(time.perf_counter() - start, 1),
    }


# Before the detectors were mended with them, batch by batch; see personal_data_unseen.txt.
_FIRST_SIGHT = {"items": 190, "found": 167, "clean_texts": 135, "clean_texts_changed": 8}


def _by_hand() -> dict[str, Any]:
    """The same on the texts written by hand, now and at first sight."""
    samples = hand_written()
    without = [sample for sample in samples if not sample.items]
    found = _recall([sample for sample in samples if sample.items])
    return {
        "items": found["items"],
        "recall": found["recall"],
        "clean_texts": len(without),
        "clean_texts_changed": sum(bool(_kinds(s.text)) for s in without) / len(without),
        "at_first_sight": _FIRST_SIGHT,
        "recall_at_first_sight": _FIRST_SIGHT["found"] / _FIRST_SIGHT["items"],
    }


def _recall(samples: Sequence[Sample]) -> dict[str, Any]:
    planted_by, found_by, named_by = Counter[str](), Counter[str](), Counter[str]()
    missed: Counter[str] = Counter()
    for sample in samples:
        kinds = _kinds(sample.text)
        for item in sample.items:
            covered = [kinds.get(place) for place in range(item.start, item.end)]
            planted_by[item.kind] += 1
            if None in covered:
                missed[f"{item.kind}: {item.form.strip()}"] += 1
            else:
                found_by[item.kind] += 1
                named_by[item.kind] += set(covered) == {item.kind}
    total, found = planted_by.total(), found_by.total()
    return {
        "items": total,
        "recall": found / total,
        "recall_95": _interval(found, total),
        "by_class": {
            kind: {
                "items": planted_by[kind],
                "recall": found_by[kind] / planted_by[kind],
                "recall_95": _interval(found_by[kind], planted_by[kind]),
                "under_its_class": named_by[kind] / planted_by[kind],
            }
            for kind in CLASSES
        },
        "missed_by_format": dict(missed.most_common()),
    }


def _damage(with_items: Sequence[Sample], without: Sequence[Sample]) -> dict[str, Any]:
    other, changed = 0, 0
    for sample in with_items:
        kinds = _kinds(sample.text)
        own = {place for item in sample.items for place in range(item.start, item.end)}
        other += len(sample.text) - len(own)
        changed += len(kinds.keys() - own)
    characters = sum(len(sample.text) for sample in without)
    touched = [len(_kinds(sample.text)) for sample in without]
    families = Counter(s.source for s, count in zip(without, touched, strict=True) if count)
    return {
        "other_text_changed": changed / other,
        "clean_texts": len(without),
        "clean_characters_changed": sum(touched) / characters,
        "clean_texts_changed": sum(map(bool, touched)) / len(without),
        "clean_texts_changed_by_family": dict(families.most_common()),
    }


def _kinds(text: str) -> dict[int, str]:
    """The class that takes each replaced character, by its place."""
    return {place: m.kind for m in find(text) for place in range(m.start, m.end)}


def _interval(successes: int, total: int) -> list[float]:
    """Wilson's 95% interval for a share."""
    z, share = 1.959964, successes / total
    middle = share + z * z / (2 * total)
    half = z * (share * (1 - share) / total + z * z / (4 * total * total)) ** 0.5
    scale = 1 + z * z / total
    return [round((middle - half) / scale, 5), round(min(1.0, (middle + half) / scale), 5)]


def main() -> None:
    """Print the figures, and write them as JSON when asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=4000)
    parser.add_argument("--texts", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=2024)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    text = json.dumps(run(options.items, options.texts, options.seed), indent=2) + "\n"
    print(text, end="")
    if options.json is not None:
        files.write_text(options.json, text)


if __name__ == "__main__":
    main()
