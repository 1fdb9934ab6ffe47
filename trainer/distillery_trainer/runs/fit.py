"""`trainer fit`: from a filter and labels files to finished runs, recorded well enough to be repeated."""

import json
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import yaml

from distillery_runtime.errors import DistilleryError, InputError, Problem
from distillery_runtime.files.safe_write import write_text
from distillery_runtime.spec.model import FilterSpec
from distillery_runtime.version import __version__
from distillery_trainer.data.articles import read_pool
from distillery_trainer.data.labels import LabelledSet, files_digest, label_notes, oracle_step, read_labels
from distillery_trainer.data.split import SHARES, SPLIT_VERSION, Assignment, fold_names, given_splits, limit_articles
from distillery_trainer.filters.find import example_files, load_filter, shortest_name
from distillery_trainer.filters.overrides import apply_overrides
from distillery_trainer.filters.prompt import read_template, render_prompt
from distillery_trainer.models.auto import BACKEND, EMBEDDER, Choice, choose_backend
from distillery_trainer.models.choose import base_model_of, call_helpers, help_fits
from distillery_trainer.models.protocol import FitData
from distillery_trainer.runs.distil import Distillation
from distillery_trainer.runs.joint import Joint, Member, Share
from distillery_trainer.runs.joint_checks import check_options
from distillery_trainer.runs.pipeline import Pipeline
from distillery_trainer.runs.run import CONFIG, MANIFEST, METADATA, RUNS_FOLDER, STUDENT, Run
from distillery_trainer.runs.tasks import TaskFolder
from distillery_trainer.store import processes
from distillery_trainer.store.files import digest, tree_digest, write_json

MIN_ARTICLES = 20
FOLDED = ("static", "frozen")  # backends that are fitted for each fold and for all labels
FOLDS = 5
RECORDED_PACKAGES = ("numpy", "scikit-learn", "tokenizers", "torch", "transformers", "sentence-transformers", "peft")


@dataclass(frozen=True, slots=True)
class FitRequest:
    """What to fit: a filter's folder, labels files, overrides of its config, and how much of the labels to use.

    `distil_from`: finished runs from whose scores on the articles of `pool` the student learns too, each counting
    `distil_weight` of a label. `certify_on`: files of unlabelled articles that the certificate rests on. `splits`: a
    split that `trainer prepare` wrote, instead of one of the fit's own. `titles`: whether the report names articles by
    title, source and link. `folds`: how many judge, calibrate, choose and certify in turn, while the models that ship
    are fitted on all labels; 0 for four splits, None for what suits the backend.
    """

    filter_folder: Path
    labels: Sequence[Path]
    overrides: Mapping[str, object] = field(default_factory=dict)
    limit: int | None = None
    seed: int = 0
    run_dir: Path | None = None
    distil_from: Sequence[Path] = ()
    pool: Sequence[Path] = ()
    distil_weight: float = 0.5
    certify_on: Sequence[Path] = ()
    splits: Path | None = None
    titles: bool = True
    folds: int | None = 0


def fit(request: FitRequest, say: Callable[[str], None]) -> Path:
    """Brings a run up to date and gives its folder.

    The same request finds its run again and goes on with it; `run_dir` names the folder instead. Where a launcher
    started several processes, the first one does so, and the others help it to train.

    Raises:
        InputError: the labels, the overrides or the run folder are not usable.
        SpecError: the filter's config is not valid.
    """
    request, choice = _chosen(request)
    pipeline = _pipeline(request, _member(request))

    def work() -> None:
        _begin(request, pipeline.labelled, choice, say)
        _execute(request, pipeline, say, {"auto": choice.record() if choice else None})

    _lead(pipeline.spec, lambda: pipeline.student_data, request.seed, work)
    return pipeline.run.folder


def fit_seeds(request: FitRequest, seeds: Sequence[int], say: Callable[[str], None]) -> list[Path]:
    """Fits one run for each seed, in `seed-<N>` of the request's run folder if it names one, and gives their folders.

    Raises:
        InputError: a seed is given twice, or several processes were started; and as `fit`.
    """
    if len(set(seeds)) < len(seeds):
        raise InputError("--seeds", [Problem(" ".join(map(str, seeds)), "a seed given twice", "each once")])
    if processes.count() > 1:
        raise InputError("--seeds", [Problem("processes", str(processes.count()), "one, or a fit for each seed")])
    folders = [request.run_dir / f"seed-{seed}" if request.run_dir else None for seed in seeds]
    return [fit(replace(request, seed=seed, run_dir=own), say) for seed, own in zip(seeds, folders, strict=True)]


def fit_joint(requests: Sequence[FitRequest], folder: Path | None, say: Callable[[str], None]) -> list[Path]:
    """Fits several filters whose students share one backbone, and gives their runs' folders.

    Otherwise as `fit`; what a request says of distillation and of its run's folder is not used. Students on a frozen
    encoder are fitted in folds, and what they share is the encoder and a hidden layer of their heads.

    Args:
        requests: one for each filter, with the same limit, seed, folds and splits.
        folder: of the runs, each in a folder with its filter's name and version, and of the joint training, in `joint`;
            None for those under `runs/`.

    Raises:
        InputError: as in `fit`, or the filters cannot share a student.
        SpecError: as in `fit`.
    """
    asked = requests[0]
    chosen = [_chosen(request) for request in requests]
    requests = [request for request, _ in chosen]
    members = [_member(request) for request in requests]
    check_options(members[0].spec, asked.overrides, asked.folds, asked.splits)
    name = digest([_run_id(member.spec, request) for member, request in zip(members, requests, strict=True)])[:12]
    place = folder / "joint" if folder else RUNS_FOLDER / "joint" / name
    joint = Joint(members, place, asked.seed, requests[0].folds or 0, asked.splits)
    specs = [member.spec for member in members]
    folders = [folder / spec.label if folder else _runs_of(spec) / f"joint-{name}" for spec in specs]
    own = [replace(request, run_dir=place) for request, place in zip(requests, folders, strict=True)]
    pipelines = [
        _pipeline(request, member, Share(joint, number))
        for number, (request, member) in enumerate(zip(own, members, strict=True))
    ]

    def work() -> None:
        _check_run_folder(joint.folder, joint.label)
        for pipeline in pipelines:
            _check_run_folder(pipeline.run.folder, pipeline.spec.label)
        choices = [choice for _, choice in chosen]
        for request, pipeline, choice in zip(own, pipelines, choices, strict=True):
            _begin(request, pipeline.labelled, choice, say)
        joint.fit(say)
        for number, (request, pipeline) in enumerate(zip(own, pipelines, strict=True)):
            others = [file for place, other in enumerate(requests) if place != number for file in other.labels]
            auto = choice.record() if (choice := choices[number]) else None
            _execute(request, pipeline, say, {"joint": _joint(joint, others), "auto": auto})

    _lead(specs[0], lambda: joint.data, joint.seed, work)
    return folders


def _lead(spec: FilterSpec, data: Callable[[], FitData], seed: int, work: Callable[[], None]) -> None:
    """Does the work, where this is the first process; the others help it to train, on the same data."""
    if processes.rank() > 0:
        help_fits(spec, data, seed)
        return
    try:
        work()
    except DistilleryError:  # of any other error the helpers learn from their launcher
        call_helpers(spec, "END")
        raise
    call_helpers(spec, "END")


def _chosen(request: FitRequest) -> tuple[FitRequest, Choice | None]:
    """The request with the backend `auto` resolved for this machine, and how; and with the folds that suit it."""
    spec = apply_overrides(load_filter(request.filter_folder), request.overrides)
    choice = choose_backend(spec, EMBEDDER in request.overrides)
    if choice:
        request = replace(request, overrides={**request.overrides, **choice.settings})
    if request.folds is None:
        backend = choice.settings[BACKEND] if choice else spec.student.backend
        request = replace(
            request, folds=FOLDS if backend in FOLDED and not (request.splits or request.distil_from) else 0
        )
    return request, choice


def _begin(request: FitRequest, labelled: LabelledSet, choice: Choice | None, say: Callable[[str], None]) -> None:
    """Shows what the fit stands on: its labels, the backend and why, and what would be better."""
    examples = {path.resolve() for path in example_files(request.filter_folder)}
    count = len(labelled.articles)
    if examples.issuperset(path.resolve() for path in request.labels):
        more = f"trainer label --filter {shortest_name(request.filter_folder)} --articles FILE --max-usd USD"
        say(f"labels: the filter's own {count} examples: for a first try only; label more with `{more}`")
    else:
        say(f"labels: {count} articles of {', '.join(map(str, request.labels))}")
    for line in choice.lines() if choice else ():
        say(line)


def _member(request: FitRequest) -> Member:
    spec = apply_overrides(load_filter(request.filter_folder), request.overrides)
    labelled = _take(read_labels(request.labels, spec), request)
    if spec.oracle.step is None:
        oracle = spec.oracle.model_copy(update={"step": oracle_step(labelled.labels())})
        spec = spec.model_copy(update={"oracle": oracle})
    return Member(spec, labelled)


def _pipeline(request: FitRequest, member: Member, share: Share | None = None) -> Pipeline:
    spec, labelled = member.spec, member.labelled
    folder = request.run_dir or _runs_of(spec) / _run_id(spec, request)
    run = Run(folder, spec, request.seed, lambda: labelled, request.titles)
    certify_on = read_pool(request.certify_on, spec.text) if request.certify_on else None
    if share:
        return Pipeline(run, certify_on=certify_on, share=share)
    splits = given_splits(request.splits, [article.id for article in labelled.articles]) if request.splits else ()
    return Pipeline(run, _distillation(spec, request), certify_on, splits, folds=_folds(request, spec, splits))


def _execute(
    request: FitRequest, pipeline: Pipeline, say: Callable[[str], None], more: Mapping[str, object] | None = None
) -> None:
    """Brings the run up to date, with its records; `more` is for its manifest."""
    spec, labelled, folder = pipeline.spec, pipeline.labelled, pipeline.run.folder
    _check_run_folder(folder, spec.label)
    say(f"run {folder}: {spec.label}, {len(labelled.articles)} articles, student {spec.student.backend}")
    for note in label_notes(labelled):
        say(f"note: {note}")
    manifest = _manifest(spec, request, labelled) | {"joint": None, "auto": None, **(more or {})}

    def begin() -> None:
        write_json(folder / MANIFEST, manifest | {"stages": None})  # not finished: an exporter must wait
        write_text(folder / CONFIG, yaml.safe_dump(spec.model_dump(mode="json"), sort_keys=False))

    def finish(keys: dict[str, str]) -> None:
        write_json(folder / METADATA, _metadata(pipeline.run))
        write_json(folder / MANIFEST, manifest | {"stages": keys})

    TaskFolder(folder).execute(pipeline.tasks(), say, begin, finish)


def _folds(request: FitRequest, spec: FilterSpec, splits: Sequence[Assignment]) -> int | None:
    """How many folds are to be made, if any.

    Raises:
        InputError: folds do not go with what else is asked for.
    """
    count = request.folds or len(fold_names(splits))
    if not count:
        return None
    found, backend = f"{count} folds", spec.student.backend
    problems = [Problem("--folds", str(count), "at least 2")] if count < 2 else []
    if backend not in FOLDED:
        problems.append(Problem(f"--backend {backend}", found, f"one of {', '.join(FOLDED)}, whose fits take minutes"))
    if request.splits and request.folds:
        problems.append(Problem("--splits", found, "a file of folds alone, or --folds alone"))
    if request.distil_from:
        problems.append(Problem("--distil-from", found, "--folds 0: a run to learn from may know what a fold tests"))
    if problems:
        raise InputError("trainer fit", problems)
    return request.folds or None


def _take(labelled: LabelledSet, request: FitRequest) -> LabelledSet:
    if request.limit is not None:
        ids = [article.id for article in labelled.articles]
        labelled = labelled.select(limit_articles(ids, request.limit, request.seed))
    if len(labelled.articles) < MIN_ARTICLES:
        found = f"{len(labelled.articles)} articles"
        raise InputError("--labels", [Problem("(all files)", found, f"at least {MIN_ARTICLES} to split four ways")])
    return labelled


def _distillation(spec: FilterSpec, request: FitRequest) -> Distillation | None:
    if bool(request.distil_from) != bool(request.pool):
        found = "--distil-from alone" if request.distil_from else "--pool alone"
        raise InputError("trainer fit", [Problem("--distil-from, --pool", found, "both or none")])
    if not request.distil_from:
        return None
    return Distillation(request.distil_from, read_pool(request.pool, spec.text), request.distil_weight)


def _runs_of(spec: FilterSpec) -> Path:
    return RUNS_FOLDER / spec.name / f"v{spec.version}"


def _run_id(spec: FilterSpec, request: FitRequest) -> str:
    content: list[object] = [spec.model_dump(mode="json"), files_digest(request.labels), request.limit, request.seed]
    if request.distil_from:
        content += [[str(run) for run in request.distil_from], files_digest(request.pool), request.distil_weight]
    if request.certify_on:
        content.append(files_digest(request.certify_on))
    if request.splits:
        content.append(files_digest([request.splits]))
    if request.folds:
        content.append(["folds", request.folds])
    return digest(content)[:12]


def _check_run_folder(folder: Path, label: str) -> None:
    """Refuses to write into a folder that holds something else than a run of the filter, or filters, of this label."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not folder.is_dir():
        raise InputError("--run-dir", [Problem(str(folder), "a file", f"a new folder, or a run of {label}")])
    manifest = folder / MANIFEST
    found = _filter_of(manifest) if manifest.is_file() else None
    if found is None and {path.name for path in folder.iterdir()} <= {".lock", ".manifest.json.part"}:
        return  # killed before its manifest was written
    if found != label:
        what = f"a run of {found}" if found else "no run"
        raise InputError("--run-dir", [Problem(str(folder), what, f"a new folder, or a run of {label}")])


def _filter_of(manifest: Path) -> str | None:
    """The filter that a manifest names; None where the file is no manifest."""
    try:
        return str(json.loads(manifest.read_text(encoding="utf-8"))["filter"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _manifest(spec: FilterSpec, request: FitRequest, labelled: LabelledSet) -> dict[str, object]:
    """Everything to repeat the run, known before it begins."""
    return {
        "schema_version": 1,
        "filter": spec.label,
        "spec_sha256": digest(spec.model_dump(mode="json")),
        "prompt_sha256": _prompt_digest(request.filter_folder, spec),
        "filter_folder": str(request.filter_folder.resolve()),
        "labels": _named(request.labels),
        "articles": len(labelled.articles),
        "oracles": labelled.oracles,
        "overrides": dict(request.overrides),
        "examples": files_digest(example_files(request.filter_folder)),
        "distil_from": [_source(run) for run in request.distil_from],
        "pool": _named(request.pool),
        "distil_weight": request.distil_weight if request.distil_from else None,
        "certify_on": _named(request.certify_on),
        "splits": files_digest([request.splits])[0] if request.splits else None,
        "titles": request.titles,
        "folds": request.folds,
        "limit": request.limit,
        "seed": request.seed,
        "split_shares": dict(SHARES),
        "split_version": None if request.splits else SPLIT_VERSION,
        "versions": {"distillery": __version__, "python": platform.python_version(), **_package_versions()},
        "command": " ".join(["trainer", *sys.argv[1:]]),
    }


def _named(files: Sequence[Path]) -> list[dict[str, str]]:
    """Files by digest, and by path for who wants to read them again."""
    return [{**item, "path": str(path.resolve())} for item, path in zip(files_digest(files), files, strict=True)]


def _source(run: Path) -> dict[str, object]:
    """A run that was learned from, as the manifest names it."""
    return {"run": run.name, "student_sha256": tree_digest(run / STUDENT)}


def _joint(joint: Joint, others: Sequence[Path]) -> dict[str, object]:
    """The joint training that a student was taken from, as the manifest names it; `others`: other filters' labels."""
    return {
        "filters": list(joint.filters),
        "labels": _named(others),
        "training": joint.folder.name,
        "student_sha256": joint.student_sha256,
    }


def _prompt_digest(folder: Path, spec: FilterSpec) -> str | None:
    path = folder / "prompt.md"
    return digest(render_prompt(read_template(path), spec, str(path))) if path.is_file() else None


def _package_versions() -> dict[str, str]:
    found = {}
    for name in RECORDED_PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _metadata(run: Run) -> dict[str, object]:
    """The short record of what was trained, as readers of earlier systems expect it beside a model."""
    spec, evaluation = run.spec, run.evaluation
    settings = getattr(spec.student, spec.student.backend)
    return {
        "schema_version": 1,
        "filter_name": spec.name,
        "filter_version": spec.version,
        "dimension_names": list(spec.dimension_names),
        "backend": spec.student.backend,
        "model_name": base_model_of(spec),
        "window": spec.student.window.model_dump(mode="json"),
        "training": settings.training.model_dump(mode="json"),
        **asdict(evaluation.split_sizes),
        "test_mae": evaluation.total.student.mae,
    }
