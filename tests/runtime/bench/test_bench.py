"""`distillery bench`: every part is measured, figures follow from runs, and it says what it measured on. Not timed."""

import argparse
import itertools
import json
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from distillery_runtime.bench import gemm
from distillery_runtime.bench import measure as bench_module
from distillery_runtime.bench.figures import Work, accuracy_of, batch, latency, steps, work_of
from distillery_runtime.bench.measure import BenchRequest, bench
from distillery_runtime.bench.sample import lengths_within, rows_by_length, sample_from_file, sample_from_goldens
from distillery_runtime.bench.text_report import number, text
from distillery_runtime.bench.timing import Spread, TimedTask, measure
from distillery_runtime.bundles.load import open_bundle
from distillery_runtime.cli.bench import add_bench_command
from distillery_runtime.cli.command import run_command
from distillery_runtime.errors import BundleError, InputError, ProviderError
from distillery_runtime.format.integrity import file_digest
from distillery_runtime.format.manifest import FileEntry, Manifest, VariantEntry, seal
from distillery_runtime.spec.model import Window
from distillery_runtime.tokens.window import TokenWindow

SECONDS = 3.0
INT8 = "cpu-int8"
QUALITY = {
    "schema_version": 1,
    "variants": {
        "cpu-fp32": {"stages": {"student": {"macs_per_token": 1000, "attention_macs_per_pair": 10}}},
        INT8: {
            "stages": {
                "student": {
                    "gate": {"mae_to_fp32": 0.01, "spearman": 0.999, "label_mae": 1.26, "label_mae_fp32": 1.25,
                             "tier_flips": 0.002, "note": "other keys are passed over"},
                    "macs_per_token": 1000,
                    "attention_macs_per_pair": 10,
                }
            }
        },
    },
}  # fmt: skip


@pytest.fixture(autouse=True)
def not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small products, and a clock that moves by 10 ms each time it is read: turns depend on no machine's speed."""
    monkeypatch.setattr(gemm, "CPU_SHAPE", (8, 16, 8))
    ticks = itertools.count()
    monkeypatch.setattr(bench_module, "measure", partial(measure, clock=lambda: next(ticks) / 100))


@pytest.fixture
def two_variants(bundle: Path) -> Path:
    """The fixture bundle with the student's graph a second time, as another variant, and figures of quality."""
    shutil.copyfile(bundle / "student" / "cpu-fp32.onnx", bundle / "student" / f"{INT8}.onnx")
    (bundle / "quality.json").write_text(json.dumps(QUALITY), encoding="utf-8")
    for name in ("calibration.json", "golden.jsonl"):
        path = bundle / name
        contents = (
            [json.loads(line) for line in path.read_text().splitlines()]
            if name.endswith("l")
            else [json.loads(path.read_text())]
        )
        for content in contents:
            student = content["expected" if name.endswith("l") else "stages"]["student"]
            student[INT8] = student["cpu-fp32"]
        path.write_text("".join(json.dumps(content) + "\n" for content in contents), encoding="utf-8")
    manifest = Manifest.model_validate_json((bundle / "bundle.json").read_bytes())
    probe, student = manifest.stages
    more = VariantEntry(name=INT8, graphs=(f"student/{INT8}.onnx",))
    student = student.model_copy(update={"variants": (*student.variants, more)})
    paths = [*((entry.path, entry.role) for entry in manifest.files), (more.graphs[0], "graph")]
    files = []
    for listed, role in paths:
        size, digest = file_digest(bundle / listed)
        files.append(FileEntry(path=listed, role=role, size_bytes=size, sha256=digest))
    changed = manifest.model_copy(update={"stages": (probe, student), "files": tuple(files)})
    (bundle / "bundle.json").write_bytes(seal(changed))
    return bundle


def quiet(share: float, doing: str) -> None:
    """No progress is shown."""


def run(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    add_bench_command(parser.add_subparsers(required=True))
    return run_command(parser, ["bench", *arguments], "interrupted")


def test_every_stage_length_and_step_is_measured(bundle: Path) -> None:
    report = bench(BenchRequest(bundle, threads=1, seconds=SECONDS), quiet)

    assert [(s.stage, s.variant, [row.tokens for row in s.latency]) for s in report.stages] == [
        ("probe", "cpu-fp32", [16]),
        ("student", "cpu-fp32", [32]),
    ]
    assert all(stage.batch for stage in report.stages)
    cascade = report.cascades[0]
    assert cascade.articles_per_s
    assert cascade.one_article_ms
    assert [step.step for step in cascade.steps][-1] == "rest"
    assert sum(step.share.p50 for step in cascade.steps) == pytest.approx(1, abs=0.3)  # medians do not add up exactly
    assert set(report.gemm_gflop_per_s) == {"fp32 on cpu"}
    assert report.threads == 1
    assert [item for item in report.left_out if "stream" not in item] == []  # 512 articles may take too long


def test_all_compares_every_variant_with_fp32(two_variants: Path) -> None:
    report = bench(BenchRequest(two_variants, variant="all", seconds=SECONDS), quiet)

    found = {(s.stage, s.variant): s for s in report.stages}
    assert set(found) == {("probe", "cpu-fp32"), ("student", "cpu-fp32"), ("student", INT8)}
    assert [c.variants["student"] for c in report.cascades] == ["cpu-fp32", INT8]
    assert [c.ratio is None for c in report.cascades] == [True, False]
    quantised = found["student", INT8]
    assert quantised.latency[0].ratio
    assert quantised.batch
    assert quantised.batch.ratio
    assert found["student", "cpu-fp32"].latency[0].ratio is None
    assert set(report.gemm_gflop_per_s) == {"fp32 on cpu", "int8 on cpu"}
    assert quantised.gemm == "int8 on cpu"
    assert quantised.latency[0].share_of_gemm
    assert quantised.accuracy == {"mae_to_fp32": 0.01, "spearman": 0.999, "label_mae": 1.26, "label_mae_fp32": 1.25,
                                  "tier_flips": 0.002}  # fmt: skip


def test_without_a_variant_the_runtime_chooses_and_says_why(two_variants: Path) -> None:
    report = bench(BenchRequest(two_variants, seconds=SECONDS), quiet)

    assert [stage.variant for stage in report.stages] == ["cpu-fp32", INT8]
    assert all(stage.reason for stage in report.stages)


def test_a_variant_that_the_bundle_lacks_is_an_error(bundle: Path) -> None:
    with pytest.raises(BundleError, match="cpu-int4"):
        bench(BenchRequest(bundle, variant="cpu-int4", seconds=SECONDS), quiet)


def test_hardware_that_is_not_there_is_an_error(bundle: Path) -> None:
    with pytest.raises(ProviderError):
        bench(BenchRequest(bundle, provider="cuda", variant="all", seconds=SECONDS), quiet)


def test_an_interruption_gives_what_was_measured(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def interrupt(share: float, doing: str) -> None:
        seen.append(doing)
        if seen.count(doing) == 3:
            raise KeyboardInterrupt

    report = bench(BenchRequest(bundle, seconds=60), interrupt)

    assert report.interrupted
    assert report.cascades[0].articles_per_s
    assert "interrupted" in text(report)


def test_the_json_of_a_report_is_plain_and_has_the_documented_fields(
    two_variants: Path, capsys: pytest.CaptureFixture[str], repository: Path
) -> None:
    code = run("--bundle", str(two_variants), "--variant", "all", "--seconds", "3", "--json")

    found = json.loads(capsys.readouterr().out)
    assert code == 0
    documented = (repository / "docs" / "formats" / "bench.md").read_text(encoding="utf-8")
    assert {key for key in keys(found) if f"`{key}`" not in documented} == set()


def test_the_report_goes_to_a_file_when_asked(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "report.json"

    code = run("--bundle", str(bundle), "--seconds", "3", "--json", "--out", str(out))

    assert code == 0
    assert capsys.readouterr().out == ""
    assert json.loads(out.read_text(encoding="utf-8"))["schema_version"] == 1


def test_the_text_names_machine_articles_and_accuracy(two_variants: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = run("--bundle", str(two_variants), "--variant", "all", "--seconds", "3")

    shown = capsys.readouterr().out
    assert code == 0
    for expected in ("machine", "golden articles", "label MAE 1.26", "label MAE 1.25", "p50 ms", "of GEMM", "x fp32"):
        assert expected in shown


def test_articles_of_a_file_are_measured_on(bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "articles.jsonl"
    lines = ['{"id": 1, "title": "Wind", "text": "solar wind"}', "no json", '{"id": 2, "text": ""}']
    path.write_text("\n".join([*lines, '{"id": 3, "text": "heat pump"}']), encoding="utf-8")

    report = bench(BenchRequest(bundle, articles=path, seconds=SECONDS), quiet)

    sample = report.sample
    assert (sample.source, sample.available, sample.refused, sample.used) == ("articles.jsonl", 2, 2, 2)


def test_a_file_without_articles_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "articles.jsonl"
    path.write_text("no json\n{}\n", encoding="utf-8")

    with pytest.raises(InputError, match="none in 2 lines"):
        sample_from_file(path)


def test_articles_that_rules_block_cannot_be_measured(bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "articles.jsonl"
    path.write_text('{"id": 3, "text": "casino"}\n', encoding="utf-8")

    with pytest.raises(InputError, match="none of 1 is scored"):
        bench(BenchRequest(bundle, articles=path, seconds=SECONDS), quiet)


def test_the_default_sample_has_many_lengths(bundle: Path) -> None:
    sample = sample_from_goldens(open_bundle(bundle).goldens)

    counts = sorted({len(record["text"].split()) for record in sample.records})
    assert counts == [20, 40, 60, 80, 100, 150, 250, 600]
    assert len({record["id"] for record in sample.records}) == len(sample.records) == 64


def test_a_smaller_sample_is_the_same_every_time(bundle: Path) -> None:
    sample = sample_from_goldens(open_bundle(bundle).goldens)

    assert sample.pick(5) == sample.pick(5)
    assert len(sample.pick(1000)) == 64


def test_lengths_end_with_the_window() -> None:
    assert lengths_within(512) == (32, 64, 128, 256, 512)
    assert lengths_within(200) == (32, 64, 128, 200)
    assert lengths_within(16) == (16,)


def test_rows_are_the_articles_own_ids_cut_to_length(bundle: Path) -> None:
    window = TokenWindow(bundle / "student" / "tokenizer.json", Window(max_tokens=100, tail_share=0.25, separator="."))

    rows = rows_by_length(window, ["solar wind battery", "heat pump ferry", "lake price canal"])

    assert list(rows) == [32, 64, 100]
    assert {len(row.ids) for row in rows[64]} == {64}
    assert len({row.ids.tobytes() for row in rows[64]}) == 3
    whole, short = rows[100][0].ids, rows[32][0].ids
    np.testing.assert_array_equal(short[:-1], whole[:31])
    assert short[-1] == whole[-1]


def test_work_counts_two_operations_for_each_multiply_add() -> None:
    assert Work(per_token=1000, per_pair=10).operations([32, 8]) == 2 * (40 * 1000 + (32 * 32 + 8 * 8) * 10)


def test_latency_compares_with_peak_and_reference() -> None:
    task = TimedTask("student", lambda: None, rounds=[[0.001], [0.001]])
    reference = TimedTask("fp32", lambda: None, rounds=[[0.002], [0.002]])

    found = latency(10, task, reference, Work(50_000.0, 0.0), Spread(4, 1.0, 2.0, 3.0))

    assert found is not None
    assert (found.ms.p50, found.ms.p95, found.tokens_per_s.p50) == (1.0, None, 10_000)
    assert found.gflop_per_s is not None
    assert found.gflop_per_s.p50 == pytest.approx(1.0)
    assert found.share_of_gemm == pytest.approx(0.5)
    assert found.ratio is not None
    assert found.ratio.p50 == 2.0


def test_what_had_no_turn_has_no_figures() -> None:
    never = TimedTask("never", lambda: None)

    assert latency(10, never, None, None, None) is None
    assert batch([10], never, None, None, None) is None
    assert steps([], 4) == ()


def test_steps_share_a_run_and_leave_a_rest() -> None:
    found = {step.step: step for step in steps([(2.0, {"clean": 0.5, "model": 1.0}), (4.0, {"clean": 1.0})], 10)}

    assert list(found) == ["clean", "model", "rest"]
    assert found["clean"].share.p50 == 0.25
    assert found["model"].share.p50 == 0.25  # half of one run, nothing of the other
    assert found["rest"].ms_per_article.p50 == pytest.approx((50 + 300) / 2)


@pytest.mark.parametrize(
    "quality",
    [None, [], {}, {"variants": 3}, {"variants": {INT8: {"stages": None}}},
     {"variants": {INT8: {"stages": {"student": {}}}}},
     {"variants": {INT8: {"stages": {"student": {"gate": {"spearman": "high", "label_mae": True}}}}}}],
)  # fmt: skip
def test_a_quality_file_that_does_not_say_gives_nothing(quality: object) -> None:
    assert accuracy_of(quality, "student", INT8) == {}
    assert work_of(quality, "student", INT8) is None


def test_fp32_has_the_label_mae_that_the_others_were_compared_with() -> None:
    assert accuracy_of(QUALITY, "student", "cpu-fp32") == {"label_mae": 1.25}


@pytest.mark.parametrize(
    ("value", "shown"), [(123456.7, "123,457"), (99.95, "100.0"), (12.34, "12.3"), (1.234, "1.23"), (0.01234, "0.012")]
)
def test_numbers_have_about_three_digits(value: float, shown: str) -> None:
    assert number(value) == shown


def keys(value: object) -> set[str]:
    """The names of all fields of nested JSON, but for those of mappings by name."""
    if isinstance(value, list):
        return set().union(*map(keys, value)) if value else set()
    if not isinstance(value, dict):
        return set()
    named = {"routes", "versions", "gemm_gflop_per_s", "accuracy", "variants"}
    below = [keys(item) if key not in named else set() for key, item in value.items()]
    return set(value).union(*below)
