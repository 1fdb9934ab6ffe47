"""The parts of a whole measurement: what each runs, what it writes, and what it cannot do without."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers.models import MODELS, Model
from distillery_runtime.format.integrity import check_folder

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
NAMES = ("suite", "parity", "peers", "stream", "bench", "build")
# For trying everything out: figures of such a run are not worth keeping.
QUICK = {
    "suite": ("--seconds", "0.1", "--count", "8"),
    "parity": ("--count", "4"),
    "peers": ("--count", "2", "--rounds", "2"),
    "stream": ("--passes", "3", "--torch-articles", "32"),
    "bench": ("--seconds", "10"),
    "build": (),
}
BENCH = ("--seconds", "120")


@dataclass(frozen=True, slots=True)
class Inputs:
    """What was given; None or empty where it was not. All paths are absolute."""

    models: Path | None
    model_names: tuple[str, ...]
    articles: Path | None
    bundles: tuple[Path, ...]
    panel: tuple[Path, ...]
    torch_runs: tuple[Path, ...]
    environments: Path | None
    work: Path
    results: Path
    threads: int
    quick: bool
    stream_articles: Path | None


@dataclass(frozen=True, slots=True)
class Part:
    """One process. `out`: the result that shows that it is done; `writes`: where the process writes it.

    `missing`: the options without which it cannot run, or "".
    """

    name: str
    out: Path
    command: tuple[str, ...]
    missing: str = ""
    writes: Path | None = None


def all_parts(given: Inputs) -> Iterator[Part]:
    """Every part, quick ones first."""
    yield from _builds(given)
    yield _suite(given, "demo")
    if given.panel:
        yield _suite(given, "panel", *_repeated("--panel-bundle", given.panel))
    for bundle in given.bundles:
        yield _suite(given, bundle.name, "--bundle", str(bundle), *_torch_run(given, bundle))
    if not given.bundles:
        yield Part("suite", given.results / "suite-<bundle>.json", (), "--bundle")
    yield from _benches(given)
    yield from _parities(given)
    yield from _peers(given)
    yield from _streams(given)


def _builds(given: Inputs) -> Iterator[Part]:
    for bundle in given.bundles:
        out = given.results / f"build-{bundle.name}.json"
        yield Part("build", out, _script("run_build.py", str(bundle), str(out)))
    if not given.bundles:
        yield Part("build", given.results / "build-<bundle>.json", (), "--bundle")


def _suite(given: Inputs, name: str, *options: str) -> Part:
    writes = given.work / f"suite-{name}.json"
    articles = ("--articles", str(given.articles)) if given.articles else ()
    where = ["benchmarks/suite/test_panel.py" if name == "panel" else "benchmarks/suite"]
    where += ["--ignore=benchmarks/suite/test_panel.py"] if name not in ("panel", "demo") else []
    common = (*articles, *_threads(given), *_quick(given, "suite"), "--benchmark-json", str(writes))
    command = (sys.executable, "-m", "pytest", "-q", "--benchmark-quiet", *where, *options, *common)
    return Part("suite", given.results / f"suite-{name}.json", command, "", writes)


def _benches(given: Inputs) -> Iterator[Part]:
    seconds = QUICK["bench"] if given.quick else BENCH
    for bundle in given.bundles:
        writes = given.work / f"bench-{bundle.name}.json"
        articles = ("--articles", str(given.articles)) if given.articles else ()
        options = ("--bundle", str(bundle), *articles, "--variant", "all", "--provider", "cpu", *_threads(given))
        command = (sys.executable, "-m", "distillery_runtime", "bench", *options, *seconds, "--json")
        out = given.results / writes.name
        yield Part("bench", out, (*command, "--out", str(writes)), "", writes)
    if not given.bundles:
        yield Part("bench", given.results / "bench-<bundle>.json", (), "--bundle")


def _parities(given: Inputs) -> Iterator[Part]:
    missing = _missing({"--models": given.models, "--articles": given.articles})
    for model in _models(given):
        options = ("--models", str(given.models), "--articles", str(given.articles), "--work", str(given.work))
        common = (*options, "--model", model.name, *_quick(given, "parity"), *_out(given, "parity-{model}.json"))
        out = given.results / f"parity-{model.name}.json"
        yield Part("parity", out, _script("parity.py", *common, *_threads(given)), missing)


def _peers(given: Inputs) -> Iterator[Part]:
    wanted = {"--models": given.models, "--articles": given.articles, "--environments": given.environments}
    for model in _models(given):
        options = [part for option, path in wanted.items() for part in (option, str(path))]
        common = (*options, "--work", str(given.work / "peers"), "--model", model.name, *_quick(given, "peers"))
        out = given.results / f"peers-{model.name}.json"
        command = _script("peers/compare.py", *common, *_threads(given), *_out(given, "peers-{model}.json"), "--again")
        yield Part("peers", out, command, _missing(wanted))


def _streams(given: Inputs) -> Iterator[Part]:
    missing = _missing({"--articles": given.articles})
    for bundle in given.bundles:
        options = ("--bundle", str(bundle), "--articles", str(given.stream_articles), *_torch_run(given, bundle))
        common = (*options, *_quick(given, "stream"), *_threads(given), *_out(given, "stream-{bundle}.json"))
        out = given.results / f"stream-{bundle.name}.json"
        yield Part("stream", out, _script("stream.py", *common), missing)
    if not given.bundles:
        yield Part("stream", given.results / "stream-<bundle>.json", (), "--bundle")


def _models(given: Inputs) -> list[Model]:
    return [model for model in MODELS if not given.model_names or model.name in given.model_names]


def _script(name: str, *options: str) -> tuple[str, ...]:
    return (sys.executable, str(ROOT / "benchmarks" / name), *options)


def _missing(wanted: dict[str, Path | None]) -> str:
    return ", ".join(option for option, path in wanted.items() if path is None)


def _threads(given: Inputs) -> tuple[str, ...]:
    return ("--threads", str(given.threads))


def _quick(given: Inputs, name: str) -> Sequence[str]:
    return QUICK[name] if given.quick else ()


def _out(given: Inputs, name: str) -> tuple[str, ...]:
    """Where a script writes, unless that is where it writes anyway: its command is part of its result."""
    return () if given.results == RESULTS else ("--out", str(given.results / name))


def _repeated(option: str, paths: Sequence[Path]) -> list[str]:
    return [part for path in paths for part in (option, str(path))]


def _torch_run(given: Inputs, bundle: Path) -> tuple[str, ...]:
    """The run that a bundle was made from, if it is among those given."""
    made_from = check_folder(bundle).manifest.lineage.get("run")
    run = next((run for run in given.torch_runs if run.name == made_from), None)
    return ("--torch-run", str(run)) if run else ()
