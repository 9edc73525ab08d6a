from __future__ import annotations

import builtins
from pathlib import Path

import numpy as np
import pytest

from ondevice.errors import CalibrationError
from ondevice.runtime.confidence import curves, metrics
from ondevice.runtime.confidence.certificate import Certificate

RNG = np.random.default_rng(0)
P = RNG.random(120)
RIGHT = (RNG.random(120) < P).astype(float)
CERTIFICATE = Certificate(0.2, 0.95, 60, 6, 0.18, 0.5, 120)


def test_the_reliability_diagram_shows_each_bin() -> None:
    figure = curves.reliability(P, RIGHT)
    points = figure.axes[0].lines[1]
    found = metrics.bins(P, RIGHT)
    assert points.get_xdata().tolist() == [b.confidence for b in found]  # type: ignore[union-attr]
    assert points.get_ydata().tolist() == [b.accuracy for b in found]  # type: ignore[union-attr]


def test_the_risk_curve_ends_at_the_base_rate_and_shows_the_certificate() -> None:
    figure = curves.risk_coverage(P, RIGHT, rival=("rival", P**2), certificate=CERTIFICATE)
    axes = figure.axes[0]
    risk = np.asarray(axes.lines[0].get_ydata())
    assert risk[-1] == pytest.approx(100 * (1 - RIGHT.mean()))
    assert np.allclose(risk, np.asarray(axes.lines[1].get_ydata()))  # the same order
    texts = [text.get_text() for text in axes.texts]
    assert any("certified: 50% accepted" in text and "18.0%" in text for text in texts)


@pytest.mark.parametrize("right", [np.ones(120), np.zeros(120)])
def test_one_class_can_be_drawn(right: np.ndarray, tmp_path: Path) -> None:
    assert len(curves.plot(tmp_path, P, right)) == 4


def test_equal_figures_give_equal_bytes(tmp_path: Path) -> None:
    first = curves.plot(tmp_path / "a", P, RIGHT, certificate=CERTIFICATE)
    second = curves.plot(tmp_path / "b", P, RIGHT, certificate=CERTIFICATE)
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: object, **kwargs: object) -> object:
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(CalibrationError, match=r"ondevice\[calibrate\]"):
        curves.plot(Path("nowhere"), P, RIGHT)
