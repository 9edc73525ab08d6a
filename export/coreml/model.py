"""A Core ML package as an engine that runs anywhere: its program in the reference evaluator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ondevice.export.coreml.decoder import HIDDEN, LAST_HIDDEN
from ondevice.export.coreml.evaluate import Observe, Precision, Program
from ondevice.export.coreml.mlpackage import MLPackage
from ondevice.package import Package
from ondevice.runtime.coreml import Call, Calls


class EvaluatedModel:
    """Tokens in, logits out, as `ondevice.runtime.engine.Engine` has it, in numpy.

    precision: see `evaluate.Program`. opened: the package's program where it is open already;
    its constants are then the same arrays. Raises `ExportError` for a damaged package.
    """

    def __init__(
        self,
        package: Package,
        precision: Precision = "fp16",
        opened: MLPackage | None = None,
    ) -> None:
        opened = opened or MLPackage(package.model_file)
        self._calls = Calls.of(package)
        self._programs = {
            function: Program(opened, function, precision) for function in ("main", "decode")
        }
        self.name = f"Core ML evaluator, {precision}"
        self.state = self._programs["main"].make_state()
        self.position = 0

    def prefill(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """Logits (vocab,) after the last token."""
        found: dict[str, NDArray[Any]] = {}
        for call in self._calls.run(np.asarray(tokens), self.position):
            found = self._run(call)
        last: NDArray[np.float32] = self._logits(found)[-1]
        return last

    def decode(self, token: int) -> NDArray[np.float32]:
        """Logits (vocab,) after the token, from the function that takes one."""
        (call,) = self._calls.run(np.asarray([token]), self.position)
        logits = self._logits(self._run(replace(call, function="decode")))
        last: NDArray[np.float32] = logits[-1]
        return last

    def verify(self, tokens: Sequence[int], observe: Observe | None = None) -> NDArray[np.float32]:
        """Logits (tokens, vocab) after each token: the program gives those of the last at most.

        `observe` sees what every operator of the program gives.
        """
        rows = []
        for call in self._calls.run(np.asarray(tokens), self.position, logits=False):
            wanted = HIDDEN if call.function == "main" else LAST_HIDDEN
            hidden = self._run(call, (wanted,), observe)[wanted]
            rows.append(self._head(hidden)[: call.tokens])
        return np.concatenate(rows)

    def rewind(self, position: int) -> None:
        """Forget what comes after a position."""
        self.position = position

    def close(self) -> None:
        self.state = {}

    def _head(self, hidden: NDArray[np.float32]) -> NDArray[np.float32]:
        # A `main` of fixed shapes has no output matrix.
        program = self._programs["decode" if self._calls.static else "main"]
        return self._logits(program.run_from({LAST_HIDDEN: hidden}))

    def _logits(self, found: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32]:
        """(tokens, vocab) of what a program gave."""
        logits = found["logits"]
        return logits[0, :, 0].T if self._calls.static else logits[0]

    def _run(
        self, call: Call, wanted: Sequence[str] = (), observe: Observe | None = None
    ) -> dict[str, NDArray[np.float32]]:
        found = self._programs[call.function].run(call.feeds, self.state, wanted, observe)
        self.position += call.tokens
        return found
