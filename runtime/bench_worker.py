"""Opens what a `Spec` names and measures it: in this process, or as a program of its own that
answers one JSON line for each it reads. Decides nothing about what is measured.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import IO, TYPE_CHECKING

from ondevice.errors import EngineError, OndeviceError, RequestError
from ondevice.package import Package, open_package
from ondevice.runtime.answer import Message
from ondevice.runtime.bench_subject import LocalSubject, Spec, Subject, SubjectInfo, Texts
from ondevice.runtime.bench_text import CONVERSATION, PROSE
from ondevice.runtime.engine import Engine

if TYPE_CHECKING:
    from ondevice.runtime.chat_template import ChatTemplate
    from ondevice.runtime.tokenizer import Tokenizer

_LIBRARIES = {"ort": "onnxruntime", "genai": "onnxruntime_genai"}
_METHODS = ("load", "limits", "prefill", "decode", "chat", "text_tokens", "top1", "peak_memory")


def local_subject(spec: Spec, info: SubjectInfo | None = None) -> LocalSubject:
    """The subject of a spec, in this process. Raises `PackageError` for a bad package."""
    package = open_package(Path(spec.package))
    texts = package_texts(package)
    return LocalSubject(
        info or _anonymous(spec),
        lambda: _open(spec, package),
        texts=texts,
        start=lambda: _import(spec.engine),
    )


def package_texts(package: Package) -> Texts:
    """The benchmark's texts through the package's tokenizer and template, as an answer does it.

    Raises `PackageError` for a tokenizer or template that cannot be used.
    """
    from ondevice.runtime.tokenizer import Tokenizer

    tokenizer = Tokenizer.read(package.tokenizer_file)
    return Texts(_conversation(package, tokenizer), lambda: tokenizer.encode(PROSE))


def serve(subject: Subject, requests: IO[str], replies: IO[str]) -> None:
    """Answer requests `[method, arguments...]` until there are no more."""
    for line in requests:
        reply = _answer(subject, line)
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


def main() -> None:
    """`python -m ondevice.runtime.bench_worker SPEC`: serve on standard input and output."""
    # Only replies may reach the real standard output: whatever a native library prints goes
    # to standard error instead.
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    requests = os.fdopen(os.dup(0), "r", encoding="utf-8")
    try:
        subject = local_subject(Spec(**json.loads(sys.argv[1])))
        serve(subject, requests, replies)
    except OndeviceError as error:  # before the first request: it is the answer to that
        requests.readline()
        replies.write(json.dumps(_failure(error)) + "\n")
        replies.flush()
    except (KeyboardInterrupt, BrokenPipeError):
        os._exit(130)


def _answer(subject: Subject, line: str) -> dict[str, object]:
    method, *arguments = json.loads(line)
    if method not in _METHODS:
        raise RuntimeError(f"unknown request {method}")
    try:
        value = getattr(subject, method)(*arguments)
    except OndeviceError as error:
        return _failure(error)
    except MemoryError:
        return _failure(EngineError("there is not enough memory; measure fewer tokens"))
    is_data = dataclasses.is_dataclass(value) and not isinstance(value, type)
    return {"value": dataclasses.asdict(value) if is_data else value}


def _failure(error: OndeviceError) -> dict[str, object]:
    return {"error": type(error).__name__, "message": str(error)}


def _import(engine: str) -> None:
    if engine == "llamacpp":
        from ondevice.runtime import llamacpp

        llamacpp.library()
        return
    try:
        import_module(_LIBRARIES[engine])
    except ImportError as error:
        raise EngineError(f"the {engine} engine cannot be loaded: {error}") from error


def _open(spec: Spec, package: Package) -> Engine:
    if spec.engine == "llamacpp":
        from ondevice.runtime.llamacpp import LlamaCppEngine

        if spec.gguf is None:
            raise RequestError("the llamacpp engine needs a GGUF file; give --gguf FILE")
        return LlamaCppEngine(
            Path(spec.gguf), threads=spec.threads, context_length=spec.context_length
        )
    from ondevice.runtime.engines import open_engine

    return open_engine(
        package, spec.engine, threads=spec.threads, context_length=spec.context_length
    )


def _conversation(package: Package, tokenizer: Tokenizer) -> Callable[[], Sequence[int]]:
    from ondevice.runtime.chat_template import ChatTemplate

    source, text = package.chat_template(), package.manifest.text
    if source is None:
        plain = "\n\n".join(message.content for message in CONVERSATION)
        return lambda: tokenizer.encode(tokenizer.guard(plain), add_special=True)
    template = ChatTemplate(
        source,
        bos=tokenizer.spelling(text.bos_id),
        eos=tokenizer.spelling(next(iter(text.eos_ids), None)),
    )
    messages = _accepted(template)

    def encode() -> Sequence[int]:
        guarded = [Message(m.role, tokenizer.guard(m.content)) for m in messages]
        return tokenizer.encode(template.render(guarded))

    return encode


def _accepted(template: ChatTemplate) -> tuple[Message, ...]:
    try:
        template.render(CONVERSATION)
    except RequestError:  # some templates know no system message
        return CONVERSATION[1:]
    return CONVERSATION


def _anonymous(spec: Spec) -> SubjectInfo:
    from ondevice.runtime.bench_result import ModelInfo

    model = ModelInfo(Path(spec.package).name, "package", None, 0, None)
    return SubjectInfo(spec.engine, spec.engine, None, model, spec.threads, spec.context_length)


if __name__ == "__main__":
    main()
