"""`trainer evaluate`, `compare`, `gate` and `prefilter-eval`: measure a run, two runs, or a filter's rules."""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from distillery_runtime.cli.command import print_lines
from distillery_runtime.errors import InputError, Problem
from distillery_runtime.spec.model import Targets
from distillery_trainer.cli.named_filter import named_filter
from distillery_trainer.cli.summary import summary, with_interval
from distillery_trainer.evaluate.gate import check_targets
from distillery_trainer.evaluate.prefilter_eval import evaluate_prefilter, read_counted
from distillery_trainer.filters.find import load_filter
from distillery_trainer.runs.assessment import evaluate_on, evaluate_run
from distillery_trainer.runs.compare import MADE_WITH, compare
from distillery_trainer.runs.opening import open_run
from distillery_trainer.runs.run import Run

Commands = Any  # Any: what argparse's add_subparsers gives, a class without a public name


def register(commands: Commands) -> None:
    """Adds the commands."""
    _add_evaluate(commands.add_parser("evaluate", help="evaluate a finished run, on its test or on other articles"))
    _add_compare(commands.add_parser("compare", help="compare two runs on the articles that both were tested on"))
    _add_gate(commands.add_parser("gate", help="tell whether a run reaches its filter's targets"))
    rules = commands.add_parser("prefilter-eval", help="count what a filter's rules block and miss, and their time")
    _add_prefilter_eval(rules)


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="RUN", help="a finished run's folder")
    parser.add_argument("--labels", nargs="+", action="extend", default=[], type=Path, metavar="FILE",
                        help="JSON lines of other labelled articles, instead of the run's test split")  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print what eval.json holds")
    parser.set_defaults(run=_evaluate)


def _add_compare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("a", type=Path, metavar="RUN_A", help="the run that is judged")
    parser.add_argument("b", type=Path, metavar="RUN_B", help="the run that it is compared with")
    parser.add_argument("--system", choices=tuple(MADE_WITH), default="student", help="(default: student)")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.set_defaults(run=_compare)


def _add_gate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="RUN", help="the run that would be deployed")
    parser.add_argument("--incumbent", type=Path, metavar="RUN", help="the run that is deployed now")
    parser.add_argument("--filter", metavar="NAME[/vN]|PATH",
                        help="take the targets from this filter as it is now (default: from the run)")  # fmt: skip
    parser.set_defaults(run=_gate)


def _add_prefilter_eval(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--filter", required=True, metavar="NAME[/vN]|PATH", help="the filter whose rules count")
    parser.add_argument("--articles", required=True, nargs="+", action="extend", type=Path, metavar="FILE",
                        help="JSON lines of articles, with labels where there are some")  # fmt: skip
    parser.add_argument("--finds", nargs="+", action="extend", default=[], type=Path, metavar="FILE",
                        help="JSON lines of articles that are all finds, without labels")  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.set_defaults(run=_prefilter_eval)


def _evaluate(options: argparse.Namespace) -> int:
    run = open_run(options.folder)
    evaluation = evaluate_on(run, options.labels) if options.labels else evaluate_run(run)
    record = evaluation.to_record()
    print(json.dumps(record, indent=1) if options.json else summary(evaluation, run.certificate, run.spec))
    return 0


def _compare(options: argparse.Namespace) -> int:
    report = compare(open_run(options.a), open_run(options.b), options.system)
    if options.json:
        print(json.dumps(report, indent=1))
    else:
        print_lines(*_compared(report))
    return 0


def _gate(options: argparse.Namespace) -> int:
    run = open_run(options.folder)
    checks = check_targets(_targets(options, run), run.evaluation)
    if not checks and options.incumbent is None:
        problem = Problem("targets", "none stated", "targets in the filter's config, or --incumbent")
        raise InputError("trainer gate", [problem])
    for check in checks:
        print(f"{'met    ' if check.met else 'NOT MET'}  {check}")
    worse = options.incumbent is not None and _is_worse(run, open_run(options.incumbent))
    return 1 if worse or not all(check.met for check in checks) else 0


def _targets(options: argparse.Namespace, run: Run) -> Targets:
    if options.filter is None:
        return run.spec.targets
    spec = load_filter(named_filter(options.filter))
    if spec.name != run.spec.name:
        raise InputError("--filter", [Problem("name", spec.name, f"{run.spec.name}, as the run's")])
    return spec.targets


def _is_worse(run: Run, incumbent: Run) -> bool:
    report: Any = compare(run, incumbent)  # Any: nested JSON of known shape
    worse = bool(report["outcome"] == "worse")
    print(f"{'NOT MET' if worse else 'met    '}  not worse than the incumbent: {report['outcome']}")
    print("\n".join(f"         {line}" for line in _measures(report["parts"]["total"])))
    return worse


def _compared(report: Any) -> Iterator[str]:  # Any: as above
    yield f"{report['system']} of {report['a']} against {report['b']}: {_outcome(report)}"
    for name, part in report["parts"].items():
        yield f"  {name}, {part['n']} articles: {part['outcome']}"
        yield from (f"    {line}" for line in _measures(part))


def _measures(part: Any) -> Iterator[str]:  # Any: as above
    for name in ("mae", "recall"):
        found = part[name]
        if found["difference"] is None:
            yield f"{name:<7} cannot be told: {found['reason'] or 'too few articles'}"
            continue
        change = with_interval(found["difference"], found["interval"], "+")
        yield f"{name:<7} {found['a']:.3f} against {found['b']:.3f}, difference {change}: {_outcome(found)}"


def _outcome(found: Any) -> str:  # Any: as above
    return f"{found['outcome']} ({found['reason']})" if found["reason"] else str(found["outcome"])


def _prefilter_eval(options: argparse.Namespace) -> int:
    spec = load_filter(named_filter(options.filter))
    articles, unusable = read_counted(options.articles, options.finds, spec)
    report: Any = evaluate_prefilter(spec, articles) | {"unusable": unusable}  # Any: nested JSON of known shape
    if options.json:
        print(json.dumps(report, indent=1))
    else:
        print_lines(*_rule_lines(report))
    return 0


def _rule_lines(report: Any) -> Iterator[str]:  # Any: as above
    yield f"{report['filter']}: {_rates(report['total'])}; {report['unusable']} lines unusable"
    yield from (f"  {name:<4} {_rates(part)}" for name, part in report["languages"].items())
    yield "each rule by itself, in shadow or not"
    for rule in report["rules"]:
        times = f"p50 {rule['p50_ms']:.3f} ms, p99 {rule['p99_ms']:.3f} ms"
        yield f"  {rule['name']} ({rule['mode']}): {_rates(rule)}, {times}"
        if rule["missed_by_language"]:
            yield "    missed " + ", ".join(f"{name} {n}" for name, n in rule["missed_by_language"].items())
    yield "rules switched on in turn"
    yield from (f"  + {point['with']}: {_rates(point)}" for point in report["curve"])


def _rates(part: Any) -> str:  # Any: as above
    kept = "no finds" if part["pass_rate"] is None else f"{part['pass_rate']:.1%} of {part['finds']} finds pass"
    return f"{part['blocked']} of {part['n']} blocked ({part['block_rate']:.2%}), {kept}"
