"""The `trainer` command: fit and judge models, label, check and start filters. Exit codes as in `command`."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from distillery_runtime.cli.command import STOPS, Parser, print_lines, run_command, say
from distillery_runtime.cli.options import positive, seed, weight
from distillery_runtime.cli.same_file import refuse_replaced, refuse_same_file
from distillery_runtime.errors import InputError, Problem
from distillery_runtime.files.safe_write import real_path
from distillery_runtime.version import __version__
from distillery_trainer.cli import curate as curate_cli
from distillery_trainer.cli import evaluate as judge_cli
from distillery_trainer.cli import label as label_cli
from distillery_trainer.cli.named_filter import named_filter
from distillery_trainer.cli.summary import seed_spread, summarise
from distillery_trainer.data.articles import read_pool
from distillery_trainer.filters.find import (
    CONFIG_NAME,
    all_filters,
    filters_root,
    find_filter,
    find_labels,
    load_filter,
    stray_configs,
)
from distillery_trainer.filters.lint import lint_filter, located
from distillery_trainer.filters.overrides import apply_overrides, named_overrides, read_settings
from distillery_trainer.filters.scaffold import config_schema, init_filter
from distillery_trainer.models.base_model import resolve
from distillery_trainer.models.choose import import_torch_side
from distillery_trainer.runs.assessment import report_run
from distillery_trainer.runs.fit import FitRequest, fit, fit_joint, fit_seeds
from distillery_trainer.runs.opening import files_of
from distillery_trainer.runs.run import RUN_PARTS
from distillery_trainer.store import processes


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and gives its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = _parser()
    parser.set_defaults(arguments=given)  # so that a command can say which one to give next
    said = "interrupted; the same command goes on where this one stopped"
    # A launcher ends its processes by SIGTERM while they wait for each other, where no handler of Python's can run.
    return run_command(parser, given, said, () if processes.count() > 1 else STOPS)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="trainer", description="Fit, check and start filters.")
    parser.add_argument("--version", action="version", version=f"distillery-trainer {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_fit(commands.add_parser("fit", help="fit, calibrate, certify and evaluate a filter's models on labels"))

    report = commands.add_parser("report", help="tell of a finished run on one page, for those who decide")
    report.add_argument("run_folder", type=Path, metavar="RUN", help="the run's folder")
    report.add_argument("--out", type=Path, default=Path("report.html"), metavar="FILE",
                        help="the page to write (default: report.html)")  # fmt: skip
    _add_no_titles(report)
    report.set_defaults(run=_report)

    lint = commands.add_parser("lint", help="list every problem of a filter's config, prompt and examples")
    lint.add_argument("--filter", metavar="NAME|PATH", help="one filter (default: all of them)")
    lint.set_defaults(run=_lint)

    _add_shrink(commands.add_parser("shrink", help="make a smaller base model of an encoder, for a filter's articles"))

    moved = commands.add_parser("publish", prefix_chars="\0", add_help=False)  # of which every word is taken as it is
    moved.add_argument("words", nargs="*")
    moved.set_defaults(run=_refuse_publish)

    judge_cli.register(commands)
    label_cli.register(commands)

    curate_cli.register(commands)

    schema = commands.add_parser("schema", help="print the JSON Schema of config.yaml, for editors")
    schema.set_defaults(run=_schema)

    init = commands.add_parser("init", help="start a new filter")
    init.add_argument("name", metavar="NAME")
    init.set_defaults(run=_init)
    return parser


def _add_fit(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--filter", required=True, action="append", metavar="NAME[/vN]|PATH", dest="filters",
                        help="the filter to fit; with --joint, each of several")  # fmt: skip
    parser.add_argument("--labels", nargs="+", action="extend", default=[], metavar="FILE",
                        help="JSON lines with id, title, text and labels {dimension: 0-10} (default: "
                        "labels/<filter>-<N>.jsonl, or labels.jsonl in the filter's folder, else its examples); with "
                        "--joint FILTER=FILE, FILTER as --filter gives it")  # fmt: skip
    parser.add_argument("--joint", action="store_true",
                        help="fit several filters whose students share one backbone or, on a frozen encoder, a layer "
                        "of their heads")  # fmt: skip
    parser.add_argument("--backend", choices=("auto", "decoder", "encoder", "frozen", "static"),
                        help="the student's kind (default: the config's, which may be auto: the best that is on this "
                        "machine); frozen and static bring a static probe along")  # fmt: skip
    parser.add_argument("--base-model", metavar="ID|DIR", help="the student's base model: a Hub id or a folder")
    parser.add_argument("--embedder", metavar="ID|DIR|static",
                        help="the frozen encoder of the student if its backend is frozen, else of the probe: "
                        "a Hub id, a folder, or static")  # fmt: skip
    parser.add_argument("--max-tokens", type=positive, metavar="N", help="the student's window, specials included")
    parser.add_argument("--epochs", type=positive, metavar="N", help="the most epochs to train")
    parser.add_argument("--limit", type=positive, metavar="N", help="use N of the articles, chosen by the seed")
    seeds = parser.add_mutually_exclusive_group()
    seeds.add_argument("--seed", type=seed, default=0, metavar="N",
                       help="of split, models and intervals (default: 0)")  # fmt: skip
    seeds.add_argument("--seeds", nargs="+", type=seed, metavar="N", help="a run for each of these, and their spread")
    parser.add_argument("--distil-from", nargs="+", action="extend", default=[], type=Path, metavar="RUN",
                        help="finished runs from whose scores on --pool the student learns too")  # fmt: skip
    parser.add_argument("--pool", nargs="+", action="extend", default=[], type=Path, metavar="FILE",
                        help="JSON lines of articles without labels")  # fmt: skip
    parser.add_argument("--distil-weight", type=weight, default=0.5, metavar="W",
                        help="what such a score counts against a label's 1 (default: 0.5)")  # fmt: skip
    parser.add_argument("--certify-on", nargs="+", action="extend", default=[], type=Path, metavar="FILE",
                        help="certify against the student on these articles, which need no labels")  # fmt: skip
    parser.add_argument("--splits", type=Path, metavar="FILE",
                        help="the splits.jsonl of `trainer prepare` (default: the fit splits by itself)")  # fmt: skip
    parser.add_argument("--folds", type=int, metavar="K",
                        help="judge, calibrate, choose and certify on all labels, each out of K folds, and fit the "
                        "models that ship on all labels (default: 5 for the backends static and frozen); 0: four "
                        "splits, of which one trains")  # fmt: skip
    _add_no_titles(parser)
    parser.add_argument("--run-dir", type=Path, metavar="DIR",
                        help="the run's folder (default: runs/<filter>/v<N>/<id>); with --joint that of all runs, "
                        "<filter>-<N> in it")  # fmt: skip
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="settings",
                        help="override any key of the config, for example cascade.target_miss_rate=0.1")  # fmt: skip
    parser.set_defaults(run=_fit)


def _add_no_titles(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--no-titles",
        action="store_true",
        help="name the report's articles by their ids alone, without title, source and link",
    )


def _add_shrink(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--filter", required=True, metavar="NAME[/vN]|PATH", help="the filter whose text policy counts")
    parser.add_argument("--base-model", required=True, metavar="ID|DIR", help="the encoder: a Hub id or a folder")
    parser.add_argument("--revision", default="main", help="of a Hub id (default: main)")
    parser.add_argument("--articles", required=True, nargs="+", action="extend", type=Path, metavar="FILE",
                        help="JSON lines of articles whose words decide what stays")  # fmt: skip
    parser.add_argument("--layers", required=True, type=positive, metavar="N", help="layers to keep, the lowest ones")
    parser.add_argument("--pieces", required=True, type=positive, metavar="N",
                        help="pieces of the vocabulary to keep, beside specials and single characters")  # fmt: skip
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="the new base model's folder")
    parser.set_defaults(run=_shrink)


def _fit(options: argparse.Namespace) -> int:
    if options.joint:
        return _fit_joint(options)
    if len(options.filters) > 1:
        problem = Problem("--filter", f"{len(options.filters)} filters without --joint", "one filter, or --joint")
        raise InputError("trainer fit", [problem])
    request = _request(options, options.filters[0], [Path(file) for file in options.labels])
    if request.run_dir:
        refuse_replaced(request.run_dir, request.distil_from, option="--run-dir")
        read = [*request.labels, *request.pool, *request.certify_on, *([request.splits] if request.splits else [])]
        refuse_replaced(request.run_dir, read, RUN_PARTS, "--run-dir")
    if options.seeds:
        runs = fit_seeds(request, options.seeds, say)
        print_lines(*seed_spread(runs).split("\n"), "", *map(str, runs))
        return 0
    run = fit(request, say)
    if processes.rank() > 0:
        return 0
    print_lines(*summarise(run).split("\n"), "", str(run))
    return 0


def _fit_joint(options: argparse.Namespace) -> int:
    given = {"--seeds": options.seeds, "--distil-from": options.distil_from, "--pool": options.pool}
    problems = [Problem(name, "given with --joint", "not with --joint") for name, value in given.items() if value]
    files: dict[str, list[Path]] = {name: [] for name in options.filters}
    for text in options.labels:
        name, _, file = text.partition("=")
        if name in files and file:
            files[name].append(Path(file))
        else:
            problems.append(Problem("--labels", repr(text), f"FILTER=FILE, FILTER one of {', '.join(files)}"))
    problems += [Problem("--labels", f"none for {name}", f"{name}=FILE") for name, own in files.items() if not own]
    if problems:
        raise InputError("trainer fit", problems)
    runs = fit_joint([_request(options, name, files[name]) for name in options.filters], options.run_dir, say)
    if processes.rank() == 0:
        print("\n\n".join(f"{summarise(run)}\n\n{run}" for run in runs))
    return 0


def _request(options: argparse.Namespace, name: str, labels: Sequence[Path]) -> FitRequest:
    folder = named_filter(name)
    spec = load_filter(folder)
    named = named_overrides(
        spec,
        backend=options.backend,
        base_model=options.base_model,
        embedder=options.embedder,
        max_tokens=options.max_tokens,
        epochs=options.epochs,
    )
    settings, written = read_settings(options.settings)
    overrides = named | settings
    # Problems are said in the words of the command line, before labels are read.
    apply_overrides(spec, overrides, written)
    return FitRequest(
        folder,
        labels or find_labels(folder, spec),
        overrides,
        options.limit,
        options.seed,
        options.run_dir,
        options.distil_from,
        options.pool,
        options.distil_weight,
        options.certify_on,
        options.splits,
        not options.no_titles,
        options.folds,
    )


def _shrink(options: argparse.Namespace) -> int:
    refuse_replaced(options.out, [*options.articles, Path(options.base_model)])
    pool = read_pool(options.articles, load_filter(named_filter(options.filter)).text)
    base = resolve(options.base_model, options.revision)
    report = import_torch_side("distillery_trainer.neural.shrink").shrink(
        base, pool.texts, options.layers, options.pieces, options.out
    )
    print(f"{options.out}: layers {report.layers} of {report.layers_before}, {report.pieces} of {report.pieces_before} "
          f"pieces, which {report.kept_share:.2%} of the tokens of {report.texts} articles are")  # fmt: skip
    return 0


def _refuse_publish(options: argparse.Namespace) -> NoReturn:
    command = shlex.join(["exporter", *options.arguments])
    raise InputError("trainer publish", [Problem("publish", "a command that moved to the exporter", command)])


def _report(options: argparse.Namespace) -> int:
    run, *read = files_of(options.run_folder)
    is_own = real_path(options.out) == real_path(run / "report.html")
    refuse_same_file(options.out, read if is_own else [run, *read])
    report_run(options.run_folder, options.out, not options.no_titles)
    print_lines(str(options.out))
    return 0


def _lint(options: argparse.Namespace) -> int:
    folders, stray = ([find_filter(options.filter)], []) if options.filter else (all_filters(), stray_configs())
    if not folders and not stray:
        problem = Problem(str(filters_root()), "no filters", f"folders <name>/v<N>/{CONFIG_NAME}")
        raise InputError("trainer lint", [problem])
    failed = bool(stray)
    for path in stray:
        print_lines(f"{path}: a config that no name leads to, expected {filters_root()}/<name>/v<N>/{CONFIG_NAME}")
    for folder in folders:
        problems = lint_filter(folder)
        failed |= bool(problems)
        print_lines(f"{folder}: {f'{len(problems)} problems' if problems else 'no problems'}")
        print_lines(*(f"  {located(problem)}" for problem in problems))
    return 2 if failed else 0


def _schema(_options: argparse.Namespace) -> int:
    print(config_schema(), end="")
    return 0


def _init(options: argparse.Namespace) -> int:
    folder = init_filter(options.name)
    print(f"{folder} written; edit {CONFIG_NAME} and prompt.md, then: trainer lint --filter {options.name}")
    return 0
