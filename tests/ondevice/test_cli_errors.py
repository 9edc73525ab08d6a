"""What the person sees when something goes wrong: one line, the right exit code, no traceback."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ondevice import cli
from ondevice.errors import OndeviceError

Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def own_store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ONDEVICE_HOME", str(tmp_path / "home"))


def one_line(capsys: Captured) -> str:
    """The only line on stderr; nothing else may have been printed."""
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert len(lines) == 1, err
    assert lines[0].startswith("ondevice: ")
    return lines[0].removeprefix("ondevice: ")


def raising(error: BaseException) -> object:
    def command(*_: object, **__: object) -> None:
        raise error

    return command


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("frobnicate", "No such command 'frobnicate'"),
        ("ask hello --frobnicate", "No such option: --frobnicate"),
        ("ask hello --temperature -1", "--temperature"),
        ("ask hello --temperature nan", "--temperature"),
        ("ask hello --temperature warm", "--temperature"),
        ("ask hello --top-p 1.5", "--top-p"),
        ("ask hello --min-p -0.1", "--min-p"),
        ("ask hello --top-k -1", "--top-k"),
        ("ask hello --max-tokens 0", "--max-tokens"),
        ("ask hello --repetition-penalty 0", "--repetition-penalty"),
        ("ask hello --threads 0", "--threads"),
        ("ask hello there", "there"),
        ("ask hello --file missing.txt", "missing.txt"),
        ("ask hello --file .", "cannot read ."),
        ("ask - --file -", "not both"),
        ("export", "SOURCE"),
        ("export missing.gguf --out x", "missing.gguf"),
        ("export missing.gguf", "--out"),
        ("verify missing", "missing"),
        ("verify missing --text words.txt", "--against"),
        ("remove missing", "missing"),
        ("remove ../escape", "../escape"),
        ("info missing", "missing"),
        ("pull no-such-model", "no-such-model"),
        ("lock --path missing.lock", "missing.lock"),
        ("lock add", "ID"),
        ("bench missing", "missing"),
        ("bench compare a.json", "Missing argument"),
        ("chat --frobnicate", "--frobnicate"),
    ],
)
def test_a_wrong_request_is_one_line_and_exit_code_2(
    arguments: str, said: str, capsys: Captured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.run(arguments.split()) == 2
    assert said in one_line(capsys)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == []


def test_without_a_model_ask_names_the_command_that_fetches_one_its_size_and_licence(
    capsys: Captured,
) -> None:
    assert cli.run(["ask", "hello"]) == 2
    line = one_line(capsys)
    assert "ondevice pull" in line
    assert "491 MB" in line
    assert "Apache-2.0" in line


def test_an_error_of_several_lines_is_still_told_in_one(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ondevice.store.packages", raising(OndeviceError("one\n  two")))
    assert cli.run(["list"]) == 2
    assert one_line(capsys) == "one two"


def test_debug_shows_where_an_error_came_from_wherever_the_option_stands(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ondevice.store.packages", raising(OndeviceError("wrong")))
    for arguments in (["--debug", "list"], ["list", "--debug"]):
        monkeypatch.setattr(sys, "argv", ["ondevice", *arguments])
        with pytest.raises(SystemExit) as left:
            cli.main()
        assert left.value.code == 2
        err = capsys.readouterr().err
        assert "Traceback" in err
        assert err.endswith("ondevice: wrong\n")


def test_a_bug_keeps_its_traceback_and_is_called_one(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ondevice.store.packages", raising(KeyError("surprise")))
    assert cli.run(["list"]) == 1
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert "KeyError: 'surprise'" in err
    assert "this is a bug" in err.splitlines()[-1]


def test_ctrl_c_leaves_with_130_and_one_line(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ondevice.store.packages", raising(KeyboardInterrupt()))
    assert cli.run(["list"]) == 130
    assert one_line(capsys) == "stopped"


def ondevice(*arguments: str, stdin: bytes) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-P", "-m", "ondevice", *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("stdin", "said"),
    [(b"caf\xe9", b"not valid UTF-8"), (b"", b"empty"), (b" \n\n", b"empty")],
)
def test_an_unusable_prompt_on_stdin_is_one_line(stdin: bytes, said: bytes) -> None:
    done = ondevice("ask", stdin=stdin)
    assert (done.returncode, done.stdout) == (2, b"")
    assert said in done.stderr
    assert done.stderr.count(b"\n") == 1


def test_a_prompt_far_beyond_any_context_is_not_read_to_its_end() -> None:
    done = ondevice("ask", stdin=b"a" * 5_000_000)
    assert done.returncode == 2
    assert b"larger than 4 MB" in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX shell")
def test_a_reader_that_goes_away_is_no_error_to_talk_about() -> None:
    script = f"{sys.executable} -P -m ondevice lock --json | head -c 10"
    done = subprocess.run(["sh", "-c", script], capture_output=True, timeout=60, check=False)
    assert done.stderr == b""
    assert len(done.stdout) == 10


@pytest.mark.skipif(sys.platform != "linux", reason="arguments are bytes on Linux only")
def test_a_prompt_argument_that_is_not_utf8_is_one_line() -> None:
    command = [sys.executable.encode(), b"-P", b"-m", b"ondevice", b"ask", b"caf\xe9"]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    assert done.returncode == 2
    assert b"not valid UTF-8" in done.stderr
