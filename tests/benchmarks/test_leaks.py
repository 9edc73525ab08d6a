from __future__ import annotations

import pytest

from benchmarks import leaks


@pytest.mark.parametrize("case", leaks.CASES, ids=lambda case: case.name)
def test_nothing_reaches_the_socket_unless_it_may(case: leaks.Case) -> None:
    found = leaks.try_case(case)
    assert (found.connections > 0) == (found.bytes > 0) == case.may_send
    assert found.source == ("cloud" if case.may_send else "device")


def test_nothing_is_spent_past_a_cap_and_the_ledger_equals_what_the_endpoint_counts() -> None:
    found = leaks.spend(calls=30, cap_usd=1e-3)
    assert 0 < found.spent_nano <= found.cap_nano
    assert found.spent_nano == found.endpoint_nano
    assert found.answered and found.answered + found.refused == 30
