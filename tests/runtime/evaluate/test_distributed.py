"""A real scheduler and real workers, each a process of its own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from eval_fakes import example

from ondevice.errors import EngineError, RequestError
from ondevice.package import Package
from ondevice.runtime.evaluate import dataset, distributed, records
from ondevice.runtime.evaluate.collect import collect
from ondevice.runtime.evaluate.evaluate import Settings, prepare
from ondevice.runtime.evaluate.subjects import PackageSource

pytest.importorskip("distributed")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="ends workers by POSIX signals")

# Long enough answers that a worker is in the middle of its share when it is killed.
EXAMPLES = [replace(example(n), max_tokens=40) for n in range(40)]


class Cluster:
    """A scheduler and as many workers as a test needs; all of them are ended with it."""

    def __init__(self, folder: Path) -> None:
        self.address = f"tcp://127.0.0.1:{free_port()}"
        self._folder = folder
        host, _, port = self.address.removeprefix("tcp://").partition(":")
        self._scheduler = start("scheduler", "--host", host, "--port", port, "--no-dashboard")
        self.workers: list[subprocess.Popen[bytes]] = []

    def need(self, count: int) -> dict[int, str]:
        """Have exactly so many workers; their addresses by process id."""
        from distributed import Client

        self.workers = [worker for worker in self.workers if worker.poll() is None]
        for worker in self.workers[count:]:
            end(worker)
        del self.workers[count:]
        options = ("--nthreads", "1", "--no-nanny", "--no-dashboard")
        while len(self.workers) < count:
            place = ("--local-directory", str(self._folder))
            self.workers.append(start("worker", self.address, *options, *place))
        pids = {worker.pid for worker in self.workers}
        with Client(self.address, timeout=60, set_as_default=False) as client:
            for _ in range(600):
                found = {pid: address for address, pid in client.run(os.getpid).items()}
                if found.keys() == pids:
                    return found
                time.sleep(0.1)
        raise AssertionError(f"workers {pids} did not come, only {found}")

    def processing(self, address: str) -> int:
        """How many answers a worker has been given and not made yet."""
        from distributed import Client

        with Client(self.address, timeout=60, set_as_default=False) as client:
            return len(client.processing()[address])

    def kill_scheduler(self) -> None:
        end(self._scheduler)

    def close(self) -> None:
        for process in (*self.workers, self._scheduler):
            end(process)


def start(*arguments: str) -> subprocess.Popen[bytes]:
    # Workers import the installed package: no path is handed to them.
    environment = {**os.environ, "PYTHONPATH": "", "PYTHONSAFEPATH": "1"}
    command = [sys.executable, "-m", "dask", *arguments]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait(30)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    made = Cluster(tmp_path_factory.mktemp("workers"))
    yield made
    made.close()


def asked(package: Package) -> tuple[distributed.Task, str]:
    source = PackageSource(package, str(package.folder), 1)
    task = distributed.Task(source.elsewhere(), source.identity, source.threads)
    return task, source.name


def without_times(found: list[records.Record]) -> list[records.Record]:
    return [replace(record, ttft_s=0.0, latency_s=0.0) for record in found]


def progress(then: Callable[[int], None]) -> Callable[[str, int, int], None]:
    return lambda stage, done, total: then(done)


def test_a_worker_that_is_killed_in_the_middle_loses_nothing(
    tiny_package: Package, cluster: Cluster, tmp_path: Path
) -> None:
    task, name = asked(tiny_package)
    out = tmp_path / "answers.jsonl"
    addresses = cluster.need(2)
    victim = cluster.workers[0]
    seen: list[int] = []
    lost: list[int] = []

    def stop_and_kill(done: int) -> None:
        seen.append(done)
        if done == 10:  # from here on it takes examples and answers none
            victim.send_signal(signal.SIGSTOP)
        if done == 12:
            lost.append(cluster.processing(addresses[victim.pid]))
            victim.send_signal(signal.SIGKILL)

    then = progress(stop_and_kill)
    found = distributed.collect(task, name, EXAMPLES, out, cluster.address, then)
    assert victim.wait(10) == -signal.SIGKILL
    assert lost[0] > 0
    assert seen == list(range(1, len(EXAMPLES) + 1))
    assert [record.id for record in found] == [example.id for example in EXAMPLES]
    # Every answer is in the file once: none was lost, and none made twice was kept.
    lines = [line for line in out.read_text().splitlines() if line]
    assert len(lines) == len(EXAMPLES)
    again: list[int] = []
    distributed.collect(task, name, EXAMPLES, out, cluster.address, progress(again.append))
    assert again == []
    with PackageSource(tiny_package, str(tiny_package.folder), 1).open() as subject:
        here = collect(subject, EXAMPLES, tmp_path / "here.jsonl")
    assert without_times(found) == without_times(here)


def test_when_no_worker_is_left_the_answers_are_kept_and_a_later_run_goes_on(
    tiny_package: Package, cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset.write(tmp_path / "questions.jsonl", EXAMPLES)
    settings = Settings(
        tmp_path / "questions.jsonl", (str(tiny_package.folder),), tmp_path / "a", threads=1
    )
    cluster.need(1)

    def kill_all(done: int) -> None:
        if done == 5:
            end(cluster.workers[0])
            monkeypatch.setattr(distributed, "WORKERS_S", 2.0)

    prepared = prepare(replace(settings, dask=cluster.address))
    with pytest.raises(EngineError, match="no worker is left"):
        prepared.run(progress(kill_all))
    (file,) = (tmp_path / "a").glob("device-*.jsonl")
    kept = len(records.read(file))
    assert 5 <= kept < len(EXAMPLES)
    result = prepare(settings).run()
    assert result.subjects[0].overall.n == len(EXAMPLES)
    assert len(records.read(file)) == len(EXAMPLES)


def test_an_answer_lost_with_the_last_worker_is_not_waited_for(
    tiny_package: Package, cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client may take it for finished, and it cannot be fetched any more."""
    task, name = asked(tiny_package)
    cluster.need(1)

    def kill_all(done: int) -> None:
        if done == 2:
            end(cluster.workers[0])
            monkeypatch.setattr(distributed, "WORKERS_S", 2.0)
            monkeypatch.setattr(distributed, "_record", lambda future, example_id: None)

    with pytest.raises(EngineError, match="no worker is left"):
        out = tmp_path / "answers.jsonl"
        distributed.collect(task, name, EXAMPLES, out, cluster.address, progress(kill_all))


def test_a_scheduler_that_dies_in_the_middle_is_one_line_and_answers_are_kept(
    tiny_package: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, name = asked(tiny_package)
    own = Cluster(tmp_path)
    try:
        own.need(1)

        def kill_scheduler(done: int) -> None:
            if done == 5:
                monkeypatch.setattr(distributed, "CONNECT_S", 3.0)
                own.kill_scheduler()

        out = tmp_path / "a.jsonl"
        with pytest.raises(EngineError, match="scheduler went away"):
            distributed.collect(task, name, EXAMPLES, out, own.address, progress(kill_scheduler))
        assert 5 <= len(records.read(out)) < len(EXAMPLES)
    finally:
        own.close()


def test_a_worker_with_another_package_is_refused(
    tiny_package: Package, cluster: Cluster, tmp_path: Path
) -> None:
    task, name = asked(tiny_package)
    cluster.need(1)
    other = replace(task, identity="0" * 64)
    with pytest.raises(EngineError, match=r"worker tcp://.* is another one than here"):
        distributed.collect(other, name, EXAMPLES, tmp_path / "a.jsonl", cluster.address)
    missing = replace(task, package="no-such-package")
    with pytest.raises(EngineError, match="no package 'no-such-package'"):
        distributed.collect(missing, name, EXAMPLES, tmp_path / "a.jsonl", cluster.address)
    assert not (tmp_path / "a.jsonl").exists()


@pytest.mark.parametrize("address", ["127.0.0.1:{port}", "nowhere.invalid:1", "what://is/this", ""])
def test_a_scheduler_that_does_not_answer_is_one_line_within_a_bounded_time(
    address: str, tiny_package: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distributed, "CONNECT_S", 1.0)
    task, name = asked(tiny_package)
    address = address.format(port=free_port())
    began = time.monotonic()
    with pytest.raises(EngineError, match="no Dask scheduler answers at") as error:
        distributed.collect(task, name, EXAMPLES, tmp_path / "a.jsonl", address)
    assert "\n" not in str(error.value)
    assert time.monotonic() - began < 20


def test_a_scheduler_without_workers_is_not_waited_for_for_ever(
    tiny_package: Package, cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distributed, "WORKERS_S", 1.0)
    task, name = asked(tiny_package)
    cluster.need(0)
    with pytest.raises(EngineError, match="no workers"):
        distributed.collect(task, name, EXAMPLES, tmp_path / "a.jsonl", cluster.address)


def test_the_answer_a_worker_makes_is_plain_data(tiny_package: Package) -> None:
    task, _ = asked(tiny_package)
    plain = distributed._plain(replace(EXAMPLES[0], max_tokens=3))
    made = distributed.answer(json.loads(json.dumps(task.plain())), json.loads(json.dumps(plain)))
    assert records.from_json(json.loads(json.dumps(made))).output_tokens == 3
    wrong = replace(task, identity="0" * 64)
    with pytest.raises(RequestError, match="another one than here"):
        distributed.answer(wrong.plain(), plain)
