"""Stand-ins for the slow and distant: a model hub on loopback, wheels, a tiny package.

The hub speaks the few routes that huggingface_hub uses here; it can cut bodies short.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import unquote

from ondevice import files
from ondevice.lock import LockedFile, LockedModel, Mirror, MirrorWheel
from ondevice.package import (
    Manifest,
    ModelShape,
    Package,
    Proof,
    Recipe,
    SourceInfo,
    Text,
    describe_files,
    open_package,
    write_manifest,
)

COMMIT = "0123456789abcdef0123456789abcdef01234567"
PROOF = Proof("ab" * 32, 1000, 0.01, 0.2, 0.99, 12.5, 12.25, "ort 1.32", ("avx2",))


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@dataclass
class Repository:
    """A repository of the stand-in hub; files whose name is in `lfs` have a hash there."""

    held: dict[str, bytes]
    commit: str = COMMIT
    lfs: tuple[str, ...] = ()
    card: dict[str, Any] = field(default_factory=lambda: {"license": "apache-2.0"})


class Hub:
    """A model hub on loopback. `cut_at` bytes into a file the connection breaks."""

    def __init__(self, repositories: dict[str, Repository]) -> None:
        self.repositories = repositories
        self.requests: list[tuple[str, str, str | None]] = []  # method, path, Range
        self.cut_at: int | None = None
        self.cut_once = True
        self.announce: dict[str, str] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Hub:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handler(hub) -> type[BaseHTTPRequestHandler]:  # noqa: N805
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: object) -> None:
                pass

            def do_HEAD(self) -> None:
                self.do_GET()

            def do_GET(self) -> None:
                hub.requests.append((self.command, self.path, self.headers.get("Range")))
                path = unquote(self.path.partition("?")[0])
                api = re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path)
                resolve = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
                if api:
                    self._information(*api.groups())
                elif resolve:
                    self._file(*resolve.groups())
                else:
                    self._answer(404, {})

            def _repository(self, name: str, revision: str | None) -> Repository | None:
                repository = hub.repositories.get(name)
                if repository is None:
                    self._answer(404, {"X-Error-Code": "RepoNotFound"})
                elif revision not in (None, "main", repository.commit):
                    self._answer(404, {"X-Error-Code": "RevisionNotFound"})
                    return None
                return repository

            def _information(self, name: str, revision: str | None) -> None:
                if (repository := self._repository(name, revision)) is None:
                    return
                siblings = []
                for file, data in repository.held.items():
                    item: dict[str, Any] = {"rfilename": file, "size": len(data)}
                    if file in repository.lfs:
                        item["lfs"] = {"size": len(data), "sha256": sha256(data), "pointerSize": 1}
                    siblings.append(item)
                body: dict[str, Any] = {"id": name, "sha": repository.commit, "tags": []}
                body |= {"siblings": siblings, "cardData": repository.card}
                self._answer(200, {"Content-Type": "application/json"}, json.dumps(body).encode())

            def _file(self, name: str, revision: str, file: str) -> None:
                if (repository := self._repository(name, revision)) is None:
                    return None
                if file not in repository.held:
                    return self._answer(404, {"X-Error-Code": "EntryNotFound"})
                data = repository.held[file]
                etag = sha256(data) if file in repository.lfs else hashlib.sha1(data).hexdigest()
                headers = {
                    "ETag": f'"{hub.announce.get("etag", etag)}"',
                    "X-Repo-Commit": repository.commit,
                    "X-Linked-Size": hub.announce.get("size", str(len(data))),
                }
                start = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
                at = int(start[1]) if start else 0
                if start:
                    headers["Content-Range"] = f"bytes {at}-{len(data) - 1}/{len(data)}"
                return self._answer(206 if start else 200, headers, data[at:], at)

            def _answer(
                self, status: int, headers: dict[str, str], body: bytes = b"", at: int = 0
            ) -> None:
                self.send_response(status)
                for key, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(key, value)
                self.end_headers()
                if self.command == "HEAD":
                    return
                if hub.cut_at is None or "X-Repo-Commit" not in headers:
                    self.wfile.write(body)
                    return
                self.wfile.write(body[: max(0, hub.cut_at - at)])
                self.wfile.flush()
                self.close_connection = True
                if hub.cut_once:
                    hub.cut_at = None

        return Handler


def build_wheel(folder: Path, name: str, members: dict[str, bytes], version: str = "1.0") -> Path:
    """A wheel that pip takes, holding only the members."""
    folder.mkdir(parents=True, exist_ok=True)
    module = name.replace("-", "_")
    path = folder / f"{module}-{version}-py3-none-any.whl"
    info = f"{module}-{version}.dist-info"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, data in members.items():
            archive.writestr(member, data)
        archive.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
        archive.writestr(
            f"{info}/WHEEL",
            "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        archive.writestr(f"{info}/RECORD", "")
    return path


def mirror_of(file: str, wheels: dict[str, Path], member: str = "data/part.bin") -> Mirror:
    """A mirror of wheels (`name==version` -> file) as they are on disk."""
    return Mirror(
        file,
        tuple(MirrorWheel(n, sha256(path.read_bytes()), member) for n, path in wheels.items()),
    )


def locked(
    data: bytes,
    *,
    name: str = "tiny",
    file: str = "tiny.gguf",
    revision: str | None = COMMIT,
    mirrors: tuple[Mirror, ...] = (),
) -> LockedModel:
    """A lock's entry for one file with these bytes."""
    held = (LockedFile(file, len(data), sha256(data)),)
    return LockedModel(
        name, "a tiny model", "MIT", "owner/tiny", revision, held, "cpu-int4", mirrors
    )


class FakeConvert:
    """Stands for the exporter: a sound tiny package, and a record of what it was called with."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []
        self.fails: BaseException | None = None

    def __call__(self, source: Path, target: str, out: Path, **options: Any) -> Package:
        self.calls.append({"source": source, "target": target, "out": out, **options})
        if self.fails is not None:
            raise self.fails
        paths = (
            [source] if source.is_file() else sorted(p for p in source.rglob("*") if p.is_file())
        )
        origin = {path.name: sha256(path.read_bytes()) for path in paths}
        with files.new_folder(out, options["replace"]) as folder:
            write_package(folder, options["name"], target, origin, recorded=options["recorded"])
        return open_package(out)


def write_package(
    folder: Path,
    name: str,
    target: str,
    origin: dict[str, str],
    *,
    recorded: Callable[[dict[str, str]], Proof | None] | None = None,
) -> None:
    """A package whose structure is sound and whose content means nothing."""
    (folder / "model.onnx").write_bytes(b"graph")
    (folder / "tokenizer.json").write_text("{}", encoding="utf-8")
    described = describe_files(folder)
    manifest = Manifest(
        name=name,
        source=SourceInfo("owner/tiny", COMMIT, "MIT", "gguf", origin),
        shape=ModelShape("llama", 100, 8, 1, 2, 1, 4, 64, 1000),
        recipe=Recipe(target, 4.5, {"int4 block 32, exact": 3}, {}),
        text=Text((2,), None, None, False),
        files=described,
        tools={"onnx": "1.18"},
        proof=None,
    )
    proof = recorded(manifest.content_hashes()) if recorded else None
    write_manifest(folder, Manifest(**{**vars(manifest), "proof": proof}))


def snapshot(folder: Path) -> set[str]:
    """Every file below a folder, except lock files, relative."""
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".lock"
    }
