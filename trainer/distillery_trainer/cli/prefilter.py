"""`trainer prefilter-eval`: what a filter's rules block and miss, by rule and language."""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from distillery_runtime.cli.command import print_lines
from distillery_trainer.evaluate.prefilter_eval import evaluate_prefilter, read_counted
from distillery_trainer.filters.find import find_filter, load_filter

Commands = Any  # Any: what argparse's add_subparsers gives, a class without a public name


def register(commands: Commands) -> None:
    """Adds the command."""
    parser = commands.add_parser("prefilter-eval", help="count what a filter's rules block and miss, and their time")
    parser.add_argument("--filter", required=True, metavar="NAME[/vN]|PATH", help="the filter whose rules count")
    parser.add_argument("--articles", required=True, nargs="+", action="extend", type=Path, metavar="FILE",
                        help="JSON lines of articles, with labels where there are some")  # fmt: skip
    parser.add_argument("--finds", nargs="+", action="extend", default=[], type=Path, metavar="FILE",
                        help="JSON lines of articles that are all finds, without labels")  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    spec = load_filter(find_filter(options.filter))
    articles, unusable = read_counted(options.articles, options.finds, spec)
    report: Any = evaluate_prefilter(spec, articles) | {"unusable": unusable}  # Any: nested JSON of known shape
    if options.json:
        print(json.dumps(report, indent=1))
    else:
        print_lines(*_lines(report))
    return 0


def _lines(report: Any) -> Iterator[str]:  # Any: as above
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
