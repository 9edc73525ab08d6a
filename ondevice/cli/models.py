"""`pull`, `list`, `remove`, `info`, `doctor`: the models on this machine and the machine itself."""

from __future__ import annotations

import dataclasses
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ondevice.cli import options, output

if TYPE_CHECKING:
    from ondevice.doctor import Report
    from ondevice.encoder_package import EncoderPackage, EncoderProof
    from ondevice.package import Package, Proof


def pull(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME", help="A model of models.lock.", show_default="the default model"
        ),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="hub|mirror|PATH",
            help="Where its file comes from.",
            show_default="the hub, or a mirror where that cannot be reached",
        ),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            "--target",
            "-t",
            metavar="TARGET",
            help=options.TARGETS_HELP,
            show_default="the recipe in models.lock",
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Make the package anew even if it is there.")
    ] = False,
    keep_source: Annotated[
        bool, typer.Option("--keep-source", help="Keep the fetched checkpoint in the store.")
    ] = False,
    accept: Annotated[
        bool, typer.Option("--accept", help="Keep the package even if its proof fails the gate.")
    ] = False,
    json: options.Json = False,
) -> None:
    """Fetch a model, check it against models.lock, and make it ready to answer.

    Stopped or cut off, it goes on where it was when called again.
    """
    from ondevice.pull import pull as pull_model

    with output.progress_bar(quiet=json) as progress:
        package = pull_model(
            name,
            source=source,
            target=target,
            force=force,
            keep_source=keep_source,
            accept=accept,
            progress=progress,
            say=output.note,
        )
    print_package(package, json)


def list_models(json: options.Json = False) -> None:
    """List the models that are ready to answer."""
    from ondevice import store

    packages = store.packages()
    for model in store.broken():
        print(f"ondevice: {model.problem}", file=sys.stderr)
    if json:
        output.print_json([summary(package) for package in packages])
    elif packages:
        rows = [
            [
                package.manifest.name,
                package.manifest.recipe.target,
                output.megabytes(package.total_bytes),
                package.manifest.source.licence or "unknown",
                str(package.folder),
            ]
            for package in packages
        ]
        output.print_table(["NAME", "TARGET", "SIZE", "LICENCE", "FOLDER"], rows)
    else:
        output.note("no models yet: `ondevice pull` fetches one")


def remove(
    name: Annotated[str, typer.Argument(metavar="NAME", help="As `ondevice list` shows it.")],
    json: options.Json = False,
) -> None:
    """Delete a model from this machine."""
    from ondevice import store

    freed = store.remove(name)
    if json:
        output.print_json({"removed": name, "bytes": freed})
    else:
        print(f"removed {name}, {output.megabytes(freed)}")


def info(model: options.ModelArgument = None, json: options.Json = False) -> None:
    """Show what a model was made from, how, and how it was proved."""
    from ondevice import store

    package = store.find(model)
    if json:
        output.print_json({"folder": str(package.folder), **dataclasses.asdict(package.manifest)})
        return
    manifest = package.manifest
    shape = manifest.shape
    output.print_fields(
        {
            "name": manifest.name,
            "folder": str(package.folder),
            "size": output.megabytes(package.total_bytes),
            "source": _source(package),
            "licence": manifest.source.licence or "unknown",
            "model": f"{shape.architecture}, {shape.parameters / 1e6:,.0f} M parameters, "
            f"{shape.layers} layers, vocabulary {shape.vocab_size:,}",
            "context": f"{shape.context_length:,} tokens",
            "target": f"{manifest.recipe.target}, "
            f"{manifest.recipe.bits_per_weight:.2f} bits per weight",
            **{f"  {grid}": f"{n} tensors" for grid, n in manifest.recipe.tensors.items()},
            "made with": ", ".join(f"{tool} {v}" for tool, v in manifest.tools.items()),
            "proof": proof_line(manifest.proof),
        }
    )


def doctor(json: options.Json = False) -> None:
    """Look at this installation and machine: what is there, what is missing, what to do.

    Exit code 1 when a question could not be answered as things are.
    """
    from ondevice.doctor import examine

    report = examine()
    if json:
        output.print_json(dataclasses.asdict(report) | {"problems": report.problems})
    else:
        _print_report(report)
    if report.problems:
        raise typer.Exit(1)


def _print_report(report: Report) -> None:
    output.print_fields(
        {
            "ondevice": report.version,
            "python": report.python,
            **report.libraries,
            **report.device,
            "providers": ", ".join(report.providers) or "none",
            "telemetry": "off" if report.telemetry_off else "not switched off",
            "store": report.store,
            "free disk": output.megabytes(report.free_bytes),
            "models": ", ".join(report.models) or "none",
        }
    )
    for problem in report.problems:
        print("problem:", problem)
    for hint in report.hints:
        print("hint:", hint)


def print_package(package: Package | EncoderPackage, json: bool) -> None:
    """A new package in two lines: where it is, and its proof."""
    if json:
        output.print_json(summary(package))
        return
    print(
        f"{package.manifest.name} ({package.manifest.recipe.target}, "
        f"{output.megabytes(package.total_bytes)}) is ready in {package.folder}"
    )
    print(f"proof: {proof_line(package.manifest.proof)}")


def summary(package: Package | EncoderPackage) -> dict[str, Any]:
    """A package as `list`, `pull` and `export` print it with --json."""
    manifest = package.manifest
    return {
        "name": manifest.name,
        "target": manifest.recipe.target,
        "folder": str(package.folder),
        "bytes": package.total_bytes,
        "source": manifest.source.id,
        "licence": manifest.source.licence,
        "proof": dataclasses.asdict(manifest.proof) if manifest.proof else None,
    }


def proof_line(proof: Proof | EncoderProof | None) -> str:
    """A proof's figures in a line."""
    from ondevice.package import Proof

    if proof is None:
        return "none"
    accepted = " (accepted below the gate)" if proof.accepted_below_gate else ""
    if not isinstance(proof, Proof):
        return (
            f"largest difference {proof.max_difference:.2g} of numbers up to {proof.largest:.3g}, "
            f"smallest cosine {proof.cosine_min:.6f} in {proof.rows:,} vectors of {proof.texts} "
            f"texts{accepted}"
        )
    return (
        f"top-1 agreement {proof.top1_agreement:.2%}, KL mean {proof.kl_mean:.4f} "
        f"p99 {proof.kl_p99:.4f} nats, perplexity x{proof.perplexity_ratio:.4f} "
        f"on {proof.tokens:,} tokens{accepted}"
    )


def _source(package: Package) -> str:
    source = package.manifest.source
    revision = f" at {source.revision[:12]}" if source.revision else ""
    return f"{source.id}{revision} ({source.format})"
