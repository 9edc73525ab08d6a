"""All figures of docs/fallback.md: `python benchmarks/fallback.py --json OUT`; see `--help`."""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.append(str(Path(__file__).resolve().parent.parent))  # after the installed package
    from benchmarks.fallback_figures import main

    main()
