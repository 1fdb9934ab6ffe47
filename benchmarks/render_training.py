"""Sections of docs/results.md about training itself: its cost, losses, shared backbones, trainings that are killed."""

from collections.abc import Iterator, Sequence
from statistics import stdev

from benchmarks.render_results import Json, Result, Results
from benchmarks.render_text import Cell, fixed, machine, percent, table, times


def sections(results: Results) -> Iterator[str]:
    """The sections for which there are results."""
    for kind, part in (("cost", _cost), ("losses", _losses), ("joint", _joint), ("kills", _kills)):
        if results[kind]:
            yield from part(results[kind])


def _cost(found: Sequence[Result]) -> Iterator[str]:
    yield "## What they cost\n"
    yield "Seconds of training, and articles a second on one thread; those of the cascade depend on how many the probe"
    yield "answers for good. A baseline's seconds are those in which it learns and answers the test articles.\n"
    rows: list[list[Cell]] = []
    for result in found:
        record = result.record
        trained, rates = record["training_s"], record["speed"]["articles_per_second"]
        rows += [
            [result.label, "probe", round(trained["probe"]), rates.get("probe"), record["note"]],
            [result.label, "student", round(trained["fit"]), rates["student"], ""],
            [result.label, "cascade", None, rates["cascade"], _answered(record["speed"])],
        ]
    baselines: Json = next((result.record["baselines_s"] for result in found if result.record["baselines_s"]), {})
    rows = [["", name.replace("_", " "), round(seconds), None, ""] for name, seconds in baselines.items()] + rows
    yield table(["run", "system", "training, s", "articles/s", ""], rows)
    yield f"\n{machine(found[0].record['machine'])}\n"


def _answered(speed: Json) -> str:
    return f"the probe answered {speed['answered_by_probe']} of {speed['articles']}"


def _losses(found: Sequence[Result]) -> Iterator[str]:
    yield "## Losses\n"
    for result in found:
        record, seeds = result.record, len(result.record["seeds"])
        yield f"*{result.label}*: {record['note']}; {seeds} seeds, each with a split of its own. Each loss has the"
        yield f"one of the rates {_rates(record)} that was best on validation articles with the first seed. Differences"
        yield f"are from `{record['reference']}`, article by article on a seed's test articles; negative is better.\n"
        rows = [
            [loss, f"{of['learning_rate']:g}", _mean(of["test_mae"]), _mean(of["spearman"]),
             percent(sum(of["recall"]) / seeds), *map(_difference, of["against_reference"])]
            for loss, of in record["losses"].items()
        ]  # fmt: skip
        differences = [f"difference, seed {seed}" for seed in record["seeds"]]
        yield table(["loss", "rate", "test MAE (s.d.)", "Spearman (s.d.)", "recall at the tier", *differences], rows)
        yield ""


def _rates(record: Json) -> str:
    return ", ".join(f"{rate:g}" for rate in record["rates_tried"])


def _mean(values: Sequence[float]) -> str:
    spread = f" ({stdev(values):.3f})" if len(values) > 1 else ""
    return f"{sum(values) / len(values):.3f}{spread}"


def _difference(found: Json | None) -> str:
    if found is None:
        return "–"
    low, high = found["interval"]
    return f"{found['difference']:+.3f} ({low:+.3f} to {high:+.3f}), {found['outcome']}"


def _joint(found: Sequence[Result]) -> Iterator[str]:
    yield "## Several filters on one backbone\n"
    for result in found:
        record = result.record
        yield f"*{result.label}*: {record['note']}. The difference is the joint student's error less that of a"
        yield "student of the filter's own, on the same split; negative is better.\n"
        rows = [
            [of["filter"], of["train"], of["test"], fixed(of["mae"]["a"], 3), fixed(of["mae"]["b"], 3),
             _difference(of["mae"])]
            for of in record["filters"]
        ]  # fmt: skip
        yield table(["filter", "learnt from", "tested on", "joint MAE", "own MAE", "difference"], rows)
        yield ""
        if panel := record["panel"]:
            yield f"A panel of the joint bundles scored {panel['articles']:,} articles {times(panel['ratio'])} as fast"
            yield f"as their scorers one after the other ({panel['threads']} thread, {len(panel['apart_s'])} rounds).\n"


def _kills(found: Sequence[Result]) -> Iterator[str]:
    yield "## Trainings that are killed\n"
    yield "The same fit undisturbed and with SIGKILL at random moments of its training. What a kill loses is the time"
    yield "since the last checkpoint that was whole.\n"
    rows = [
        [result.label, of["kills"], fixed(of["trained_s"], 0), percent(of["lost_share"], 1),
         fixed(of["test_mae"]["whole"], 6), fixed(of["test_mae"]["killed"], 6)]
        for result in found
        for of in [result.record]
    ]  # fmt: skip
    yield table(["training", "kills", "seconds undisturbed", "lost", "test MAE", "test MAE when killed"], rows)
    yield ""
