"""LongRoPE's turn: what a KV cache must be computed from anew when its rotary factors change.

A model with LongRoPE (Ding et al., 2024) rotates every position with the short factors while
the sequence is at most `switch` tokens long, and with the long ones otherwise. Keys that are in
the KV cache hold the other rotation then, so all tokens run again.
"""

from __future__ import annotations

from collections.abc import Sequence


class RopeSwitch:
    """The tokens behind a KV cache, kept where its factors can change; nothing otherwise."""

    def __init__(self, switch: int | None) -> None:
        self._switch = switch
        self._tokens: list[int] = []
        self._is_long = False

    def due(self, position: int, tokens: Sequence[int]) -> bool:
        """Whether `tokens` after the first `position` turn to the other factors."""
        if self._switch is None or not position:
            return False
        return (position + len(tokens) > self._switch) != self._is_long

    def before(self, position: int) -> list[int]:
        """The tokens of the KV cache up to a position."""
        return self._tokens[:position]

    def ran(self, position: int, tokens: Sequence[int]) -> None:
        """Note that tokens were run from a position on."""
        if self._switch is not None:
            self._tokens[position:] = tokens
            self._is_long = len(self._tokens) > self._switch

    @property
    def is_kept(self) -> bool:
        """Whether tokens are kept."""
        return self._switch is not None
