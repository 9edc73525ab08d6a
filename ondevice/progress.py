"""How long work tells how far it is."""

from __future__ import annotations

from collections.abc import Callable

# (stage in words such as "quantizing", done, total)
Progress = Callable[[str, int, int], None]
