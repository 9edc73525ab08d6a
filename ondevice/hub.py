"""The model hub: one file by its revision, resumed where it stopped, and what a repository holds.

Knows nothing about mirrors, and does not judge the bytes: `pull` compares them with the lock.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import TYPE_CHECKING

from ondevice import files
from ondevice._locktoml import LockedFile, LockedModel
from ondevice.errors import FetchError, OndeviceError, WrongContent

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer
    from huggingface_hub import ModelInfo
    from huggingface_hub.hf_api import RepoSibling

CONNECT_SECONDS = 5.0
_CHECKPOINT = re.compile(
    r"config\.json|generation_config\.json|tokenizer\.json|tokenizer_config\.json"
    r"|special_tokens_map\.json|added_tokens\.json|tokenizer\.model|chat_template\.jinja"
    r"|chat_template\.json|[^/]+\.safetensors|[^/]+\.safetensors\.index\.json"
)
_SHARD = re.compile(r"-\d{5}-of-\d{5}\.gguf$")


class HubUnavailable(FetchError):  # noqa: N818 - it says what is so
    """The hub cannot be reached, or does not give this file; a mirror may."""


def endpoint() -> str:
    """The hub's address: HF_ENDPOINT, read at every call, else the library's own."""
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or str(_library().constants.ENDPOINT)


def fetch(
    model: LockedModel, file: LockedFile, part: Path, progress: Callable[[int], None]
) -> None:
    """Download a file of the lock into `part`, going on where an earlier run stopped.

    `progress` gets the bytes there are so far. Ctrl-C leaves `part` for the next run. Raises
    `HubUnavailable`, or `FetchError` when the hub announces other bytes than the lock wants.
    """
    if model.revision is None:
        raise HubUnavailable(
            f"the lock knows no revision of {model.source_id} that holds {file.name}; "
            "use --from mirror or --from PATH"
        )
    hub = _library()
    url = hub.hf_hub_url(model.source_id, file.name, revision=model.revision, endpoint=endpoint())
    with _asking(f"{file.name} of {model.source_id}"):
        found = hub.get_hf_file_metadata(url, timeout=CONNECT_SECONDS, endpoint=endpoint())
    if found.commit_hash is None:
        raise HubUnavailable(f"{endpoint()} does not answer like a model hub")
    _announced(found.size, found.etag, model, file)
    _download(url, part, file.bytes, file.name, progress)


def describe(
    repo_id: str,
    *,
    name: str | None = None,
    revision: str | None = None,
    file: str | None = None,
    target: str = "cpu-as-is",
) -> LockedModel:
    """What a repository of the hub holds, as an entry for a lock.

    One GGUF file (`file` names which of several) or a safetensors checkpoint. Files without a
    hash on the hub are small: they are downloaded and hashed. Raises `FetchError`.
    """
    hub = _library()
    with _asking(repo_id):
        api = hub.HfApi(endpoint=endpoint())
        info: ModelInfo = api.model_info(
            repo_id, revision=revision, files_metadata=True, timeout=2 * CONNECT_SECONDS
        )
    if not info.sha or info.siblings is None:
        raise FetchError(f"{endpoint()} does not say what {repo_id} holds")
    chosen = _choose(repo_id, info.siblings, file)
    with tempfile.TemporaryDirectory(prefix="ondevice-") as folder:
        locked = tuple(_locked(repo_id, info.sha, item, Path(folder)) for item in chosen)
    what = locked[0].name if len(locked) == 1 else "safetensors checkpoint"
    return LockedModel(
        name=name or _name(repo_id),
        description=f"{PurePosixPath(repo_id).name}, {what}",
        licence=_licence(info),
        source_id=repo_id,
        revision=info.sha,
        files=locked,
        target=target,
    )


def _library() -> ModuleType:
    """huggingface_hub, quiet: our own progress is shown, and nothing is reported home."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    import huggingface_hub
    from huggingface_hub.utils import disable_progress_bars, logging  # type: ignore[attr-defined]

    disable_progress_bars("huggingface_hub.http_get")
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    return huggingface_hub


class _Counted(io.FileIO):
    """A file opened for appending that tells how long it has become."""

    def __init__(self, path: Path, progress: Callable[[int], None]) -> None:
        super().__init__(path, "ab")
        self._progress = progress

    def write(self, data: ReadableBuffer) -> int:
        left = memoryview(data).cast("B")
        size = len(left)
        while left:
            left = left[super().write(left) or 0 :]
        self._progress(self.tell())
        return size


def _download(url: str, part: Path, size: int, name: str, progress: Callable[[int], None]) -> None:
    # `hf_hub_download` throws away what an interrupted run had; the function below it resumes.
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    if part.exists() and part.stat().st_size > size:
        part.unlink()
    with _asking(name, part), _Counted(part, progress) as file:
        http_get(
            url,
            file,
            resume_size=file.tell(),
            headers=build_hf_headers(),
            expected_size=size,
            displayed_filename=name,
        )


def _announced(size: int | None, etag: str | None, model: LockedModel, file: LockedFile) -> None:
    """Refuse before the download what the hub itself says is something else."""
    other_hash = etag and re.fullmatch(r"[0-9a-f]{64}", etag) and etag != file.sha256
    if other_hash or (size is not None and size != file.bytes):
        raise WrongContent(
            f"the hub's {file.name} of {model.source_id} is not the one in the lock "
            f"({size} bytes, {etag}); nothing was kept; try --from mirror"
        )


@contextlib.contextmanager
def _asking(what: str, part: Path | None = None) -> Iterator[None]:
    """Turn whatever the library raises into one line.

    Its network errors have no base class that stays the same from version to version (httpx
    was replaced inside 2.x), and odd answers of a server end in KeyError and the like.
    """
    try:
        yield
    except OndeviceError:
        raise
    except Exception as error:
        raise _translated(error, what, part) from error


def _translated(error: Exception, what: str, part: Path | None) -> OndeviceError:
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return HubUnavailable(
            f"{what}: the hub wants you to accept its licence first; do so there and log in "
            'with "hf auth login"'
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return HubUnavailable(f"{what}: the hub does not have this revision")
    if isinstance(error, errors.EntryNotFoundError):
        return HubUnavailable(f"{what}: the hub does not have this file")
    if isinstance(error, errors.RepositoryNotFoundError):
        return HubUnavailable(f"{what}: the hub has no such repository, or it is private")
    if isinstance(error, errors.HfHubHTTPError):
        return HubUnavailable(f"{what}: the hub answers with HTTP {error.response.status_code}")
    if isinstance(error, errors.HFValidationError):
        return FetchError(f"{what!r} is not a hub id; write OWNER/NAME")
    if part is not None and isinstance(error, OSError) and error.errno:
        return files.write_error(part, error)
    if isinstance(error, OSError) or type(error).__module__.startswith("httpx"):
        reason = str(error).partition("\n")[0] or type(error).__name__
        return HubUnavailable(f"the hub at {endpoint()} cannot be reached: {reason[:200]}")
    return FetchError(f"{what}: the answer of {endpoint()} makes no sense: {str(error)[:100]!r}")


def _choose(repo_id: str, held: list[RepoSibling], file: str | None) -> list[RepoSibling]:
    by_name = {item.rfilename: item for item in held}
    if file is not None:
        matching = [file] if file in by_name else [n for n in by_name if file.lower() in n.lower()]
        if len(matching) != 1:
            some = _some(matching or by_name)
            raise FetchError(f"{repo_id}: {file!r} is not one of its files; choose from: {some}")
        return [by_name[matching[0]]]
    ggufs = [n for n in by_name if n.endswith(".gguf") and "mmproj" not in n.lower()]
    if len(ggufs) == 1:
        return [by_name[ggufs[0]]]
    if ggufs:
        whole = [name for name in ggufs if not _SHARD.search(name)]
        raise FetchError(f"{repo_id} has several models; choose --file from: {_some(whole)}")
    checkpoint = [name for name in by_name if _CHECKPOINT.fullmatch(name)]
    # `consolidated.safetensors` beside `model-*.safetensors` holds the same weights once more.
    if any(name.startswith("model") for name in checkpoint):
        checkpoint = [n for n in checkpoint if not n.startswith("consolidated")]
    if not any(name.endswith(".safetensors") for name in checkpoint):
        raise FetchError(
            f"{repo_id} holds neither a GGUF file nor safetensors; pickled weights are not read"
        )
    return [by_name[name] for name in sorted(checkpoint)]


def _some(names: object) -> str:
    listed = sorted(names)  # type: ignore[call-overload]
    return ", ".join(listed[:20]) + (", ..." if len(listed) > 20 else "")


def _locked(repo_id: str, revision: str, item: RepoSibling, folder: Path) -> LockedFile:
    if item.lfs is not None and item.size:
        return LockedFile(item.rfilename, item.size, item.lfs.sha256)
    if not item.size:
        raise FetchError(f"{repo_id}: the hub does not give the size of {item.rfilename}")
    part = folder / item.rfilename.replace("/", "_")
    url = _library().hf_hub_url(repo_id, item.rfilename, revision=revision, endpoint=endpoint())
    _download(url, part, item.size, item.rfilename, lambda _: None)
    return LockedFile(item.rfilename, item.size, files.sha256(part))


def _name(repo_id: str) -> str:
    name = repo_id.rpartition("/")[2].lower().removesuffix("-gguf")
    return re.sub(r"[^a-z0-9_.-]+|\.{2,}", "-", name).strip("-._")


def _licence(info: ModelInfo) -> str:
    card = info.card_data
    words = [getattr(card, "license_name", None), getattr(card, "license", None)]
    words += [tag.removeprefix("license:") for tag in info.tags or [] if "license:" in tag]
    return next((word for word in words if isinstance(word, str) and word.strip()), "unknown")
