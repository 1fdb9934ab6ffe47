"""`exporter build`: a finished run becomes a bundle, checked against the models it came from."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from distillery_exporter.bundle_writer import replacing_folder, write_manifest
from distillery_exporter.card import model_card
from distillery_exporter.goldens import choose_goldens, record_goldens
from distillery_exporter.parity import Report, check_stage, probe_reference, student_reference
from distillery_exporter.run_reader import Run, labelled_articles
from distillery_exporter.stage_export import PROBE, STUDENT, VARIANT, export_probe, export_student, published_spec
from distillery_runtime.bundle import load
from distillery_runtime.calibration import Calibration
from distillery_runtime.golden import CalibrationFile
from distillery_runtime.manifest import StageEntry
from distillery_runtime.scorer import HybridScorer
from distillery_runtime.stage import Stage
from distillery_runtime.text import compose
from distillery_runtime.verdict import decide
from distillery_runtime.version import __version__
from distillery_trainer.backends.records import BaseRecord
from distillery_trainer.files import write_json
from distillery_trainer.labels import LabelledSet
from distillery_trainer.pipeline import Pipeline, read_calibration

PARITY_ARTICLES = 32
BINS = 20


def build(run: Run, out: Path, parity_articles: int, say: Callable[[str], None]) -> HybridScorer:
    """Writes a bundle and gives its scorer, loaded from the finished folder.

    Raises:
        InputError: the run or `out` is not usable.
        ModelError: an exported graph does not agree with the model it was made from.
        BundleError: the bundle does not load where it was made.
    """
    calibrations = {
        PROBE: read_calibration(run.folder / PROBE / "calibration.json"),
        STUDENT: read_calibration(run.folder / "calibration.json"),
    }
    labelled = labelled_articles(run)
    with replacing_folder(out) as folder:
        entries = _export(run, calibrations, folder, say)
        stages = [Stage(folder, entry, entry.variants[0], "cpu", None) for entry in entries]
        parity = _check(run, stages, calibrations, _parity_texts(run, labelled, parity_articles), say)
        goldens = record_goldens(choose_goldens(run), stages, run.spec.text)
        (folder / "golden.jsonl").write_text("".join(f"{g.model_dump_json()}\n" for g in goldens), encoding="utf-8")
        _write_data(run, calibrations, parity, labelled, folder)
        lineage = _lineage(run)
        (folder / "README.md").write_text(model_card(run, lineage, parity), encoding="utf-8")
        write_manifest(folder, run.spec, entries, lineage)
        load(folder, provider="cpu")
    return load(out, provider="cpu")


def _export(
    run: Run, calibrations: Mapping[str, Calibration], folder: Path, say: Callable[[str], None]
) -> list[StageEntry]:
    threshold = run.certificate["threshold"]
    say("exporting the probe ...")
    limit = float(threshold) if isinstance(threshold, (int, float)) else None
    probe = export_probe(run.spec, run.folder, calibrations[PROBE], limit, folder)
    say(f"exporting the student ({run.spec.student.backend}) ...")
    return [probe, export_student(run.spec, run.folder, calibrations[STUDENT], folder)]


def _parity_texts(run: Run, labelled: LabelledSet | None, count: int) -> list[str]:
    """Texts of mixed length to compare on: the run's own articles, else the filter's examples or golden articles."""
    source = labelled or run.examples
    if source is None:
        return [compose(article, run.spec.text).joined for article, _ in choose_goldens(run)]
    step = max(1, len(source.articles) // count)
    return source.texts[::step][:count]


def _check(
    run: Run,
    stages: Sequence[Stage],
    calibrations: Mapping[str, Calibration],
    texts: Sequence[str],
    say: Callable[[str], None],
) -> dict[str, Report]:
    say(f"comparing with the trained models on {len(texts)} texts ...")
    probe, student = stages
    expected, merged = student_reference(run.spec, run.folder, texts)
    reports = {
        PROBE: check_stage(probe, probe_reference(run.spec, run.folder, texts), texts, calibrations[PROBE]),
        STUDENT: check_stage(student, expected, texts, calibrations[STUDENT]),
    }
    if merged is not None:
        reports[STUDENT]["merged_to_unmerged"] = merged
    for name, report in reports.items():
        say(f"  {name}: " + ", ".join(f"{key} {value:.2g}" for key, value in report.items() if key != "articles"))
    return reports


def _write_data(
    run: Run,
    calibrations: Mapping[str, Calibration],
    parity: Mapping[str, Report],
    labelled: LabelledSet | None,
    folder: Path,
) -> None:
    write_json(folder / "filter.json", published_spec(run.spec))
    maps = CalibrationFile(schema_version=1, stages={name: {VARIANT: c.maps} for name, c in calibrations.items()})
    write_json(folder / "calibration.json", maps.model_dump(mode="json"))
    sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in sorted(folder.glob("*/*"))}
    quality = {
        "schema_version": 1,
        "evaluation": run.evaluation,
        "certificate": run.certificate,
        "variants": {VARIANT: {"parity": parity, "size_bytes": sizes}},
    }
    write_json(folder / "quality.json", quality)
    write_json(folder / "reference.json", _reference(run, labelled))


def _reference(run: Run, labelled: LabelledSet | None) -> dict[str, object]:
    """What scores look like on the test articles, to notice drift: histograms in half points and shares by tier."""
    if labelled is None:
        return {"schema_version": 1, "articles": 0, "overall": [], "dimensions": {}, "tiers": {}}
    seed = run.manifest["seed"]
    pipeline = Pipeline(run.spec, labelled, run.folder, seed if isinstance(seed, int) else 0)
    scores = pipeline.student_scores(pipeline.places("test"))
    verdicts = [decide(row, run.spec) for row in scores]
    tiers = [verdict.tier for verdict in verdicts]
    return {
        "schema_version": 1,
        "articles": len(verdicts),
        "overall": _histogram(np.array([verdict.overall for verdict in verdicts])),
        "dimensions": {name: _histogram(scores[:, i]) for i, name in enumerate(run.spec.dimension_names)},
        "tiers": {tier.name: round(tiers.count(tier.name) / len(tiers), 6) for tier in run.spec.tiers},
    }


def _histogram(values: NDArray[np.floating]) -> list[int]:
    """Counts in bins of half a point over [0, 10]."""
    counts: list[int] = np.histogram(values, bins=BINS, range=(0, 10))[0].tolist()
    return counts


def _lineage(run: Run) -> dict[str, str]:
    """Where the bundle comes from, without a time or a path, so that the same run gives the same bundle."""
    spec, manifest = run.spec, run.manifest
    labels = manifest["labels"]
    return {
        "oracle": str(manifest["oracles"]),
        "filter_oracle": spec.oracle.model,
        "prompt_sha256": str(manifest["prompt_sha256"]),
        "labels_sha256": " ".join(entry["sha256"] for entry in labels) if isinstance(labels, list) else "",
        "student_base": _base(run.folder / STUDENT),
        "probe_base": _base(run.folder / PROBE),
        "run": run.folder.name,
        "seed": str(manifest["seed"]),
        "distillery": __version__,
    }


def _base(folder: Path) -> str:
    """Which pretrained model a stage stands on: name, commit and digests, or the static table and its origin."""
    if not (folder / "base.json").is_file():
        return "static token table of distillery-trainer, distilled from intfloat/multilingual-e5-small (MIT licence)"
    return json.dumps(BaseRecord.read(folder / "base.json").identity, sort_keys=True)
