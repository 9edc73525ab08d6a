"""A conversation to one string, by the Jinja template that came with the model.

The template is foreign code: it runs in Jinja's sandbox, with a bounded number of steps and a
bounded length of text. Knows nothing of token ids.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextvars import ContextVar
from datetime import datetime
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, LoopControlExtension
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from ondevice.errors import PackageError, RequestError
from ondevice.runtime.answer import Message

MAX_STEPS = 300_000  # rounds of loops plus calls, in one rendering
MAX_LENGTH = 20_000_000  # characters or items of any value made while rendering

_steps: ContextVar[Iterator[int]] = ContextVar("steps of the rendering in progress")


class ChatTemplate:
    """A compiled template. `bos` and `eos` are how it may spell these tokens."""

    def __init__(
        self,
        source: str,
        *,
        bos: str = "",
        eos: str = "",
        now: Callable[[], datetime] = datetime.now,
    ) -> None:
        """Raises `PackageError` for a template that is no valid Jinja."""
        environment = _Environment()
        environment.globals["strftime_now"] = lambda format: now().strftime(format)
        try:
            tree = _Bounds().visit(environment.parse(source))
            self._template = environment.from_string(tree)
        except Exception as error:
            raise PackageError(
                f"the package's chat_template.jinja cannot be used ({_one_line(error)}); "
                "fetch or export the package again"
            ) from error
        self._tokens = {"bos_token": bos, "eos_token": eos}

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = True) -> str:
        """The conversation as the model was trained to read it, up to where it answers.

        Raises `RequestError` when the template refuses it (many want user and assistant in
        turns, some know no system message) or does not come to an end.
        """
        token = _steps.set(iter(range(MAX_STEPS)))
        try:
            return self._template.render(
                messages=[{"role": m.role, "content": m.content} for m in messages],
                add_generation_prompt=add_generation_prompt,
                tools=None,
                documents=None,
                **self._tokens,
            )
        except Exception as error:  # foreign code: whatever it raises is about this conversation
            raise RequestError(
                f"the model's chat template refuses this conversation: {_one_line(error)}"
            ) from error
        finally:
            _steps.reset(token)


class _Generation(Extension):
    """`{% generation %}`, which marks answers for training; here it only shows its content."""

    tags = {"generation"}  # noqa: RUF012 (Jinja's own declaration)

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Environment(ImmutableSandboxedEnvironment):
    """The sandbox with what chat templates expect, counting calls and measuring operators."""

    intercepted_binops = frozenset({"+", "*", "**"})

    def __init__(self) -> None:
        extensions = [LoopControlExtension, _Generation]
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=extensions)
        self.filters.update(tojson=_tojson, counted=_counted, measured=_measured)
        self.globals["raise_exception"] = _refuse

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
        _step()
        return super().call(__context, __obj, *args, **kwargs)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        sizes = [len(x) for x in (left, right) if hasattr(x, "__len__")]
        numbers = [x for x in (left, right) if isinstance(x, int)]
        if operator == "**" and any(abs(x) > 1000 for x in numbers):
            raise SecurityError("a power is too large")
        if operator == "*" and sizes and numbers and sizes[0] * numbers[0] > MAX_LENGTH:
            raise SecurityError("a text is too long")
        return _measured(super().call_binop(context, operator, left, right))


class _Bounds(NodeTransformer):
    """Puts a counter into every loop, and a measure on everything that joins texts."""

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802 (Jinja's name)
        self.generic_visit(node)
        node.iter = _filtered(node.iter, "counted")
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _filtered(node, "measured")


def _filtered(node: nodes.Node, name: str) -> nodes.Expr:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)


def _step() -> None:
    if next(_steps.get(), None) is None:
        raise SecurityError(f"it takes more than {MAX_STEPS:,} steps")


def _counted(items: Iterable[Any]) -> Iterator[Any]:
    for item in items:
        _step()
        yield item


def _measured(value: Any) -> Any:
    if hasattr(value, "__len__") and len(value) > MAX_LENGTH:
        raise SecurityError("a text is too long")
    return value


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    # Jinja's own filter escapes for HTML, which models have not seen in training.
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _refuse(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
