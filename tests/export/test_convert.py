"""From a checkpoint to a package folder: exact integers, same bytes twice, nothing half-written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from checkpoints import FOR_ANE, random_weights, tiny, write_checkpoint, write_gguf
from onnx import numpy_helper

from ondevice import files
from ondevice.errors import ExportError, OndeviceError, PackageError, SourceError
from ondevice.export import matrices
from ondevice.export.architecture import EMBEDDING, HEAD
from ondevice.export.convert import TARGETS, convert
from ondevice.export.recipe import Options, Quantizer, Rows
from ondevice.export.source import open_source
from ondevice.export.workspace import kept_work, workspace
from ondevice.package import Package, Quantization, open_package, verify_hashes
from ondevice.progress import Progress

DOWN = "model.layers.0.mlp.down_proj.weight"
WIDE = {"hidden_size": 256, "intermediate_size": 256, "heads": 4, "kv_heads": 4, "head_dim": 64}


def stored(package: Package) -> dict[str, np.ndarray]:
    """Every initializer of the graph, external ones read from their file."""
    model = onnx.load(package.model_file)
    return {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}


def convert_quickly(source: Path, target: str, out: Path) -> Package:
    return convert(source, target, out, accept=True)


@pytest.mark.parametrize("kind", ["Q4_0", "Q5_0", "Q6_K", "Q8_0"])
@pytest.mark.parametrize("name", ["llama", "qwen2"])
def test_integers_of_the_file_are_in_the_package(kind: str, name: str, tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "m.gguf", tiny(name, **WIDE), matrices=kind)
    package = convert_quickly(file, "cpu-as-is", tmp_path / "out")
    source, arrays = open_source(file), stored(package)
    matrices = [n for n, shape in source.architecture.tensor_shapes().items() if len(shape) == 2]
    for matrix in matrices:
        grid = source.stored_grid(matrix)
        assert grid is not None
        assert np.array_equal(arrays[f"{matrix}.integers"], grid.packed())
        assert np.array_equal(arrays[f"{matrix}.scales"], grid.scales)
    assert package.manifest.recipe.relative_error == {}
    source.close()


def test_types_with_a_minimum_are_requantized_and_their_error_reported(tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "m.gguf", tiny(**WIDE), matrices="Q8_0", types={DOWN: "Q4_K"})
    package = convert_quickly(file, "cpu-as-is", tmp_path / "out")
    recipe = package.manifest.recipe
    assert list(recipe.relative_error) == [DOWN]
    assert 0 < recipe.relative_error[DOWN] < 0.02
    scales = {name: array for name, array in stored(package).items() if name.endswith(".scales")}
    chosen = [name for name, array in scales.items() if array.dtype == np.float16]
    assert chosen == [f"{DOWN}.scales"] and len(scales) > 1
    assert recipe.tensors["int8 block 32, requantized from Q4_K"] == 1


def test_as_is_keeps_floats_and_int4_does_not(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "c", tiny(), dtype="BF16")
    as_is = convert_quickly(checkpoint, "cpu-as-is", tmp_path / "as-is").manifest.recipe
    int4 = convert_quickly(checkpoint, "cpu-int4", tmp_path / "int4").manifest.recipe
    assert as_is.bits_per_weight == 32
    assert 5 < int4.bits_per_weight < 8
    assert sum(int4.tensors.values()) == 2 * 7 + 2


@pytest.mark.parametrize("target", TARGETS)
def test_exporting_twice_gives_the_same_bytes(target: str, tmp_path: Path) -> None:
    architecture = tiny("qwen2", tied_embeddings=True, **FOR_ANE)
    file = write_gguf(tmp_path / "m.gguf", architecture, matrices="Q5_0")
    first = convert_quickly(file, target, tmp_path / "first")
    second = convert(file, target, tmp_path / "second", name="first", accept=True)
    assert first.manifest == second.manifest
    for name in [*first.manifest.files, "ondevice.json"]:
        assert (first.folder / name).read_bytes() == (second.folder / name).read_bytes()


def test_a_tied_output_matrix_is_stored_once(tmp_path: Path) -> None:
    sizes = {}
    for tied in (True, False):
        source = write_checkpoint(tmp_path / f"c{tied}", tiny(tied_embeddings=tied))
        package = convert_quickly(source, "cpu-int8", tmp_path / f"out{tied}")
        sizes[tied] = package.manifest.files["model.onnx.data"].bytes
    shape = tiny().tensor_shapes()[EMBEDDING]
    assert sizes[False] - sizes[True] >= shape[0] * shape[1]


def test_a_recorded_proof_of_the_same_hashes_holds(tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "m.gguf", tiny(), matrices="Q8_0")
    first = convert_quickly(file, "cpu-int8", tmp_path / "first")
    seen: list[dict[str, str]] = []

    def recorded(hashes: dict[str, str]) -> object:
        seen.append(hashes)
        return first.manifest.proof

    second = convert(file, "cpu-int8", tmp_path / "second", recorded=recorded)  # type: ignore[arg-type]
    assert seen == [first.manifest.content_hashes()]
    assert second.manifest.proof == first.manifest.proof


def test_the_record_names_the_source_and_no_path_of_this_machine(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "secret-place" / "model", tiny())
    package = convert_quickly(checkpoint, "cpu-int8", tmp_path / "out")
    text = (package.folder / "ondevice.json").read_text(encoding="utf-8")
    assert "secret-place" not in text
    assert package.manifest.source.files["model.safetensors"] == files.sha256(
        checkpoint / "model.safetensors"
    )


def test_an_existing_output_is_left_alone(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "c", tiny())
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine").write_text("precious", encoding="utf-8")
    with pytest.raises(OndeviceError, match="exists already"):
        convert(checkpoint, "cpu-int8", out)
    assert (out / "mine").read_text(encoding="utf-8") == "precious"


def test_bad_requests_say_what_is_known(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "c", tiny())
    with pytest.raises(ExportError, match=r"unknown target 'cpu-int3'; known: cpu-fp32"):
        convert(checkpoint, "cpu-int3", tmp_path / "out")
    with pytest.raises(SourceError, match="does not exist"):
        convert(tmp_path / "absent", "cpu-int8", tmp_path / "out")
    narrow = write_checkpoint(tmp_path / "narrow", tiny(head_dim=8))
    with pytest.raises(ExportError, match="multiple of 16"):
        convert(narrow, "cpu-int8", tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["c", "narrow"]


def stopping(moment: str, error: BaseException) -> Progress:
    """A progress report that raises once a stage has begun."""

    def stop(stage: str, done: int, total: int) -> None:
        if stage == moment and done > 0:
            raise error

    return stop


@pytest.mark.parametrize("moment", ["quantizing", "comparing layers"])
def test_on_a_full_disk_nothing_is_left(moment: str, tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "c", tiny())
    full = stopping(moment, OSError(28, "No space left on device"))
    with pytest.raises(OndeviceError, match=r"the disk of .* is full"):
        convert(checkpoint, "cpu-int8", tmp_path / "out", progress=full)
    assert [p.name for p in tmp_path.iterdir()] == ["c"]


def test_nan_weights_are_refused_by_name(tmp_path: Path) -> None:
    weights = random_weights(tiny())
    weights[DOWN][0, 0] = np.nan
    checkpoint = write_checkpoint(tmp_path / "c", tiny(), weights)
    with pytest.raises(SourceError, match=r"down_proj\.weight.*NaN"):
        convert(checkpoint, "cpu-int8", tmp_path / "out")
    quantized = random_weights(tiny())
    quantized[DOWN][0, :32] = np.inf
    file = write_gguf(tmp_path / "m.gguf", tiny(), quantized, matrices="Q8_0")
    with pytest.raises(SourceError, match=r"down_proj\.weight.*NaN"):
        convert(file, "cpu-as-is", tmp_path / "out")


def test_a_wrong_byte_is_found_by_its_hash(tmp_path: Path) -> None:
    package = convert_quickly(write_checkpoint(tmp_path / "c", tiny()), "cpu-int8", tmp_path / "o")
    verify_hashes(open_package(package.folder))
    data = package.folder / "model.onnx.data"
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 1
    data.write_bytes(content)
    with pytest.raises(PackageError, match="wrong content"):
        verify_hashes(open_package(package.folder))


@pytest.mark.parametrize("moment", ["quantizing", "comparing layers"])
def test_stopped_by_ctrl_c_an_export_goes_on_where_it_was(moment: str, tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "c", tiny())
    whole = convert_quickly(checkpoint, "cpu-int8", tmp_path / "whole")
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        convert(checkpoint, "cpu-int8", out, progress=stopping(moment, KeyboardInterrupt()))
    assert not out.exists()
    seen: list[int] = []
    resumed = convert(
        checkpoint,
        "cpu-int8",
        out,
        name="whole",
        accept=True,
        progress=lambda stage, done, total: seen.append(done) if stage == "quantizing" else None,
    )
    assert resumed.manifest == whole.manifest
    for name in whole.manifest.files:
        assert (resumed.folder / name).read_bytes() == (whole.folder / name).read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["c", "out", "whole"]


def quantized_rows(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The matrices whose rows are quantized from now on."""
    made: list[str] = []
    rows = Quantizer.rows

    def watched(self: Quantizer, name: str, *rest: Any) -> Rows:
        made.append(name)
        return rows(self, name, *rest)

    monkeypatch.setattr(Quantizer, "rows", watched)
    return made


@pytest.fixture
def interrupted(tmp_path: Path) -> Path:
    """A checkpoint whose export to `out` was stopped when all matrices were written."""
    checkpoint = write_checkpoint(tmp_path / "c", tiny())
    stop = stopping("comparing layers", KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        convert(checkpoint, "cpu-int8", tmp_path / "out", accept=True, progress=stop)
    assert kept_work(tmp_path / "out") is not None
    return checkpoint


def test_what_is_written_is_not_quantized_again(
    interrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = quantized_rows(monkeypatch)
    convert_quickly(interrupted, "cpu-int8", tmp_path / "out")
    assert made == []


@pytest.mark.parametrize("change", ["source", "target", "block", "fresh"])
def test_work_of_another_source_or_recipe_is_not_gone_on_with(
    change: str, interrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if change == "source":
        write_checkpoint(interrupted, tiny(), random_weights(tiny(), seed=1))
    made = quantized_rows(monkeypatch)
    target = "cpu-int4" if change == "target" else "cpu-int8"
    options = Options(block=16 if change == "block" else None)
    package = convert(
        interrupted, target, tmp_path / "out", options=options, accept=True, fresh=change == "fresh"
    )
    matrices = [n for n, shape in tiny().tensor_shapes().items() if len(shape) == 2]
    assert sorted(set(made)) == sorted(matrices)
    verify_hashes(package)


def test_bytes_that_changed_while_the_export_was_stopped_are_written_again(
    interrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / ".out.export" / "package" / "model.onnx.data"
    content = bytearray(data.read_bytes())
    content[-1] ^= 1
    data.write_bytes(content)
    made = quantized_rows(monkeypatch)
    found = convert_quickly(interrupted, "cpu-int8", tmp_path / "out")
    assert set(made) == {HEAD}
    whole = convert_quickly(interrupted, "cpu-int8", tmp_path / "whole")
    assert found.manifest.content_hashes() == whole.manifest.content_hashes()


def test_two_exports_to_one_place_do_not_mix(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "c", tiny())
    out = tmp_path / "out"
    with workspace(out) as work:
        with pytest.raises(ExportError, match=r"another export to .*out is running"):
            convert(checkpoint, "cpu-int8", out)
        work.package.mkdir()
    assert out.is_dir()


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("chunk", [1, 1000, 1 << 20])
def test_bytes_depend_neither_on_threads_nor_on_how_many_rows_come_at_a_time(
    threads: int, chunk: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = write_checkpoint(tmp_path / "c", tiny(hidden_size=80, heads=5, kv_heads=1))
    options = Options(symmetric=False, block=32)
    usual = convert(checkpoint, "cpu-int4", tmp_path / "usual", options=options, accept=True)
    monkeypatch.setattr(matrices, "usable_cores", lambda: threads)
    monkeypatch.setattr(matrices, "CHUNK", chunk)
    other = convert(
        checkpoint, "cpu-int4", tmp_path / "o", options=options, name="usual", accept=True
    )
    assert other.manifest.content_hashes() == usual.manifest.content_hashes()
    assert other.manifest.recipe == usual.manifest.recipe


def test_the_options_are_what_is_stored_and_recorded(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "c", tiny())
    options = Options(head_bits=4, block=16, symmetric=False, quantizer="search")
    package = convert(checkpoint, "cpu-int4", tmp_path / "out", options=options, accept=True)
    recipe = open_package(package.folder).manifest.recipe
    assert recipe.quantization == Quantization(4, 4, 16, False, "search")
    assert recipe.tensors == {"int4 block 16, requantized from F32": 2 * 7 + 2}
    assert recipe.bits_per_weight == 4 + (16 + 4) / 16
    arrays = stored(package)
    assert arrays[f"{DOWN}.zero_points"].shape == (64, 96 // 16 // 2)


def test_an_embedding_of_its_own_has_its_own_bits(tmp_path: Path) -> None:
    options = Options(embedding_bits=4, symmetric=False, block=16)
    checkpoint = write_checkpoint(tmp_path / "c", tiny())
    package = convert(checkpoint, "cpu-int4", tmp_path / "out", options=options, accept=True)
    arrays = stored(package)
    assert arrays["model.embed_tokens.weight.integers"].shape[-1] == 16 * 4 // 8
    assert arrays["lm_head.weight.integers"].shape[-1] == 64  # the width: 8 bits need fewer scales
    assert "model.embed_tokens.weight.zero_points" in arrays
    assert "lm_head.weight.zero_points" not in arrays
    quantization = package.manifest.recipe.quantization
    assert quantization == Quantization(4, 8, 16, False, "search", embedding_bits=4)
    tied = write_checkpoint(tmp_path / "tied", tiny(tied_embeddings=True))
    with pytest.raises(ExportError, match="choose --head-bits"):
        convert(tied, "cpu-int4", tmp_path / "tied-out", options=options, accept=True)


@pytest.mark.parametrize(
    ("target", "options", "message"),
    [
        ("cpu-int4", Options(bits=3), "--bits 3 cannot be; choose 4 to 8"),
        ("cpu-int4", Options(head_bits=5), "--head-bits 5 cannot be stored"),
        ("cpu-int4", Options(block=48), "--block 48 cannot be stored; choose one of 16"),
        ("cpu-int4", Options(quantizer="magic"), "unknown quantizer 'magic'; known: rtn"),
        ("cpu-int8", Options(bits=4.5), "--bits 4.5 does not go with --target cpu-int8"),
        ("cpu-as-is", Options(block=16), "--target cpu-as-is keeps the weights .* --block"),
        ("cpu-fp32", Options(quantizer="rtn"), "--target cpu-fp32 keeps .* --quantizer"),
        ("cpu-int4", Options(calibration=Path("absent")), "absent is not a file"),
        ("cpu-int4", Options(adapter=Path("absent")), "absent is not a folder"),
        ("cpu-int4", Options(calibration=Path(__file__)), "--calibration is read by"),
    ],
)
def test_options_that_cannot_be_are_refused_before_anything_is_made(
    target: str, options: Options, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match=message):
        convert(tmp_path / "absent", target, tmp_path / "out", options=options)
    assert list(tmp_path.iterdir()) == []


def test_external_tensors_begin_at_pages_and_follow_each_other(tmp_path: Path) -> None:
    package = convert_quickly(write_checkpoint(tmp_path / "c", tiny()), "cpu-int4", tmp_path / "o")
    graph = onnx.load(package.model_file, load_external_data=False).graph
    places = set()
    for tensor in graph.initializer:
        entries = {entry.key: entry.value for entry in tensor.external_data}
        if entries:
            places.add((int(entries["offset"]), int(entries["length"])))
    end = 0
    for offset, length in sorted(places):
        assert offset == end + -end % 4096
        end = offset + length
    assert end == package.manifest.files["model.onnx.data"].bytes
