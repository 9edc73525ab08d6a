"""The hard off-switch: no connection is made without its permit.

Asked by the transport, below everything that decides. Knows no policy; only whether the user has
allowed cloud calls, and which classes of data never leave.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ondevice.errors import CloudError

RESTRICTED = frozenset({"restricted"})


class Switch:
    """Off unless `allowed` says otherwise, each time anew.

    A call is permitted only inside `with switch.permit(request_id, data_class):`. `allowed` is
    asked when the permit is taken, before each connection and before each write; an error in it
    means no.
    """

    def __init__(
        self,
        allowed: Callable[[], bool] = lambda: False,
        restricted: frozenset[str] = RESTRICTED,
    ) -> None:
        self._allowed = allowed
        self._restricted = restricted
        self._lock = threading.Lock()
        self._permits: dict[str, str] = {}

    @property
    def allowed(self) -> bool:
        """Whether cloud calls are allowed now."""
        try:
            return self._allowed() is True
        except Exception:  # whatever the reason: what cannot be asked was not allowed
            return False

    @contextmanager
    def permit(self, request_id: str, data_class: str = "") -> Iterator[None]:
        """Let one request connect inside the block.

        Raises `CloudError`: "disabled", or "restricted" for a class of data that never leaves.
        """
        self._check(data_class)
        with self._lock:
            if request_id in self._permits:
                raise CloudError(f"request {request_id} has a permit already", "disabled")
            self._permits[request_id] = data_class
        try:
            yield
        finally:
            with self._lock:
                del self._permits[request_id]

    def require(self, request_id: str) -> None:
        """Raises `CloudError` unless this request may connect and send now."""
        with self._lock:
            data_class = self._permits.get(request_id)
        if data_class is None:
            raise CloudError("this request has no permit to leave the device", "disabled")
        self._check(data_class)

    def _check(self, data_class: str) -> None:
        if data_class.strip().lower() in self._restricted:
            raise CloudError(f"data of class {data_class} never leave this device", "restricted")
        if not self.allowed:
            raise CloudError("cloud calls are switched off; allow them in the policy", "disabled")
