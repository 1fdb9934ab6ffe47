"""What `trainer label` says: of a dry run, and at its end."""

from collections.abc import Iterator
from typing import Any

from distillery_trainer.cli.summary import with_interval
from distillery_trainer.labelling.label import Labelled
from distillery_trainer.labelling.plan import Estimate
from distillery_trainer.labelling.prepared import Prepared


def dry_run_lines(prepared: Prepared, left: Estimate) -> Iterator[str]:
    """What would be asked and what it would cost."""
    access, price, money = prepared.job.access, prepared.price, prepared.job.money
    yield f"filter    {prepared.spec.label}"
    yield f"oracle    {access.model} of {access.service}, {prepared.mode}"
    yield f"articles  {len(prepared.articles.articles)}, {_passed_over(prepared)}"
    yield f"questions {len(prepared.plan.requests)}, of which {left.questions} have no answer yet"
    yield f"tokens    about {left.input_tokens:,} of input"
    yield f"price     ${price.input:g} in, ${price.cached:g} cached, ${price.output:g} out a million ({price.as_of})"
    budget = f", of a budget of ${money.max_usd:g}" if money.max_usd else ""
    by = f"by the cost of {left.replies} replies" if left.replies else "by length"
    yield f"cost      about ${left.likely_usd:.4f}, {by}{budget}"
    yield f"          at most ${left.most_usd:.4f}, at a token for each byte and all the output allowed"


def summary_lines(prepared: Prepared, done: Labelled) -> Iterator[str]:
    """What came of it."""
    summary: Any = done.summary  # Any: nested JSON of known shape
    articles, cost = summary["articles"], summary["cost_usd"]
    yield f"{summary['filter']}: {summary['state']}{f', {done.stop}' if done.stop else ''}"
    yield f"articles  {articles['labelled']} labelled, {articles['dead']} dead letters, {articles['open']} not answered"
    for reason, count in articles["dead_by_reason"].items():
        yield f"          {count} {reason}"
    yield f"          {_passed_over(prepared)}"
    unsure = (f", and about ${cost['unsure_likely']:.4f}, at most ${cost['unsure']:.4f}, for calls without a known end"
              if cost["unsure"] else "")  # fmt: skip
    now, budget = cost["paid_now"], cost["budget"]
    yield f"cost      ${cost['paid']:.4f}, ${now:.4f} of it now{unsure}, of a budget of ${budget:g}"
    if summary["labels"]:
        tiers = ", ".join(f"{count} {name}" for name, count in summary["labels"]["tiers"].items())
        yield f"tiers     {tiers}"
    if summary["oracle_noise"]:
        noise = summary["oracle_noise"]
        yield f"noise     {noise['mae']:.3f} between two answers to the same article, {noise['articles']} articles"
    written = [prepared.job.out] if done.has_labels else []
    yield f"files     {', '.join(map(str, [*written, prepared.job.dead, prepared.job.summary]))}"


def agreement_lines(report: Any) -> Iterator[str]:  # Any: nested JSON of known shape
    """How far two oracles agree, a line for each dimension."""
    first, second = report["oracles"]
    yield f"{first} against {second}: {report['articles']} articles in both"
    yield f"mean absolute difference over all dimensions {_interval(report['mae'])}"
    for name, part in (report["dimensions"] | {"overall": report["overall"]}).items():
        yield f"  {name}"
        yield "    " + ", ".join(f"{measure} {_interval(part[measure])}" for measure in part)
    tiers = report["tiers"]
    yield f"same tier: {tiers['same']} of {report['articles']} articles"
    yield (f"at the operating tier: found by both {tiers['found_by_both']}, by the first only "
           f"{tiers['found_by_first_only']}, by the second only {tiers['found_by_second_only']}")  # fmt: skip
    for oracle, noise in zip(report["oracles"], report["noise"], strict=True):
        if noise is not None:
            yield f"{oracle} against itself: {noise['mae']:.3f}, {noise['articles']} articles"


def _interval(found: Any) -> str:  # Any: as above
    if found["value"] is None:
        return "not defined"
    return with_interval(found["value"], found["interval"])


def _passed_over(prepared: Prepared) -> str:
    reasons = prepared.articles.passed_over
    return "passed over: " + (", ".join(f"{count} {reason}" for reason, count in reasons.items()) or "none")
