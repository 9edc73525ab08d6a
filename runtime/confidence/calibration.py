"""A package's calibration: coefficients that turn an answer into P(right), bound to what answered.

Applying it needs numpy alone; `fit` makes it. Knows nothing about policies or the cloud.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ondevice import files, json_file
from ondevice.errors import CalibrationError
from ondevice.package import Package
from ondevice.runtime.answer import Answer, Options
from ondevice.runtime.confidence import features, texts
from ondevice.runtime.confidence.certificate import Certificate
from ondevice.runtime.confidence.gate import failed_check
from ondevice.runtime.confidence.kernel import Kernel
from ondevice.runtime.confidence.rival import Rival
from ondevice.runtime.confidence.router import EncoderRouter, Router, encoder_identity, sigmoid
from ondevice.runtime.confidence.stored import NOT_STORED, as_json, build

FILE = "calibration.json"
ENCODER_FOLDER = "router"
FORMAT_VERSION = 1
NAMES: tuple[str, ...] = (*features.NAMES, *texts.NAMES)

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Linear:
    """Coefficients of the features by name: weight * (value - mean) / scale each."""

    names: tuple[str, ...]
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        sizes = {len(self.names), len(self.mean), len(self.scale), len(self.weights)}
        if len(sizes) > 1:
            raise CalibrationError("linear: names, mean, scale and weights differ in length")
        if any(value <= 0 for value in self.scale):
            raise CalibrationError("linear.scale has to be above 0")


@dataclass(frozen=True)
class Evidence:
    """What the calibration was made and judged on: examples by split, then, on the certify split,
    how it ranks and how far it is from the truth, and the share of right answers there."""

    train: int
    threshold: int
    certify: int
    right_share: float
    auroc: float | None
    ece: float
    brier: float


@dataclass(frozen=True)
class Assessment:
    """What is thought of an answer. `failed` says which check it failed: `probability` is then 0.

    `router` is the prompt's prior where there is a router; `cloud` is P(the rival's answer is
    right) where there is a rival and no check has failed.
    """

    probability: float
    failed: str = ""
    router: float | None = None
    cloud: float | None = None


@dataclass(frozen=True)
class Calibration:
    """P(right) of an answer = sigmoid(slope * (intercept + linear + kernel + router) + offset).

    `key` says for which package and decoding it holds: see `calibration_key`. `threshold` and
    `certificate` are None where nothing could be certified, and `reason` says why. `rival` is
    there where a larger model's answers were learned from.
    """

    key: str
    linear: Linear
    intercept: float
    slope: float
    offset: float
    kernel: Kernel | None
    router: Router | None
    threshold: float | None
    certificate: Certificate | None
    reason: str
    evidence: Evidence | None
    rival: Rival | None = None
    format_version: int = FORMAT_VERSION
    encoder: EncoderRouter | None = field(
        default=None, compare=False, repr=False, metadata=NOT_STORED
    )

    def probability(self, answer: Answer, prompt: str) -> float:
        """P(the answer is right), 0 when it fails a check; see `assess`."""
        return self.assess(answer, prompt).probability

    def prior(self, prompt: str) -> float | None:
        """P(right) before inference; None without a router."""
        return None if self.router is None else self.router.prior(self.router_logit(prompt))

    def assess(self, answer: Answer, prompt: str, schema: str | None = None) -> Assessment:
        """P(right) and P(the rival is right), with the check that the answer failed, if it did.

        `schema` is the text of the JSON schema that was asked for. Raises `CalibrationError`
        when the calibration needs hidden states and the engine gives none.
        """
        failed = failed_check(answer.text, answer.finish_reason, schema)
        logit = None if self.router is None else self.router_logit(prompt)
        prior = None if self.router is None or logit is None else self.router.prior(logit)
        if failed:
            return Assessment(0.0, failed, prior)
        signals = answer.signals
        values = features.features(signals, answer.finish_reason)
        probability, cloud = self.probabilities_of(
            np.concatenate([values, texts.text_features(prompt, answer.text)]),
            logit,
            (signals.prompt_hidden, signals.answer_hidden),
            None if self.rival is None else self.rival.logit_of(prompt),
        )
        return Assessment(probability, "", prior, cloud)

    def router_logit(self, prompt: str) -> float:
        """The router's unscaled logit; 0 without a router."""
        return 0.0 if self.router is None else self.router.logit(prompt, self.encoder)

    def probability_of(
        self,
        values: Floats,
        router_logit: float | None = None,
        hidden: Sequence[ArrayLike | None] = (None, None),
    ) -> float:
        """P(right) from features (len(NAMES),), the router's logit, and the hidden states
        (hidden,) after the prompt and over the answer."""
        return self.probabilities_of(values, router_logit, hidden, None)[0]

    def probabilities_of(
        self,
        values: Floats,
        router_logit: float | None,
        hidden: Sequence[ArrayLike | None],
        rival_logit: float | None,
    ) -> tuple[float, float | None]:
        """P(right) as `probability_of`, and the rival's from `rival_logit`, its logit of the
        prompt; None without that. The landmarks are compared with once."""
        if self.linear.names != NAMES:
            raise CalibrationError(
                "this calibration was made by another version of ondevice; run "
                "`ondevice calibrate` again"
            )
        mean, scale, weights = self._arrays
        standardized = (values - mean) / scale
        logit = self.intercept + float(weights @ standardized)
        if self.router is not None and self.router.weight:
            logit += self.router.weight * (router_logit or 0.0)
        similar = np.zeros(0)
        if self.kernel is not None:
            similar = self.kernel.similar(standardized, hidden)
            logit += self.kernel.weigh(similar)
        probability = sigmoid(self.slope * logit + self.offset)
        if self.rival is None or rival_logit is None:
            return probability, None
        return probability, self.rival.probability(rival_logit, standardized, similar)

    def warm_up(self) -> None:
        """Make the arrays now, so that the first decision is as fast as the others."""
        self.prior("a prompt")
        probe = None if self.kernel is None else self.kernel.probe
        half = np.zeros(0 if probe is None else len(probe.centre) // 2)
        if self.linear.names == NAMES:
            rival = None if self.rival is None else self.rival.logit_of("a prompt")
            self.probabilities_of(np.zeros(len(NAMES)), 0.0, (half, half), rival)

    @cached_property
    def _arrays(self) -> tuple[Floats, Floats, Floats]:
        linear = self.linear
        return np.array(linear.mean), np.array(linear.scale), np.array(linear.weights)


def calibration_key(package: Package, options: Options, schema: bool | None = None) -> str:
    """SHA-256 over everything that shapes an answer and its features.

    Weights, tokenizer and template by their hashes, decoding settings, whether output is
    constrained by a JSON schema (None: as `options` say), and the features' names. The longest
    length and the seed do not count; neither do filters that greedy decoding never uses.
    """
    if schema is None:
        schema = getattr(options, "schema", None) is not None
    greedy = options.temperature == 0
    decoding = {
        "temperature": options.temperature,
        "top_k": None if greedy else options.top_k,
        "top_p": None if greedy else options.top_p,
        "min_p": None if greedy else options.min_p,
        "repetition_penalty": options.repetition_penalty,
        "stop": sorted(options.stop),
        "schema": schema,
    }
    parts = {
        "version": FORMAT_VERSION,
        "files": package.manifest.content_hashes(),
        "eos": list(package.manifest.text.eos_ids),
        "decoding": decoding,
        "features": list(NAMES),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def read(package: Package) -> Calibration | None:
    """The package's calibration, None when it has none.

    Raises `CalibrationError` naming the field when the file is damaged. Whether it holds for
    given options is for the caller to ask: compare `key` with `calibration_key`.
    """
    path = package.folder / FILE
    try:
        data = json_file.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise CalibrationError(f"{path} cannot be read: {error}; calibrate again") from error
    remedy = "upgrade ondevice or calibrate again"
    json_file.require_version(data, FORMAT_VERSION, path, CalibrationError, remedy)
    try:
        calibration = build(Calibration, data)
        _check(calibration)
        calibration = with_encoder(calibration, package.folder / ENCODER_FOLDER)
        calibration.warm_up()
        return calibration
    except CalibrationError as error:
        raise CalibrationError(f"{path}: {error}; calibrate again") from error


def write(package: Package, calibration: Calibration) -> None:
    """Put the calibration into the package, atomically; the same one gives the same bytes."""
    files.write_text(package.folder / FILE, to_json(calibration))


def to_json(calibration: Calibration) -> str:
    """The file's text: one line for each part, so that a change can be seen."""
    data = as_json(calibration)
    lines = [f"{json.dumps(k)}: {json.dumps(v, allow_nan=False)}" for k, v in data.items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def with_encoder(calibration: Calibration, folder: Path) -> Calibration:
    """The calibration with its encoder opened, where it has one. Raises `CalibrationError` when
    the folder's encoder is missing or another one."""
    router = calibration.router
    if router is None or not router.encoder:
        return calibration
    encoder = EncoderRouter(folder)
    if encoder_identity(folder) != router.encoder:
        raise CalibrationError(f"the encoder in {folder} is not the one that was calibrated")
    return replace(calibration, encoder=encoder)


def _check(calibration: Calibration) -> None:
    threshold = calibration.threshold
    if threshold is not None and not 0 <= threshold <= 1:
        raise CalibrationError(f"threshold has to be from 0 to 1, not {threshold}")
    if (threshold is None) != (calibration.certificate is None):
        raise CalibrationError("threshold and certificate go together; one of them is null")
    kernel = calibration.kernel
    if kernel is not None and kernel.probe is not None and len(kernel.probe.centre) % 2:
        raise CalibrationError("kernel.probe.centre has to hold two hidden states of one length")
    if kernel is not None and kernel.width != len(calibration.linear.names):
        raise CalibrationError("kernel: points have another number of features than linear.names")
    rival = calibration.rival
    if rival is not None:
        landmarks = 0 if kernel is None else len(kernel.weights)
        for name, own, shared in (
            ("weights", len(rival.weights), len(calibration.linear.names)),
            ("kernel_weights", len(rival.kernel_weights), landmarks),
        ):
            if own not in (0, shared):
                raise CalibrationError(
                    f"rival.{name} has {own} entries instead of {shared} or none"
                )
