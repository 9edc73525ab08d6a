"""The figures of `benchmarks/fallback.py` as the Markdown tables of docs/fallback.md."""

from __future__ import annotations

from typing import Any


def markdown(found: dict[str, Any]) -> str:
    """All tables, one after the other."""
    parts = [_answers(found["parts"]), _ranking(found["ranking"]), _trust(found["calibration"])]
    parts += [_rules(name, rows) for name, rows in found["tables"].items()]
    parts += [_certificates(found["certificates"]), _overhead(found["overhead"])]
    return "\n\n".join(parts)


def _answers(parts: list[dict[str, Any]]) -> str:
    rows = [
        [
            part["split"],
            part["tier"],
            str(part["examples"]),
            _share(part["small_accuracy"]),
            _share(part["small_compliant"]),
            "" if part["large_accuracy"] is None else _share(part["large_accuracy"]),
        ]
        for part in parts
    ]
    head = ["split", "tier", "examples", "0.5B right", "0.5B in the asked form", "1.5B right"]
    return _table(head, rows)


def _ranking(ranking: list[dict[str, Any]]) -> str:
    rows = [
        [
            one["split"],
            one["name"],
            _figure(one["auroc"]),
            f"{one['augrc']:.3f}",
            "" if one["against_logprob"] is None else _figure(one["against_logprob"], sign=True),
        ]
        for one in ranking
    ]
    return _table(["split", "score", "AUROC", "AUGRC", "against mean log-probability"], rows)


def _trust(calibration: list[dict[str, Any]]) -> str:
    rows = [
        [
            one["split"],
            one["name"],
            _figure(one["ece"]),
            f"{one['ece_by_chance']:.3f}",
            f"{one['brier']:.3f}",
        ]
        for one in calibration
    ]
    return _table(["split", "score", "calibration error", "by chance alone", "Brier"], rows)


def _rules(name: str, table: list[dict[str, Any]]) -> str:
    rows = [
        [
            row["name"],
            _percent(row["local_share"]),
            _percent(row["accuracy"]),
            _points(row["loss"]),
            _percent(row["cost_cut"]),
        ]
        for row in table
    ]
    head = ["rule", "stays local, %", "right, %", "loss, points", "cost cut, %"]
    return f"Large model and split: {name}\n\n" + _table(head, rows)


def _certificates(certificates: list[dict[str, Any]]) -> str:
    rows = [
        [
            f"{one['max_error']:.0%}",
            one["drawn"],
            f"{one['certified']} of {one['n']}",
            f"{one['held']} of {one['certified']}",
            f"{one['kept']:.1%}",
            "" if one["certified"] == 0 else f"{one['local_share']:.1%}",
        ]
        for one in certificates
    ]
    head = ["largest error", "drawn by", "certified", "held", "promise kept", "mean local share"]
    return _table(head, rows)


def _overhead(overhead: dict[str, Any]) -> str:
    return (
        f"Decision: median {overhead['median_ms']:.3f} ms, p95 {overhead['p95_ms']:.3f} ms, "
        f"largest {overhead['largest_ms']:.3f} ms over {overhead['answers']} answers."
    )


def _figure(interval: dict[str, float], sign: bool = False) -> str:
    form = "+.3f" if sign else ".3f"
    return f"{interval['value']:{form}} ({interval['low']:{form}} to {interval['high']:{form}})"


def _percent(interval: dict[str, float]) -> str:
    value, low, high = (100 * interval[key] for key in ("value", "low", "high"))
    return f"{value:.1f} ({low:.1f} to {high:.1f})"


def _points(interval: dict[str, float]) -> str:
    value, low, high = (100 * interval[key] for key in ("value", "low", "high"))
    return f"{value:+.1f} ({low:+.1f} to {high:+.1f})"


def _share(value: float) -> str:
    return f"{value:.1%}"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
