from __future__ import annotations

import dataclasses
import getpass
import json
import platform
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from ondevice.runtime import device

X86 = """\
processor\t: 0
model name\t: Example(R)   Processor  9000
flags\t\t: fpu sse4_2 avx avx2 fma avx512f avx512_vnni avx_vnni amx_int8
processor\t: 1
model name\t: Example(R)   Processor  9000
flags\t\t: fpu sse4_2 avx avx2 fma avx_vnni
"""
ARM = """\
processor : 0
Features  : fp asimd asimddp i8mm sve
CPU implementer : 0x41
CPU part : 0xd05
processor : 1
Features  : fp asimd asimddp
CPU implementer : 0x41
CPU part : 0xd0a
"""


def test_instruction_sets_are_those_of_every_core_by_their_makers_names() -> None:
    assert device.linux_instruction_sets(X86) == ("SSE4.2", "AVX", "AVX2", "FMA", "AVX-VNNI")
    assert device.linux_instruction_sets(ARM) == ("NEON/ASIMD", "DOTPROD")
    all_cores = X86.split("processor\t: 1")[0]
    assert {"AVX512F", "AVX512-VNNI", "AMX-INT8"} <= set(device.linux_instruction_sets(all_cores))


def test_unknown_cpuinfo_gives_nothing() -> None:
    assert device.linux_instruction_sets("") == ()
    assert device.linux_cpu_name("no colon here") is None


def test_the_processors_name_is_a_name_or_the_kinds_of_its_cores() -> None:
    assert device.linux_cpu_name(X86) == "Example(R) Processor 9000"
    expected = "implementer 0x41 part 0xd05 + implementer 0x41 part 0xd0a"
    assert device.linux_cpu_name(ARM) == expected


def groups(tmp_path: Path, membership: str, quotas: dict[str, str]) -> float | None:
    (tmp_path / "membership").write_text(membership)
    for name, text in quotas.items():
        (tmp_path / "mount" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mount" / name).write_text(text)
    return device.cgroup_quota(tmp_path / "membership", tmp_path / "mount")


def test_the_smallest_quota_on_the_way_to_the_root_holds(tmp_path: Path) -> None:
    quotas = {"a/b/cpu.max": "max 100000", "a/cpu.max": "150000 100000", "cpu.max": "400000 100000"}
    assert groups(tmp_path, "0::/a/b\n", quotas) == 1.5


def test_quotas_of_version_1_are_read(tmp_path: Path) -> None:
    quotas = {"cpu/x/cpu.cfs_quota_us": "50000\n", "cpu/x/cpu.cfs_period_us": "100000\n"}
    assert groups(tmp_path, "3:cpu,cpuacct:/x\n2:memory:/y\n", quotas) == 0.5


@pytest.mark.parametrize("text", ["max 100000", "-1 100000", "100000 0", "nonsense", ""])
def test_no_limit_and_nonsense_are_no_quota(tmp_path: Path, text: str) -> None:
    assert groups(tmp_path, "0::/\n", {"cpu.max": text}) is None


def test_a_group_path_that_climbs_out_ends(tmp_path: Path) -> None:
    assert groups(tmp_path, "0::/../../..\nbroken\n::\n", {"cpu.max": "max 1"}) is None


def test_the_fingerprint_names_this_device() -> None:
    found = device.fingerprint()
    assert found.logical_cores == psutil.cpu_count()
    assert found.python == platform.python_version()
    assert found.system == platform.system()
    assert found.memory_gib == round(psutil.virtual_memory().total / 2**30, 1)
    assert found.cpu
    assert found.instruction_sets


def test_the_fingerprint_holds_no_name_of_a_person_or_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A node name that cannot be part of anything else, as the real one may be.
    monkeypatch.setattr(platform, "node", lambda: "machine-of-somebody")
    monkeypatch.setattr(platform, "release", lambda: "6.1.0-built-by-somebody")
    text = json.dumps(dataclasses.asdict(device.fingerprint()))
    assert "somebody" not in text
    assert getpass.getuser() not in text or len(getpass.getuser()) < 5
    macs = {a.address for n in psutil.net_if_addrs().values() for a in n if ":" in a.address}
    assert not any(mac in text for mac in macs)


def test_the_fingerprint_needs_no_onnxruntime() -> None:
    code = (
        "import sys; from ondevice.runtime.device import fingerprint; fingerprint(); "
        "sys.exit('onnxruntime' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_package_that_is_not_installed_has_no_version() -> None:
    assert device.package_version("surely-not-installed-anywhere") is None
    assert device.package_version("numpy")
