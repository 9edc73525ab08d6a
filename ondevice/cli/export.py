"""`ondevice export` and `ondevice verify`: a checkpoint becomes a package, a package is checked."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ondevice.cli import models, options, output
from ondevice.errors import ProofError, RequestError
from ondevice.progress import Progress

if TYPE_CHECKING:
    from ondevice.encoder_package import EncoderPackage
    from ondevice.export.coreml.check import Check
    from ondevice.export.coreml.on_device import Comparison
    from ondevice.export.recipe import Options
    from ondevice.package import Package, Proof

Bits = Annotated[
    float | None,
    typer.Option(
        "--bits",
        metavar="4|8|4.5",
        help="Bits per weight. A fraction is a mean: the matrices that need 8 bits most get them.",
        show_default="the target's",
    ),
]
HeadBits = Annotated[
    int | None,
    typer.Option(
        "--head-bits",
        metavar="4|8",
        help="Bits of the embedding and the output matrix.",
        show_default="the target's",
    ),
]
EmbeddingBits = Annotated[
    int | None,
    typer.Option(
        "--embedding-bits",
        metavar="4|8",
        help="Bits of an embedding that is not the output matrix as well.",
        show_default="--head-bits",
    ),
]
Block = Annotated[
    int | None,
    typer.Option(
        "--block", metavar="N", help="Weights that share a scale.", show_default="the target's"
    ),
]
Asymmetric = Annotated[
    bool,
    typer.Option("--asymmetric", help="Give each block a zero point beside its scale."),
]
Method = Annotated[
    str | None,
    typer.Option(
        "--quantizer",
        metavar="NAME",
        help="rtn, search, activation or gptq; the last two read a calibration text.",
        show_default="search",
    ),
]
CalibrationText = Annotated[
    Path | None,
    typer.Option(
        "--calibration",
        metavar="FILE",
        help="Text like that which the model will see, for quantizers that look at activations.",
        show_default="the built-in one",
    ),
]
Adapter = Annotated[
    Path | None,
    typer.Option(
        "--adapter",
        metavar="DIR",
        help="Merge this LoRA adapter into the weights.",
        show_default=False,
    ),
]
ActivationBits = Annotated[
    int | None,
    typer.Option(
        "--activation-bits",
        metavar="16|8",
        help="Of npu-int8; with 8 activations are smoothed into the weights.",
        show_default="16",
    ),
]
Context = Annotated[
    int | None,
    typer.Option(
        "--context",
        metavar="N",
        help="Positions of a KV cache of fixed length (npu-int8 and Core ML).",
        show_default="1024 or 2048",
    ),
]


def export(
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="A GGUF file or a safetensors folder.")
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR", help="The new package's folder.")
    ],
    target: Annotated[
        str | None,
        typer.Option(
            "--target",
            "-t",
            metavar="TARGET",
            help=options.TARGETS_HELP,
            show_default="cpu-as-is, or what --bits asks for",
        ),
    ] = None,
    bits: Bits = None,
    head_bits: HeadBits = None,
    embedding_bits: EmbeddingBits = None,
    block: Block = None,
    asymmetric: Asymmetric = False,
    quantizer: Method = None,
    calibration: CalibrationText = None,
    adapter: Adapter = None,
    activation_bits: ActivationBits = None,
    context: Context = None,
    name: Annotated[
        str | None,
        typer.Option("--name", metavar="NAME", help="The model's name.", show_default="from DIR"),
    ] = None,
    source_id: Annotated[
        str | None,
        typer.Option(
            "--source-id", metavar="ID", help="Where the checkpoint is from, for the record."
        ),
    ] = None,
    licence: Annotated[
        str | None, typer.Option("--licence", metavar="SPDX", help="The weights' licence.")
    ] = None,
    accept: Annotated[
        bool, typer.Option("--accept", help="Keep the package even if its proof fails the gate.")
    ] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace what is in DIR when all has gone well.")
    ] = False,
    fresh: Annotated[
        bool,
        typer.Option("--fresh", help="Begin anew, whatever an interrupted export to DIR has done."),
    ] = False,
    via: Annotated[
        str | None,
        typer.Option(
            "--via",
            metavar="genai|optimum",
            help="Let another exporter make the graph, for models we do not describe.",
            show_default="our own",
        ),
    ] = None,
    python: Annotated[
        Path | None,
        typer.Option(
            "--python",
            metavar="PATH",
            help="With --via: the Python of an environment that has the exporter.",
            show_default="this one",
        ),
    ] = None,
    json: options.Json = False,
) -> None:
    """Make a package from a checkpoint and prove it against the unquantized weights.

    Nothing appears in DIR unless everything went well. Stopped or killed, the same command goes
    on where it was.
    """
    from ondevice.export.recipe import Options

    chosen = Options(
        bits=bits,
        head_bits=head_bits,
        embedding_bits=embedding_bits,
        block=block,
        symmetric=False if asymmetric else None,
        quantizer=quantizer,
        calibration=calibration,
        adapter=adapter,
        activation_bits=activation_bits,
        context=context,
    )
    make = _exporter(via, python, chosen, fresh)
    with _telling_what_is_kept(out), output.progress_bar(quiet=json) as progress:
        package = make(
            source,
            target or _target_of(bits),
            out,
            name=name,
            source_id=source_id,
            licence=licence,
            accept=accept,
            replace=replace,
            progress=progress,
        )
    models.print_package(package, json)


def _exporter(
    via: str | None, python: Path | None, chosen: Options, fresh: bool
) -> Callable[..., Package | EncoderPackage]:
    from ondevice.export.recipe import Options

    if via is None:
        if python is not None:
            raise RequestError("--python needs --via, the exporter that runs in that Python")
        from ondevice.export.convert import convert

        return partial(convert, options=chosen, fresh=fresh)
    if chosen != Options():
        raise RequestError(
            f"--via {via[:40]} quantizes as that exporter does; leave out --bits, --head-bits, "
            "--embedding-bits, --block, --asymmetric, --quantizer, --calibration and --adapter"
        )
    from ondevice.export.via import convert_via

    return partial(convert_via, via, python=python)


def _target_of(bits: float | None) -> str:
    """The target when none was named."""
    if bits is None:
        return "cpu-as-is"
    return "cpu-int8" if bits == 8 else "cpu-int4"


@contextlib.contextmanager
def _telling_what_is_kept(out: Path) -> Iterator[None]:
    """After a Ctrl-C, say where the work of an export is and how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        from ondevice.export.workspace import kept_work

        if (kept := kept_work(out)) is not None:
            message = f"ondevice: the work so far is in {kept}; the same command goes on from it"
            print(message, file=sys.stderr)
        raise


def verify(
    package: Annotated[
        str, typer.Argument(metavar="PKG", help="A package folder or a pulled model.")
    ],
    against: Annotated[
        Path | None,
        typer.Option("--against", metavar="SOURCE", help="Prove it anew against this checkpoint."),
    ] = None,
    text: Annotated[
        Path | None,
        typer.Option("--text", metavar="FILE", help="Prove it on this text, not the built-in one."),
    ] = None,
    on_device: Annotated[
        bool,
        typer.Option(
            "--on-device",
            help="Run a Core ML package by Core ML too, beside its stored logits. On a Mac.",
        ),
    ] = False,
    json: options.Json = False,
) -> None:
    """Check every byte of a package, and its figures where the checkpoint is given.

    A Core ML package is evaluated too, also a plain .mlpackage folder of any origin.
    """
    from ondevice import store

    if package.rstrip("/").endswith(".mlpackage"):
        if on_device or against is not None:
            raise RequestError(
                f"{package} is a program alone, without tokenizer and stored logits; give the "
                "folder of the package that 'ondevice export' made"
            )
        _describe_program(Path(package), json)
        return
    if text is not None and against is None:
        raise RequestError("--text needs --against, the checkpoint to compare with")
    found = store.find(package)
    if on_device and not found.is_coreml:
        raise RequestError(
            f"{found.manifest.name} is no Core ML package, so --on-device has no place; leave it "
            "out"
        )
    with output.progress_bar(quiet=json) as progress:
        _check_bytes(found, progress)
        proof = _prove(found, against, text, progress) if against else found.manifest.proof
        compared = _run_on_device(found) if on_device else None
        evaluated = _check_program(found) if found.is_coreml else None
    if json:
        proved = dataclasses.asdict(proof) if proof else None
        output.print_json(
            {
                "folder": str(found.folder),
                "files_ok": True,
                "proof": proved,
                "proved_now": bool(against),
                "evaluated": dataclasses.asdict(evaluated) if evaluated else None,
                "on_device": dataclasses.asdict(compared) if compared else None,
            }
        )
    else:
        print(f"{len(found.manifest.files)} files hold what {found.folder}/ondevice.json says")
        print(f"{'proof' if against else 'recorded proof'}: {models.proof_line(proof)}")
        if evaluated is not None:
            _print_check(evaluated)
        if compared is not None:
            _print_comparison(compared)
    if compared is not None and not compared.passed:
        raise ProofError(
            f"Core ML gives {found.manifest.name} other logits than it holds: mean KL "
            f"{compared.kl_mean:.4f} nats; try the other compute units, and report it"
        )


def _describe_program(path: Path, json: bool) -> None:
    """What a Core ML package of any origin holds, if all its operators can be evaluated."""
    from ondevice.runtime.coreml import needing_coremltools

    with needing_coremltools("a Core ML package", RequestError):
        from ondevice.export.coreml.check import describe
        from ondevice.export.coreml.mlpackage import MLPackage
    functions = describe(MLPackage(path))
    if json:
        output.print_json({"package": str(path), "functions": functions})
        return
    for name, function in functions.items():
        operators, states = function["operators"], function["states"]
        assert isinstance(operators, dict) and isinstance(states, dict)
        print(
            f"{name}: {sum(operators.values())} operations of {len(operators)} kinds, all with a "
            f"reference; {len(states)} states"
        )


def _check_program(package: Package) -> Check:
    from ondevice.runtime.coreml import needing_coremltools

    with needing_coremltools("a Core ML package", RequestError):
        from ondevice.export.coreml.check import check
    return check(package)


def _run_on_device(package: Package) -> Comparison:
    from ondevice.runtime.engines import open_engine

    engine = open_engine(package)  # says what is missing elsewhere than on a Mac
    from ondevice.export.coreml.on_device import compare_with_stored

    try:
        return compare_with_stored(package, engine)
    finally:
        engine.close()


def _print_comparison(found: Comparison) -> None:
    print(
        f"Core ML beside the stored logits: mean KL {found.kl_mean:.5f} nats, the same token at "
        f"{found.same_top} of {found.positions}, logits within {found.largest_difference:.3f}; the "
        f"evaluator in half precision: {found.half_kl_mean:.5f}, {found.half_difference:.3f}"
    )


def _print_check(found: Check) -> None:
    print(
        f"evaluated on {found.tokens} tokens: largest value {found.largest:,.0f} of 65,504 in "
        f"{found.largest_in}; half precision gives the same token at {found.same_top}, keys and "
        f"values within {found.cache_difference:.1%}"
    )
    if found.overflowing:
        print(f"beyond half precision: {', '.join(found.overflowing)}")


def _check_bytes(found: Package, progress: Progress | None) -> None:
    from ondevice.package import verify_hashes

    done = 0

    def count(size: int) -> None:
        nonlocal done
        done += size
        if progress is not None:
            progress("checking", done, found.total_bytes)

    verify_hashes(found, count)


def _prove(found: Package, against: Path, text: Path | None, progress: Progress | None) -> Proof:
    from ondevice.cli.ask import read_file
    from ondevice.export.proof import check_gate, prove
    from ondevice.export.source import open_source

    words = read_file(text) if text is not None else None
    proof = prove(found, open_source(against), words, progress)
    recorded = found.manifest.proof
    accepted = recorded is not None and recorded.accepted_below_gate
    return check_gate(proof, found.manifest.recipe.target, accepted)
