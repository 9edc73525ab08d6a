"""Kernel logistic regression: an answer is as good as the answers it resembles.

Resembles by its signals, its text and, with a probe, its hidden states. Applying it needs numpy
alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ondevice.errors import CalibrationError

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Block:
    """One way to be alike: share * exp(-gamma * distance^2) to each landmark in `points`
    (landmarks, columns)."""

    points: tuple[tuple[float, ...], ...]
    gamma: float
    share: float = 1.0

    def __post_init__(self) -> None:
        require_shape(self.points, self.width, "kernel: points")

    @property
    def width(self) -> int:
        """Columns of a point."""
        return len(self.points[0]) if self.points else 0

    def similarity(self, rows: Floats) -> Floats:
        """How alike (n, landmarks) rows (n, columns) and landmarks are."""
        found: Floats = self.share * np.exp(-self.gamma * distances(rows, self._points))
        return found

    @cached_property
    def _points(self) -> Floats:
        return np.array(self.points)


@dataclass(frozen=True)
class Probe:
    """What of the hidden states is compared: `projection` (components, 2 * hidden) of the states
    after the prompt and over the answer, side by side, less their `centre` (2 * hidden,)."""

    projection: tuple[tuple[float, ...], ...]
    centre: tuple[float, ...]
    block: Block

    def __post_init__(self) -> None:
        require_shape(self.projection, len(self.centre), "kernel.probe.projection")
        require_shape(self.block.points, len(self.projection), "kernel.probe.block.points")

    def components(self, states: Floats) -> Floats:
        """Components (n, components) of states (n, 2 * hidden)."""
        found: Floats = (states - self._centre) @ self._projection.T
        return found

    @cached_property
    def _projection(self) -> Floats:
        return np.array(self.projection)

    @cached_property
    def _centre(self) -> Floats:
        return np.array(self.centre)


@dataclass(frozen=True)
class Kernel:
    """logit = sum over landmarks of weight * ((1 + k1) (1 + k2) (1 + k3) - 1), where k1 to k3 are
    the similarities of signals, text and hidden states (an ANOVA kernel): landmarks count that
    are like the answer in one way, and more when in several."""

    signals: Block
    text: Block
    weights: tuple[float, ...]
    probe: Probe | None

    def __post_init__(self) -> None:
        blocks = [self.signals, self.text, *([self.probe.block] if self.probe else [])]
        if {len(block.points) for block in blocks} != {len(self.weights)}:
            raise CalibrationError("kernel: points and weights differ in length")

    @property
    def width(self) -> int:
        """How many features it looks at."""
        return self.signals.width + self.text.width

    def logit(self, features: Floats, hidden: Sequence[ArrayLike | None]) -> float:
        """The logit of standardized features (width,) and the two hidden states (hidden,) each.

        Raises `CalibrationError` when hidden states are needed and are not there.
        """
        return self.weigh(self.similar(features, hidden))

    def similar(self, features: Floats, hidden: Sequence[ArrayLike | None]) -> Floats:
        """How alike one answer and the landmarks (landmarks,) are; raises as `logit` does."""
        states = self._states(hidden) if self.probe is not None else None
        found: Floats = self.similarity(features[None], states)[0]
        return found

    def weigh(self, similar: Floats) -> float:
        """The logit of what `similar` gave."""
        return float(similar @ self._weights)

    def similarity(self, features: Floats, states: Floats | None) -> Floats:
        """The kernel (n, landmarks) of features (n, width) and states (n, 2 * hidden)."""
        at = self.signals.width
        parts = [self.signals.similarity(features[:, :at]), self.text.similarity(features[:, at:])]
        if self.probe is not None and states is not None:
            parts.append(self.probe.block.similarity(self.probe.components(states)))
        return anova(parts)

    def among_landmarks(self) -> Floats:
        """The kernel (landmarks, landmarks) of the landmarks themselves."""
        blocks = [self.signals, self.text, *([self.probe.block] if self.probe else [])]
        return anova([block.similarity(np.array(block.points)) for block in blocks])

    def _states(self, hidden: Sequence[ArrayLike | None]) -> Floats:
        assert self.probe is not None
        given = [np.asarray(state, np.float64) for state in hidden if state is not None]
        states = np.concatenate(given) if len(given) == 2 else np.zeros(0)
        wanted = len(self.probe.centre)
        if len(states) != wanted:
            raise CalibrationError(
                f"this calibration needs hidden states of {wanted} numbers and the engine gives "
                f"{len(states)}: use the engine it was made with, or calibrate with --no-probe"
            )
        return states[None]

    @cached_property
    def _weights(self) -> Floats:
        return np.array(self.weights)


def anova(parts: Sequence[Floats]) -> Floats:
    """The product of 1 + part, less 1."""
    total = np.ones_like(parts[0])
    for part in parts:
        total = total * (1 + part)
    found: Floats = total - 1
    return found


def distances(one: Floats, other: Floats) -> Floats:
    """Squared distances (n, m) of points (n, d) and (m, d)."""
    crossed = (one**2).sum(axis=1)[:, None] + (other**2).sum(axis=1)[None] - 2 * one @ other.T
    found: Floats = np.maximum(crossed, 0.0)
    return found


def require_shape(rows: tuple[tuple[float, ...], ...], width: int, name: str) -> None:
    """Raise `CalibrationError` unless there are rows and all are `width` long."""
    if not rows or not width or any(len(row) != width for row in rows):
        raise CalibrationError(f"{name} has to be rows of {width or 'some'} numbers each")
