"""The answer as JSON data, as `ondevice/schemas/advise.schema.json` describes it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ondevice.advise import assumptions as figures
from ondevice.advise import factors
from ondevice.advise.advice import Advice, Crossing, Option
from ondevice.advise.examples import Finding

FORMAT_VERSION = 1


def advice_data(advice: Advice) -> dict[str, Any]:
    """Everything the command prints, with plain numbers."""
    verdict = advice.verdict
    return {
        "format_version": FORMAT_VERSION,
        "recommendation": verdict.choice,
        "by_scores": verdict.by_scores,
        "mean": float(verdict.mean),
        "doubtful": verdict.doubtful,
        "why": verdict.why,
        "factors": [
            {
                "name": factor.name,
                "score": getattr(advice.scores, factor.name),
                "meaning": advice.scores.meaning(factor),
            }
            for factor in factors.FACTORS
        ],
        "constraints": asdict(advice.constraints),
        "requests_a_day": advice.requests_a_day,
        "price": {
            "model": advice.price.model,
            "input_usd_per_million": float(advice.price.input_per_million),
            "output_usd_per_million": float(advice.price.output_per_million),
            "source": advice.price.source,
            "date": advice.price.date,
        },
        "cheapest": advice.cheapest.name,
        "options": [_option(option, advice.requests_a_day) for option in advice.options],
        "break_even": [_crossing(crossing) for crossing in advice.crossings],
        "quality": [asdict(entry) for entry in advice.quality],
        "assumptions": figures.as_data(advice.assumptions),
        "remarks": list(advice.remarks),
    }


def examples_data(findings: tuple[Finding, ...]) -> dict[str, Any]:
    """The examples of `--examples`."""
    return {
        "format_version": FORMAT_VERSION,
        "examples": [asdict(finding) | {"found": list(finding.found)} for finding in findings],
    }


def _option(option: Option, requests: int) -> dict[str, Any]:
    lines = option.low, option.high
    return {
        "name": option.name,
        "label": option.label,
        "ruled_out": option.ruled_out,
        "measured": option.measured,
        "usd_a_day": [float(line.a_day(requests)) for line in lines],
        "usd_a_month": [float(line.a_month(requests)) for line in lines],
        "usd_a_request": [float(line.a_day(requests) / requests) for line in lines],
        "units": option.low.units(requests),
    }


def _crossing(crossing: Crossing) -> dict[str, Any]:
    return {
        "way": crossing.way,
        "than": crossing.than,
        "low_overhead": asdict(crossing.low),
        "high_overhead": asdict(crossing.high),
        "dearer_again": crossing.dearer_again,
    }
