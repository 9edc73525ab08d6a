"""What a bundle is made of, its licences and its bill of materials."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

import ondevice.desktop
from ondevice.bundle.freeze import Packed
from ondevice.bundle.licences import write_licences
from ondevice.bundle.parts import Part, model_part, parts_of
from ondevice.bundle.plan import make_plan
from ondevice.bundle.sbom import sbom_json
from ondevice.bundle.scripts import script_parts
from ondevice.bundle.stage import make_stage
from ondevice.package import Package


def test_a_packed_file_is_traced_to_its_distribution(tmp_path: Path) -> None:
    packed = [Packed("numpy", Path(np.__file__), "PYMODULE")]
    parts = {part.name: part for part in parts_of(packed, tmp_path, None)}
    assert set(parts) == {"numpy", "ondevice", "pyinstaller", "cpython"}
    numpy = parts["numpy"]
    assert numpy.version == metadata.version("numpy")
    assert numpy.purl == f"pkg:pypi/numpy@{numpy.version}"
    assert any("Copyright" in path.read_text(encoding="utf-8") for path in numpy.texts)


def test_the_models_part_has_the_hash_of_every_file(tiny_package: Package) -> None:
    part = model_part(tiny_package)
    assert dict(part.sha256) == tiny_package.manifest.content_hashes()


def test_apache_parts_without_a_text_get_the_standard_one(tmp_path: Path) -> None:
    parts = [Part("weights", "1", "model", "Apache-2.0"), Part("odd", "2", "python", "MIT")]
    assert write_licences(parts, tmp_path / "licences") == ["odd-2"]
    text = (tmp_path / "licences" / "weights-1" / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in text


def test_texts_of_the_same_name_are_all_kept(tmp_path: Path) -> None:
    texts = []
    for folder in ("a", "b"):
        path = tmp_path / folder / "LICENSE"
        path.parent.mkdir()
        path.write_text(folder, encoding="utf-8")
        texts.append(path)
    write_licences([Part("x", "1", "python", "MIT", tuple(texts))], tmp_path / "licences")
    kept = sorted(path.name for path in (tmp_path / "licences" / "x-1").iterdir())
    assert kept == ["LICENSE", "b-LICENSE"]


def test_the_bill_is_valid_cyclonedx_and_the_same_each_time(tiny_package: Package) -> None:
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    parts = [
        Part("numpy", "2.0", "python", "BSD-3-Clause AND MIT", (), "pkg:pypi/numpy@2.0"),
        Part("odd", "1", "python", "Do what you like, but don't sue"),
        Part("@scope/page", "3", "script", "MIT", (), "pkg:npm/%40scope/page@3"),
        Part("libz.so.1", "", "system"),
        model_part(tiny_package),
    ]
    plan = make_plan("My Assistant", model=tiny_package)
    text = sbom_json(plan, parts)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    assert sbom_json(plan, parts) == text
    components = {c["name"]: c for c in json.loads(text)["components"]}
    model = components[tiny_package.manifest.name]
    assert model["type"] == "machine-learning-model"
    assert {c["hashes"][0]["content"] for c in model["components"]} == set(
        tiny_package.manifest.content_hashes().values()
    )
    assert components["numpy"]["licenses"] == [{"expression": "BSD-3-Clause AND MIT"}]


def test_every_library_of_the_page_is_known_with_version_licence_and_text() -> None:
    vendor = Path(next(iter(ondevice.desktop.__path__))) / "page" / "vendor"
    parts = script_parts(vendor)
    assert parts
    for part in parts:
        assert part.version, part.name
        assert part.licence, part.name
        assert part.texts, part.name
        assert part.purl.startswith("pkg:npm/")


def test_a_script_that_is_not_in_the_table_is_a_part_too(tmp_path: Path) -> None:
    (tmp_path / "stray.min.js").write_text("1", encoding="utf-8")
    (part,) = script_parts(tmp_path)
    assert (part.name, part.version, part.texts) == ("stray.min.js", "", ())


def test_the_stage_is_ondevice_as_in_a_wheel_without_what_packs(tmp_path: Path) -> None:
    stage = make_stage(tmp_path / "stage")
    assert {"ondevice", "ondevice.export.grid", "ondevice.runtime.ort", "ondevice.desktop.launch",
            "ondevice.bundle.entry"} <= set(stage.modules)  # fmt: skip
    assert "ondevice.bundle.freeze" not in stage.modules
    data = {Path(file).name: folder for file, folder in stage.data}
    assert data["models.lock"] == "ondevice"
    assert data["package.schema.json"] == "ondevice/schemas"
    assert not any(name.endswith((".pyc", ".spec")) for name in data)


def test_the_stage_brings_the_metadata_that_packages_record(tmp_path: Path) -> None:
    folders = {folder for file, folder in make_stage(tmp_path / "stage").data if "METADATA" in file}
    for name in ("ondevice", "onnxruntime", "onnx", "gguf", "numpy", "tokenizers"):
        assert any(folder.startswith(f"{name}-") for folder in folders), name


@pytest.mark.parametrize("label", ["@highlightjs/cdn-assets", "a b", "libstdc++6"])
def test_labels_can_be_names_of_folders(label: str, tmp_path: Path) -> None:
    part = Part(label, "1:2~3", "system")
    (tmp_path / part.label).mkdir()
    assert "/" not in part.label
