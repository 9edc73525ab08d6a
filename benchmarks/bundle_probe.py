"""Starts a packaged assistant without a window, asks it over HTTP on loopback, says what happened.

Only the standard library and a program's path: it also runs in a network namespace of its own.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

_ADDRESS = re.compile(r"http://127\.0\.0\.1:(\d+)/\?token=(\S+)")
_TOKENS = 24  # a short answer is enough
_UP = 0x1  # IFF_UP
_SIOCGIFFLAGS, _SIOCSIFFLAGS = 0x8913, 0x8914


@dataclass(frozen=True)
class Probed:
    """Seconds from the start of the process; `page` is the status of the page's own address."""

    address_s: float
    first_token_s: float
    done_s: float
    answer: str
    page: int
    page_bytes: int
    listening: tuple[str, ...]


def probe(command: Sequence[str], question: str, limit_s: float = 60.0) -> Probed:
    """Start, load the page, ask one question, end. Raises `RuntimeError` for anything else."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [*command, "--no-window"],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        text=True, start_new_session=True,
    )  # fmt: skip
    watch = threading.Timer(limit_s, _end, (process,))
    watch.start()
    try:
        assert process.stderr is not None
        port, token = _address(process.stderr)
        address_s = time.perf_counter() - start
        threading.Thread(target=process.stderr.read, daemon=True).start()
        return _asked(port, token, question, start, address_s)
    finally:
        watch.cancel()
        _end(process)


def _address(stderr: IO[str]) -> tuple[int, str]:
    seen = []
    for line in stderr:
        seen.append(line.strip())
        if match := _ADDRESS.search(line):
            return int(match[1]), match[2]
    raise RuntimeError(f"the program gave no address: {' | '.join(seen)[-500:]}")


def _asked(port: int, token: str, question: str, start: float, address_s: float) -> Probed:
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    _call(port, "PUT", "/app/settings", headers, {"max_tokens": _TOKENS})
    made = _call(port, "POST", "/app/conversations", headers, {})
    path = f"/app/conversations/{made['id']}/messages"
    first = 0.0
    answer = ""
    for event, data in _events(port, path, headers, {"content": question, "cloud": "none"}):
        if event == "token" and not first:
            first = time.perf_counter() - start
        if event == "error":
            raise RuntimeError(f"the program said: {data['message']}")
        if event == "final":
            answer = data["message"]["content"]
    done = time.perf_counter() - start
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", "/", headers=headers)
    page = connection.getresponse()
    size = len(page.read())
    return Probed(address_s, first, done, answer, page.status, size, tuple(_listening()))


def _call(port: int, method: str, path: str, headers: dict[str, str], body: Any) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request(method, path, json.dumps(body), headers)
    response = connection.getresponse()
    text = response.read()
    if response.status >= 300:
        raise RuntimeError(f"{method} {path}: {response.status} {text[:200]!r}")
    return json.loads(text)


def _events(
    port: int, path: str, headers: dict[str, str], body: Any
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The server-sent events of a question."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("POST", path, json.dumps(body), headers)
    response = connection.getresponse()
    if response.status != 200:
        raise RuntimeError(f"POST {path}: {response.status} {response.read()[:200]!r}")
    event = ""
    for raw in response:
        line = raw.decode().rstrip("\r\n")
        if line.startswith("event:"):
            event = line[6:].strip()
        elif line.startswith("data:"):
            yield event, json.loads(line[5:])


def _listening() -> Iterator[str]:
    """Addresses that anything in this network namespace listens at; none but on Linux."""
    if not Path("/proc/net/tcp").is_file():
        return
    for name, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A":
                words = fields[1].split(":")[0]
                raw = b"".join(
                    struct.pack("=I", int(words[i : i + 8], 16)) for i in range(0, len(words), 8)
                )
                yield socket.inet_ntop(family, raw)


def _end(process: subprocess.Popen[str]) -> None:
    """End the program and its children, which are a process group of their own."""
    if sys.platform == "win32":
        process.kill()
        return
    for sign in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, sign)
            process.wait(5)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue


def loopback_up() -> None:
    """Switch loopback on in a new network namespace, which starts with it off. Linux only."""
    import fcntl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sh14x", b"lo", 0)
        flags = struct.unpack("16sh14x", fcntl.ioctl(any_socket, _SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | _UP))


def main() -> None:
    """`python bundle_probe.py [--loopback-up] QUESTION COMMAND...` prints JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--loopback-up", action="store_true")
    parser.add_argument("question")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    if arguments.loopback_up:
        loopback_up()
    try:
        print(json.dumps(asdict(probe(arguments.command, arguments.question))))
    except RuntimeError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
