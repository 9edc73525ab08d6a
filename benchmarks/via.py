"""Which architectures go through the second ways, and whether what comes out is right.

Makes tiny random checkpoints, exports each with `--via`, proves it, generates greedily with the
engines and asks transformers whether it would have taken the same tokens. Says what it ran. Run
as `python -m benchmarks.via --genai PYTHON --optimum PYTHON`, each the interpreter of an
environment with the tool; without one, that tool is left out.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).parents[1]))  # after the installed package

from benchmarks.common import print_json
from benchmarks.via_cases import CASES, VOCABULARY, Case, tiny
from ondevice.encoder_package import EncoderPackage
from ondevice.errors import OndeviceError
from ondevice.export.via import convert_via
from ondevice.export.via.environment import TOOLS, Environment, find_environment
from ondevice.export.via.proof import child_arrays
from ondevice.package import Package
from ondevice.runtime.engine import Engine
from ondevice.runtime.genai import GenaiEngine
from ondevice.runtime.ort import OrtEngine

PROMPT, STEPS = 24, 16


@dataclass
class Row:
    """What came of one export; differences are the largest of any logit or output number.

    `same_tokens`: of the greedy tokens of an engine, how many transformers would have taken too.
    """

    tool: str
    name: str
    target: str
    outcome: str
    seconds: float = 0.0
    reference: str = ""
    kl_mean: float | None = None
    top1_agreement: float | None = None
    max_difference: float | None = None
    same_tokens: dict[str, int] = field(default_factory=dict)


def main() -> None:
    """Run the cases of the tools that were given."""
    parser = argparse.ArgumentParser(description=__doc__)
    for tool in TOOLS:
        parser.add_argument(f"--{tool}", type=Path, metavar="PYTHON")
    parser.add_argument("--only", metavar="NAME", help="cases whose name begins so")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    pythons = {tool: getattr(given, tool) for tool in TOOLS if getattr(given, tool)}
    environments = {tool: find_environment(TOOLS[tool], path) for tool, path in pythons.items()}
    rows = []
    for case in CASES:
        if case.tool in environments and case.name.startswith(given.only or ""):
            for row in _run(case, environments[case.tool]):
                rows.append(row)
                print(_line(row), file=sys.stderr, flush=True)
    versions = {tool: dict(found.versions) for tool, found in environments.items()}
    if given.json:
        machine = platform.processor() or platform.machine()
        print_json({"versions": versions, "machine": machine, "rows": [asdict(r) for r in rows]})
    else:
        print(_table(rows, versions))


def _run(case: Case, environment: Environment) -> list[Row]:
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        source = _checkpoint(case, environment, work)
        return [_export(case, source, target, environment, work) for target in case.targets]


def _checkpoint(case: Case, environment: Environment, work: Path) -> Path:
    described, folder = work / "config.json", work / "source"
    described.write_text(json.dumps(case.config), encoding="utf-8")
    script = Path(__file__).with_name("via_checkpoint.py")
    environment.run([str(script), case.kind, str(described), str(folder)], work, "the checkpoint")
    (folder / "tokenizer.json").write_text(tiny.tokenizer_json(), encoding="utf-8")
    tokens = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": tiny.EOS}
    if case.kind != "causal":
        tokens |= {"model_max_length": 256}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokens), encoding="utf-8")
    return folder


def _export(case: Case, source: Path, target: str, environment: Environment, work: Path) -> Row:
    row = Row(case.tool, case.name, target, "packaged")
    start = time.perf_counter()
    try:
        try:
            package = convert_via(
                case.tool, source, target, work / target, python=environment.python, accept=True
            )
        except OndeviceError as error:
            row.outcome = f"refused: {error}"
            return row
        finally:
            row.seconds = round(time.perf_counter() - start, 1)
        row.reference = package.manifest.tools["reference"]
        assert package.manifest.proof is not None
        if package.manifest.proof.accepted_below_gate:
            row.outcome = "below the gate"
        if isinstance(package, EncoderPackage):
            row.max_difference = package.manifest.proof.max_difference
        else:
            _compare(package, source, environment, work, row)
    except OndeviceError as error:
        row.outcome = f"does not run: {error}"
    return row


def _compare(
    package: Package, source: Path, environment: Environment, work: Path, row: Row
) -> None:
    """Greedy tokens of both engines against the argmax of transformers on the same tokens."""
    proof = package.manifest.proof
    assert proof is not None
    row.kl_mean, row.top1_agreement = proof.kl_mean, proof.top1_agreement
    prompt = np.random.default_rng(0).integers(0, VOCABULARY - 2, PROMPT).tolist()
    engines: list[Engine] = [OrtEngine(package, 1), GenaiEngine(package, 1)]
    for engine in engines:
        found = [engine.prefill(prompt)]
        chosen = [int(found[0].argmax())]
        while len(chosen) < STEPS:
            found.append(engine.decode(chosen[-1]))
            chosen.append(int(found[-1].argmax()))
        engine.close()
        expected = child_arrays("logits", source, [prompt + chosen], environment, work)
        expected = np.array(expected[PROMPT - 1 : -1])
        row.same_tokens[engine.name] = int((expected.argmax(axis=1) == chosen).sum())
        apart = float(np.abs(expected - np.stack(found)).max())
        row.max_difference = max(row.max_difference or 0.0, apart)


def _line(row: Row) -> str:
    return " | ".join(_cells(row))


def _cells(row: Row) -> list[str]:
    same = ", ".join(f"{name} {count}/{STEPS}" for name, count in row.same_tokens.items())
    return [
        row.tool,
        row.name,
        row.target,
        row.outcome,
        f"{row.seconds:.1f}",
        "" if row.kl_mean is None else f"{max(row.kl_mean, 0):.2g}",
        "" if row.top1_agreement is None else f"{row.top1_agreement:.1%}",
        "" if row.max_difference is None else f"{row.max_difference:.1e}",
        same,
        row.reference,
    ]


def _table(rows: list[Row], versions: dict[str, dict[str, str]]) -> str:
    head = [
        "via",
        "checkpoint",
        "target",
        "outcome",
        "s",
        "mean KL",
        "top-1",
        "largest difference",
        "greedy tokens as transformers",
        "reference",
    ]
    lines = [head, ["---"] * len(head), *(_cells(row) for row in rows)]
    said = [
        f"{tool}: {', '.join(f'{n} {v}' for n, v in found.items())}"
        for tool, found in versions.items()
    ]
    return "\n".join([*said, "", *(f"| {' | '.join(line)} |" for line in lines)])


if __name__ == "__main__":
    main()
