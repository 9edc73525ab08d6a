"""Answers that may come from the cloud, at a terminal: asking for consent, showing, labelling.

Parses and prints; `ondevice.runtime.fallback` decides.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ondevice.cli import output
from ondevice.errors import PolicyError

if TYPE_CHECKING:
    from ondevice.runtime.fallback.decision import Wish
    from ondevice.runtime.fallback.policy import Policy
    from ondevice.runtime.fallback.reply import Event, Proposal, Reply
    from ondevice.runtime.model import Model

Cloud = Annotated[
    bool | None,
    typer.Option(
        "--cloud/--no-cloud",
        help="Ask the cloud, if the policy allows it; or let nothing leave.",
        show_default="as the policy decides",
    ),
]
PolicyFile = Annotated[
    Path | None,
    typer.Option(
        "--policy",
        metavar="FILE",
        help="What may leave, when and to whom.",
        show_default="your policy.toml; without one nothing leaves",
    ),
]
Task = Annotated[
    str, typer.Option("--task", metavar="NAME", help="A task of the policy.", show_default=False)
]
DataClass = Annotated[
    str,
    typer.Option(
        "--class",
        metavar="NAME",
        help="The class of the data, such as personal; restricted never leaves.",
        show_default=False,
    ),
]


Shown = Literal["json", "whole", "stream"]


@dataclass(frozen=True)
class About:
    """What is said about a question besides its words."""

    system: str | None = None
    task: str = ""
    data_class: str = ""
    wish: Wish = "none"


def policy_for(path: Path | None, cloud: bool | None) -> Policy | None:
    """The policy in force; None where there is none, and so nothing leaves.

    Raises `PolicyError` for a bad one, or when the cloud is asked for without any.
    """
    from ondevice.runtime.fallback.policy_file import home_path, read_policy

    if path is not None or home_path().exists():
        return read_policy(path)
    if cloud:
        raise PolicyError(
            f"there is no policy that lets a question leave; `ondevice route init` writes one to "
            f"{home_path()}: set its consent and [endpoint]"
        )
    return None


def policy_of_calibrated(model: Model) -> Policy | None:
    """The default policy, under which nothing leaves, for a model that knows its confidence."""
    from ondevice.runtime.confidence import calibration
    from ondevice.runtime.fallback.policy import Policy

    package = model.package
    there = package is not None and (package.folder / calibration.FILE).exists()
    return Policy() if there else None


def wish_of(cloud: bool | None) -> Wish:
    """What --cloud and --no-cloud ask for."""
    return "none" if cloud is None else "cloud" if cloud else "device"


def can_ask() -> bool:
    """Whether a person can be asked: a terminal on both sides."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def ask_consent(proposal: Proposal) -> bool:
    """Show what would leave and ask at the terminal; anything but a yes means no."""
    print(describe(proposal), file=sys.stderr)
    try:
        with _interruptible():
            print("Send it? [y/N] ", end="", file=sys.stderr, flush=True)
            answer = sys.stdin.readline()
    except (KeyboardInterrupt, UnicodeDecodeError):
        answer = ""
    if not answer.endswith("\n"):
        print(file=sys.stderr)
    return answer.strip().casefold() in ("y", "yes")


def describe(proposal: Proposal) -> str:
    """What would leave, to whom, at what cost, in a few lines."""
    cost = "of unknown price"
    if proposal.worst_cost_usd is not None:
        cost = f"at most {usd(proposal.worst_cost_usd)}"
    parts = [f"{proposal.sent_bytes:,} bytes"]
    if proposal.draft_bytes:
        parts.append(f"the local answer among them ({proposal.draft_bytes:,})")
    hidden = [f"{count} {name}" for name, count in proposal.redactions.items() if count]
    if hidden:
        parts.append(f"replaced by placeholders: {', '.join(hidden)}")
    return (
        f"Ask {proposal.model} at {proposal.endpoint} ({proposal.base_url})?\n"
        f"  why: {proposal.reason}\n"
        f"  what leaves: {', '.join(parts)}; data of class {proposal.data_class}\n"
        f"  cost: {cost}"
    )


class Screen:
    """Shows the events of one answer; provisional text only where it can be taken back."""

    def __init__(self, quiet: bool = False) -> None:
        self._quiet = quiet
        self._printed = False
        self._provisional = ""
        self._live: Any = None

    def consent(self, proposal: Proposal) -> bool:
        """Ask, with nothing provisional on the screen meanwhile."""
        self._erase()
        return ask_consent(proposal)

    def show(self, events: Iterable[Event], *, whole: bool = False) -> Reply:
        """Print an answer as it is made, or once it is `whole`; final when this returns."""
        from ondevice.runtime.fallback.reply import Draft

        try:
            for event in events:
                if not isinstance(event, Draft):
                    self._finish(event.reply)
                    return event.reply
                if event.provisional:
                    self._draft(event.text)
                elif not self._quiet and not whole:
                    self._settle()
                    output.print_piece(event.text)
                    self._printed = True
        except BaseException:
            self._erase()
            if self._printed:
                print(flush=True)
            raise
        raise AssertionError("an answer ended without its final event")

    def _finish(self, reply: Reply) -> None:
        self._erase()
        if self._quiet:
            return
        if not self._printed:
            output.print_piece(reply.text)
        print(flush=True)

    def _settle(self) -> None:
        """What was provisional is now the answer."""
        text, self._provisional = self._provisional, ""
        self._erase()
        if text:
            output.print_piece(text)

    def _draft(self, text: str) -> None:
        self._provisional += text
        if self._quiet or not sys.stdout.isatty():
            return
        from rich.console import Console
        from rich.live import Live
        from rich.text import Text

        if self._live is None:
            self._live = Live(console=Console(highlight=False), transient=True, auto_refresh=False)
            self._live.start()
        self._live.update(Text(printable(self._provisional), style="dim"), refresh=True)

    def _erase(self) -> None:
        live, self._live = self._live, None
        if live is not None:
            live.stop()


def printable(text: str) -> str:
    """Text without control characters, which could do things to a terminal."""
    return "".join(c for c in text if c in "\n\t" or unicodedata.category(c) != "Cc")


def tell(reply: Reply, figures: str, *, wished: bool = False) -> None:
    """A footer for a person: figures, who answered and why.

    That the cloud was asked (or `wished` for) in vain is told in a pipe too: the answer is
    another than wanted.
    """
    if reply.source == "cloud" and reply.cloud is not None:
        cloud = reply.cloud
        parts = [f"{cloud.output_tokens} tokens", f"first after {cloud.ttft_s:.2f} s"]
        parts += [f"from {cloud.model}", usd(reply.cost_usd), reply.reason]
        output.note(", ".join(parts))
        return
    if reply.escalation == "failed" or (wished and reply.escalation != "not-needed"):
        kind = f" ({reply.failure})" if reply.failure else f" ({reply.escalation})"
        reason = " ".join(reply.reason.split())
        print(
            f"ondevice: this is the local answer, not the cloud's{kind}: {reason}", file=sys.stderr
        )
        output.note(figures)
    elif reply.escalation in ("not-allowed", "declined"):
        output.note(f"{figures}, from the device though the cloud was wanted: {reply.reason}")
    else:
        output.note(f"{figures}, from the device: {reply.reason}")


def usd(amount: float) -> str:
    """An amount of dollars: small ones exactly enough to mean something."""
    return f"${amount:.2f}" if amount >= 0.1 or amount == 0 else f"${amount:.2g}"


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Let Ctrl-C end a question even where it otherwise only asks an answer to stop."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
