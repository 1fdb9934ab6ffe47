"""What this process may really use of the processor: cores by affinity and cgroup quota, and instructions."""

import math
import os
import platform
import re
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
CPUINFO = Path("/proc/cpuinfo")

VNNI = re.compile(r"\b(avx512_vnni|avx_vnni)\b")


def usable_cores(cgroup: Path = CGROUP) -> int:
    """The cores this process may keep busy, at least 1: the smaller of its CPU affinity and its cgroup's quota."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota(cgroup)
    return affinity if quota is None else max(1, min(affinity, math.ceil(quota)))


def sums_bytes_exactly(cpuinfo: Path = CPUINFO, architecture: str | None = None) -> bool:
    """Whether products of unsigned and signed bytes are summed in 32 bits: on x86 only where the CPU has VNNI.

    AVX2 sums pairs of them in 16 bits first. Where an x86 CPU's instructions cannot be told, the answer is no.
    """
    if (architecture or platform.machine()).lower() not in ("x86_64", "amd64", "i386", "i686"):
        return True
    return VNNI.search(_read(cpuinfo)) is not None


def _quota(cgroup: Path) -> float | None:
    """The cgroup's limit in cores (version 2, then version 1), or None where there is none."""
    v2 = _read(cgroup / "cpu.max").split()
    if len(v2) == 2 and v2[0] != "max":
        return int(v2[0]) / int(v2[1])
    quota, period = _read(cgroup / "cpu" / "cpu.cfs_quota_us"), _read(cgroup / "cpu" / "cpu.cfs_period_us")
    if quota and period and int(quota) > 0:
        return int(quota) / int(period)
    return None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""
