"""The machine is named from what the system tells, on x86 and arm, and nothing breaks where it tells nothing."""

from pathlib import Path

import pytest

from distillery_runtime.bench.machine import (
    ProcessMemory,
    gpu_names,
    parse_cpuinfo,
    process_memory,
    this_machine,
    usable_memory,
)

X86 = """processor\t: 0
vendor_id\t: AuthenticAMD
model name\t: AMD EPYC 7B13
flags\t\t: fpu sse2 fma f16c avx2 bmi2

processor\t: 1
model name\t: another
flags\t\t: avx512f
"""
XEON = """model name\t: Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz
flags\t\t: avx2 fma avx512f avx512_bf16 avx512_vnni amx_bf16 amx_tile amx_int8 avx_vnni
"""
GRAVITON = """processor\t: 0
BogoMIPS\t: 2100.00
Features\t: fp asimd aes asimdhp asimddp sve i8mm bf16
CPU implementer\t: 0x41
CPU part\t: 0xd40
"""
RASPBERRY = """processor\t: 0
Features\t: fp asimd

Model\t\t: Raspberry Pi 5 Model B Rev 1.0
"""


@pytest.mark.parametrize(
    ("text", "name", "instructions"),
    [
        (X86, "AMD EPYC 7B13", ("AVX2", "FMA")),
        (
            XEON,
            "Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz",
            ("AVX2", "FMA", "AVX-512", "AVX-VNNI", "AVX-512 VNNI", "AVX-512 BF16", "AMX int8", "AMX bf16"),
        ),
        (GRAVITON, "arm implementer 0x41, part 0xd40", ("NEON", "fp16", "dotprod", "i8mm", "bf16", "SVE")),
        (RASPBERRY, "Raspberry Pi 5 Model B Rev 1.0", ("NEON",)),
        ("", "arm", ()),
        ("nonsense without a colon\n:\n", "arm", ()),
    ],
)
def test_a_processor_is_read_from_cpuinfo(text: str, name: str, instructions: tuple[str, ...]) -> None:
    found = parse_cpuinfo(text, "arm")

    assert (found.name, found.instructions) == (name, instructions)


def test_memory_is_read_from_the_status_file(tmp_path: Path) -> None:
    status = tmp_path / "status"
    status.write_text("Name:\tpython\nVmHWM:\t  2048 kB\nVmRSS:\t  1024 kB\nRssFile:\t   512 kB\nThreads:\t1\n")

    assert process_memory(status) == ProcessMemory(resident=1 << 20, peak=2 << 20, file_mapped=512 << 10)


def test_without_a_status_file_there_is_still_a_peak(tmp_path: Path) -> None:
    found = process_memory(tmp_path / "none")

    assert found.resident is None
    assert found.file_mapped is None
    assert found.peak is not None
    assert found.peak > 1 << 20


def test_memory_of_a_container_is_that_of_its_cgroup(tmp_path: Path) -> None:
    machine = usable_memory(tmp_path)
    (tmp_path / "memory.max").write_text("1048576\n")

    assert usable_memory(tmp_path) == 1 << 20
    assert machine is None or machine > 1 << 20


def test_a_cgroup_without_a_limit_leaves_the_machine_s_memory(tmp_path: Path) -> None:
    machine = usable_memory(tmp_path)
    (tmp_path / "memory.max").write_text("max\n")

    assert usable_memory(tmp_path) == machine


def test_this_machine_names_processor_and_versions() -> None:
    machine = this_machine(gpu=True)

    assert machine.processor.name
    assert 1 <= machine.usable_cores <= machine.logical_cpus
    assert set(machine.versions) == {"distillery", "python", "onnxruntime", "tokenizers", "numpy"}


def test_gpus_are_named_as_the_driver_names_them(tmp_path: Path) -> None:
    for index, name in enumerate(("NVIDIA L4", "NVIDIA H200")):
        folder = tmp_path / "gpus" / f"0000:0{index}:00.0"
        folder.mkdir(parents=True)
        (folder / "information").write_text(f"Model: \t\t {name}\nIRQ:   \t\t 24\n")

    assert gpu_names(tmp_path) == "NVIDIA L4; NVIDIA H200"
    assert gpu_names(tmp_path / "nothing") is None
