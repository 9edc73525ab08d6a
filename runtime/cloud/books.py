"""The money of one call: reserved before an attempt, settled or given back after it.

Knows no network; what an attempt can have cost is said by who made it.
"""

from __future__ import annotations

import logging

from ondevice.errors import CloudError
from ondevice.runtime.cloud.endpoint import Endpoint
from ondevice.runtime.cloud.ledger import Ledger
from ondevice.runtime.cloud.pieces import Usage
from ondevice.runtime.cloud.prices import Price, cost
from ondevice.runtime.cloud.request import Request

_log = logging.getLogger(__name__)


class Books:
    """Counts all attempts of one call; amounts in nano-USD.

    Each attempt that may have been counted by the endpoint has an entry of its own in the
    ledger. `estimated`: for some attempt no usage was reported, and its worst case is counted.
    """

    def __init__(self, call_id: str, endpoint: Endpoint, ledger: Ledger) -> None:
        self.nano = 0
        self.prompt_tokens = 0
        self.output_tokens = 0
        self.estimated = False
        self._id = call_id
        self._endpoint = endpoint
        self._ledger = ledger
        self._open = ""
        self._request = Request({}, 0, 0)
        self._price: Price | None = None
        self._worst_nano = 0

    def open(self, request: Request, price: Price) -> None:
        """Reserve the first attempt. Raises `BudgetError` or `LedgerError`: then send nothing."""
        self._request, self._price = request, price
        self._worst_nano = cost(price, request.most_prompt_tokens, request.max_tokens)
        self.reserve(1)

    def reserve(self, attempt: int) -> None:
        """Reserve an attempt at its worst case. Errors as of `open`."""
        name = self._id if attempt == 1 else f"{self._id}.{attempt}"
        endpoint = self._endpoint
        self._ledger.reserve(name, endpoint.name, endpoint.model, self._worst_nano)
        self._open = name

    def close(self, usage: Usage | None, *, billable: bool) -> None:
        """Settle what is open: by usage, at the worst case without one, or at nothing.

        Not less than the endpoint can have counted: text that was generated and never arrived
        is unknown here, so an attempt that broke off counts in full. A ledger that cannot be
        written keeps the reservation, which counts the same.
        """
        if not self._open or self._price is None:
            return
        name, self._open = self._open, ""
        try:
            if not billable:
                self._ledger.release(name)
            elif usage is not None:
                nano = cost(
                    self._price, usage.prompt_tokens, usage.output_tokens, usage.cached_tokens
                )
                self._settle(name, nano, usage.prompt_tokens, usage.output_tokens, False)
            else:
                request = self._request
                prompt, output = request.most_prompt_tokens, request.max_tokens
                self._settle(name, self._worst_nano, prompt, output, True)
        except CloudError as error:
            _log.warning("the call %s stays reserved: %s", name, error)

    def _settle(self, name: str, nano: int, prompt: int, output: int, estimated: bool) -> None:
        self.nano += nano
        self.prompt_tokens += prompt
        self.output_tokens += output
        self.estimated = self.estimated or estimated
        self._ledger.settle(name, nano, prompt, output, estimated=estimated)
