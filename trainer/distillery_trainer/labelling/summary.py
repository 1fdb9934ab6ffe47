"""The summary of a labelling: what came of the articles, what it cost, how the canary went, how sure the oracle is."""

import datetime
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np

from distillery_runtime.spec.model import FilterSpec
from distillery_runtime.spec.verdict import VerdictRules, round_scores
from distillery_runtime.version import __version__
from distillery_trainer.evaluate.noise import noise_floor
from distillery_trainer.labelling.asked import Asked
from distillery_trainer.labelling.ledger import Past, Spent
from distillery_trainer.labelling.prepared import Prepared
from distillery_trainer.labelling.results import Results, Row, repeats_of
from distillery_trainer.store.files import digest

SCHEMA_VERSION = 1
DECIMALS = 6


def summarise(prepared: Prepared, asked: Asked, results: Results, before: Spent, after: Spent) -> dict[str, object]:
    """The summary as JSON.

    Args:
        prepared: the job.
        asked: how the asking went.
        results: what came of the articles.
        before: what the ledger had spent before this command.
        after: what it has spent now.
    """
    repeats = list(repeats_of(results.labels, prepared.spec))
    return {
        "schema_version": SCHEMA_VERSION,
        "filter": prepared.spec.label,
        "state": "stopped" if asked.stop else "complete",
        "stop": asdict(asked.stop) if asked.stop else None,
        "oracle": _oracle(prepared),
        "articles": _articles(prepared, results),
        "calls": _calls(asked.history()),
        "cost_usd": _cost(prepared, before, after),
        "ledger": {"id": asked.ledger.id, "calls": asked.ledger.last_call()},
        "canary": asked.canary.to_record() if asked.canary else None,
        "labels": _labels(results.labels, prepared.spec),
        "oracle_noise": noise_floor(repeats, prepared.spec.dimension_names),
        "distillery": __version__,
        "written": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def _oracle(prepared: Prepared) -> dict[str, object]:
    access = prepared.job.access
    return {
        "service": access.service,
        "model": access.model,
        "mode": prepared.mode,
        "settings": asdict(access.settings),
        "asking": prepared.asking.id,
        "prompt_sha256": digest(prepared.asking.instruction),
        "schema_sha256": digest(prepared.asking.schema),
    }


def _articles(prepared: Prepared, results: Results) -> dict[str, object]:
    dead = Counter(str(row["reason"]) for row in results.dead)
    return {
        "usable": len(prepared.articles.articles),
        "labelled": len(results.labels),
        "dead": len(results.dead),
        "open": len(results.open),
        "dead_by_reason": dict(dead.most_common()),
        "passed_over": dict(prepared.articles.passed_over),
    }


def _calls(history: Sequence[Past]) -> dict[str, object]:
    """All calls of this asking, those of earlier commands included."""
    used = [past.outcome.usage for past in history if past.outcome.usage is not None]
    return {
        "by_outcome": dict(Counter(past.outcome.kind for past in history)),
        "failed_by_reason": dict(Counter(p.outcome.reason for p in history if p.outcome.kind == "failed")),
        "input_tokens": sum(usage.input_tokens for usage in used),
        "cached_tokens": sum(usage.cached_tokens for usage in used),
        "output_tokens": sum(usage.output_tokens for usage in used),
        "thinking_tokens": sum(usage.thinking_tokens for usage in used),
    }


def _cost(prepared: Prepared, before: Spent, after: Spent) -> dict[str, object]:
    """What the ledger has paid in all, and in this command; `unsure` is at most, `unsure_likely` what is probable."""
    return {
        "paid": round(after.known_usd, DECIMALS),
        "unsure": round(after.unsure_usd, DECIMALS),
        "unsure_likely": round(after.likely_usd, DECIMALS),
        "paid_now": round(after.known_usd - before.known_usd, DECIMALS),
        "budget": prepared.job.money.max_usd,
        "price": asdict(prepared.price),
    }


def _labels(rows: Sequence[Row], spec: FilterSpec) -> dict[str, object] | None:
    """Mean and spread of each dimension, and how many articles each tier and each flag has."""
    named = [row["labels"] for row in rows]
    scores = np.array([[labels[n] for n in spec.dimension_names] for labels in named if isinstance(labels, Mapping)])
    if not len(scores):
        return None
    rules = VerdictRules(spec)
    tiers = Counter(rules.decide(row).tier for row in round_scores(scores).tolist())
    flags = Counter(flag for row in rows if isinstance(raised := row.get("flags"), list) for flag in raised)
    columns = zip(spec.dimension_names, scores.mean(axis=0), scores.std(axis=0), strict=True)
    return {
        "dimensions": {n: {"mean": round(float(m), 3), "deviation": round(float(d), 3)} for n, m, d in columns},
        "tiers": {tier.name: tiers[tier.name] for tier in spec.tiers},
        "flags": {name: flags[name] for name in spec.flag_names},
    }
