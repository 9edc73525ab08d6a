"""`ondevice route`: write a policy, and show what it decides. Parses and prints; sends nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ondevice.cli import options, output, replies
from ondevice.errors import PolicyError

if TYPE_CHECKING:
    from ondevice.runtime.fallback.decision import Decision
    from ondevice.runtime.fallback.explain import Explanation

app = typer.Typer(no_args_is_help=True)


@app.callback()
def route() -> None:
    """When a question may leave this machine, and why: the policy.

    \b
    ondevice route init
    ondevice route explain "Who won yesterday?"
    """


@app.command(short_help="Write the default policy, with comments.")
def init(
    policy: Annotated[
        Path | None,
        typer.Option("--policy", metavar="FILE", help="Where.", show_default="your policy.toml"),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file there.")] = False,
) -> None:
    """Write the default policy: nothing leaves, and every setting is explained."""
    from ondevice import files
    from ondevice.runtime.fallback.policy_file import default_text, home_path

    path = policy or home_path()
    if path.exists() and not force:
        raise PolicyError(f"{path} exists already; edit it, or replace it with --force")
    files.write_text(path, default_text())
    print(path)


@app.command(short_help="Show where a question would go, and every reason.")
def explain(
    prompt: Annotated[
        str | None,
        typer.Argument(metavar="PROMPT", help="The question; `-` or nothing reads stdin."),
    ] = None,
    task: replies.Task = "",
    data_class: replies.DataClass = "",
    cloud: replies.Cloud = None,
    policy: replies.PolicyFile = None,
    model: options.Model = None,
    draft: Annotated[
        bool, typer.Option("--draft", help="Load the model, answer, and judge the answer too.")
    ] = False,
    json: options.Json = False,
) -> None:
    """Show the decision for a question and every reason, in order. Opens no connection.

    Without --draft the model is not loaded, and only what is known beforehand counts.
    """
    from ondevice.cli.ask import read_prompt
    from ondevice.runtime.fallback.decision import Facts
    from ondevice.runtime.fallback.explain import explain as make
    from ondevice.runtime.fallback.policy_file import read_policy

    text = read_prompt(prompt, None)
    facts = Facts(text, task, data_class, replies.wish_of(cloud))
    made = make(read_policy(policy), facts, model, draft=draft, can_ask=replies.can_ask())
    if json:
        output.print_json(_as_json(made))
    else:
        _print(made)


def _print(made: Explanation) -> None:
    print(f"policy: {made.policy.path or 'none, so the default: nothing leaves'}")
    print("before the model answers:")
    _print_decision(made.before)
    if made.after is not None:
        print("after its answer:")
        _print_decision(made.after)
    elif made.before.where == "device":
        print("its answer is judged too when there is one: --draft shows how")


def _print_decision(decision: Decision) -> None:
    rows = [[r.step, _weight(r.speaks_for, r.bars), r.text] for r in decision.reasons]
    output.print_table(["  step", "speaks for", "reason"], [["  " + r[0], *r[1:]] for r in rows])
    print(f"  -> {decision.where}: {decision.why}")


def _weight(speaks_for: str | None, bars: bool) -> str:
    return "device, always" if bars else speaks_for or "-"


def _as_json(made: Explanation) -> dict[str, Any]:
    after = None if made.after is None else _decision_json(made.after)
    path = None if made.policy.path is None else str(made.policy.path)
    return {"policy": path, "before": _decision_json(made.before), "after": after}


def _decision_json(decision: Decision) -> dict[str, Any]:
    return {
        "where": decision.where,
        "why": decision.why,
        "wanted": decision.wanted,
        "allowed": decision.allowed,
        "ask": decision.ask,
        "reasons": [
            {
                "step": reason.step,
                "text": reason.text,
                "speaks_for": reason.speaks_for,
                "bars": reason.bars,
                **dict(reason.data),
            }
            for reason in decision.reasons
        ],
    }
