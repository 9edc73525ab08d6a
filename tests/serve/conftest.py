from __future__ import annotations

from collections.abc import Iterator

import pytest
from echoing import Served, serving

from ondevice.package import Package


@pytest.fixture(scope="module")
def server(tiny_package: Package) -> Iterator[Served]:
    """A server whose models say what the question puts between « and »."""
    with serving(tiny_package) as served:
        yield served
