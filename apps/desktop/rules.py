"""From settings to the policy that the host answers under, and how things stand with the cloud.

Opens no connection. Keys are the business of `ondevice.runtime.cloud.keys`.
"""

from __future__ import annotations

import hashlib
import re
import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from ondevice.desktop.settings import CloudAddress, Settings
from ondevice.errors import CloudError
from ondevice.runtime.fallback import off_switch
from ondevice.runtime.fallback.policy import Policy

if TYPE_CHECKING:
    from ondevice.runtime.cloud.endpoint import Endpoint
    from ondevice.runtime.cloud.keys import Keys
    from ondevice.runtime.fallback.run import Cloud

CloudWord = Literal["off", "no-endpoint", "no-key", "offline", "online"]


@dataclass(frozen=True)
class CloudStatus:
    """How things stand with the cloud, and what it has cost today (USD, UTC day)."""

    state: CloudWord
    endpoint: str | None
    model: str | None
    reason: str
    spent_today_usd: float
    day_limit_usd: float | None
    offline: bool  # whether the off-switch is set


def start_of(policy: Policy) -> Settings:
    """The settings that a policy file amounts to, before the person has changed any."""
    endpoint, budget, address = policy.endpoint, policy.budget, None
    if endpoint is not None:
        address = CloudAddress(endpoint.name, endpoint.base_url, endpoint.model)
    return Settings(
        consent=policy.consent,
        endpoint=address,
        threshold=policy.threshold,
        day_limit_usd=None if budget is None else budget.per_day_usd,
        month_limit_usd=None if budget is None else budget.per_month_usd,
    )


def policy_of(settings: Settings, base: Policy, *, agreed: bool, with_key: bool) -> Policy:
    """The policy file with the person's settings over it.

    `agreed`: the person said "do not ask again" in this run, which makes "ask" a "session".
    `with_key`: a key is stored for the endpoint.
    """
    from ondevice.runtime.cloud.ledger import Caps

    consent = settings.consent
    if consent == "ask" and agreed:
        consent = "session"
    caps = replace(
        base.budget or Caps(),
        per_day_usd=settings.day_limit_usd,
        per_month_usd=settings.month_limit_usd,
    )
    endpoint = endpoint_of(settings, base, with_key=with_key)
    known = base.endpoint
    priced = known is not None and endpoint is not None and known.model == endpoint.model
    return replace(
        base,
        consent=consent,
        endpoint=endpoint,
        price=base.price if priced else None,
        threshold=settings.threshold,
        budget=caps if caps.any else None,
    )


def endpoint_of(settings: Settings, base: Policy, *, with_key: bool) -> Endpoint | None:
    """The endpoint of the settings; the file's own, with all it says, where it is the same."""
    from ondevice.runtime.cloud.endpoint import Endpoint

    address, known = settings.endpoint, base.endpoint
    if address is None:
        return None
    if known is not None and known.base_url == address.base_url:
        return replace(known, name=address.name, model=address.model)
    made = Endpoint(address.name, address.base_url, address.model)
    if made.is_loopback and not with_key:
        return made
    return replace(made, key=_key_name(made))


def key_name(settings: Settings, base: Policy) -> str:
    """Under which name the endpoint's key is kept; "" without an endpoint."""
    endpoint = endpoint_of(settings, base, with_key=True)
    return "" if endpoint is None else endpoint.key or _key_name(endpoint)


def _key_name(endpoint: Endpoint) -> str:
    """Of the address alone: a key never goes to another host than it was given for."""
    name = f"desktop-{endpoint.host}-{endpoint.port}"
    if re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", name):
        return name
    return f"desktop-{hashlib.sha256(name.encode()).hexdigest()[:32]}"


class KeyRing:
    """Whether a key is stored, without asking the keychain over and over."""

    def __init__(self, keys: Keys) -> None:
        self.keys = keys
        self._lock = threading.Lock()
        self._known: dict[str, str] = {}

    def where(self, name: str) -> str:
        """ "keychain", "environment", "memory", or "" for a key that is nowhere."""
        with self._lock:
            if name and name not in self._known:
                try:
                    self._known[name] = self.keys.find(name).source
                except CloudError:
                    self._known[name] = ""
            return self._known.get(name, "")

    def set(self, name: str, value: str) -> str:
        """Keep a key: in the keychain, or for this run where there is none; says where.

        Raises `CloudError` for what can be no key.
        """
        try:
            self.keys.set(name, value)
        except CloudError:
            self.keys.remember(name, value)
        self.forget()
        return self.where(name)

    def delete(self, name: str) -> str:
        """Remove a key from keychain and memory; says where there is still one."""
        try:
            self.keys.delete(name)
        except CloudError:
            self.forget()
            return self.where(name)
        self.forget()
        return self.where(name)

    def forget(self) -> None:
        """Look again the next time."""
        with self._lock:
            self._known.clear()


def status(policy: Policy, ring: KeyRing, cloud: Cloud | None) -> CloudStatus:
    """How things stand now; `cloud` is the client in use, if there is one."""
    endpoint = policy.endpoint
    word, reason = _standing(policy, ring, cloud)
    spent, problem = _spent_today()
    return CloudStatus(
        state=word,
        endpoint=None if endpoint is None else endpoint.name,
        model=None if endpoint is None else endpoint.model,
        reason=reason or problem,
        spent_today_usd=spent,
        day_limit_usd=None if policy.budget is None else policy.budget.per_day_usd,
        offline=off_switch.is_off(),
    )


def _standing(policy: Policy, ring: KeyRing, cloud: Cloud | None) -> tuple[CloudWord, str]:
    from ondevice.runtime.cloud.reachability import has_interface

    endpoint = policy.endpoint
    if off_switch.is_off():
        return "off", "you have switched the cloud off"
    if endpoint is None:
        return "no-endpoint", "no cloud model is set up; all answers are made on this device"
    if not off_switch.allows(policy):
        return "off", "nothing leaves this device: the settings say never"
    if endpoint.key and not ring.where(endpoint.key):
        return "no-key", f"no key is stored for {endpoint.name}"
    if not endpoint.is_loopback and not has_interface():
        return "offline", "this device has no network"
    state = "unknown" if cloud is None else cloud.state()
    if state in ("no-route", "down"):
        return "offline", f"{endpoint.name} could not be reached"
    return "online", "" if state == "up" else f"{endpoint.name} has not been asked yet"


def _spent_today() -> tuple[float, str]:
    from ondevice.runtime.cloud.ledger import NANO, Ledger

    ledger = Ledger(wait_s=0.2)
    try:
        if not ledger.path.exists():
            return 0.0, ""
        return ledger.today().counted_nano / NANO, ""
    except (CloudError, OSError) as error:
        return 0.0, str(error)
