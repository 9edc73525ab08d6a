"""From a checkpoint to a package folder: exact integers, same bytes twice, nothing half-written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from checkpoints import random_weights, tiny, write_checkpoint, write_gguf
from onnx import numpy_helper

from ondevice import files
from ondevice.errors import ExportError, OndeviceError, PackageError, SourceError
from ondevice.export.architecture import EMBEDDING
from ondevice.export.convert import TARGETS, convert
from ondevice.export.source import open_source
from ondevice.package import Package, open_package, verify_hashes

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
    recipe = convert_quickly(file, "cpu-as-is", tmp_path / "out").manifest.recipe
    assert list(recipe.relative_error) == [DOWN]
    assert 0 < recipe.relative_error[DOWN] < 0.02
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
    file = write_gguf(tmp_path / "m.gguf", tiny("qwen2", tied_embeddings=True), matrices="Q5_0")
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


@pytest.mark.parametrize("moment", ["quantizing", "computing the reference"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_interrupted_or_on_a_full_disk_nothing_is_left(
    moment: str, error: BaseException, tmp_path: Path
) -> None:
    checkpoint = write_checkpoint(tmp_path / "c", tiny())

    def stop(stage: str, done: int, total: int) -> None:
        if stage == moment and done > 0:
            raise error

    with pytest.raises((KeyboardInterrupt, OndeviceError)):
        convert(checkpoint, "cpu-int8", tmp_path / "out", progress=stop)
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
