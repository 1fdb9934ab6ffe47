"""What `trainer fit` shows at its end: how good each system is on the test articles, and what is certified."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

Json = Mapping[str, Any]  # Any: nested JSON of known shape

SYSTEMS = ("constant", "tfidf_ridge", "probe", "student", "cascade")


def summarise(folder: Path) -> str:
    """A table of test MAE by system and part, the share of articles the probe answers, and the certificate."""
    evaluation = json.loads((folder / "eval.json").read_text(encoding="utf-8"))
    certificate = json.loads((folder / "certificate.json").read_text(encoding="utf-8"))
    return "\n".join(_lines(evaluation, certificate))


def _lines(evaluation: Json, certificate: Json) -> Iterator[str]:
    parts = evaluation["parts"]
    yield ""
    yield f"{'test MAE (mean of dimensions)':<32}" + "".join(f"{name:>14}" for name in parts)
    yield f"{'  articles':<32}" + "".join(f"{part['constant']['n']:>14}" for part in parts.values())
    for system in SYSTEMS:
        yield f"  {system:<30}" + "".join(f"{part[system]['mae']:>14.3f}" for part in parts.values())
    yield ""
    yield f"the probe answers {evaluation['cascade']['share_probe']:.1%} of the test articles"
    yield str(certificate["statement"])
