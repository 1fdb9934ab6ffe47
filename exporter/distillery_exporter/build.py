"""`exporter build`: a finished run becomes a bundle, checked against the models it came from."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from distillery_exporter.bundle.card import model_card
from distillery_exporter.bundle.goldens import choose_goldens, record_goldens
from distillery_exporter.bundle.quality import quality_record, reference_record
from distillery_exporter.bundle.writer import replacing_folder, write_manifest
from distillery_exporter.variants.parity import Report, check_stage, probe_reference, student_reference
from distillery_exporter.variants.stage_models import (
    PROBE,
    STUDENT,
    StageModel,
    open_probe,
    open_student,
    published_spec,
)
from distillery_exporter.variants.trials import Trial, Written, open_written, trial_articles, try_variants
from distillery_runtime.articles.text import compose
from distillery_runtime.bundles.golden import CalibrationFile, ReadOutMaps
from distillery_runtime.bundles.load import load
from distillery_runtime.errors import InputError, Problem
from distillery_runtime.format.variants import FORMS, REFERENCE
from distillery_runtime.scoring.scorer import HybridScorer
from distillery_runtime.spec.calibration import CalibrationMap, ReadOut
from distillery_runtime.spec.routing import Routing
from distillery_runtime.version import __version__
from distillery_trainer.models.records import BaseRecord, Origin, origin, read_joint
from distillery_trainer.runs.opening import open_run
from distillery_trainer.runs.run import Run

PARITY_ARTICLES = 32
MEASURED_TEXTS = 96  # which a variant is fitted to
VARIANTS = ("cpu-fp32", "cpu-int8")
NEEDED = (  # of a run
    *("manifest.json", "config.resolved.yaml", "splits.jsonl", "student", "probe", "calibration.json"),
    *("selection.json", "certificate.json", "eval.json"),
)

Say = Callable[[str], None]


def whole_run(folder: Path) -> Run:
    """Opens a finished run of which every part is as its fit made it, and none is left of another fit.

    Raises:
        InputError: the folder is no run, the run is not finished, or a part of it is missing or has changed.
        SpecError: its config is not valid for this version.
    """
    if missing := [folder / name for name in NEEDED if not (folder / name).exists()]:
        expected = "a finished run (`trainer fit` goes on with it)"
        raise InputError("exporter build", [Problem(str(path), "missing", expected) for path in missing])
    run, expected = open_run(folder), "as this fit made it (`trainer fit` makes it again)"
    if changed := [Problem(f"{folder}: stage {name}", "changed", expected) for name in run.changed()]:
        raise InputError("exporter build", changed)
    _ = (
        run.routing,
        run.selection,
        run.evaluation,
        run.examples,
    )  # what cannot be read is refused before graphs are written
    return run


def build(run: Run, out: Path, variants: Sequence[str], parity_articles: int, say: Say) -> HybridScorer:
    """Writes a bundle and gives its scorer, loaded from the finished folder.

    Args:
        run: a finished run, as `whole_run` opens it.
        out: the bundle's folder.
        variants: names of the variants to ship, where the gate lets them through. Without cpu-fp32 among them it is
            written all the same, to compare with, and shipped only for a stage that has no other variant for a CPU.
        parity_articles: how many texts to compare fp32 with the trained models on.
        say: callback for progress messages.

    Raises:
        InputError: the run or `out` is not usable, or a variant is not known.
        ModelError: an exported graph does not agree with the model it was made from.
        BundleError: the bundle does not load where it was made.
    """
    _check_variants(variants)
    with replacing_folder(out) as folder:
        models = _open_models(run, folder)
        say("writing fp32 graphs ...")
        exact = [_write_exact(run, model) for model in models]
        parity = _check(run, exact, _parity_texts(run, parity_articles), say)
        others = [name for name in FORMS if name in variants and name != REFERENCE.name]
        trials = try_variants(exact, others, trial_articles(run) if run.labelled and others else None, say)
        kept = _kept(exact, trials, with_exact=REFERENCE.name in variants)
        _write_data(run, kept, trials, (parity, exact), folder)
        load(folder, provider="cpu")
    return load(out, provider="cpu")


def _check_variants(variants: Sequence[str]) -> None:
    unknown = [name for name in variants if name not in FORMS]
    if unknown:
        raise InputError("--variants", [Problem("name", name, f"one of {', '.join(FORMS)}") for name in unknown])


def _open_models(run: Run, folder: Path) -> list[StageModel]:
    """The run's stages, cheapest first."""
    texts = _measured_texts(run)
    return [
        open_probe(run.spec, run.folder, run.routing, texts, folder),
        open_student(run.spec, run.folder, Routing(None, run.read_out().chance), texts, folder),
    ]


def _write_exact(run: Run, model: StageModel) -> Written:
    """Writes a stage in fp32."""
    read_out = run.read_out(model.name)
    return Written(model, model.write(REFERENCE.name, read_out.maps), read_out)


def _measured_texts(run: Run) -> list[str]:
    """Some of the texts that the student was trained on, spread over all of them; without them, the golden articles.

    For filters whose students share a backbone they are the same, and so the rounded weights are too.
    """
    if joint := read_joint(run.folder / STUDENT):
        return list(joint.texts)
    if run.labelled is None:
        return _golden_texts(run)
    places = run.places("train")
    return run.labelled.select(places[:: max(1, len(places) // MEASURED_TEXTS)][:MEASURED_TEXTS]).texts


def _parity_texts(run: Run, count: int) -> list[str]:
    """Texts of mixed length to compare on: the run's own articles, else the filter's examples or golden articles."""
    source = run.labelled or run.examples
    if source is None:
        return _golden_texts(run)
    return source.texts[:: max(1, len(source.articles) // count)][:count]


def _golden_texts(run: Run) -> list[str]:
    return [compose(article, run.spec.text).joined for article, _ in choose_goldens(run)]


def _check(run: Run, exact: Sequence[Written], texts: Sequence[str], say: Say) -> dict[str, Report]:
    say(f"comparing with the trained models on {len(texts)} texts ...")
    expected, merged = student_reference(run.spec, run.folder, texts)
    references = {PROBE: probe_reference(run.spec, run.folder, texts), STUDENT: expected}
    reports = {}
    for item in exact:
        stage = open_written(item)
        reports[stage.name] = check_stage(stage, references[stage.name], texts, item.read_out.maps)
    if merged is not None:
        reports[STUDENT]["merged_to_unmerged"] = merged
    for name, report in reports.items():
        say(f"  {name}: " + ", ".join(f"{key} {value:.2g}" for key, value in report.items() if key != "articles"))
    return reports


def _kept(exact: Sequence[Written], trials: Sequence[Trial], with_exact: bool) -> list[list[Written]]:
    """What is shipped of each stage: without its fp32 form only where another runs on a CPU."""
    kept = []
    for item in exact:
        others = [t.written for t in trials if t.written and t.written.model is item.model]
        replaced = any(FORMS[other.entry.name].device == REFERENCE.device for other in others)
        kept.append([*([] if replaced and not with_exact else [item]), *others])
    return kept


def _write_data(
    run: Run,
    kept: Sequence[Sequence[Written]],
    trials: Sequence[Trial],
    compared: tuple[Mapping[str, Report], Sequence[Written]],
    folder: Path,
) -> None:
    """Writes all that is no graph, removes fp32 forms that are not shipped, and seals the bundle.

    `compared`: fp32's parity, and the fp32 forms.
    """
    parity, exact = compared
    goldens = record_goldens(choose_goldens(run), (open_written(w) for each in kept for w in each), run.spec.text)
    (folder / "golden.jsonl").write_text("".join(f"{g.model_dump_json()}\n" for g in goldens), encoding="utf-8")
    _write_json(folder / "filter.json", published_spec(run.spec))
    maps: dict[str, dict[str, tuple[CalibrationMap, ...] | ReadOutMaps]] = {
        each[0].model.name: {w.entry.name: _maps(w.read_out.maps) for w in each} for each in kept
    }
    _write_json(folder / "calibration.json", CalibrationFile(schema_version=2, stages=maps).model_dump(mode="json"))
    left_out = [item for item, each in zip(exact, kept, strict=True) if item not in each]
    record = quality_record(run, exact, trials, parity, left_out)
    _write_json(folder / "quality.json", record)
    _write_json(folder / "reference.json", reference_record(run))
    origins = {stage: origin(run.folder / stage) for stage in (PROBE, STUDENT)}
    lineage = _lineage(run, origins)
    (folder / "README.md").write_text(
        model_card(run, list(origins.values()), lineage, record, trials), encoding="utf-8"
    )
    entries = [each[0].model.entry([w.entry for w in each]) for each in kept]
    for item in left_out:
        item.model.remove(item.entry)
    write_manifest(folder, run.spec, entries, run.selection, lineage)


def _maps(read_out: ReadOut) -> ReadOutMaps:
    """Both maps as `calibration.json` has them."""
    return ReadOutMaps(expected=read_out.expected.maps, scores=read_out.scores.maps if read_out.scores else ())


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def _lineage(run: Run, origins: Mapping[str, Origin]) -> dict[str, str]:
    """Where the bundle comes from, without a time or a path, so that the same run gives the same bundle."""
    spec, manifest = run.spec, run.manifest
    labels = manifest["labels"]
    return {
        "oracle": str(manifest["oracles"]),
        "filter_oracle": spec.oracle.model,
        "prompt_sha256": str(manifest["prompt_sha256"]),
        "labels_sha256": " ".join(entry["sha256"] for entry in labels) if isinstance(labels, list) else "",
        "student_base": _base(run.folder, origins[STUDENT]),
        "probe_base": _base(run.folder, origins[PROBE]),
        "run": run.folder.name,
        "seed": str(manifest["seed"]),
        "distillery": __version__,
    }


def _base(run: Path, item: Origin) -> str:
    """Which pretrained model a stage stands on: name, commit and digests, or the static table and its origin."""
    record = run / item.stage / "base.json"
    if not record.is_file():
        return f"{item.name}, distilled from {', '.join(item.hub_ids)} (licence {item.licence})"
    return json.dumps(BaseRecord.read(record).identity, sort_keys=True)
