"""The tokenizer of a checkpoint folder: tokenizer.json, its chat template, its special tokens."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ondevice.errors import SourceError
from ondevice.export.architectures.fields import Fields
from ondevice.export.json_files import read_optional_json, read_text
from ondevice.export.source import TokenizerFiles
from ondevice.export.vocabulary import put_before_texts

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_TOKENIZER = "tokenizer.json"
_TOKENIZER_CONFIG = "tokenizer_config.json"
_GENERATION = "generation_config.json"
_TEMPLATE = "chat_template.jinja"
TOKENIZER_FILES = (_TOKENIZER, _TOKENIZER_CONFIG, _GENERATION, _TEMPLATE)


def tokenizer_from_folder(folder: Path, config: Fields, vocab_size: int) -> TokenizerFiles:
    """Read the text side of a checkpoint folder.

    The ids that end an answer are those of generation_config.json, or else config.json, and
    the tokenizer's own. Where the model wants a first token before plain text, tokenizer.json
    adds it. Raises `SourceError` when a file is missing or they do not fit together.
    """
    text = _with_rows(read_text(folder / _TOKENIZER), vocab_size, folder)
    tokenizer = _parsed(text, folder / _TOKENIZER)
    options = read_optional_json(folder / _TOKENIZER_CONFIG)
    special = _SpecialTokens(tokenizer, options, vocab_size)
    generation = read_optional_json(folder / _GENERATION)
    answers_end = generation if generation.present("eos_token_id") else config
    eos = _ids(answers_end, "eos_token_id", vocab_size) + special.named("eos_token")
    if not eos:
        raise SourceError(f"{folder} names no token that ends an answer (eos_token_id)")
    bos = special.named("bos_token") + _ids(config, "bos_token_id", vocab_size)
    pad = special.named("pad_token") + _ids(config, "pad_token_id", vocab_size)
    template = _chat_template(folder, options)
    adds_bos = bool(bos) and bos[0] in tokenizer.encode("a").ids
    if bos and not adds_bos and options.flag("add_bos_token"):
        put_before_texts(tokenizer, bos[0])
        text, adds_bos = tokenizer.to_str(), True
    return TokenizerFiles(
        tokenizer_json=text,
        chat_template=template,
        eos_ids=tuple(dict.fromkeys(eos)),
        # A template may spell the token out even where plain text goes without.
        bos_id=bos[0] if adds_bos or (bos and "bos_token" in (template or "")) else None,
        pad_id=pad[0] if pad else None,
    )


def _with_rows(text: str, vocab_size: int, folder: Path) -> str:
    """tokenizer.json without added tokens that the embedding has no row for.

    Gemma 3's text models name a token for images. Raises `SourceError` for other tokens.
    """
    tokenizer = _parsed(text, folder / _TOKENIZER)
    last = max(tokenizer.get_vocab(with_added_tokens=False).values(), default=-1)
    if not 0 <= last < vocab_size:
        raise SourceError(
            f"tokenizer.json in {folder} has tokens up to id {last}, the token embedding has "
            f"{vocab_size} rows; they are not of one checkpoint"
        )
    if max(tokenizer.get_vocab().values()) < vocab_size:
        return text
    values = json.loads(text)
    values["added_tokens"] = [t for t in values["added_tokens"] if t["id"] < vocab_size]
    return json.dumps(values, ensure_ascii=False)


@dataclass(frozen=True)
class _SpecialTokens:
    tokenizer: Tokenizer
    options: Fields
    vocab_size: int

    def named(self, role: str) -> list[int]:
        """The id of a token that tokenizer_config.json names by its text, plain or wrapped."""
        if not self.options.present(role):
            return []
        wrapped = isinstance(self.options.values[role], dict)
        section = self.options.section(role) if wrapped else None
        text = self.options.text(role) if section is None else section.text("content")
        found = self.tokenizer.token_to_id(text)
        if found is None:
            raise SourceError(
                f"{self.options.where} names {text[:40]!r} as {role}; tokenizer.json has no such "
                "token"
            )
        return [found]


def _parsed(text: str, path: Path) -> Tokenizer:
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_str(text)
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as error:  # a panic of the Rust library is no Exception
        reason = " ".join(str(error).split())[:120]
        raise SourceError(f"{path} is not a tokenizer ({reason}); fetch it again") from error


def _ids(fields: Fields, name: str, vocab_size: int) -> list[int]:
    value = fields.values.get(name)
    listed = value if isinstance(value, list) else [] if value is None else [value]
    found = [item for item in listed if type(item) is int and -1 <= item < vocab_size]
    if len(found) != len(listed):
        raise fields.wrong(name, f"made of ids below {vocab_size}")
    return [item for item in found if item >= 0]  # -1 is an older way to say "none"


def _chat_template(folder: Path, options: Fields) -> str | None:
    path = folder / _TEMPLATE
    if path.exists():
        return read_text(path)
    value = options.values.get("chat_template")
    if not isinstance(value, list):
        return None if value is None else options.text("chat_template")
    named = [Fields(item, options.where) for item in value if isinstance(item, dict)]
    templates = {item.text("name"): item.text("template") for item in named}
    return templates.get("default", next(iter(templates.values()), None))
