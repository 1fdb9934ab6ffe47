"""docs/results-in-detail.md: what students and cascades are worth on held-out articles, from quality-*.json."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from benchmarks.render_results import Json, Result, Results
from benchmarks.render_text import fixed, percent, table
from benchmarks.render_training import sections
from distillery_trainer.certify.certificate import statements

PAGE = "results-in-detail.md"
BASELINES = ("constant", "tfidf_ridge", "static")
OWN = ("probe", "student", "cascade")
PARTS = {
    "total": "all",
    "not_arxiv": "not arXiv",
    "dutch": "Dutch",
    "length:300_to_1500": "300 to 1,500 characters",
    "length:over_1500": "over 1,500 characters",
}
COLUMNS = ("run", "system", "articles", "MAE", "95 %", "Spearman", "recall at the tier", "in the top 10 %")
HEAD = """# Results in detail: one oracle, one filter

Written by `python benchmarks/run.py --render-only` from `benchmarks/results/quality-*.json`, which
`benchmarks/quality.py` keeps of finished runs, and from the files of `cost.py`, `losses.py`, `joint.py` and
`kills.py`; a test holds page and files together. The articles are 5,442 real ones about climate technology and
science with one LLM's scores on six dimensions; half are arXiv abstracts, which a bag of words predicts easily, so
the part without them counts more. Splits are by near-duplicate group. Rows marked "old split" are of runs whose
near-duplicates were found by MinHash, the starter's too. They keep their figures until their next fit; their test
articles are others, so compare them with one another only. MAE is the mean distance from the label over all
dimensions, from 0 to 10, with its 95 % interval; two answers about near-duplicate articles differ by about 0.66
themselves. None of the texts is in this repository.

"""


def page(results: Results) -> Mapping[str, str]:
    """The page by its path below docs/; nothing where there are no results of this kind."""
    runs = results["quality"]
    if not runs:
        return {}
    lines = [line for part in (_settings, _errors, _paired, _cascades) for line in part(runs)]
    return {PAGE: HEAD + "\n".join([*lines, *sections(results)])}


def _settings(runs: Sequence[Result]) -> Iterator[str]:
    yield "## The runs\n"
    rows = [
        [run.label, *(run.record[key] for key in ("backend", "model", "window")), _training(run.record),
         run.record["split_sizes"]["train"], run.record["note"]]
        for run in runs
    ]  # fmt: skip
    yield table(["run", "backend", "model", "tokens", "training", "articles", "what sets it apart"], rows)
    yield ""


def _training(record: Json) -> str:
    """The settings that decide, in short."""
    training = record["training"]
    return f"{training['epochs']} epochs, {training['learning_rate']:g}, seed {record['seed']}"


def _errors(runs: Sequence[Result]) -> Iterator[str]:
    for part, title in PARTS.items():
        with_part = [run for run in runs if part in run.record["parts"]]
        if not with_part:
            continue
        yield f"## {title[0].upper()}{title[1:]}\n"
        rows: list[list[str | int]] = []
        for old in (False, True):
            runs_of = [run for run in with_part if run.is_of_old_split is old]
            name = "(old split)" if old else ""
            rows += [_row(name, system, runs_of[0].record["parts"][part]) for system in BASELINES if runs_of]
            rows += [_row(run.label, system, run.record["parts"][part]) for run in runs_of for system in OWN]
        yield table(
            ["run", "system", "articles", "MAE", "95 %", "Spearman", "recall at the tier", "in the top 10 %"], rows
        )
        yield ""


def _row(run: str, name: str, systems: Json) -> list[str | int]:
    """One system's figures in a part."""
    found = systems[name]
    interval = found["intervals"]["mae"]
    tiers = list(found["tiers"].values())
    recall = tiers[-1]["recall"] if tiers else None
    bounds = f"{interval[0]:.3f}–{interval[1]:.3f}" if interval else "–"
    top = found["recall_at"]["top_tenth"]["recall"]
    errors = [fixed(found["mae"], 3), bounds, fixed(found["overall"]["spearman"], 3)]
    return [run, name.replace("_", " "), found["n"], *errors, percent(recall), percent(top)]


def _paired(runs: Sequence[Result]) -> Iterator[str]:
    yield "## Against the bag of words, article by article\n"
    yield "How much lower the error is than that of TF-IDF with ridge regression: negative is better. 95 % intervals.\n"
    rows = []
    for run in runs:
        for name in ("probe", "student"):
            cells = []
            for part in ("total", "not_arxiv", "dutch"):
                part_of = run.record["differences"].get(part)
                found = part_of[f"{name}_minus_tfidf_ridge"]["mae"] if part_of else {"interval": None}
                low, high = found["interval"] or (None, None)
                cells.append("–" if low is None else f"{found['difference']:+.3f} ({low:+.3f} to {high:+.3f})")
            rows.append([run.label, name, *cells])
    yield table(["run", "system", "all", "not arXiv", "Dutch"], rows)
    yield ""


def _statements(certificate: Json) -> str:
    """What is certified; runs with a router are of before there was an operating point: their students place."""
    words = statements(certificate)
    if "router" not in certificate:
        return words
    return words.replace("that the student selects", "that the student places at the operating tier or above")


def _cascades(runs: Sequence[Result]) -> Iterator[str]:
    yield "## What the probe may answer\n"
    for run in runs:
        certificate, share = run.record["certificate"], percent(run.record["cascade"]["share_probe"], 1)
        yield f"*{run.label}*: the probe answers {share} of the test articles."
        yield f"{_statements(certificate)}\n"
        if "router" not in certificate:  # of before: its thresholds are overalls, which no probe is routed by any more
            continue
        rows = [
            [percent(p["threshold"], 1), percent(p["share_below"], 1), f"{p['misses']} of {p['positives']}",
             percent(p["upper_bound"], 1), p["positives_planned"] or "–"]
            for before, p in pairwise([{}, *run.record["curve"]])
            if p["share_below"] != before.get("share_below", 0)
        ]  # fmt: skip
        yield table(["chance below", "answered by the probe", "missed", "bound", "positives that would certify"], rows)
        yield ""
