"""Cores: affinity and cgroup quota, whichever is less."""

import os
from pathlib import Path

import pytest

from distillery_runtime.models.cpu import sums_bytes_exactly, usable_cores

AFFINITY = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, AFFINITY),
        ({"cpu.max": "max 100000"}, AFFINITY),
        ({"cpu.max": "100000 100000"}, 1),
        ({"cpu.max": "10000 100000"}, 1),
        ({"cpu.max": "150000 100000"}, min(2, AFFINITY)),
        ({"cpu.max": "9900000 100000"}, AFFINITY),
        ({"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "100000"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, AFFINITY),
    ],
)
def test_usable_cores_respect_the_quota(tmp_path: Path, files: dict[str, str], expected: int) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content, encoding="ascii")

    assert usable_cores(tmp_path) == expected


@pytest.mark.parametrize(
    ("flags", "architecture", "expected"),
    [
        ("fma avx2 avx_vnni", "x86_64", True),
        ("avx2 avx512f avx512_vnni amx_int8", "AMD64", True),
        ("fma avx2", "x86_64", False),
        ("", "x86_64", False),
        ("avx2 avx512_vnni_other", "x86_64", False),
        ("", "aarch64", True),
    ],
)
def test_bytes_are_summed_exactly_on_x86_with_vnni_and_on_other_machines(
    tmp_path: Path, flags: str, architecture: str, expected: bool
) -> None:
    (tmp_path / "cpuinfo").write_text(f"model name\t: A processor\nflags\t\t: fpu {flags}\n", encoding="ascii")

    assert sums_bytes_exactly(tmp_path / "cpuinfo", architecture) is expected
