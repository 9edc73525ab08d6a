from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from desktop_fakes import Desk, events, of
from standin import FakeConvert, Hub, Repository, locked

from ondevice import lock, store
from ondevice.desktop.feed import Feed
from ondevice.desktop.pulls import Pulls
from ondevice.errors import FetchError, OndeviceError, RequestError
from ondevice.package import Package
from ondevice.progress import Progress
from ondevice.pull import pull

DATA = bytes(range(256)) * 4000
Say = Callable[[str], None]


@pytest.fixture
def hub(home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A hub with one small model, which the person's lock names."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", len(DATA) // 8)
    lock.write(locked(DATA))
    with Hub({"owner/tiny": Repository({"tiny.gguf": DATA}, lfs=("tiny.gguf",))}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


def fetch(name: str, progress: Progress, say: Say) -> Package:
    return pull(name, progress=progress, say=say, convert=FakeConvert())


def told(feed: Feed) -> list[tuple[str, Any]]:
    """All that a feed has told when it has ended."""
    import asyncio

    async def read() -> list[tuple[str, Any]]:
        return [(event.name, event.data) async for event in feed.read() if event is not None]

    return asyncio.run(asyncio.wait_for(read(), 20))


def test_a_pull_tells_how_far_it_is_and_the_model_is_there_at_its_end(
    hub: Hub, open_desk: Callable[..., Desk], tmp_path: Path
) -> None:
    desk = open_desk(fetch=fetch, bundled=tmp_path / "none")
    found = events(desk.client.post("/app/pull", json={"name": "tiny"}).text)
    steps = of(found, "progress")
    fetched = [one["done"] for one in steps if one["stage"].startswith("fetching")]
    assert fetched == sorted(fetched) and fetched[-1] == len(DATA)
    assert of(found, "done") == [{"model": "tiny"}]
    state = desk.state()
    assert [one["name"] for one in state["models"]] == ["tiny"]
    assert state["pull"] is None


def test_a_cancelled_pull_keeps_what_was_fetched_and_the_next_goes_on(
    hub: Hub, open_desk: Callable[..., Desk], tmp_path: Path
) -> None:
    pulls: list[Pulls] = []
    attempts: list[str] = []

    def stopping(name: str, progress: Progress, say: Say) -> Package:
        def until_half(stage: str, done: int, total: int) -> None:
            if stage.startswith("fetching") and done >= total // 2:
                pulls[0].cancel()
            progress(stage, done, total)

        attempts.append(name)
        return fetch(name, until_half if len(attempts) == 1 else progress, say)

    desk = open_desk(fetch=stopping, bundled=tmp_path / "none")
    pulls.append(desk.assistant.pulls)
    found = events(desk.client.post("/app/pull", json={"name": "tiny"}).text)
    (error,) = of(found, "error")
    assert error == {"message": "stopped; what was fetched of tiny is kept", "cancelled": True}
    (offer,) = [one for one in desk.state()["offered"] if one["name"] == "tiny"]
    assert len(DATA) // 2 <= offer["partial_bytes"] < len(DATA)
    assert not offer["installed"]
    again = events(desk.client.post("/app/pull", json={"name": "tiny"}).text)
    first = next(one for one in of(again, "progress") if one["stage"].startswith("fetching"))
    assert first["done"] > len(DATA) // 2  # it went on where it stopped
    assert of(again, "done")
    assert store.find("tiny").manifest.name == "tiny"


class Gate:
    """A pull that waits, and asks now and then whether it is to stop."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.started = threading.Event()

    def __call__(self, name: str, progress: Progress, say: Say) -> Package:
        for number in range(2000):
            progress("fetching", number, 2000)
            self.started.set()
            if self.open.wait(0.01):
                raise FetchError("the hub is gone")
        raise AssertionError("nobody stopped it")


def test_one_pull_at_a_time_which_several_may_watch(hub: Hub) -> None:
    gate = Gate()
    pulls = Pulls(lambda _: None, gate)
    feed = pulls.start("tiny")
    assert pulls.start("tiny") is feed is pulls.watch()
    with pytest.raises(RequestError, match="tiny is being fetched"):
        pulls.start("smollm2-135m-instruct")
    assert gate.started.wait(10)
    assert pulls.running is not None and pulls.running.total == 2000
    gate.open.set()
    assert told(feed)[-1] == ("error", {"message": "the hub is gone", "cancelled": False})
    assert pulls.running is None
    assert told(pulls.watch()) == []


def test_closing_ends_a_pull(hub: Hub) -> None:
    pulls = Pulls(lambda _: None, Gate())
    feed = pulls.start("tiny")
    pulls.close()
    assert told(feed)[-1][1]["cancelled"]


def test_a_watcher_that_comes_late_sees_it_from_the_beginning(hub: Hub) -> None:
    gate = Gate()
    pulls = Pulls(lambda _: None, gate)
    pulls.start("tiny")
    assert gate.started.wait(10)
    gate.open.set()
    found = told(pulls.watch()) if pulls.running else []
    assert not found or found[0][0] == "progress"
    pulls.close()


def test_an_unknown_model_names_the_nearest(hub: Hub) -> None:
    with pytest.raises(OndeviceError, match="did you mean 'tiny'"):
        Pulls(lambda _: None, Gate()).start("tinny")


def test_without_the_exporter_the_remedy_is_named(hub: Hub) -> None:
    def missing(name: str, progress: Progress, say: Say) -> Package:
        raise ImportError("no module", name="onnx")

    found = told(Pulls(lambda _: None, missing).start("tiny"))
    assert found[-1][0] == "error" and "onnx is not part of it" in found[-1][1]["message"]


def test_a_bug_in_a_pull_is_told(hub: Hub) -> None:
    def bug(name: str, progress: Progress, say: Say) -> Package:
        raise ZeroDivisionError

    assert "ZeroDivisionError" in told(Pulls(lambda _: None, bug).start("tiny"))[-1][1]["message"]
