from __future__ import annotations

import asyncio
import socket

from ondevice.serve.listening import bind


def test_small_parts_of_an_answer_are_sent_at_once() -> None:
    """Nagle's algorithm would hold a token back until the last one is acknowledged: 40 ms."""

    async def switched_off() -> int:
        switches: asyncio.Queue[int] = asyncio.Queue()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            accepted = writer.get_extra_info("socket")
            switches.put_nowait(accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        listening = bind(0)
        async with await asyncio.start_server(serve, sock=listening):
            _, writer = await asyncio.open_connection(*listening.getsockname())
            switch = await asyncio.wait_for(switches.get(), 10)
            writer.close()
            return switch

    assert asyncio.run(switched_off()) == 1
