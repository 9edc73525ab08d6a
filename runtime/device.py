"""The device a measurement was made on: processor, instruction sets, memory, system, versions.

Holds nothing that names a person or a machine: no host or user name, serial number or
address. Imports neither onnxruntime nor a model.
"""

from __future__ import annotations

import ctypes
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

# Flags of /proc/cpuinfo and the names their makers gave them; the order is the output's.
LINUX_FLAGS = {
    "sse4_2": "SSE4.2",
    "avx": "AVX",
    "avx2": "AVX2",
    "fma": "FMA",
    "f16c": "F16C",
    "avx512f": "AVX512F",
    "avx512bw": "AVX512-BW",
    "avx512_vnni": "AVX512-VNNI",
    "avx512_bf16": "AVX512-BF16",
    "avx512_fp16": "AVX512-FP16",
    "avx_vnni": "AVX-VNNI",
    "avx_vnni_int8": "AVX-VNNI-INT8",
    "amx_tile": "AMX-TILE",
    "amx_int8": "AMX-INT8",
    "amx_bf16": "AMX-BF16",
    "neon": "NEON",
    "asimd": "NEON/ASIMD",
    "asimdhp": "FP16",
    "asimddp": "DOTPROD",
    "i8mm": "I8MM",
    "bf16": "BF16",
    "sve": "SVE",
    "sve2": "SVE2",
    "sme": "SME",
}

# Keys of macOS's sysctl: Apple silicon, then Intel's feature words.
MAC_KEYS = {
    "hw.optional.neon": "NEON/ASIMD",
    "hw.optional.arm.AdvSIMD": "NEON/ASIMD",
    "hw.optional.arm.FEAT_FP16": "FP16",
    "hw.optional.arm.FEAT_DotProd": "DOTPROD",
    "hw.optional.arm.FEAT_I8MM": "I8MM",
    "hw.optional.arm.FEAT_BF16": "BF16",
    "hw.optional.arm.FEAT_SME": "SME",
    "hw.optional.sse4_2": "SSE4.2",
    "hw.optional.avx1_0": "AVX",
    "hw.optional.avx2_0": "AVX2",
    "hw.optional.fma": "FMA",
    "hw.optional.f16c": "F16C",
    "hw.optional.avx512f": "AVX512F",
    "hw.optional.avx512bw": "AVX512-BW",
    "hw.optional.avx512vnni": "AVX512-VNNI",
}

# Numbers of winnt.h's PF_* for IsProcessorFeaturePresent, which knows no more than these.
WINDOWS_FEATURES = {
    38: "SSE4.2",
    39: "AVX",
    40: "AVX2",
    41: "AVX512F",
    19: "NEON/ASIMD",
    43: "DOTPROD",
    46: "SVE",
    47: "SVE2",
    67: "FP16",
    66: "I8MM",
    68: "BF16",
    70: "SME",
}

_GIB = 1 << 30


@dataclass(frozen=True)
class Device:
    """What a measurement ran on; None is "not told".

    `usable_cpus` are those the process may run on, `cpu_quota` the processors' worth of time
    its control group allows, `memory_gib` the installed memory in GiB, rounded to a tenth.
    """

    cpu: str | None
    architecture: str | None
    logical_cores: int | None
    physical_cores: int | None
    usable_cpus: int | None
    cpu_quota: float | None
    instruction_sets: tuple[str, ...]
    memory_gib: float | None
    system: str | None
    system_version: str | None
    python: str | None
    onnxruntime: str | None


def fingerprint() -> Device:
    """This device. Takes a few milliseconds; never fails, unknown things are None."""
    import psutil

    return Device(
        cpu=_cpu_name(),
        architecture=platform.machine() or None,
        logical_cores=psutil.cpu_count(logical=True),
        physical_cores=psutil.cpu_count(logical=False),
        usable_cpus=usable_cores(),
        cpu_quota=cgroup_quota(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")),
        instruction_sets=instruction_sets(),
        memory_gib=round(psutil.virtual_memory().total / _GIB, 1),
        system=platform.system() or None,
        system_version=_system_version(),
        python=platform.python_version(),
        onnxruntime=package_version("onnxruntime"),
    )


def package_version(name: str) -> str | None:
    """Version of an installed distribution without importing it; None where it is absent."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def instruction_sets() -> tuple[str, ...]:
    """Vector and matrix instruction sets this processor offers, by their makers' names."""
    if sys.platform == "darwin":
        found = {name for key, name in MAC_KEYS.items() if _sysctl(key) == "1"}
        return tuple(dict.fromkeys(n for n in MAC_KEYS.values() if n in found))
    if sys.platform == "win32":
        present = ctypes.windll.kernel32.IsProcessorFeaturePresent
        return tuple(name for number, name in WINDOWS_FEATURES.items() if present(number))
    return linux_instruction_sets(_read(Path("/proc/cpuinfo")))


def linux_instruction_sets(cpuinfo: str) -> tuple[str, ...]:
    """The instruction sets in the text of /proc/cpuinfo, those that every core has."""
    lines = re.findall(r"^(?:flags|Features)\s*:(.*)$", cpuinfo, flags=re.MULTILINE)
    if not lines:
        return ()
    common = set.intersection(*(set(line.split()) for line in lines))
    return tuple(name for flag, name in LINUX_FLAGS.items() if flag in common)


def linux_cpu_name(cpuinfo: str) -> str | None:
    """The processor's model name in the text of /proc/cpuinfo.

    Arm kernels give numbers instead of a name; then those of all kinds of cores.
    """
    names = re.findall(r"^(?:model name|Model|Hardware)\s*:\s*(\S.*)$", cpuinfo, re.MULTILINE)
    if names:
        return " ".join(names[0].split())
    makers = re.findall(r"^CPU implementer\s*:\s*(\S+)", cpuinfo, re.MULTILINE)
    parts = re.findall(r"^CPU part\s*:\s*(\S+)", cpuinfo, re.MULTILINE)
    kinds = _unique(f"implementer {m} part {p}" for m, p in zip(makers, parts, strict=False))
    return " + ".join(kinds) or None


def cgroup_quota(membership: Path, mount: Path) -> float | None:
    """Processors' worth of time the control groups allow; None without a limit.

    `membership` is a file like /proc/self/cgroup, `mount` a folder like /sys/fs/cgroup. The
    smallest limit on the way to the root holds; versions 1 and 2 are read.
    """
    quotas = []
    for line in _read(membership).splitlines():
        _, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if not controllers:
            root, reader = mount, _quota_v2
        elif "cpu" in controllers.split(","):
            root, reader = mount / "cpu", _quota_v1
        else:
            continue
        folder = root / group.lstrip("/")
        while True:
            quotas.append(reader(folder))
            if folder == root or root not in folder.parents:
                break
            folder = folder.parent
    return min((q for q in quotas if q is not None), default=None)


def _quota_v2(folder: Path) -> float | None:
    words = _read(folder / "cpu.max").split()
    return _ratio(words[0], words[1]) if len(words) == 2 else None


def _quota_v1(folder: Path) -> float | None:
    return _ratio(_read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us"))


def _ratio(quota: str, period: str) -> float | None:
    try:
        allowed, every = float(quota), float(period)
    except ValueError:  # "max": no limit
        return None
    return round(allowed / every, 2) if allowed > 0 and every > 0 else None


def usable_cores() -> int:
    """Logical cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    import psutil

    affinity = getattr(psutil.Process(), "cpu_affinity", None)  # absent on macOS
    return len(affinity()) if affinity is not None else os.cpu_count() or 1


def _cpu_name() -> str | None:
    if sys.platform == "darwin":
        return _sysctl("machdep.cpu.brand_string")
    if sys.platform == "win32":
        return _windows_cpu_name() or platform.processor() or None
    return linux_cpu_name(_read(Path("/proc/cpuinfo")))


def _windows_cpu_name() -> str | None:
    if sys.platform != "win32":
        return None
    import winreg

    key = r"HARDWARE\DESCRIPTION\System\CentralProcessor\0"
    try:
        with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, key) as opened:
            return str(winreg.QueryValueEx(opened, "ProcessorNameString")[0]).strip() or None
    except OSError:
        return None


def _system_version() -> str | None:
    if sys.platform == "darwin":
        return platform.mac_ver()[0] or None
    if sys.platform == "win32":
        return platform.version() or None
    try:
        distribution = platform.freedesktop_os_release().get("PRETTY_NAME", "")
    except OSError:
        distribution = ""
    # Only the kernel's version number: what follows it may name the machine it was built for.
    kernel = re.match(r"\d+(\.\d+)*", platform.release())
    return ", ".join(filter(None, (distribution, kernel and f"kernel {kernel[0]}"))) or None


def _sysctl(key: str) -> str | None:
    try:
        done = subprocess.run(
            ["/usr/sbin/sysctl", "-n", key], capture_output=True, text=True, timeout=5, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _unique(words: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(words))
