"""`ondevice ask`: one question, one answer. Parses and prints; `ondevice.load` does the work."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from ondevice.cli import options, output, replies
from ondevice.errors import RequestError

if TYPE_CHECKING:
    from ondevice.labels import Figures
    from ondevice.runtime.answer import Answer, Message, Options
    from ondevice.runtime.fallback.fallback import Fallback
    from ondevice.runtime.fallback.reply import Reply
    from ondevice.runtime.model import Model

LARGEST_TEXT = 4_000_000  # bytes; far above any context, far below what would fill the memory


def ask(
    prompt: Annotated[
        str | None,
        typer.Argument(metavar="PROMPT", help="The question; `-` or nothing reads stdin."),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option("--file", "-f", metavar="PATH", help="Add this text; `-` is stdin."),
    ] = None,
    system: options.System = None,
    model: options.Model = None,
    max_tokens: options.MaxTokens = 512,
    temperature: options.Temperature = 0.0,
    top_k: options.TopK = 40,
    top_p: options.TopP = 0.95,
    min_p: options.MinP = 0.05,
    repetition_penalty: options.RepetitionPenalty = 1.0,
    seed: options.Seed = None,
    stop: options.Stop = None,
    engine: options.Engine = "ort",
    threads: options.Threads = None,
    context: options.Context = None,
    truncate: options.Truncate = False,
    schema: Annotated[
        Path | None,
        typer.Option("--schema", metavar="FILE", help="A JSON schema that the answer follows."),
    ] = None,
    json: options.Json = False,
    no_stream: Annotated[
        bool, typer.Option("--no-stream", help="Print the answer when it is complete.")
    ] = False,
    cloud: replies.Cloud = None,
    policy: replies.PolicyFile = None,
    task: replies.Task = "",
    data_class: replies.DataClass = "",
) -> None:
    """Ask a question; the answer streams to stdout.

    Nothing leaves this machine unless a policy says so: see `ondevice route --help`.

    \b
    ondevice ask "What is a lock file?"
    ondevice ask "Summarize this." --file notes.txt
    git diff | ondevice ask "Write a commit message." --file -
    ondevice ask "Who signed?" --file letter.txt --schema person.schema.json
    """
    text = read_prompt(prompt, file)
    rules = replies.policy_for(policy, cloud)
    import ondevice

    wanted = ondevice.Options(
        max_tokens=max_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        seed=seed,
        stop=tuple(stop or ()),
        truncate=truncate,
        schema=None if schema is None else read_file(schema),
    )
    with ondevice.load(model, engine=engine, threads=threads, context_length=context) as loaded:
        if rules is None:
            rules = replies.policy_of_calibrated(loaded)
        if rules is not None:
            about = replies.About(system, task, data_class, replies.wish_of(cloud))
            shown: replies.Shown = "json" if json else "whole" if no_stream else "stream"
            from ondevice.runtime.fallback.build import build

            print_reply(build(loaded, rules), text, wanted, about, shown)
        elif json:
            answer = loaded.generate(text, wanted, system=system)
            output.print_json(answer_json(answer), one_line=True)
        elif no_stream:
            print(loaded.generate(text, wanted, system=system).text)
        else:
            print_stream(loaded, text, wanted, system)


def print_stream(model: Model, text: str, wanted: Options, system: str | None) -> None:
    """Print the pieces as they come, then how fast they came where a person watches."""
    stream = model.stream(text, wanted, system=system)
    try:
        for piece in stream:
            output.print_piece(piece.text)
    finally:
        print(flush=True)
    output.note(speed(stream.answer))


def print_reply(
    fallback: Fallback,
    prompt: str | Sequence[Message],
    wanted: Options,
    about: replies.About,
    shown: replies.Shown,
    should_stop: Callable[[], bool] | None = None,
) -> Reply:
    """Answer under a policy and print what comes, then where it came from."""
    screen = replies.Screen(quiet=shown == "json")
    events = fallback.stream(
        prompt,
        wanted,
        system=about.system,
        task=about.task,
        data_class=about.data_class,
        wish=about.wish,
        consent=screen.consent if replies.can_ask() else None,
        should_stop=should_stop,
        mode="hold" if shown != "stream" else None,
    )
    reply = screen.show(events, whole=shown == "whole")
    if shown == "json":
        output.print_json(reply_json(reply), one_line=True)
    else:
        figures = "" if reply.local is None else speed(reply.local)
        replies.tell(reply, figures, wished=about.wish == "cloud")
    return reply


def reply_json(reply: Reply) -> dict[str, Any]:
    """What `ask --json` prints under a policy; the same fields."""
    from ondevice import labels

    mean_logprob = None
    if reply.cloud is None and reply.local is not None:
        mean_logprob = reply.local.mean_logprob
    return _json(reply.text, labels.figures(reply), mean_logprob, labels.label(reply))


def answer_json(answer: Answer) -> dict[str, Any]:
    """What `ask --json` prints; `schemas/ask.schema.json` describes it."""
    from ondevice import labels

    label = labels.label_of_local("there is no policy, so nothing leaves the device")
    return _json(answer.text, labels.figures_of_local(answer), answer.mean_logprob, label)


def _json(
    text: str, figures: Figures, mean_logprob: float | None, label: dict[str, Any]
) -> dict[str, Any]:
    return {
        "text": text,
        "prompt_tokens": figures.prompt_tokens,
        "output_tokens": figures.output_tokens,
        "load_ms": figures.load_ms,
        "ttft_ms": figures.ttft_ms,
        "prefill_tps": figures.prefill_tps,
        "decode_tps": figures.decode_tps,
        "mean_logprob": mean_logprob,
        "finish_reason": figures.finish_reason,
        "model": figures.model,
        **label,
    }


def speed(answer: Answer) -> str:
    """The answer's figures in a line, such as `42 tokens, 31.4 tokens/s, first after 0.21 s`."""
    parts = [f"{len(answer.tokens)} tokens"]
    if answer.decode_tps:
        parts.append(f"{answer.decode_tps:.1f} tokens/s")
    parts.append(f"first after {answer.timings.ttft:.2f} s")
    if answer.finish_reason == "length":
        parts.append("cut at --max-tokens or the end of the context")
    return ", ".join(parts)


def read_prompt(prompt: str | None, file: Path | None) -> str:
    """The question, then the file's text. Raises `RequestError` when there is neither."""
    from_stdin = prompt == "-" or (prompt is None and file is None)
    if from_stdin and file == Path("-"):
        raise RequestError("stdin can be the prompt or the --file, not both")
    if from_stdin and prompt is None and sys.stdin.isatty():
        raise RequestError('no prompt: write it as in `ondevice ask "..."`, or pipe it in')
    parts = [_read_stdin() if from_stdin else prompt]
    if file is not None:
        parts.append(_read_stdin() if file == Path("-") else read_file(file))
    text = "\n\n".join(part.strip("\n") for part in parts if part)
    if not text.strip():
        raise RequestError("the prompt is empty")
    try:
        text.encode()
    except UnicodeEncodeError as error:  # an argument that is not UTF-8 arrives as surrogates
        raise RequestError("the prompt is not valid UTF-8") from error
    return text


def _read_stdin() -> str:
    return _decode(sys.stdin.buffer, "stdin")


def read_file(path: Path) -> str:
    """A text file's content. Raises `RequestError` when it cannot be read or is not UTF-8."""
    try:
        with path.open("rb") as file:
            return _decode(file, str(path))
    except OSError as error:
        raise RequestError(f"cannot read {path}: {error.strerror or error}") from error


def _decode(file: BinaryIO, name: str) -> str:
    data = file.read(LARGEST_TEXT + 1)
    if len(data) > LARGEST_TEXT:
        raise RequestError(f"{name} is larger than {output.megabytes(LARGEST_TEXT)}: shorten it")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RequestError(
            f"{name} is not valid UTF-8 (byte {error.start}); convert it first"
        ) from error
