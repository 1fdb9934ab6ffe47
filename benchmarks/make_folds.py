#!/usr/bin/env python3
"""Makes `benchmarks/folds.jsonl`: near-duplicate groups and five folds over several files of labels and articles.

    python benchmarks/make_folds.py OUT --articles FILE... --filter FOLDER LABELS --filter FOLDER LABELS ...

Every id of a labels file must have its text in one of the articles files; all rows of a file given with `--whole` are
taken too. The output is what `trainer fit --splits` reads: articles that are near-duplicates have one group, the lowest
id of it, and a group is in one fold in whatever file its articles are. Folds share the finds of each filter at each
`--tiers` value, then its articles, as evenly as whole groups allow.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from distillery_runtime.articles.article import Article
from distillery_runtime.articles.text import compose
from distillery_runtime.spec.model import TextPolicy
from distillery_trainer.data.duplicates import near_duplicate_groups
from distillery_trainer.data.split import fold_name

FOLDS = 5
TIERS = (3.0, 4.0)  # the overalls at which a filter's finds are shared out

Rows = list[dict[str, Any]]
Counts = NDArray[np.float64]


def main() -> None:
    """Reads the files, shares the groups out and writes the folds."""
    options = _options()
    articles = {row["id"]: row for path in options.articles for row in _rows(path)}
    labels = [(_config(folder), _rows(path)) for folder, path in options.filter]
    whole = [_rows(path) for path in options.whole]
    ids = sorted({row["id"] for rows in [*whole, *(rows for _, rows in labels)] for row in rows})
    articles |= {row["id"]: row for rows in whole for row in rows if row["id"] not in articles and "text" in row}
    missing = [name for name in ids if name not in articles]
    if missing:
        raise SystemExit(f"{len(missing)} ids without a text, the first: {missing[0]}; give its file with --articles")
    groups = near_duplicate_groups(ids, [_text(articles[name]) for name in ids])
    folds = share_out(groups, _columns(ids, labels, whole))
    rows = (
        json.dumps({"id": name, "split": fold_name(int(fold)), "group": group})
        for name, group, fold in zip(ids, groups, folds, strict=True)
    )
    options.out.write_text("\n".join(rows) + "\n", encoding="utf-8")


def share_out(groups: Sequence[str], columns: Counts) -> NDArray[np.int64]:
    """The fold of each article: groups go, those with most to share first, where their columns are scarcest.

    `columns`: (N, C), what is to be shared out evenly: 1 where an article has it.
    """
    names, place = np.unique(np.asarray(groups), return_inverse=True)
    held = np.zeros((len(names), columns.shape[1]))
    np.add.at(held, place, columns / np.maximum(columns.sum(axis=0), 1))
    shuffled = np.random.default_rng(0).permutation(len(names))
    order = shuffled[np.argsort(-held[shuffled].sum(axis=1), kind="stable")]
    filled, fold_of = np.zeros((FOLDS, columns.shape[1])), np.zeros(len(names), np.int64)
    for group in order:
        fold_of[group] = np.argmin(np.square(filled + held[group]).sum(axis=1) - np.square(filled).sum(axis=1))
        filled[fold_of[group]] += held[group]
    return fold_of[place]


def _columns(ids: Sequence[str], labels: Sequence[tuple[dict[str, Any], Rows]], whole: Sequence[Rows]) -> Counts:
    """For each file a column of its articles, and for each filter one of its finds at each tier."""
    known = {name: place for place, name in enumerate(ids)}
    files = [*whole, *(rows for _, rows in labels)]
    columns = [_column(len(ids), [known[row["id"]] for row in rows]) for rows in files]
    for config, rows in labels:
        overall = _overall(config, rows)
        for tier in TIERS:
            finds = [known[row["id"]] for row, value in zip(rows, overall, strict=True) if value >= tier]
            columns.append(_column(len(ids), finds))
    return np.stack(columns, axis=1)


def _column(count: int, places: Sequence[int]) -> Counts:
    column = np.zeros(count)
    column[list(places)] = 1.0
    return column


def _overall(config: dict[str, Any], rows: Rows) -> Counts:
    """The weighted means (N,) of the labels, caps of flags and gatekeepers applied."""
    names = [dimension["name"] for dimension in config["dimensions"]]
    caps = {flag["name"]: flag.get("caps", {}) for flag in config.get("flags", [])}
    labels = np.array([[_capped(row, name, caps) for name in names] for row in rows])
    overall: Counts = labels @ np.array([dimension["weight"] for dimension in config["dimensions"]])
    for gate in config.get("gatekeepers", []):
        low = labels[:, names.index(gate["dimension"])] < gate["below"]
        overall = np.where(low, np.minimum(overall, gate["overall_cap"]), overall)
    return overall


def _capped(row: dict[str, Any], name: str, caps: dict[str, dict[str, float]]) -> float:
    raised = [flag for flag, on in row.get("flags", {}).items() if on]
    return min([float(row["labels"][name]), *(caps.get(flag, {}).get(name, 10.0) for flag in raised)])


def _text(row: dict[str, Any]) -> str:
    return compose(Article(id=row["id"], title=row["title"] or "", content=row["text"] or ""), TextPolicy()).joined


def _config(folder: str) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load((Path(folder) / "config.yaml").read_text(encoding="utf-8"))
    return config


def _rows(path: str | Path) -> Rows:
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").split("\n") if line.strip()]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--articles", nargs="+", required=True, type=Path, help="files with the texts")
    parser.add_argument("--filter", nargs=2, action="append", default=[], metavar=("FOLDER", "LABELS"))
    parser.add_argument("--whole", nargs="*", default=[], type=Path, help="files of which every id gets a fold")
    return parser.parse_args()


if __name__ == "__main__":
    main()
