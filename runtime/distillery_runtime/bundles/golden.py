"""Golden articles: what a bundle answered where it was made, replayed where it is used."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Literal, TypeVar

import numpy as np
from pydantic import Field, ValidationError

from distillery_runtime.articles.article import Article
from distillery_runtime.articles.text import compose
from distillery_runtime.errors import BundleError
from distillery_runtime.files.strict_json import JsonError, parse_json
from distillery_runtime.format.variants import FORMS, REFERENCE
from distillery_runtime.models.stage import Stage
from distillery_runtime.spec.calibration import Calibration, CalibrationMap, ReadOut
from distillery_runtime.spec.model import StrictModel, TextPolicy
from distillery_runtime.spec.reading import describe
from distillery_runtime.tokens.window import Ids

MAX_GOLDENS = 1000
CALIBRATION_TOLERANCE = 1e-6  # one step of float32 just below 10 is 9.5e-7


class Expected(StrictModel):
    """What one variant of one stage must answer: the ids' count and digest, and raw outputs in column order."""

    tokens: int
    ids_sha256: str
    raw: tuple[Annotated[float, Field(allow_inf_nan=False)], ...]


class Golden(StrictModel):
    """One golden article with the answers expected, by stage and variant."""

    id: str
    title: str
    text: str
    origin: str
    expected: dict[str, dict[str, Expected]]

    @property
    def article(self) -> Article:
        """The article to replay."""
        return Article(self.id, self.title, self.text)


class ReadOutMaps(StrictModel):
    """The maps of both read-outs: `expected` from raw outputs, `scores` from `expected`."""

    expected: tuple[CalibrationMap, ...]
    scores: tuple[CalibrationMap, ...]


class CalibrationFile(StrictModel):
    """The content of `calibration.json`: the maps by stage and variant, readable; the graphs hold the same knots.

    Version 2 has the maps of both read-outs, version 1 of the mean alone.
    """

    schema_version: Literal[1, 2]
    stages: dict[str, dict[str, tuple[CalibrationMap, ...] | ReadOutMaps]]

    def read_out(self, stage: str, variant: str) -> ReadOut | None:
        """How a variant's raw outputs are read; None where the file does not say, or is of another version."""
        maps = self.stages.get(stage, {}).get(variant)
        if maps is None or isinstance(maps, ReadOutMaps) != (self.schema_version == 2):
            return None
        if isinstance(maps, ReadOutMaps):
            return ReadOut(Calibration(maps.expected), Calibration(maps.scores))
        return ReadOut(Calibration(maps))


_Kind = TypeVar("_Kind", bound=StrictModel)


def ids_digest(ids: Ids) -> str:
    """SHA-256 of token ids as little-endian int64, to compare what two programs fed a model."""
    return hashlib.sha256(np.ascontiguousarray(ids, dtype="<i8").tobytes()).hexdigest()


def parse_calibration(data: bytes, where: str) -> CalibrationFile:
    """Reads `calibration.json`.

    Raises:
        BundleError: it is not of the format.
    """
    return _parse(CalibrationFile, data, where)


def parse_goldens(data: bytes, where: str) -> list[Golden]:
    """Reads `golden.jsonl`.

    Raises:
        BundleError: a line is no golden article, or there is none or too many.
    """
    lines = [(number, line) for number, line in enumerate(data.splitlines(), start=1) if line.strip()]
    if len(lines) > MAX_GOLDENS:
        raise BundleError(f"{where}: {len(lines)} golden articles, expected at most {MAX_GOLDENS}")
    goldens = [_parse(Golden, line, f"{where}: line {number}") for number, line in lines]
    if not goldens:
        raise BundleError(f"{where}: no golden article, expected at least one")
    return goldens


def _parse(kind: type[_Kind], data: bytes, where: str) -> _Kind:
    try:
        parse_json(data)
        return kind.model_validate_json(data)
    except JsonError as error:
        raise BundleError(f"{where}: not strict JSON ({error})") from error
    except ValidationError as error:
        raise BundleError(*(f"{where}: {describe(item)}" for item in error.errors(include_url=False))) from error


def replay(
    stages: Sequence[Stage], calibration: CalibrationFile, goldens: Sequence[Golden], policy: TextPolicy
) -> list[str]:
    """Runs golden articles through every stage and lists what differs; an empty list means that all agree.

    Checked for each: the token ids, the raw outputs within the tolerance of the variant's form, and that the graph's
    own scores are `calibration.json` applied to its raw outputs.
    """
    texts = [compose(golden.article, policy).joined for golden in goldens]
    problems: list[str] = []
    for stage in stages:
        read_out = calibration.read_out(stage.name, stage.variant)
        expected = [golden.expected.get(stage.name, {}).get(stage.variant) for golden in goldens]
        if read_out is None or any(item is None for item in expected):
            problems.append(f"stage {stage.name}, variant {stage.variant}: no golden answers or no calibration")
            continue
        answers = [item for item in expected if item is not None]
        problems.extend(_compare(stage, read_out, goldens, answers, texts))
    return problems


def _compare(
    stage: Stage, read_out: ReadOut, goldens: Sequence[Golden], answers: Sequence[Expected], texts: Sequence[str]
) -> Iterator[str]:
    rows = stage.window.encode(texts)
    output = stage.run(rows)
    off = read_out.differences(output.raw, output.expected, output.scores)
    tolerance = FORMS.get(stage.variant, REFERENCE).tolerance
    for index, (golden, answer, row) in enumerate(zip(goldens, answers, rows, strict=True)):
        where = f"golden {golden.id}, stage {stage.name}, variant {stage.variant}"
        if (len(row.ids), ids_digest(row.ids)) != (answer.tokens, answer.ids_sha256):
            yield f"{where}: {len(row.ids)} token ids, expected {answer.tokens} others (another tokenizers version?)"
            continue
        if output.raw.shape[1] != len(answer.raw):
            yield f"{where}: {output.raw.shape[1]} outputs, expected {len(answer.raw)}"
            continue
        difference = float(np.max(np.abs(output.raw[index] - np.array(answer.raw))))
        if not difference <= tolerance:
            yield f"{where}: raw outputs differ by {difference:.2g}, expected at most {tolerance:g}"
        if not off[index] <= CALIBRATION_TOLERANCE:
            yield f"{where}: calibrated scores differ from calibration.json by {off[index]:.2g}"


def golden_line(golden: Mapping[str, object]) -> str:
    """One line of `golden.jsonl`, checked by reading it back."""
    line = json.dumps(golden, ensure_ascii=False)
    Golden.model_validate_json(line)
    return line
