"""The process as a program meets it: its pipes, its exit codes, its end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from ondevice.package import Package
from ondevice.stdio import wire
from ondevice.stdio.framing import frame
from tests.stdio.child import COMMAND, SCRIPTED, Start
from tests.stdio.stdio_client import WAIT, question

STORY = question("Tell a long story.", options={"max_tokens": 4000})
LONGEST_END = 2.0  # seconds, from the client's end to ours


pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX processes and shells")


def run(command: list[str], home: Path, **more: Any) -> tuple[int, str, str]:
    done = subprocess.run(
        command,
        env=os.environ | {"ONDEVICE_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **more,
    )
    return done.returncode, done.stdout, done.stderr


# The command.


def test_the_command_answers_and_ends(start: Start, tiny_package: Package) -> None:
    server = start([*COMMAND, str(tiny_package.folder), "--threads", "1", "--context", "128"])
    told = server.client.initialize()
    assert told["models"][0]["context_length"] == 128
    options = {"max_tokens": 5}
    answers = [server.client.call("chat", question(options=options), id) for id in range(2)]
    assert answers[0]["text"] == answers[1]["text"] == server.client.tokens(0)
    assert answers[1]["usage"]["cached_tokens"] > 0
    assert server.client.call("shutdown") is None
    server.client.send("exit")
    assert server.ended() == (0, "")


def test_a_model_folder_that_vanished_is_told(
    start: Start, tiny_package: Package, tmp_path: Path
) -> None:
    import shutil

    folder = tmp_path / "moved"
    shutil.copytree(tiny_package.folder, folder)
    server = start([*COMMAND, str(folder), "--threads", "1"])
    server.client.initialize()
    shutil.rmtree(folder)
    assert server.client.error("chat", question())["code"] == wire.UNUSABLE_MODEL
    assert server.client.call("ping") == {}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["{folder}", "{folder}"], "two packages are called 'tiny'"),
        (["no-such-model"], "no package 'no-such-model'"),
        ([], "no model is installed"),
        (["{folder}", "--context", "100000"], "context 100000"),
        (["{folder}", "--policy", "no-such-file"], "no-such-file"),
    ],
)
def test_what_cannot_start_says_so_in_a_line(
    arguments: list[str], said: str, tiny_package: Package, tmp_path: Path
) -> None:
    given = [argument.format(folder=tiny_package.folder) for argument in arguments]
    code, out, err = run([*COMMAND, *given], tmp_path, stdin=subprocess.PIPE)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert said in err


def test_a_person_at_a_terminal_is_told_what_this_is(tmp_path: Path) -> None:
    import pty

    ours, theirs = pty.openpty()
    code, out, err = run(COMMAND, tmp_path, stdin=theirs)
    os.close(ours)
    os.close(theirs)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "docs/stdio.md" in err and "ondevice ask" in err


def test_it_needs_no_library_of_an_extra_and_loads_no_engine_before_it_is_asked(
    tmp_path: Path,
) -> None:
    code = "import ondevice.cli.stdio, ondevice.stdio.process, sys; print(*sys.modules)"
    status, out, err = run([sys.executable, "-P", "-c", code], tmp_path)
    assert (status, err) == (0, "")
    assert not {"starlette", "uvicorn", "onnxruntime", "openai", "jsonschema"} & {*out.split()}


@pytest.mark.parametrize("closed", ["0<&-", "1>&-"])
def test_a_closed_pipe_is_told(closed: str, tmp_path: Path) -> None:
    shell = f'exec "$@" {closed}'
    code, out, err = run(["sh", "-c", shell, "sh", *COMMAND], tmp_path, stdin=subprocess.PIPE)
    assert (code, out) == (2, "")
    assert "must be open" in err and err.count("\n") == 1


# What is printed, and what is read.


def test_what_libraries_print_goes_to_stderr_and_breaks_no_frame(start: Start) -> None:
    server = start(noisy=True)
    server.client.initialize()
    server.client.send("chat", question(), 1)
    server.client.send("chat", question(), 2)
    for id in (1, 2):
        assert server.client.answer(id)["result"]["text"] == "I am tiny."
    server.client.close_input()
    code, err = server.ended()
    assert code == 0
    assert [f"noise of {w}" in err for w in ("print", "a descriptor", "C", "a child")] == [True] * 4


def test_it_works_without_stderr(start: Start, tiny_package: Package) -> None:
    command = [*SCRIPTED, str(tiny_package.folder), '{"noisy": true}']
    server = start(["sh", "-c", 'exec "$@" 2>&-', "sh", *command])
    server.client.initialize()
    assert server.client.call("chat", question())["text"] == "I am tiny."


def test_ctrl_c_in_the_parents_terminal_does_not_end_it(start: Start) -> None:
    server = start(token_s=0.01)
    server.client.initialize()
    server.client.send("chat", STORY, 1)
    server.client.next_of("$/token")
    server.child.send_signal(signal.SIGINT)
    server.client.send("$/cancel", {"id": 1})
    assert server.client.answer(1)["result"]["finish_reason"] == "cancelled"


def test_broken_frames_end_it_with_a_line_and_an_exit_code(start: Start) -> None:
    server = start()
    server.client.send_bytes(b'{"jsonrpc": "2.0"}\n')
    assert server.client.error_of(None)["code"] == wire.PARSE_ERROR
    code, err = server.ended()
    assert code == 2
    assert err.count("\n") == 0 and "expected a header line" in err


def test_a_client_that_no_longer_reads_ends_it(start: Start) -> None:
    server = start(read=False)
    os.close(server.client._from)
    server.client._from = -1
    server.client.send("ping", {}, 1)
    began = time.monotonic()
    code, err = server.ended()
    assert (code, "no longer reads" in err) == (1, True)
    assert time.monotonic() - began < LONGEST_END + 3  # it has to start, too


# The end of the program that started it.

INITIALIZE = {"protocol": 1, "client": {"name": "parent"}}
PARENT = """
import json, os, subprocess, sys, time
command, messages, until, held = json.loads(sys.argv[1])
to_server, from_server = os.pipe(), os.pipe()
server = subprocess.Popen(command, stdin=to_server[0], stdout=from_server[1])
os.close(to_server[0]); os.close(from_server[1])
pids = [server.pid]
if held:  # some other process has our ends of the pipes too
    sleeper = [sys.executable, "-c", "import time; time.sleep(60)"]
    held = subprocess.Popen(sleeper, pass_fds=(to_server[1], from_server[0]), stdout=2)
    pids.append(held.pid)
os.write(to_server[1], messages.encode())
seen = b""
while until.encode() not in seen:
    seen += os.read(from_server[0], 4096)
print(json.dumps(pids), flush=True)
time.sleep(60)
"""


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize("held", [False, True], ids=["alone", "pipes-held"])
@pytest.mark.parametrize(
    ("behaviour", "ask", "until"),
    [
        ({}, None, '"protocol"'),
        ({"token_s": 0.02}, STORY, "$/token"),
        ({"token_s": 30}, STORY, '"ready"'),
        ({"load_s": 30}, STORY, '"loading"'),
        ({}, STORY, "$/token"),
    ],
    ids=["idle", "answering", "in-one-token", "loading", "nobody-reads"],
)
def test_it_ends_soon_after_its_parent_was_killed(
    behaviour: dict[str, Any],
    ask: Any,
    until: str,
    held: bool,
    tiny_package: Package,
) -> None:
    messages = [wire.request(1, "initialize", INITIALIZE)]
    messages += [wire.request(2, "chat", ask)] if ask else []
    text = b"".join(frame(wire.encode(message)) for message in messages).decode()
    command = [*SCRIPTED, str(tiny_package.folder), json.dumps(behaviour)]
    given = json.dumps([command, text, until, held])
    parent = subprocess.Popen([sys.executable, "-c", PARENT, given], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    pids: list[int] = json.loads(parent.stdout.readline())
    try:
        if until == "$/token" and not behaviour:
            time.sleep(0.5)  # until the pipe is full
        assert alive(pids[0])
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        parent.stdout.close()
        end = time.monotonic() + LONGEST_END
        while alive(pids[0]) and time.monotonic() < end:
            time.sleep(0.02)
        assert not alive(pids[0])
    finally:
        for pid in pids:
            if alive(pid):
                os.kill(pid, signal.SIGKILL)


def test_the_end_of_stdin_ends_it_though_nobody_reads_its_answer(start: Start) -> None:
    server = start(read=False)
    server.client.send("initialize", INITIALIZE, 1)
    for id in range(2, 60):  # far more than a pipe holds
        server.client.send("chat", STORY, id)
    time.sleep(1.0)
    assert server.child.poll() is None
    server.client.close_input()
    began = time.monotonic()
    assert server.ended()[0] == 0
    assert time.monotonic() - began < LONGEST_END


def test_it_goes_on_reading_while_nobody_reads_its_answers(start: Start) -> None:
    server = start(read=False)
    server.client.send("initialize", INITIALIZE, 1)
    server.client.send("chat", STORY, 2)

    def ping() -> None:
        for id in range(3, 1000):
            server.client.send("ping", {}, id)

    writer = threading.Thread(target=ping, daemon=True)
    writer.start()
    writer.join(WAIT)
    assert not writer.is_alive()
    server.client._reader.start()
    assert server.client.answer(999)["result"] == {}
    assert server.client.answer(2)["result"]["finish_reason"] in ("stop", "length")
