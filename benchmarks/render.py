"""Writes docs/benchmarks.md and its charts from the files in benchmarks/results, and from nothing else.

    python benchmarks/render.py [--results DIR] [--docs DIR]

`benchmarks/run.py` calls it at its end, and alone with --render-only.
"""

import argparse
import sys
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # run as a script, its own folder would come first

from benchmarks import (
    render_bench,
    render_build,
    render_finds,
    render_gpu,
    render_parity,
    render_peers,
    render_quality,
    render_runs,
    render_stream,
    render_suite,
)
from benchmarks.render_results import Results, read_results
from benchmarks.render_targets import targets_table

ROOT = Path(__file__).resolve().parents[1]
PAGE, PICTURES = "benchmarks.md", "benchmarks"
COLUMNS = 120
HEAD = """# Benchmarks

Written by `python benchmarks/run.py --render-only` from the files in `benchmarks/results`; a test holds the two
together. Figures are of the machine that is named with them. Compare those of one table; between tables the
machine, or what else it did, may have been another.

"""
AGAIN = """## To measure it again

```bash
python -m benchmarks.peers.environments --make environments
python benchmarks/run.py --models DIR --articles FILE --bundle DIR --torch-run RUN --environments environments \\
  --work DIR
python benchmarks/run.py --render-only
```

`--models` is a folder of checkpoints in Hugging Face form, each in a folder of its model's name; `--articles`
JSON Lines with `id`, `title` and `text`; `--bundle`, which may be repeated, a bundle, and `--torch-run` the run
that it was made from. A part whose inputs are missing is left out with a reason, one whose result is there is
kept (`--again` measures it again), and `--quick` tries everything in tiny settings. `pytest benchmarks/suite` by
itself measures demo bundles that it makes.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results", metavar="DIR")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs", metavar="DIR")
    options = parser.parse_args(arguments)
    for path in write_page(options.results, options.docs):
        print(f"{path.name} written", file=sys.stderr)
    return 0


def write_page(results: Path, docs: Path) -> list[Path]:
    """Writes what has changed, takes away charts that are no longer made, and gives the files written.

    Raises:
        InputError: a result file is none.
    """
    files = render(read_results(results))
    (docs / PICTURES).mkdir(parents=True, exist_ok=True)
    for path in (docs / PICTURES).glob("*.svg"):
        if f"{PICTURES}/{path.name}" not in files:
            path.unlink()
    written = []
    for name, content in files.items():
        path = docs / name
        if not path.exists() or path.read_text(encoding="utf-8") != content:
            path.write_text(content, encoding="utf-8")
            written.append(path)
    return written


def render(results: Results) -> Mapping[str, str]:
    """The page and its charts: content by path below docs/. The same results give the same bytes."""
    sections = [
        render_peers.section(results),
        render_suite.section(results),
        render_bench.section(results),
        render_stream.section(results),
        render_parity.section(results),
        render_build.section(results),
        render_gpu.section(results),
        render_quality.section(results),
        AGAIN,
    ]
    head = HEAD + "## Against the targets\n\n" + targets_table(results)
    charts = render_peers.charts(results) | render_suite.charts(results) | render_stream.charts(results)
    pictures = {f"{PICTURES}/{name}": content for name, content in charts.items()}
    pages = {**render_finds.page(results), **render_runs.page(results)}
    runs = {name: _tidy(page) for name, page in pages.items()}
    return {PAGE: _tidy("\n".join([head, *sections])), **runs, **pictures}


def _tidy(page: str) -> str:
    """Prose in lines of a width, one empty line between blocks, and none at the end."""
    page = "\n".join(_wrapped(line) for line in page.split("\n"))
    while "\n\n\n" in page:
        page = page.replace("\n\n\n", "\n\n")
    return page.strip() + "\n"


def _wrapped(line: str) -> str:
    """A line of prose or of a list in several; tables, pictures, headings and code as they are."""
    if len(line) <= COLUMNS or line.startswith(("|", "!", "#", "<", "python ")):
        return line
    indent = "  " if line.startswith("- ") else ""
    return textwrap.fill(line, COLUMNS, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


if __name__ == "__main__":
    sys.exit(main())
