"""Who can be asked: packages by name or path, and the endpoint of the policy as `cloud:NAME`.

A source knows its name and identity without being opened. Endpoints are asked through the cloud
client alone, so that its caps, its audit log and the data classes of the policy hold.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ondevice.errors import CalibrationError, CloudError, RequestError
from ondevice.package import Package
from ondevice.runtime.answer import Message, Options
from ondevice.runtime.evaluate.collect import DeviceSubject, Subject, checked, failed
from ondevice.runtime.evaluate.dataset import Example
from ondevice.runtime.evaluate.frontier import mean_logprob
from ondevice.runtime.evaluate.records import Record
from ondevice.runtime.evaluate.summary import REFUSED

if TYPE_CHECKING:
    from ondevice.runtime.cloud.client import CloudAnswer, CloudClient
    from ondevice.runtime.cloud.endpoint import Endpoint
    from ondevice.runtime.confidence.calibration import Calibration
    from ondevice.runtime.fallback.policy import Policy

CLOUD = "cloud:"
OPTIONS = Options()  # greedy: an evaluation that is repeated says the same
OF_ONE_EXAMPLE = frozenset(
    {"timeout", "reset", "server", "truncated", "malformed"}
    | {"too-large", "filtered", "empty", "rejected"}
)
"""Failures that the next example need not meet: they are recorded. Others end the evaluation,
with what was answered kept, instead of failing one by one."""

RATE_PAUSES_S = (5.0, 15.0, 45.0)
"""How long to wait when an endpoint takes no more requests for now."""


class Source(Protocol):
    """Somebody who can be asked, not opened yet. `identity` changes with what would answer."""

    @property
    def name(self) -> str: ...

    @property
    def identity(self) -> str: ...

    def open(self) -> AbstractContextManager[Subject]:
        """Ready to answer. Raises `OndeviceError`."""


@dataclass(frozen=True)
class CloudUse:
    """What an endpoint would be asked: requests, and what they cost at most, USD.

    `worst_usd` is None where the price is not known. `refused` examples stay here because of
    their data class.
    """

    name: str
    requests: int
    worst_usd: float | None
    refused: int


@dataclass(frozen=True)
class PackageSource:
    """A package on this device; `reference` is how it was named."""

    package: Package
    reference: str
    threads: int | None = None

    @property
    def name(self) -> str:
        return f"device:{self.package.manifest.name}"

    @property
    def identity(self) -> str:
        return package_identity(self.package)

    @property
    def hidden(self) -> bool:
        """Whether to keep hidden states: a calibration may need them."""
        return read_calibration(self.package) is not None

    def elsewhere(self) -> str:
        """How another process finds the package: a name in the store, or a whole path."""
        path = Path(self.reference).expanduser()
        return str(path.resolve()) if self.package.folder == path else self.reference

    @contextlib.contextmanager
    def open(self) -> Iterator[Subject]:
        from ondevice.runtime.model import load

        with load(self.package, threads=self.threads) as model:
            yield DeviceSubject(model, OPTIONS, hidden=self.hidden)


@dataclass(frozen=True)
class CloudSource:
    """The endpoint of the policy. Naming it on the command line is the consent for this set."""

    policy: Policy
    endpoint: Endpoint

    @property
    def name(self) -> str:
        return f"{CLOUD}{self.endpoint.name}"

    @property
    def identity(self) -> str:
        return _hash(["cloud", self.endpoint.base_url, self.endpoint.model])

    @contextlib.contextmanager
    def open(self) -> Iterator[Subject]:
        yield CloudSubject(self._client(), self.policy)

    def use(self, examples: Sequence[Example]) -> CloudUse:
        """What asking these would take at most. Raises `CloudError` while the off-switch is set,
        and for a model of unknown price where a budget is to be kept."""
        sent = [e for e in examples if self.policy.may_leave(data_class(self.policy, e))]
        client, attempts = self._client(), 1 + self.endpoint.deadlines.retries
        if sent and client.state() == "disabled":
            raise CloudError(
                f"{self.name} cannot be asked while the cloud is switched off; `ondevice cloud on` "
                "takes that back",
                "disabled",
            )
        previews = [client.preview(messages(e), max_tokens=e.max_tokens) for e in sent]
        worst = attempts * sum(preview.worst_cost_usd for preview in previews)
        known = all(preview.price_known for preview in previews)
        return CloudUse(self.name, len(sent), worst if known else None, len(examples) - len(sent))

    def _client(self) -> CloudClient:
        from ondevice.runtime.fallback.build import client_for

        return client_for(replace(self.policy, consent="always"))


class CloudSubject:
    """The policy's endpoint, asked through the cloud client."""

    def __init__(
        self, client: CloudClient, policy: Policy, sleep: Callable[[float], object] = time.sleep
    ) -> None:
        self._client = client
        self._policy = policy
        self._sleep = sleep

    @property
    def name(self) -> str:
        return f"{CLOUD}{self._client.endpoint.name}"

    def answer(self, example: Example) -> Record:
        """One answer. Raises `CloudError` for a failure that the next example would meet too."""
        kind = data_class(self._policy, example)
        if not self._policy.may_leave(kind):
            return failed(example, self.name, f"{REFUSED}: data of class {kind!r} never leaves")
        try:
            answer = self._ask(example, kind)
        except CloudError as error:
            if error.kind not in OF_ONE_EXAMPLE:
                raise
            return failed(example, self.name, f"{error.kind}: {error}")
        return replace(
            checked(example, self.name, answer.text),
            prompt_tokens=answer.prompt_tokens,
            output_tokens=answer.output_tokens,
            finish_reason=answer.finish_reason,
            ttft_s=answer.ttft_s,
            latency_s=answer.latency_s,
            cost_usd=answer.cost_usd,
            model=self._client.endpoint.model,
        )

    def _ask(self, example: Example, kind: str) -> CloudAnswer:
        from ondevice.runtime.cloud.client import Purpose

        for pause in (*RATE_PAUSES_S, None):
            try:
                return self._client.ask(
                    messages(example),
                    max_tokens=example.max_tokens,
                    temperature=0.0,
                    purpose=Purpose("evaluation", None, None, example.family, kind),
                )
            except CloudError as error:
                if error.kind != "rate" or pause is None:
                    raise
                self._sleep(pause)
        raise AssertionError("the last pause is None")


def data_class(policy: Policy, example: Example) -> str:
    """The class of an example's data under the policy."""
    return policy.class_of(example.family, example.data_class)


def messages(example: Example) -> list[Message]:
    """What an endpoint is sent."""
    user = Message("user", example.prompt)
    return [user] if example.system is None else [Message("system", example.system), user]


def find(references: Sequence[str], policy: Path | None, threads: int | None) -> list[Source]:
    """The sources of `--models`. Raises `OndeviceError` for one that is missing or named twice."""
    sources = [source(reference, policy, threads) for reference in references]
    if not sources:
        raise RequestError("no model to evaluate; name some with --models")
    names = [found.name for found in sources]
    for name in names:
        if names.count(name) > 1:
            raise RequestError(
                f"two models are named {name.partition(':')[2]!r}; name each once, or export one "
                "of them again under another --name"
            )
    return sources


def source(reference: str, policy: Path | None, threads: int | None = None) -> Source:
    """One source by package name, package path or `cloud:NAME`."""
    if not reference.startswith(CLOUD):
        from ondevice import store

        return PackageSource(store.find(reference), reference, threads)
    from ondevice.runtime.fallback.policy_file import home_path, read_policy

    read, name = read_policy(policy), reference.removeprefix(CLOUD)
    if read.endpoint is None:
        raise RequestError(
            f"{reference}: {policy or home_path()} has no [endpoint]; add one with base_url and "
            "model"
        )
    if read.endpoint.name != name:
        raise RequestError(
            f"{reference}: the endpoint of {read.path} is named {read.endpoint.name!r}; ask for "
            f"cloud:{read.endpoint.name}"
        )
    return CloudSource(read, read.endpoint)


def package_identity(package: Package) -> str:
    """A hash over everything that shapes a greedy answer of the package."""
    manifest = package.manifest
    return _hash(["device", manifest.content_hashes(), list(manifest.text.eos_ids)])


def _hash(parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


# ---- how sure a package was


def read_calibration(package: Package) -> Calibration | None:
    """The package's calibration if it holds for greedy answers without a schema, else None."""
    from ondevice.runtime.confidence import calibration

    with contextlib.suppress(CalibrationError):
        found = calibration.read(package)
        if found is not None and found.key == calibration.calibration_key(package, OPTIONS):
            return found
    return None


def confidences(
    package: Package | None, examples: Sequence[Example], records: Sequence[Record]
) -> tuple[list[float], str]:
    """How sure the subject was of each record, and in words what that figure is.

    P(right) by the package's calibration, else the mean log-probability. Minus infinity for an
    example without an answer.
    """
    calibration = None if package is None else read_calibration(package)
    meaning = "mean log-probability (uncalibrated)"
    if calibration is not None:
        try:
            return _probabilities(calibration, examples, records), "calibrated P(right)"
        except CalibrationError:
            # Answers that were kept from before the calibration have no hidden states.
            meaning = "mean log-probability (the kept answers lack what the calibration needs)"
    return [mean_logprob(record) for record in records], meaning


def _probabilities(
    calibration: Calibration, examples: Sequence[Example], records: Sequence[Record]
) -> list[float]:
    from ondevice.runtime.confidence.calibrate import probabilities
    from ondevice.runtime.confidence.samples import from_records

    found = probabilities(calibration, from_records(examples, records))
    pairs = zip(found, records, strict=True)
    return [-math.inf if record.error else float(p) for p, record in pairs]
