"""The commands that choose and check articles: guard, screen, mine, prepare, audit, review."""

import argparse
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from distillery_runtime.cli.command import print_lines
from distillery_runtime.cli.options import positive, share
from distillery_runtime.cli.same_file import refuse_replaced, refuse_same_file
from distillery_runtime.errors import InputError, Problem
from distillery_runtime.spec.model import FilterSpec, ProbeSettings, TextPolicy
from distillery_trainer.cli.named_filter import named_filter
from distillery_trainer.curate.audit import audit, read_audited, report
from distillery_trainer.curate.draw import RANDOM_SHARE, Chosen, DrawRequest, mine_files, screen_files
from distillery_trainer.curate.findings import as_text
from distillery_trainer.curate.guards import MIN_WORDS, Guards, guard_files
from distillery_trainer.curate.prepare import FLOOR, prepare_files
from distillery_trainer.curate.prove import prove
from distillery_trainer.curate.review import export_sheet, import_sheet
from distillery_trainer.data.articles import read_received
from distillery_trainer.data.split import given_splits
from distillery_trainer.filters.find import find_labels, load_filter
from distillery_trainer.models.choose import STATIC
from distillery_trainer.runs.opening import files_of, open_run
from distillery_trainer.store.files import write_json

Commands = Any  # Any: what argparse's add_subparsers gives, a class without a public name


def register(commands: Commands) -> None:
    """Adds the commands."""
    _add_guard(commands.add_parser("guard", help="drop what is no article, and duplicates, before labels are paid for"))
    _add_screen(commands.add_parser("screen", help="find articles like a few good ones, to be labelled first"))
    _add_mine(commands.add_parser("mine", help="find the articles whose labels would teach a run or bundle most"))
    _add_prepare(commands.add_parser("prepare", help="split labelled articles for good, with finds in every part"))
    _add_audit(commands.add_parser("audit", help="look for leaks, doubtful labels and injections in labelled articles"))
    _add_review(commands.add_parser("review", help="let people score some articles, and compare"))


def _add_guard(parser: argparse.ArgumentParser) -> None:
    _add_articles(parser, "JSON lines of articles")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="the articles kept")
    parser.add_argument("--dropped", type=Path, metavar="FILE",
                        help="all others, with reasons (default: OUT with .dropped before its ending)")  # fmt: skip
    parser.add_argument("--min-words", type=positive, default=MIN_WORDS, metavar="N",
                        help=f"the fewest words of a text (default: {MIN_WORDS})")  # fmt: skip
    parser.set_defaults(run=_guard)


def _add_screen(parser: argparse.ArgumentParser) -> None:
    _add_articles(parser, "JSON lines of articles to draw from")
    parser.add_argument("--seeds", required=True, nargs="+", action="extend", type=Path, metavar="FILE",
                        help="JSON lines of articles that the filter should find; ten are enough to begin")  # fmt: skip
    parser.add_argument("--embedder", default=STATIC, metavar="ID|DIR|static",
                        help="what compares articles: a Hub id, a folder, or static (default: static)")  # fmt: skip
    _add_draw(parser)
    parser.set_defaults(run=_screen)


def _add_mine(parser: argparse.ArgumentParser) -> None:
    _add_articles(parser, "JSON lines of articles to draw from")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--run", type=Path, metavar="RUN", dest="source", help="a finished run's folder")
    source.add_argument("--bundle", type=Path, metavar="BUNDLE", dest="source", help="a bundle's folder")
    parser.add_argument("--known", nargs="+", action="extend", default=[], type=Path, metavar="FILE",
                        help="JSON lines of articles that have labels: these are not drawn again")  # fmt: skip
    _add_draw(parser)
    parser.set_defaults(run=_mine)


def _add_prepare(parser: argparse.ArgumentParser) -> None:
    _add_labels(parser)
    parser.add_argument("--floor", type=int, default=FLOOR, metavar="N",
                        help=f"articles at or above the operating tier for each part (default: {FLOOR})")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the order of groups (default: 0)")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="the folder for splits.jsonl")
    parser.set_defaults(run=_prepare)


def _add_audit(parser: argparse.ArgumentParser) -> None:
    _add_labels(parser)
    parser.add_argument("--splits", type=Path, metavar="FILE", help="splits.jsonl of `trainer prepare` or of a run")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write all findings, with all ids, as JSON")
    parser.add_argument("--prove", action="store_true",
                        help="put a fault of each kind into a copy and see that its check finds it")  # fmt: skip
    parser.set_defaults(run=_audit)


def _add_review(parser: argparse.ArgumentParser) -> None:
    steps = parser.add_subparsers(metavar="STEP", required=True)
    export = steps.add_parser("export", help="write a sheet of a run's test articles, for people to score")
    export.add_argument("--run", required=True, type=Path, metavar="RUN", dest="folder", help="a finished run")
    export.add_argument("--count", type=positive, default=100, metavar="N", help="of articles (default: 100)")
    export.add_argument("--seed", type=int, default=0, metavar="N", help="of the draw (default: 0)")
    export.add_argument(
        "--out", required=True, type=Path, metavar="DIR", help="the folder for sheet.csv and sheet.html"
    )
    export.set_defaults(run=_review_export)
    back = steps.add_parser("import", help="tell from a filled-in sheet how far people, student and oracle agree")
    back.add_argument("--run", required=True, type=Path, metavar="RUN", dest="folder", help="the same run")
    back.add_argument("--sheet", required=True, type=Path, metavar="FILE", help="sheet.csv, filled in")
    back.add_argument("--out", type=Path, metavar="FILE", help="write the figures as JSON")
    back.set_defaults(run=_review_import)


def _add_labels(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--filter", required=True, metavar="NAME[/vN]|PATH", help="the filter of the labels")
    parser.add_argument(
        "--labels",
        nargs="+",
        action="extend",
        default=[],
        type=Path,
        metavar="FILE",
        help="JSON lines with id, title, text and labels {dimension: 0-10} (default: as `trainer fit`)",
    )


def _add_draw(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--count", required=True, type=positive, metavar="N", help="how many articles to draw")
    parser.add_argument("--random-share", type=share, default=RANDOM_SHARE, metavar="SHARE",
                        help=f"of them, drawn by chance from all others (default: {RANDOM_SHARE})")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the random share (default: 0)")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="the articles drawn")


def _add_articles(parser: argparse.ArgumentParser, words: str) -> None:
    parser.add_argument("--articles", required=True, nargs="+", action="extend", type=Path, metavar="FILE", help=words)


def _guard(options: argparse.Namespace) -> int:
    if options.dropped is None and options.out.exists() and not options.out.is_file():
        problem = Problem("--dropped", f"not given beside {options.out}, which is no regular file", "a file")
        raise InputError("trainer guard", [problem])
    dropped = options.dropped or options.out.with_suffix(f".dropped{options.out.suffix}")
    refuse_same_file(options.out, [*options.articles, dropped])
    refuse_same_file(dropped, [*options.articles, options.out], "--dropped")
    found = guard_files(options.articles, options.out, dropped, Guards(options.min_words))
    print(f"{options.out}: {len(found.kept)} articles kept")
    print(f"{dropped}: {len(found.dropped) + len(found.unreadable)} dropped")
    _print_counts(found.counts())
    return 0


def _screen(options: argparse.Namespace) -> int:
    refuse_same_file(options.out, [*options.articles, *options.seeds])
    settings = ProbeSettings(embedder=options.embedder)
    return _drawn(options, screen_files(options.articles, options.seeds, options.out, _request(options), settings))


def _mine(options: argparse.Namespace) -> int:
    refuse_same_file(options.out, [*options.articles, *options.known, *files_of(options.source)])
    return _drawn(options, mine_files(options.articles, options.source, options.known, options.out, _request(options)))


def _prepare(options: argparse.Namespace) -> int:
    spec, labels = _labelled(options)
    refuse_replaced(options.out, labels, ("splits.jsonl", "prepared.json"))
    prepared = prepare_files(labels, spec, options.out, options.floor, options.seed)
    print(
        f"{options.out / 'splits.jsonl'}: {len(prepared.assigned)} articles, of which at or above {spec.operating_tier}"
    )
    _print_counts(prepared.finds)
    if prepared.short:
        print(f"fewer than {options.floor}: {', '.join(prepared.short)}; label more such articles (trainer screen)")
    return 0


def _audit(options: argparse.Namespace) -> int:
    spec, labels = _labelled(options)
    if options.out:
        refuse_same_file(options.out, [*labels, *([options.splits] if options.splits else [])])
    data = read_audited(labels, spec, _splits(options.splits, labels, spec.text))
    findings = audit(data)
    proofs = prove(data, findings) if options.prove else []
    if options.out:
        write_json(options.out, report(data, findings, labels) | {"proofs": [asdict(proof) for proof in proofs]})
    print_lines(*as_text(findings))
    for proof in proofs:
        print(
            f"{'proven' if proof.tripped else 'MISSED':<8} {proof.check:<22} {proof.before} before, {proof.after} after"
        )
    faults = any(finding.severity == "fault" for finding in findings)
    return 1 if faults or not all(proof.tripped for proof in proofs) else 0


def _labelled(options: argparse.Namespace) -> tuple[FilterSpec, list[Path]]:
    """The filter and its labels files: those given, or the one found."""
    folder = named_filter(options.filter)
    spec = load_filter(folder)
    return spec, options.labels or find_labels(folder, spec)


def _splits(splits: Path | None, labels: Sequence[Path], policy: TextPolicy) -> dict[str, str] | None:
    if splits is None:
        return None
    ids = [article.id for article in read_received(labels, policy).articles]
    return {one.id: one.split for one in given_splits(splits, ids, whole=False)}


def _review_export(options: argparse.Namespace) -> int:
    count = export_sheet(open_run(options.folder), options.count, options.seed, options.out)
    print(f"{options.out}: {count} articles to score")
    return 0


def _review_import(options: argparse.Namespace) -> int:
    if options.out:
        refuse_same_file(options.out, [*files_of(options.folder), options.sheet])
    found = import_sheet(open_run(options.folder), options.sheet)
    if options.out:
        write_json(options.out, found)
    print(json.dumps(found, indent=1))
    return 0


def _request(options: argparse.Namespace) -> DrawRequest:
    return DrawRequest(options.count, options.random_share, options.seed)


def _drawn(options: argparse.Namespace, chosen: Sequence[Chosen]) -> int:
    print(f"{options.out}: {len(chosen)} articles")
    _print_counts(Counter(one.stratum for one in chosen))
    return 0


def _print_counts(counts: Mapping[str, int]) -> None:
    for name, count in counts.items():
        print_lines(f"  {name:<20}{count:>8}")
