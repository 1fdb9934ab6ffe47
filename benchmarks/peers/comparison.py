"""One model's comparison: sitting after sitting, the anchors in each, and the figures of all."""

from collections.abc import Mapping, Sequence

from benchmarks.peers.figures import Record, row_record, written
from benchmarks.peers.journal import Journal
from benchmarks.peers.models import multiply_adds, read_config
from benchmarks.peers.sitting import Comparison, Seating, common_head, measure, seat
from benchmarks.peers.table import ANCHORS, Contender
from benchmarks.peers.turns import News, Peaks, Row
from distillery_runtime.bench.timing import rates

MOST_BESIDE = 5  # contenders of a sitting beside the anchors: a round should not take long


def compare(task: Comparison, contenders: Sequence[Contender], journal: Journal, news: News) -> Record:
    """Measures all contenders that apply to the model; gives `rows`, `gemm` and `skipped`."""
    wanted = [contender for contender in contenders if contender.applies_to(task.model)]
    left = [contender for contender in wanted if contender.name not in journal.rows]
    refused = _measure(task, wanted, left, journal, news) if left else {}
    rows = {contender.name: journal.rows.get(contender.name, ()) for contender in wanted}
    order = {name: place for place, name in enumerate(rows)}
    return {
        "rows": sorted((row for some in rows.values() for row in some), key=lambda r: (r["tokens"], order[r["peer"]])),
        "gemm": journal.gemm,
        "skipped": [{"peer": name, "reason": reason} for name, reason in refused.items()],
    }


def _measure(
    task: Comparison, wanted: Sequence[Contender], left: Sequence[Contender], journal: Journal, news: News
) -> dict[str, str]:
    """Writes the rows of those who are left into the journal, and gives the reasons of those who have none."""
    head = common_head(task)
    anchors = seat(task, [c for c in wanted if c.name in ANCHORS], head, len(ANCHORS), news)
    refused = {**anchors.refused, **{contender.name: "not enough memory" for contender in anchors.waiting}}
    waiting: Sequence[Contender] = [contender for contender in left if contender.name not in ANCHORS]
    try:
        while True:
            beside = seat(task, waiting, head, MOST_BESIDE, news)
            try:
                rows, peaks = measure(task, [*anchors.seats, *beside.seats], news)
            finally:
                _close(beside)
            refused |= beside.refused
            refused |= {row.contender.name: f"{row.tokens} tokens: {row.failure}" for row in rows if row.failure}
            journal.add(_records(task, rows, peaks), {kind: _peak(peaks, kind) for kind in peaks})
            waiting = beside.waiting
            if not waiting:
                return refused
    finally:
        _close(anchors)


def _close(seating: Seating) -> None:
    for each in seating.seats:
        each.worker.close()


def _records(task: Comparison, rows: Sequence[Row], peaks: Peaks) -> dict[str, list[Record]]:
    """The figures of those that did not fail, by contender."""
    config, kind = read_config(task.folder), task.model.kind
    sound = [row for row in rows if not row.failure]
    records: dict[str, list[Record]] = {}
    for row in sound:
        anchors = _anchors(sound, row.tokens)
        work = multiply_adds(config, kind, row.tokens)
        records.setdefault(row.contender.name, []).append(row_record(row, anchors, task.model, work, peaks))
    return records


def _anchors(rows: Sequence[Row], tokens: int) -> Mapping[str, Row]:
    return {row.contender.name: row for row in rows if row.tokens == tokens and row.contender.name in ANCHORS}


def _peak(peaks: Peaks, kind: str) -> Record:
    gemm, operations = peaks[kind]
    return {"gflops": written(rates(gemm, 1e-9 * operations))}
