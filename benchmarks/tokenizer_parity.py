"""Token ids of our tokenizers against llama.cpp's, for the same GGUF files.

    python -m benchmarks.tokenizer_parity MODEL.gguf [MODEL.gguf ...] [--lines 2000] [--seed 1]
        [--pre NAME]

Prints JSON: for each file the lines compared, the lines with other ids, and the first few of
them. `--pre` compares as if the file named another pre-tokenizer. Needs llama-cpp-python.
With `--fixture FILE` the texts and llama.cpp's ids of the one file given, for each
pre-tokenizer, are written there, for the test that runs where llama.cpp is not installed.
"""

from __future__ import annotations

import argparse
import json
import random
import string
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gguf
from tokenizers import Tokenizer

from ondevice.export.architectures.fields import Fields
from ondevice.export.gguf_reader import read_gguf
from ondevice.export.tokenizer import tokenizer_from_gguf
from ondevice.export.tokenizer_bpe import PRE_TOKENIZERS
from ondevice.files import write_text

SCRIPTS = {
    "latin": (0x41, 0x17F),
    "greek": (0x391, 0x3C9),
    "cyrillic": (0x410, 0x44F),
    "hebrew": (0x5D0, 0x5EA),
    "arabic": (0x620, 0x64A),
    "devanagari": (0x905, 0x94D),
    "tamil": (0xB85, 0xBCD),
    "thai": (0xE01, 0xE5B),
    "georgian": (0x10D0, 0x10FA),
    "hangul": (0xAC00, 0xD7A3),
    "kana": (0x3041, 0x30FF),
    "han": (0x4E00, 0x9FA5),
    "han extension": (0x20000, 0x2A6D6),
    "mathematical": (0x1D400, 0x1D7FF),
    "combining": (0x300, 0x36F),
    "punctuation": (0x2010, 0x205E),
    "symbols": (0x2190, 0x22FF),
    "private": (0xE000, 0xE0FF),
}
EMOJI = [
    "😀",
    "🎉",
    "👍🏽",
    "👩\u200d👩\u200d👧\u200d👦",
    "🏳️\u200d🌈",
    "🇩🇪",
    "🇯🇵",
    "❤️",
    "☕",
    "🧑🏿\u200d🚀",
    "1️⃣",
    "🤦🏼\u200d♂️",
    "🫠",
]
SPACES = [
    " ",
    "  ",
    "   ",
    "\t",
    "\t\t",
    "\n",
    "\n\n",
    "\r\n",
    " \n ",
    "\u00a0",
    "\u3000",
    "\u2009",
]
SPECIAL = [
    "<|im_start|>",
    "<|im_end|>",
    "<|endoftext|>",
    "<|im_start",
    "<|im_end|>>",
    "<|fim_prefix|>",
    "<tool_call>",
    "</tool_call>",
    "<s>",
    "</s>",
    "<unk>",
    "<0x0A>",
    "<|eot_id|>",
    "<repo_name>",
    "<file_sep>",
    "[PAD151665]",
    "<|",
]
WORDS = [
    "the",
    "quick",
    "brown",
    "fox",
    "don't",
    "I'll",
    "WE'RE",
    "they've",
    "it's",
    "naïve",
    "café",
    "straße",
    "Zürich",
    "İstanbul",
    "ﬁne",
    "x1",
    "v2.0",
    "A.B.C.",
    "e.g.",
    "http://example.org/a?b=c&d=e",
    "user@example.org",
    "#tag",
    "@name",
    "C++",
    "--flag",
]
CODE = (
    "def f(x: int) -> str:",
    "    return f'{x:>10.3f}'",
    "for (int i = 0; i < n; ++i) {",
    "\tif (a != b && !c) { a <<= 2; }",
    "SELECT * FROM t WHERE a >= 10 AND b IS NOT NULL;",
    '<div class="x">&nbsp;</div><!-- c -->',
    "#include <stdio.h>\\n",
    "let v: Vec<u8> = vec![0xFF; 1_000_000];",
    "λ x → x² ≠ ∞",
    "$ echo \"$HOME\" | grep -E '^[a-z]+' > /dev/null 2>&1",
    '"key": [1, 2.5e-10, null, true],',
    "x = a[::-1]  # reversed",
)


def lines(count: int, seed: int) -> list[str]:
    """Texts of many kinds, the same for the same seed."""
    chance = random.Random(seed)
    kinds: list[Callable[[random.Random], str]] = [
        _script, _emoji, _spaces, _digits, _special, _words, _code, _random_characters, _mixed
    ]  # fmt: skip
    return [kinds[index % len(kinds)](chance) for index in range(count)]


def _some(chance: random.Random, items: list[str] | tuple[str, ...], most: int) -> list[str]:
    return [chance.choice(items) for _ in range(chance.randint(1, most))]


def _script(chance: random.Random) -> str:
    low, high = SCRIPTS[chance.choice(list(SCRIPTS))]
    words = ["".join(chr(chance.randint(low, high)) for _ in range(chance.randint(1, 9)))
             for _ in range(chance.randint(1, 8))]  # fmt: skip
    return " ".join(words)


def _emoji(chance: random.Random) -> str:
    return chance.choice(["", " "]).join(_some(chance, EMOJI, 8))


def _spaces(chance: random.Random) -> str:
    return "".join(chance.choice(SPACES) * chance.randint(0, 5) + word
                   for word in [*_some(chance, WORDS, 6), ""])  # fmt: skip


def _digits(chance: random.Random) -> str:
    numbers = [str(chance.randint(0, 10 ** chance.randint(1, 18))) for _ in range(5)]
    return "".join(
        n + chance.choice([" ", ",", ".", "-", "", "/", "²", "½", "٣", "९"]) for n in numbers
    )


def _special(chance: random.Random) -> str:
    return chance.choice(["", " ", "\n"]).join(_some(chance, [*SPECIAL, *WORDS], 8))


def _words(chance: random.Random) -> str:
    return " ".join(_some(chance, WORDS, 12))


def _code(chance: random.Random) -> str:
    return chance.choice(["\n", "\n    ", "\n\n", "\r\n"]).join(_some(chance, CODE, 4))


def _random_characters(chance: random.Random) -> str:
    codes = (chance.randint(1, 0x2FFFF) for _ in range(chance.randint(1, 20)))
    return "".join(chr(code) for code in codes if not 0xD800 <= code <= 0xDFFF)


def _mixed(chance: random.Random) -> str:
    parts = [_script, _emoji, _spaces, _digits, _special, _words, _code]
    return chance.choice(["", " "]).join(chance.choice(parts)(chance) for _ in range(3))


@dataclass(frozen=True)
class Difference:
    text: str
    ours: list[int]
    theirs: list[int]


@dataclass(frozen=True)
class Comparison:
    """`not_restored`: lines that our tokenizer's decoder does not give back."""

    file: str
    lines: int
    tokens: int
    different: int
    not_restored: int
    first_differences: list[Difference]


def compare(path: Path, texts: list[str]) -> Comparison:
    """Ids of each text, special tokens in it recognised, none added."""
    keys = read_gguf(path).keys
    built = tokenizer_from_gguf(Fields(keys, str(path)), len(keys["tokenizer.ggml.tokens"]))
    ours = Tokenizer.from_str(built.tokenizer_json)
    theirs = llama_cpp_ids(path, texts)
    pairs = [
        Difference(text, ours.encode(text, add_special_tokens=False).ids, ids)
        for text, ids in zip(texts, theirs, strict=True)
    ]
    different = [pair for pair in pairs if pair.ours != pair.theirs]
    lost = [p for p in pairs if ours.decode(p.ours, skip_special_tokens=False) != p.text]
    tokens = sum(len(ids) for ids in theirs)
    return Comparison(path.name, len(texts), tokens, len(different), len(lost), different[:5])


def number_merges() -> list[str]:
    """Merges of digits into numbers of two and three: without them, ids do not show how a
    pre-tokenizer cuts numbers."""
    pairs = [f"{a} {b}" for a in string.digits for b in string.digits]
    return pairs + [f"{pair.replace(' ', '')} {c}" for pair in pairs for c in string.digits]


def with_pre_tokenizer(path: Path, pre: str, folder: Path) -> Path:
    """A GGUF file with the vocabulary of `path` and numbers, another pre-tokenizer, no tensors."""
    keys = read_gguf(path).keys
    merges = number_merges()
    numbers = [merge.replace(" ", "") for merge in merges]
    changed = folder / f"{path.stem}.{pre}.gguf"
    writer = gguf.GGUFWriter(changed, "llama")
    for count in ("context_length", "embedding_length", "block_count", "feed_forward_length"):
        getattr(writer, f"add_{count}")(64)
    writer.add_head_count(1)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(keys["tokenizer.ggml.tokens"] + numbers)
    writer.add_token_types(keys["tokenizer.ggml.token_type"] + [1] * len(numbers))
    writer.add_token_merges(keys["tokenizer.ggml.merges"] + merges)
    writer.add_eos_token_id(keys["tokenizer.ggml.eos_token_id"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return changed


def write_fixture(path: Path, texts: list[str], fixture: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        ids = {
            pre: llama_cpp_ids(with_pre_tokenizer(path, pre, Path(folder)), texts)
            for pre in ("default", "gpt-2", "llama-bpe", "qwen2", "smollm")
        }
    rows = [f"{json.dumps(pre)}: {json.dumps(found)}" for pre, found in ids.items()]
    shown = ",\n".join(rows)
    head = f'"number_merges": {json.dumps(number_merges())},\n"texts": {json.dumps(texts)}'
    write_text(fixture, f'{{{head},\n"ids": {{\n{shown}\n}}}}\n')


def llama_cpp_ids(path: Path, texts: list[str]) -> list[list[int]]:
    from llama_cpp import Llama

    model: Any = Llama(str(path), vocab_only=True, verbose=False)
    found = [model.tokenize(t.encode(), add_bos=False, special=True) for t in texts]
    model.close()
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--lines", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pre", choices=sorted(PRE_TOKENIZERS))
    parser.add_argument("--fixture", type=Path)
    given = parser.parse_args()
    texts = lines(given.lines, given.seed)
    if given.fixture:
        write_fixture(given.files[0], texts, given.fixture)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        files = given.files
        if given.pre:
            files = [with_pre_tokenizer(path, given.pre, Path(folder)) for path in files]
        found = [compare(path, texts) for path in files]
    print(json.dumps([asdict(item) for item in found], indent=1))
    return 1 if any(item.different for item in found) else 0


if __name__ == "__main__":
    sys.exit(main())
