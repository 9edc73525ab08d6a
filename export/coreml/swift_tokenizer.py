"""What swift-transformers reads beside `tokenizer.json`, without which it opens no tokenizer."""

from __future__ import annotations

import json
from pathlib import Path

from ondevice.package import Package
from ondevice.runtime.tokenizer import Tokenizer


def write_tokenizer_config(package: Package) -> Path:
    """Write `tokenizer_config.json`; its path.

    The class is the one that takes everything from `tokenizer.json`. Spaces before punctuation
    are kept, which swift-transformers removes unless it is told not to.
    """
    tokenizer = Tokenizer.read(package.tokenizer_file)
    text = package.manifest.text
    eos = text.eos_ids[0] if text.eos_ids else None
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "bos_token": tokenizer.spelling(text.bos_id),
        "eos_token": tokenizer.spelling(eos),
        "chat_template": package.chat_template(),
    }
    given = {name: value for name, value in config.items() if value not in (None, "")}
    path = package.folder / "tokenizer_config.json"
    path.write_text(json.dumps(given, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return path
