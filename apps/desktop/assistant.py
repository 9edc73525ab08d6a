"""The assistant without its page: history, settings, models, answers, put together.

The one object that the routes see; knows nothing of HTTP.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ondevice import store as packages_store
from ondevice.closing import Closing
from ondevice.desktop import rules
from ondevice.desktop.catalogue import Catalogue, default_name, installed, offered
from ondevice.desktop.consents import Consents
from ondevice.desktop.fitting import Fitting
from ondevice.desktop.generations import Generations
from ondevice.desktop.pulls import Fetch, Pulls
from ondevice.desktop.records import Notice
from ondevice.desktop.settings import FILE as SETTINGS_FILE
from ondevice.desktop.settings import Settings, SettingsFile, as_json
from ondevice.desktop.speeds import FILE as SPEEDS_FILE
from ondevice.desktop.speeds import Speeds
from ondevice.desktop.store import FILE as HISTORY_FILE
from ondevice.desktop.store import Store
from ondevice.errors import OndeviceError, PackageError, RequestError
from ondevice.host import Host, Load
from ondevice.package import Package
from ondevice.runtime.fallback import off_switch
from ondevice.runtime.fallback.agreement import agree, withdraw
from ondevice.runtime.fallback.policy import Policy

if TYPE_CHECKING:
    from collections.abc import Callable

    from ondevice.runtime.cloud.keys import Keys
    from ondevice.runtime.fallback.fallback import Fallback
    from ondevice.runtime.fallback.run import Cloud
    from ondevice.runtime.model import Model

FOLDER = "desktop"
_KEYCHAIN_S = 5.0  # for a keychain that asks the person
_UNSAVED = "unsaved"  # id of the notice that tells of a history that cannot be written

_log = logging.getLogger(__name__)


def home() -> Path:
    """Where everything of the assistant lies."""
    return packages_store.home() / FOLDER


@dataclass(frozen=True)
class Parts:
    """What tests put in place of the real thing."""

    load: Callable[[Package], Model] | None = None
    build: Callable[[Model, Policy], Fallback] | None = None
    fetch: Fetch | None = None
    keys: Keys | None = None
    patience_s: float | None = None


class Assistant(Closing):
    """All of it. `base` is the policy file that the settings lie over; `bundled` a read-only
    folder of packages that came with the program; `chosen` are packages named at the start."""

    def __init__(
        self,
        *,
        base: Policy = Policy(),
        bundled: Path | None = None,
        chosen: tuple[Package, ...] = (),
        load: Load = Load(),
        parts: Parts = Parts(),
    ) -> None:
        from ondevice.runtime.cloud.keys import Keys

        self._base = base
        self._agreed = False
        self._build, self._load = parts.build, parts.load
        self.cloud: Cloud | None = None
        self.store = Store(home() / HISTORY_FILE)
        self.file = SettingsFile(home() / SETTINGS_FILE, rules.start_of(base))
        self.ring = rules.KeyRing(parts.keys or Keys(wait_s=_KEYCHAIN_S))
        self.speeds = Speeds(home() / SPEEDS_FILE)
        self.catalogue = Catalogue(bundled, chosen)
        self.consents = Consents() if parts.patience_s is None else Consents(parts.patience_s)
        self.host = Host(
            self._in_order(self.catalogue.packages()),
            load=load,
            open_model=None if parts.load is None else self._opened,
            build=self._under_policy,
        )
        self.catalogue.changed = lambda packages: self.host.offer(self._in_order(packages))
        self.fitting = Fitting(self.store, load.context_length)
        self.generations = Generations(
            self.host, self.store, self.fitting, lambda: self.settings, self._package, self.consents
        )
        self.pulls = Pulls(lambda _: self._look(), parts.fetch)
        self._apply()
        if self.file.note:
            self.store.add_notice(Notice("warning", self.file.note))

    @property
    def settings(self) -> Settings:
        """What holds now."""
        return self.file.now

    @property
    def policy(self) -> Policy:
        """The rules that the next question is answered under."""
        return self.host.policy or Policy()

    def warm(self) -> None:
        """Load the model that answers first, in a thread, so that the first answer need not."""
        if self.host.packages:
            threading.Thread(target=self._warm, name="warm", daemon=True).start()

    def change_settings(self, values: dict[str, Any]) -> Settings:
        """Change settings; they hold from the next question on. Errors as of `SettingsFile`."""
        before = self.settings
        after = self.file.change(values)
        if (before.consent, before.endpoint) != (after.consent, after.endpoint):
            self._agreed = False
            withdraw()
        self._apply()
        if before.model != after.model:
            self.host.offer(self._in_order(self.catalogue.packages()))
        return after

    def set_offline(self, offline: bool) -> None:
        """Set or take back the off-switch, for every program that uses `ondevice`."""
        if offline:
            off_switch.set_off()
        else:
            off_switch.set_on()

    def answer_consent(self, id: str, allow: bool, remember: bool) -> bool:
        """Answer a question to the person; `remember` lets the rest of this run leave unasked."""
        endpoint = self.policy.endpoint
        if allow and remember and endpoint is not None:
            self._agreed = True
            agree(endpoint)
            self._apply()
        return self.consents.answer(id, allow)

    def set_key(self, value: str) -> str:
        """Keep the key of the endpoint; says where. Raises `CloudError` for what can be none."""
        where = self.ring.set(self.key_name(), value)
        self._apply()
        return where

    def delete_key(self) -> str:
        """Remove the key of the endpoint; says where there is still one."""
        where = self.ring.delete(self.key_name())
        self._apply()
        return where

    def key_name(self) -> str:
        """Under which name the key is kept; "" without an endpoint."""
        return rules.key_name(self.settings, self._base)

    def state(self) -> dict[str, Any]:
        """All that the page shows beside the conversations."""
        from ondevice import __version__

        self.store.flush()
        packages = self.catalogue.packages()
        default = default_name(packages, self.settings.model)
        notices = self.store.notices()
        if self.store.problem:
            kept = f"{self.store.problem}; the conversation is kept in memory until that works"
            notices.append(Notice("error", kept, _UNSAVED))
        try:
            offers = offered(self.speeds, packages)
        except OndeviceError as error:
            offers = []
            notices.append(Notice("warning", str(error), "lock"))
        device = self.speeds.device()
        return {
            "version": __version__,
            "models": installed(self.catalogue, self.speeds, self.host.open_names, default),
            "offered": offers,
            "settings": as_json(self.settings),
            "cloud": rules.status(self.policy, self.ring, self.cloud),
            "key": {"name": self.key_name(), "where": self.ring.where(self.key_name())},
            "notices": notices,
            "device": {
                "cpu": device.cpu or "unknown processor",
                "cores": device.usable_cpus or 0,
                "memory_bytes": int((device.memory_gib or 0) * (1 << 30)),
            },
            "pull": self.pulls.running,
            "busy": self.host.turns.busy,
            "folder": str(home()),
        }

    def close(self) -> None:
        """End answers and downloads, keep what there is of them, free the models."""
        self.pulls.close()
        self.generations.close()
        self.host.close()
        self.store.close()

    def _package(self, name: str) -> Package:
        """The package that answers in a conversation; looks at no disk, an answer waits for it.

        Raises `PackageError` or `RequestError` for a model that cannot be used any more.
        """
        names = [package.manifest.name for package in self.host.packages]
        if name and name not in names:
            for one in self.catalogue.broken:
                if one.name == name:
                    raise PackageError(one.problem)
            raise RequestError(f"{name} is not on this device any more; choose another model")
        return self.host.package(name)

    def _look(self) -> None:
        self.catalogue.packages(fresh=True)

    def _in_order(self, packages: tuple[Package, ...]) -> list[Package]:
        first = default_name(packages, self.settings.model)
        return sorted(packages, key=lambda package: package.manifest.name != first)

    def _apply(self) -> None:
        """Make the settings the host's policy."""
        with_key = bool(self.settings.endpoint) and bool(self.ring.where(self.key_name()))
        self.host.set_policy(
            rules.policy_of(self.settings, self._base, agreed=self._agreed, with_key=with_key)
        )

    def _opened(self, package: Package) -> Fallback:
        assert self._load is not None
        return self._under_policy(self._load(package), self.policy)

    def _under_policy(self, model: Model, policy: Policy) -> Fallback:
        from ondevice.runtime.fallback.build import build

        made = (
            build(model, policy, keys=self.ring.keys)
            if self._build is None
            else self._build(model, policy)
        )
        self.cloud = made.cloud
        return made

    def _warm(self) -> None:
        try:
            self.host.open()
        except OndeviceError as error:
            _log.info("the model could not be loaded beforehand: %s", error)
