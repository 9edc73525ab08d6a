"""Options that several commands share, so that they read the same everywhere."""

from __future__ import annotations

from typing import Annotated

import typer

TARGETS_HELP = (
    "cpu-as-is (at the bits the source has), cpu-int8, cpu-int4, cpu-fp32, npu-int8, coreml-gpu, "
    "coreml-ane, coreml-fp16."
)

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        metavar="NAME|PATH",
        help="A pulled model or a package folder.",
        show_default="the default model",
    ),
]
ModelArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="MODEL",
        help="A pulled model or a package folder.",
        show_default="the default model",
    ),
]
System = Annotated[
    str | None,
    typer.Option("--system", "-s", metavar="TEXT", help="Instructions the model answers under."),
]
MaxTokens = Annotated[
    int, typer.Option("--max-tokens", "-n", metavar="N", min=1, help="Longest answer, tokens.")
]
Temperature = Annotated[
    float,
    typer.Option(
        "--temperature",
        "-t",
        metavar="T",
        min=0.0,
        max=100.0,
        help="0 always takes the most probable token.",
    ),
]
TopK = Annotated[
    int,
    typer.Option(
        "--top-k", metavar="K", min=0, help="Sample from the K most probable tokens; 0 is off."
    ),
]
TopP = Annotated[
    float,
    typer.Option(
        "--top-p",
        metavar="P",
        min=0.0,
        max=1.0,
        help="Sample from the fewest tokens that hold P of the probability; 1 is off.",
    ),
]
MinP = Annotated[
    float,
    typer.Option(
        "--min-p",
        metavar="P",
        min=0.0,
        max=1.0,
        help="Drop tokens below P times the most probable one; 0 is off.",
    ),
]
RepetitionPenalty = Annotated[
    float,
    typer.Option(
        "--repetition-penalty",
        metavar="R",
        min=0.1,
        max=10.0,
        help="Above 1 makes repeated tokens less probable.",
    ),
]
Seed = Annotated[
    int | None,
    typer.Option("--seed", metavar="N", min=0, help="Same seed, same answer.", show_default=False),
]
Stop = Annotated[
    list[str] | None,
    typer.Option("--stop", metavar="TEXT", help="End the answer before TEXT; may be repeated."),
]
Engine = Annotated[str, typer.Option("--engine", metavar="NAME", help="ort or genai.")]
Threads = Annotated[
    int | None,
    typer.Option(
        "--threads",
        metavar="N",
        min=1,
        max=1024,
        help="Processor threads.",
        show_default="measured once on this device",
    ),
]
Context = Annotated[
    int | None,
    typer.Option(
        "--context",
        metavar="N",
        min=8,
        help="Positions in the KV cache.",
        show_default="the model's choice",
    ),
]
Truncate = Annotated[
    bool,
    typer.Option(
        "--truncate/--no-truncate",
        help="Drop the oldest messages when the conversation outgrows the context.",
    ),
]
