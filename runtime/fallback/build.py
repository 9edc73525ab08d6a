"""From the person's files to a `Fallback`: policy, off-switch, keys, prices, budget, log.

The one place where the parts are put together; opens no connection.
"""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from ondevice.errors import CalibrationError
from ondevice.runtime.fallback import off_switch
from ondevice.runtime.fallback.judge import Judge, key_of
from ondevice.runtime.fallback.policy import Policy
from ondevice.runtime.fallback.policy_file import read_policy

if TYPE_CHECKING:
    from ondevice.package import Package
    from ondevice.runtime.cloud.client import CloudClient
    from ondevice.runtime.cloud.keys import Keys
    from ondevice.runtime.cloud.prices import Prices
    from ondevice.runtime.confidence.calibration import Calibration
    from ondevice.runtime.fallback.fallback import Fallback
    from ondevice.runtime.model import Model


def load_fallback(
    package: str | Path | None = None,
    policy: Path | Policy | None = None,
    *,
    engine: str = "ort",
    threads: int | None = None,
    context_length: int | None = None,
    keys: Keys | None = None,
) -> Fallback:
    """A model with its policy: `ondevice.load`, then `build`.

    `policy` is a file or a `Policy`; None takes the person's own, and the default, which lets
    nothing leave, where there is none. Close it, or use it in a `with` block. Raises what both
    raise.
    """
    from ondevice.runtime.model import load

    if not isinstance(policy, Policy):
        policy = read_policy(policy)
    model = load(package, engine=engine, threads=threads, context_length=context_length)
    return build(model, policy, keys=keys)


def build(model: Model, policy: Policy, *, keys: Keys | None = None) -> Fallback:
    """A loaded model under a policy, with the calibration of its package.

    A calibration that cannot be read counts as none, and every reply says so.
    """
    from ondevice.runtime.fallback.fallback import Fallback

    calibration, note = _calibration(model.package)
    cloud = client_for(policy, keys=keys) if _may_connect(policy) else None
    return Fallback(model, policy, cloud=cloud, calibration=calibration, note=note)


def judge_for(policy: Policy, package: Package | None) -> Judge:
    """Decisions about a package's model without loading it."""
    calibration, note = _calibration(package)
    cloud = client_for(policy) if _may_connect(policy) else None
    return Judge(policy, cloud=cloud, calibration=calibration, key=key_of(package), note=note)


def client_for(policy: Policy, *, keys: Keys | None = None) -> CloudClient:
    """The client of the policy's endpoint, under its budget and the off-switch.

    The switch permits nothing while consent is "never" or the off-switch is set.
    """
    from ondevice.runtime.cloud.audit import AuditLog
    from ondevice.runtime.cloud.client import CloudClient
    from ondevice.runtime.cloud.keys import Keys
    from ondevice.runtime.cloud.ledger import Caps, Ledger
    from ondevice.runtime.cloud.redact import Redactor
    from ondevice.runtime.cloud.switch import Switch

    assert policy.endpoint is not None  # `_may_connect` asked
    return CloudClient(
        policy.endpoint,
        switch=Switch(lambda: off_switch.allows(policy)),
        ledger=Ledger(caps=policy.budget or Caps()),
        prices=_prices(policy),
        audit=AuditLog(keep_content=policy.audit_content),
        keys=keys or Keys(),
        redactor=Redactor(policy.redaction) if policy.redaction else None,
    )


def _may_connect(policy: Policy) -> bool:
    return policy.endpoint is not None and policy.consent != "never"


def _calibration(package: Package | None) -> tuple[Calibration | None, str]:
    from ondevice.runtime.confidence.calibration import read

    if package is None:
        return None, ""
    try:
        return read(package), ""
    except CalibrationError as error:
        return None, f"the calibration cannot be used: {error}"


def _prices(policy: Policy) -> Prices:
    """The price table, with what the policy says of its endpoint over it."""
    from ondevice.runtime.cloud.prices import Price, Prices

    endpoint, declared = policy.endpoint, policy.price
    if endpoint is None or declared is None:
        return Prices()
    price = Price(
        model=endpoint.model,
        input_per_million=Decimal(str(declared.input_per_million)),
        output_per_million=Decimal(str(declared.output_per_million)),
        cached_input_per_million=None,
        date="",
        source=str(policy.path or "the policy"),
    )

    class Declared(Prices):
        def find(self, model: str, *, loopback: bool = False, capped: bool = True) -> Price:
            if model == price.model:
                return price
            return super().find(model, loopback=loopback, capped=capped)

    return Declared()
