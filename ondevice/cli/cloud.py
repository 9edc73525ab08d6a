"""`ondevice cloud`: keys, budget, what left, whether the endpoint is there, and the off-switch.

Parses and prints. Only `check` opens a connection.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ondevice.cli import options, output, replies
from ondevice.errors import PolicyError, RequestError

if TYPE_CHECKING:
    from ondevice.runtime.cloud.audit import Event
    from ondevice.runtime.cloud.ledger import Ledger, Spending

app = typer.Typer(no_args_is_help=True)
key = typer.Typer(no_args_is_help=True)
budget = typer.Typer(invoke_without_command=True)
app.add_typer(key, name="key", short_help="Store or delete a key in the system's keychain.")
app.add_typer(budget, name="budget", short_help="What was spent, and the limits.")

LONGEST_KEY = 10_000

Name = Annotated[
    str, typer.Argument(metavar="NAME", help="The key's name, as the policy's endpoint has it.")
]


@app.callback()
def cloud() -> None:
    """The cloud endpoint of the policy: keys, budget, log, off-switch. Only `check` connects."""


@key.callback()
def keys() -> None:
    """Keys by name, kept in the system's keychain, never in a file."""


@key.command("set", short_help="Store a key; it is read from a prompt or stdin.")
def set_key(name: Name) -> None:
    """Store a key in the system's keychain. It is typed in, or piped in; never an argument.

    \b
    ondevice cloud key set CLOUD_API_KEY
    pass show cloud | ondevice cloud key set CLOUD_API_KEY
    """
    from ondevice.runtime.cloud.keys import Keys

    Keys().set(name, _read_key(name))
    output.note(f"{name} is in the keychain")


@key.command("delete", short_help="Delete a key from the keychain.")
def delete_key(name: Name) -> None:
    """Delete a key from the system's keychain."""
    from ondevice.runtime.cloud.keys import Keys

    Keys().delete(name)
    output.note(f"{name} is deleted")


@budget.callback()
def show_budget(
    context: typer.Context, policy: replies.PolicyFile = None, json: options.Json = False
) -> None:
    """What was spent today and this month (UTC), the limits, and calls that are still open.

    \b
    ondevice cloud budget
    ondevice cloud budget recover
    """
    if context.invoked_subcommand is not None:
        return
    ledger = _ledger(policy)
    there = ledger.path.exists()
    data = {
        "today": _spending(ledger.today() if there else None),
        "month": _spending(ledger.this_month() if there else None),
        "limits": dataclasses.asdict(ledger.caps),
        "open": [
            {"request_id": e.request_id, "model": e.model, "reserved_usd": _usd(e.reserved_nano)}
            for e in (ledger.entries() if there else [])
            if e.state == "open"
        ],
    }
    if json:
        output.print_json(data)
        return
    _print_budget(data)


@budget.command(short_help="Settle what ended processes left open, at its highest cost.")
def recover(policy: replies.PolicyFile = None) -> None:
    """Settle the reservations of processes that ended in a call, at their highest cost."""
    ledger = _ledger(policy)
    count = ledger.recover() if ledger.path.exists() else 0
    print(f"{count} reservation{'' if count == 1 else 's'} settled at the highest cost")


@app.command(short_help="What left this machine: when, why, at what cost.")
def log(
    last: Annotated[
        int, typer.Option("--last", "-n", metavar="N", min=1, help="How many events.")
    ] = 20,
    json: options.Json = False,
) -> None:
    """Show the record of what left this machine. With --json, a line for each event."""
    from ondevice.runtime.cloud.audit import AuditLog

    found = AuditLog().read()
    events = found.events[-last:]
    if json:
        for event in events:
            output.print_json(_event(event), one_line=True)
    elif events:
        columns = ["time", "event", "model", "class", "bytes", "cost", "outcome", "reason"]
        output.print_table(columns, [_row(event) for event in events])
    else:
        output.note("nothing has left this machine")
    if found.damaged:
        lines = f"{found.damaged} damaged line{'' if found.damaged == 1 else 's'}"
        print(f"ondevice: {lines} of the log left out", file=sys.stderr)


@app.command(short_help="Connect to the endpoint and say whether it is there.")
def check(policy: replies.PolicyFile = None, json: options.Json = False) -> None:
    """Connect to the policy's endpoint once and say its state. No question leaves."""
    from ondevice.runtime.fallback import off_switch
    from ondevice.runtime.fallback.build import client_for
    from ondevice.runtime.fallback.policy_file import read_policy

    rules = read_policy(policy)
    if rules.endpoint is None:
        raise PolicyError("the policy names no endpoint; add [endpoint] with base_url and model")
    client = client_for(rules)
    state = client.probe()
    data = {"endpoint": rules.endpoint.name, "base_url": rules.endpoint.base_url, "state": state}
    if state == "disabled":
        data["why"] = off_switch.why_off(rules)
    if json:
        output.print_json(data)
    else:
        output.print_fields({name: str(value) for name, value in data.items()})
    if state != "up":
        raise typer.Exit(1)


@app.command(short_help="Let nothing leave, whatever the policy says.")
def off() -> None:
    """Set the off-switch: no connection to the cloud is made until `ondevice cloud on`."""
    from ondevice.runtime.fallback.off_switch import set_off

    print(f"the cloud is off ({set_off()})")


@app.command(short_help="Take the off-switch back; the policy decides again.")
def on(policy: replies.PolicyFile = None) -> None:
    """Take the off-switch back. What may leave is then up to the policy."""
    from ondevice.runtime.fallback.off_switch import set_on
    from ondevice.runtime.fallback.policy_file import read_policy

    set_on()
    print(f"the off-switch is taken back; the policy says: consent {read_policy(policy).consent}")


def _read_key(name: str) -> str:
    """A key from a prompt that does not show it, or from stdin."""
    if sys.stdin.isatty():
        import getpass

        value = getpass.getpass(f"{name}: ", stream=sys.stderr)
    else:
        value = sys.stdin.read(LONGEST_KEY)
    if not value.strip():
        raise RequestError(f"no key was given for {name}; type it at the prompt or pipe it in")
    return value.strip()


def _ledger(path: Path | None) -> Ledger:
    from ondevice.runtime.cloud.ledger import Caps, Ledger
    from ondevice.runtime.fallback.policy_file import read_policy

    return Ledger(caps=read_policy(path).budget or Caps())


def _usd(nano: int) -> float:
    return nano / 1e9


def _spending(spent: Spending | None) -> dict[str, Any]:
    if spent is None:
        return {"calls": 0, "spent_usd": 0.0, "reserved_usd": 0.0}
    return {
        "calls": spent.calls,
        "spent_usd": _usd(spent.spent_nano),
        "reserved_usd": _usd(spent.reserved_nano),
    }


def _print_budget(data: dict[str, Any]) -> None:
    limits = data["limits"]
    rows = []
    for name, sums, limit in (
        ("today", data["today"], limits["per_day_usd"]),
        ("this month", data["month"], limits["per_month_usd"]),
    ):
        amounts = [replies.usd(sums["spent_usd"]), replies.usd(sums["reserved_usd"])]
        rows.append([name, str(sums["calls"]), *amounts, _limit(limit)])
    output.print_table(["", "calls", "spent", "reserved", "limit"], rows)
    print(f"limit for one call: {_limit(limits['per_request_usd'])}")
    if open_ := len(data["open"]):
        print(f"{open_} call{' is' if open_ == 1 else 's are'} open; if its process has ended,")
        print("`ondevice cloud budget recover` settles it at its highest cost")


def _limit(usd: float | None) -> str:
    return "none" if usd is None else replies.usd(usd)


def _event(event: Event) -> dict[str, Any]:
    data = dataclasses.asdict(dataclasses.replace(event, redactions=dict(event.redactions)))
    return {name: value for name, value in data.items() if value is not None or name != "content"}


def _row(event: Event) -> list[str]:
    cost = replies.usd(_usd(event.cost_nano)) if event.cost_nano else "-"
    return [
        event.time[:19].replace("T", " "),
        event.event,
        event.model,
        event.data_class or "-",
        str(event.bytes_sent),
        cost,
        event.outcome or "-",
        event.reason,
    ]
