"""The command `distillery inspect`: what a bundle is and how good it is, for people or as JSON."""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

from distillery_runtime.bundles.load import Bundle, open_bundle, read_quality
from distillery_runtime.cli.command import print_lines
from distillery_runtime.cli.options import EXPECTED_ID, Commands
from distillery_runtime.format.places import SHARED_FOLDER
from distillery_runtime.spec.selection import Selection, precision


def add_inspect_command(commands: Commands) -> None:
    """Adds `inspect` to a parser's commands."""
    parser = commands.add_parser("inspect", help="show what a bundle is and how good it is")
    parser.add_argument("bundle", type=Path, metavar="DIR")
    parser.add_argument("--expected-id", metavar="ID", help=EXPECTED_ID)
    parser.add_argument("--json", action="store_true", help="the same as JSON")
    parser.set_defaults(run=_inspect)


def _inspect(options: argparse.Namespace) -> int:
    bundle = open_bundle(options.bundle, options.expected_id)
    quality = read_quality(bundle)
    if options.json:
        content = {"id": bundle.id, "manifest": bundle.manifest.model_dump(mode="json"), "quality": quality}
        print(json.dumps(content, indent=1, ensure_ascii=False))
        return 0
    print_lines(*_describe(bundle))
    return 0


def _describe(bundle: Bundle) -> Iterator[str]:
    spec, manifest = bundle.spec, bundle.manifest
    yield f"{spec.label}   id {bundle.id}"
    yield f"  {' '.join(spec.summary.split())}"
    yield "  dimensions   " + ", ".join(f"{d.name} {d.weight:g}" for d in spec.dimensions)
    yield "  tiers        " + ", ".join(f"{t.name} from {t.min_overall:g}" for t in spec.tiers)
    for gate in spec.gatekeepers:
        yield f"  gatekeeper   {gate.dimension} below {gate.below:g} caps the overall at {gate.overall_cap:g}"
    if selection := manifest.selection:
        yield f"  selects      {_selects(selection)}"
    for stage in manifest.stages:
        what = "a chance of " if stage.router or stage.chance else ""
        stops = f"answers below {what}{stage.threshold:g}" if stage.routing.answers else "answers what it gets"
        if not stage.routing.answers and stage is not manifest.stages[-1]:
            stops = "not run (no threshold was certified, so it answers nothing)"
        variants = ", ".join(variant.name for variant in stage.variants)
        yield f"  stage        {stage.name}: {variants}, {stage.window.max_tokens} tokens, {stops}"
    for key, value in manifest.lineage.items():
        yield f"  {key:<12} {value}"
    for entry in manifest.files:
        place = f", in ../{SHARED_FOLDER}" if entry.path in bundle.files.shared else ""
        yield f"  file         {entry.path} ({entry.role}, {entry.size_bytes:,} bytes{place})"


def _selects(selection: Selection) -> str:
    """The operating point, and what it has on the articles that it was chosen on."""
    if selection.chance is None:
        return "articles of the operating tier"
    line = f"from a chance of {selection.chance:g} ({selection.rule}"
    point = next((point for point in selection.curve if point.chance == selection.chance), None)
    if point is None:
        return line + ")"
    recall = point.hits / selection.positives
    basis = f"{selection.positives} positives of {selection.articles} articles, {selection.drawn_from}"
    return f"{line}: recall {recall:.2f}, precision {precision(point):.2f} on {basis})"
