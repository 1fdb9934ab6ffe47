"""The machine that figures were measured on: processor, cores, memory, GPU and versions; and this process's memory."""

import os
import platform
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
import tokenizers

from distillery_runtime.models.cpu import CGROUP, CPUINFO, usable_cores
from distillery_runtime.version import __version__

STATUS = Path("/proc/self/status")
NVIDIA = Path("/proc/driver/nvidia")

# What the kernel calls the instruction sets that decide how fast matrices multiply, and the names that people know.
INSTRUCTIONS = {
    "avx2": "AVX2",
    "fma": "FMA",
    "avx512f": "AVX-512",
    "avx_vnni": "AVX-VNNI",
    "avx512_vnni": "AVX-512 VNNI",
    "avx512_bf16": "AVX-512 BF16",
    "avx512_fp16": "AVX-512 FP16",
    "amx_int8": "AMX int8",
    "amx_bf16": "AMX bf16",
    "asimd": "NEON",
    "asimdhp": "fp16",
    "asimddp": "dotprod",
    "i8mm": "i8mm",
    "bf16": "bf16",
    "sve": "SVE",
    "sve2": "SVE2",
}


@dataclass(frozen=True, slots=True)
class Processor:
    """A processor's name, and those of its instruction sets that matter for models."""

    name: str
    instructions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine and the programs. `memory_bytes`: what this process may use (None where it cannot be told)."""

    processor: Processor
    architecture: str
    system: str
    usable_cores: int
    logical_cpus: int
    memory_bytes: int | None
    gpu: str | None
    versions: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ProcessMemory:
    """The memory of this process in bytes; None where the system does not tell.

    `resident` now and `peak` so far. Of the resident part, `file_mapped` can be dropped and read again by the system
    (weights mapped from a bundle's files).
    """

    resident: int | None
    peak: int | None
    file_mapped: int | None


def this_machine(gpu: bool = False) -> Machine:
    """Describes the machine this process runs on; asks for the GPU's name only with `gpu`."""
    return Machine(
        processor=parse_cpuinfo(_read(CPUINFO), platform.processor() or platform.machine()),
        architecture=platform.machine(),
        system=f"{platform.system()} {platform.release()}",
        usable_cores=usable_cores(),
        logical_cpus=os.cpu_count() or 1,
        memory_bytes=usable_memory(),
        gpu=gpu_names() if gpu else None,
        versions={
            "distillery": __version__,
            "python": platform.python_version(),
            "onnxruntime": ort.__version__,
            "tokenizers": tokenizers.__version__,
            "numpy": np.__version__,
        },
    )


def parse_cpuinfo(text: str, otherwise: str) -> Processor:
    """Reads the first processor of `/proc/cpuinfo`, of x86 or arm.

    Args:
        text: the file's content, empty where there is none.
        otherwise: the name to give where the text has none.
    """
    fields: dict[str, str] = {}
    for line in text.splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    maker, part = fields.get("CPU implementer"), fields.get("CPU part")
    arm = f"arm implementer {maker}, part {part}" if maker and part else ""
    flags = f"{fields.get('flags', '')} {fields.get('Features', '')}".split()
    name = fields.get("model name") or arm or fields.get("Model") or otherwise
    return Processor(name, tuple(shown for flag, shown in INSTRUCTIONS.items() if flag in flags))


def usable_memory(cgroup: Path = CGROUP) -> int | None:
    """The memory this process may use, in bytes: the smaller of the machine's and its cgroup's limit."""
    limits = [int(text) for text in map(_read, _memory_limits(cgroup)) if text.strip().isdigit()]
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return min(limits, default=None)


def _memory_limits(cgroup: Path) -> tuple[Path, Path]:
    return cgroup / "memory.max", cgroup / "memory" / "memory.limit_in_bytes"


def process_memory(status: Path = STATUS) -> ProcessMemory:
    """The memory of this process now, from `/proc`, or its peak alone where there is no such file."""
    found = {key: int(kib) << 10 for key, kib in re.findall(r"^(\w+):\s+(\d+) kB$", _read(status), re.MULTILINE)}
    return ProcessMemory(found.get("VmRSS"), found.get("VmHWM", _peak()), found.get("RssFile"))


def _peak() -> int | None:
    try:
        import resource  # not on Windows
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak << 10  # bytes on macOS, KiB elsewhere


def gpu_names(driver: Path = NVIDIA) -> str | None:
    """The names of the GPUs, as NVIDIA's driver gives them; None without one."""
    texts = [_read(path) for path in sorted(driver.glob("gpus/*/information"))]
    return "; ".join(name for text in texts for name in re.findall(r"^Model:\s*(.+?)\s*$", text, re.MULTILINE)) or None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
