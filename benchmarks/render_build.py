"""The page's section on variants: what each changed against fp32 on held-out articles, from the bundles themselves."""

from collections.abc import Iterator

from benchmarks.render_results import Json, Result, Results
from benchmarks.render_text import Cell, change, figure, fixed, not_measured, table

COMMAND = "python benchmarks/run.py --only build --bundle DIR --work DIR"
HEADER = ("stage", "variant", "MB", "articles", "to fp32", "Spearman", "label MAE", "fp32's", "flips", "far", "kept")
PARITY = ("stage", "articles", "alone", "in batches of 16", "calibration")
_MB = 1e6


def section(results: Results) -> str:
    """The section."""
    intro = (
        "When a bundle is built, each variant is run on the calibration and the test split, of which no model saw "
        "anything, and is kept only if it decides as fp32 does. The second row of a variant is on the test split "
        "alone. *To fp32*: mean absolute difference of scores. *Label MAE*: to the oracle's labels. *Flips*: "
        "articles with another tier, gatekeeper, route; *far*: those farther than 0.25 from every boundary.\n"
    )
    parts = [_bundle(result) for result in results["build"]] or [not_measured(COMMAND)]
    return "\n".join(["## Variants at the gate\n", intro, *parts])


def tried(result: Result) -> Iterator[tuple[str, str, Json, tuple[str, ...]]]:
    """Stage, variant, record and objections of every variant that answered at the gate, kept or not."""
    for variant, found in result.record["variants"].items():
        for stage, record in found["stages"].items():
            if "gate" in record:
                yield stage, variant, record, ()
    for item in result.record["refused"]:
        if "gate" in item:
            yield item["stage"], item["variant"], item, tuple(item["reasons"])


def _bundle(result: Result) -> str:
    record = result.record
    rows = [row for stage, variant, found, reasons in tried(result) for row in _rows(stage, variant, found, reasons)]
    exact = record["variants"]["cpu-fp32"]["stages"]
    parity = [
        [stage, p["articles"], figure(p["batch_1"]), figure(p["batch_16_padded"]), figure(p["calibration"])]
        for stage, found in exact.items()
        if (p := found.get("parity"))
    ]
    bases = ", ".join(f"{stage} {name or 'token table'}" for stage, name in record["bases"].items())
    windows = ", ".join(f"{stage} {tokens}" for stage, tokens in record["windows"].items())
    sizes = ", ".join(f"{name} {count}" for name, count in record["split_sizes"].items())
    facts = f"{record['bundle']}: {bases}; windows of {windows} tokens; articles: {sizes}.\n"
    untried = [item for item in record["refused"] if "gate" not in item]
    blocks = [f"### {result.subject}, variants\n", facts]
    blocks.append(table(HEADER, rows) if rows else "No variant besides cpu-fp32 was tried.\n")
    blocks += ["Largest difference of cpu-fp32's raw outputs to the trained models:\n", table(PARITY, parity)]
    blocks.append(_source(record))
    blocks.append("".join(f"- {i['stage']} {i['variant']}: {'; '.join(i['reasons'])}\n" for i in untried))
    return "\n".join(blocks)


def _source(record: Json) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    return f"Recorded in the bundle by `{record['command']}` ({versions}), which does not record its machine.\n"


def _rows(stage: str, variant: str, record: Json, reasons: tuple[str, ...]) -> Iterator[list[Cell]]:
    size = figure(record["size_bytes"] / _MB) if "size_bytes" in record else None
    for key, kept in (("gate", "; ".join(reasons) or "yes"), ("gate_test", "")):
        if found := record.get(key):
            first = key == "gate"
            yield [
                stage if first else "",
                variant if first else "test split",
                size if first else None,
                found["articles"],
                figure(found["mae_to_fp32"]),
                fixed(found["spearman"], 4),
                f"{found['label_mae']:.4f} ({change(found['label_mae'] / found['label_mae_fp32'])})",
                f"{found['label_mae_fp32']:.4f}",
                f"{found['tier_flips']}, {found['gatekeeper_flips']}, {found['route_flips']}",
                found["far_flips"],
                kept,
            ]
