"""How many of the articles to be found a screening by ten seeds finds, against chance; on labelled articles.

    python benchmarks/screening.py --filter NAME --labels FILE [--embedder static] [--draws 200]

Each draw takes ten of the articles at or above the operating tier as seeds and looks for the others among the tenth of
all articles most like them. Prints JSON: recall, its interval over the draws, and how many times that is chance.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from distillery_runtime.spec.model import ProbeSettings
from distillery_runtime.spec.verdict import overalls
from distillery_trainer.curate.draw import similarities
from distillery_trainer.data.labels import read_labels
from distillery_trainer.filters.find import find_filter, load_filter
from distillery_trainer.models.choose import open_embedder

SEEDS, SHARE = 10, 0.1


def main() -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--filter", required=True)
    parser.add_argument("--labels", required=True, nargs="+", type=Path)
    parser.add_argument("--embedder", default="static")
    parser.add_argument("--overall", type=float, help="what is to be found (default: the operating tier)")
    parser.add_argument("--draws", type=int, default=200)
    options = parser.parse_args()
    spec = load_filter(find_filter(options.filter))
    labelled = read_labels(options.labels, spec)
    wanted = overalls(labelled.labels(), spec) >= (options.overall or spec.operating_overall)
    rows = open_embedder(ProbeSettings(embedder=options.embedder)).embed(labelled.texts)
    sources = [article.fields["source"] for article in labelled.articles]
    parts = {"total": np.ones(len(sources), bool), "not_arxiv": np.array(["arxiv" not in source for source in sources])}
    report = {name: measure(rows, wanted & part, part, options.draws) for name, part in parts.items()}
    print(json.dumps({"embedder": options.embedder, "seeds": SEEDS, "share": SHARE, **report}, indent=1))
    return 0


def measure(
    rows: NDArray[np.float32], wanted: NDArray[np.bool_], part: NDArray[np.bool_], draws: int
) -> dict[str, object]:
    """Recall within one part of the articles, embedded in `rows` (N, H), over draws of the seeds."""
    generator, recalls = np.random.default_rng(0), []
    own, found = np.flatnonzero(part), np.flatnonzero(wanted)
    for _ in range(draws):
        seeds = generator.choice(found, SEEDS, replace=False)
        rest = np.setdiff1d(own, seeds)
        likeness = similarities(rows[rest], rows[seeds])
        top = rest[np.argsort(-likeness, kind="stable")[: int(len(rest) * SHARE)]]
        recalls.append(np.isin(top, found).sum() / (len(found) - SEEDS))
    low, high = np.quantile(recalls, [0.025, 0.975])
    mean = float(np.mean(recalls))
    return {
        "articles": len(own),
        "to_find": len(found),
        "recall": round(mean, 4),
        "interval": [round(float(low), 4), round(float(high), 4)],
        "times_chance": round(mean / SHARE, 2),
    }


if __name__ == "__main__":
    sys.exit(main())
