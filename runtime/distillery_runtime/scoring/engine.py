"""Cascades of one or several filters over the same articles, in steps that a pipeline overlaps, nothing done twice.

A chunk is cleaned, and then for each stage tokenised and answered. What filters have in common is told by identity
(see `shared`): an article is cleaned once for each text policy, tokenised once for each token window, and passes each
encoder once. Heads, thresholds, prefilters and verdicts are each filter's own.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from threading import Event
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from distillery_runtime.articles.admission import Entry, Refused, chunked, read_entry
from distillery_runtime.articles.text import compose
from distillery_runtime.models.stage import Stage
from distillery_runtime.scoring.cascade import CascadeRunner, Waiting
from distillery_runtime.scoring.result import Score
from distillery_runtime.scoring.threads import pipelined
from distillery_runtime.scoring.timings import Timings, timed
from distillery_runtime.tokens.window import TokenIds, token_batches

# Articles in a chunk of a stream. On a CPU a model runs a row or a few at a time: a chunk need only be large enough to
# make the steps' own overhead small, and small enough for a short stream to overlap. CUDA wants many rows of a length,
# also for a later stage, which gets only a part of each chunk: chunks are large there, rather than a stage waiting for
# articles of several.
CHUNK_ARTICLES = {"cpu": 128, "cuda": 1024}
# Tokens that a model answers between two looks whether it should stop: a few seconds of a large model on a CPU.
SLICE_TOKENS = {"cpu": 4096, "cuda": 1 << 20}

Floats = NDArray[np.float32]
Key = tuple[int, ...]


class _Use(NamedTuple):
    """What several filters use alike at one depth: the key that tells it, one of their stages, and their numbers.

    Of a reader (texts of one policy, one token window) the key is the policy's number and the window's id; of a model,
    which is all in a stage before heads, these and the id of its first graph.
    """

    key: Key
    stage: Stage
    filters: tuple[int, ...]


@dataclass(slots=True)
class _Chunk:
    """Articles on their way, in the hands of one step at a time. Places are positions in `entries`.

    `results` and `waiting` have an item for each filter. `texts` (by policy), `rows` (by reader) and `answers` (by
    model: pooled states where heads follow, else what decides) hold by place what was made, for whoever needs it.
    """

    entries: Sequence[Entry]
    results: list[list[Score | None]]
    waiting: list[list[Waiting]]
    texts: list[dict[int, str]]
    rows: dict[Key, dict[int, TokenIds]]
    answers: dict[Key, dict[int, Floats]]

    def places(self, use: _Use, done: Mapping[int, object]) -> list[int]:
        """The places that the filters of a use wait for and that are not done yet."""
        if not done and len(use.filters) == 1:
            return [item.place for item in self.waiting[use.filters[0]]]
        return sorted({item.place for number in use.filters for item in self.waiting[number]} - done.keys())


class Engine:
    """Scores articles by the cascades of several filters. Keeps no state between calls."""

    def __init__(self, cascades: Sequence[CascadeRunner]) -> None:
        self._cascades = tuple(cascades)
        self._policies = tuple(dict.fromkeys(cascade.spec.text for cascade in cascades))
        self._policy_of = [self._policies.index(cascade.spec.text) for cascade in cascades]
        self._depths = range(max(len(cascade.stages) for cascade in cascades))
        self._readers = [self._uses(depth, _reader) for depth in self._depths]
        self._models = [self._uses(depth, _model) for depth in self._depths]
        self.chunk_articles = max(CHUNK_ARTICLES[stage.provider] for c in cascades for stage in c.stages)

    def score(self, records: Iterable[object], timings: Timings | None) -> list[list[Score]]:
        """Scores records together; gives for each filter a result for each record, in order."""
        records = list(records)
        with timed(timings, "parse", len(records)):
            chunk = self._begin([read_entry(record) for record in records])
        for step in self._steps(timings, Event()):
            chunk = step(chunk)
        return _results(chunk)

    def stream(self, records: Iterable[object], timings: Timings | None) -> Generator[list[list[Score]], None, None]:
        """Scores records chunk by chunk, all steps at the same time; gives for each chunk what `score` gives."""
        stop = Event()
        steps = self._steps(timings, stop)
        chunks = (self._begin(entries) for entries in chunked(records, self.chunk_articles))
        with closing(pipelined(chunks, steps, len(steps) + 2, stop)) as done:
            for chunk in done:
                yield _results(chunk)

    def _uses(self, depth: int, parts: Callable[[Stage], Key]) -> list[_Use]:
        """Groups the filters that have a stage at `depth` by what their stages have in common."""
        groups: dict[Key, list[int]] = {}
        for number, cascade in enumerate(self._cascades):
            if depth < len(cascade.stages):
                key = self._policy_of[number], *parts(cascade.stages[depth])
                groups.setdefault(key, []).append(number)
        return [_Use(key, self._cascades[group[0]].stages[depth], tuple(group)) for key, group in groups.items()]

    def _steps(self, timings: Timings | None, stop: Event) -> list[Callable[[_Chunk], _Chunk]]:
        steps: list[Callable[[_Chunk], _Chunk]] = [partial(self._clean, timings)]
        for depth in self._depths:
            steps.append(partial(self._tokenise, depth, timings))
            steps.append(partial(self._answer, depth, timings, stop))
        return steps

    def _begin(self, entries: Sequence[Entry]) -> _Chunk:
        filters = self._cascades
        return _Chunk(entries, [[None] * len(entries) for _ in filters], [[] for _ in filters], [], {}, {})

    def _clean(self, timings: Timings | None, chunk: _Chunk) -> _Chunk:
        chunk.texts = [{} for _ in self._policies]
        with timed(timings, "clean", len(chunk.entries)):
            for place, entry in enumerate(chunk.entries):
                if isinstance(entry, Refused):
                    for cascade, results in zip(self._cascades, chunk.results, strict=True):
                        results[place] = cascade.refuse(entry.id, entry.reason)
                    continue
                texts = [compose(entry, policy) for policy in self._policies]
                for number, cascade in enumerate(self._cascades):
                    outcome = cascade.admit(place, entry, texts[self._policy_of[number]])
                    if isinstance(outcome, Score):
                        chunk.results[number][place] = outcome
                    else:
                        chunk.waiting[number].append(outcome)
                for known, text in zip(chunk.texts, texts, strict=True):
                    known[place] = text.joined
        return chunk

    def _tokenise(self, depth: int, timings: Timings | None, chunk: _Chunk) -> _Chunk:
        for use in self._readers[depth]:
            rows = chunk.rows.setdefault(use.key, {})
            if places := chunk.places(use, rows):
                texts = chunk.texts[use.key[0]]
                with timed(timings, f"{use.stage.name} tokenise", len(places)):
                    rows.update(zip(places, use.stage.window.encode([texts[place] for place in places]), strict=True))
        return chunk

    def _answer(self, depth: int, timings: Timings | None, stop: Event, chunk: _Chunk) -> _Chunk:
        for use in self._models[depth]:
            rows, answers = chunk.rows[use.key[:2]], chunk.answers.setdefault(use.key, {})
            limit = self._policies[use.key[0]].unread_limit
            if places := [place for place in chunk.places(use, answers) if rows[place].unread <= limit]:
                with timed(timings, f"{use.stage.name} model", len(places)):
                    answers.update(_run(use.stage, {place: rows[place] for place in places}, stop))
            for number in use.filters:
                if chunk.waiting[number]:
                    self._decide(depth, number, timings, chunk, rows, answers)
        return chunk

    def _decide(
        self,
        depth: int,
        number: int,
        timings: Timings | None,
        chunk: _Chunk,
        rows: dict[int, TokenIds],
        answers: dict[int, Floats],
    ) -> None:
        """Writes the results that one filter's stage decides, and leaves waiting what goes on."""
        cascade, waiting, results = self._cascades[number], chunk.waiting[number], chunk.results[number]
        stage = cascade.stages[depth]
        readable = [item for item in waiting if item.place in answers]
        if len(readable) < len(waiting):
            for item in waiting:
                results[item.place] = cascade.pass_over(depth, item, rows[item.place])
        if readable:
            values = np.stack([answers[item.place] for item in readable])
            if len(stage.graphs) > 1:
                with timed(timings, f"{stage.name} head", len(readable)):
                    values = stage.answer(values).rows
            with timed(timings, f"{stage.name} decide", len(readable)):
                for item, result in zip(readable, cascade.decide(depth, readable, rows, values), strict=True):
                    results[item.place] = result
        chunk.waiting[number] = [item for item in waiting if results[item.place] is None]


def _reader(stage: Stage) -> Key:
    return (id(stage.window),)


def _model(stage: Stage) -> Key:
    return id(stage.window), id(stage.graphs[0])


def _run(stage: Stage, rows: dict[int, TokenIds], stop: Event) -> Iterator[tuple[int, Floats]]:
    """Gives each row's answer of a stage's first graph, with the row's place.

    Raises:
        CancelledError: `stop` was set.
    """
    places = list(rows)
    for part in token_batches([len(rows[place].ids) for place in places], SLICE_TOKENS[stage.provider]):
        if stop.is_set():
            raise CancelledError
        chosen = [places[index] for index in part]
        slice_rows = [rows[place] for place in chosen]
        values = stage.pool(slice_rows) if len(stage.graphs) > 1 else stage.run(slice_rows).rows
        yield from zip(chosen, values, strict=True)


def _results(chunk: _Chunk) -> list[list[Score]]:
    return [[result for result in results if result is not None] for results in chunk.results]
