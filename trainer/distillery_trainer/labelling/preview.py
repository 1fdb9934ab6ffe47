"""Preview of a call to an oracle: its address, body, size and cost; nothing is sent."""

import io
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from distillery_runtime.articles.article import ArticleError, parse_article
from distillery_runtime.articles.jsonl import BadLine, file_problem, read_jsonl, sniffed
from distillery_runtime.articles.sniffing import STDIN
from distillery_runtime.articles.text import compose
from distillery_runtime.errors import InputError, Problem
from distillery_runtime.files.strict_json import JsonError, parse_json
from distillery_runtime.spec.model import FilterSpec
from distillery_trainer.filters.prompt import read_template, render_prompt, reply_schema
from distillery_trainer.labelling.estimate import CostEstimate, Terms, estimate, max_frame_tokens
from distillery_trainer.labelling.job import Questions
from distillery_trainer.labelling.ledger import CostRatio
from distillery_trainer.labelling.plan import make_asking
from distillery_trainer.oracle.prices import FREE, Price
from distillery_trainer.oracle.protocol import Call
from distillery_trainer.oracle.services import Access, address_and_body, price_of

PLACEHOLDER = "(the article's title and text)"
FROM_STDIN = "-"
_TEXTS = ("messages", "systemInstruction", "contents")  # of a body: shown by themselves


@dataclass(frozen=True, slots=True)
class Preview:
    """One call as it would be made. `price` and `cost` are None where no price is known."""

    filter_label: str
    access: Access
    call: Call
    characters: int
    url: str
    body: Mapping[str, object]
    price: Price | None
    estimate: CostEstimate

    def to_record(self) -> dict[str, object]:
        """The JSON form: `body` is sent to `url` as it stands."""
        cost = {"likely": self.estimate.likely_usd, "most": self.estimate.most_usd} if self.price else None
        return {
            "filter": self.filter_label,
            "oracle": self.access.service,
            "model": self.access.model,
            "article": self.call.article_id,
            "url": self.url,
            "body": self.body,
            "instruction": self.call.instruction,
            "message": self.call.message,
            "characters": self.characters,
            "bytes": len(json.dumps(self.body, ensure_ascii=False).encode()),
            "input_tokens": self.estimate.input_tokens,
            "most_output_tokens": self.access.settings.most_output_tokens,
            "price": asdict(self.price) if self.price else None,
            "cost_usd": cost,
        }

    def lines(self) -> Iterator[str]:
        """The same for people: what is sent first, its figures last."""
        yield from ("=== system instruction ===", self.call.instruction, "")
        yield from ("=== message ===", self.call.message, "")
        yield "=== settings and schema ==="
        settings = ((name, value) for name, value in self.body.items() if name not in _TEXTS)
        yield from (f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in settings)
        yield ""
        yield f"filter    {self.filter_label}"
        yield f"oracle    {self.access.model} of {self.access.service}, {self.url}"
        yield f"article   {self.call.article_id}, {self.characters:,} characters"
        size = len(self.call.instruction.encode()) + len(self.call.message.encode())
        most = self.access.settings.most_output_tokens
        yield f"tokens    about {self.estimate.input_tokens:,} of input ({size:,} bytes), at most {most:,} of output"
        if self.price is None:
            yield "cost      not known: --price input=USD,output=USD for a million tokens"
        elif self.price.is_free:
            yield f"cost      {self.price.as_of}"
        else:
            cost = f"about ${self.estimate.likely_usd:.6f}, at most ${self.estimate.most_usd:.6f} an article"
            yield f"cost      {cost} ({self.price.as_of})"
        if self.characters > (longest := Questions().max_characters):
            yield f"          longer than {longest} characters: `trainer label` passes it over (--max-characters)"


def preview(folder: Path, spec: FilterSpec, access: Access, given_price: str | None, source: str | None) -> Preview:
    """The call about one article, made ready and not made; no key is needed.

    Args:
        folder: the filter's.
        spec: the filter.
        access: which oracle would be asked, checked.
        given_price: as `--price` has it.
        source: a file whose first article is taken, `-` for the standard input, None for a placeholder.

    Raises:
        InputError: the prompt, the article or an option is of no use.
    """
    article_id, text = ("(none)", PLACEHOLDER) if source is None else _article(source, spec)
    template = folder / "prompt.md"
    instruction = render_prompt(read_template(template), spec, str(template))
    schema = reply_schema(spec)
    asking = make_asking(spec.label, instruction, schema, access.service, access.model, access.settings)
    call = asking.call(article_id, text)
    url, body = address_and_body(access, schema, call)
    price = _price(access, given_price)
    frame_tokens = max_frame_tokens(asking.schema, access.settings)
    terms = Terms(asking.id, access.settings, price or FREE, "live", frame_tokens)
    figures = estimate([call], terms, len(spec.flags) + len(spec.dimensions), CostRatio(0, 0.0, 0.0))
    return Preview(spec.label, access, call, len(text), url, body, price, figures)


def _price(access: Access, given: str | None) -> Price | None:
    """The price; None where none is known, which keeps nobody from looking at a prompt."""
    try:
        return price_of(access, given)
    except InputError:
        if given is not None:
            raise
        return None


def _article(source: str, spec: FilterSpec) -> tuple[str, str]:
    """Id and composed text of the first article in a file."""
    name = STDIN if source == FROM_STDIN else source
    try:
        article = parse_article(_first(_content(source), name))
    except (ArticleError, ValueError) as error:
        problem = Problem(name, str(error), "an article as JSON, with id, title and text")
        raise InputError("--article", [problem]) from error
    text = compose(article, spec.text).joined
    if not text:
        raise InputError("--article", [Problem(name, "no text left after cleaning", "an article with a text")])
    return article.id, text


def _content(source: str) -> bytes:
    if source == FROM_STDIN:
        return sys.stdin.buffer.read()
    if problem := file_problem(Path(source), or_pipe=True):
        raise InputError("--article", [problem])
    return Path(source).read_bytes()


def _first(content: bytes, name: str) -> Mapping[str, object]:
    """The first record of JSON lines, or the one object that is the whole content."""
    try:
        whole = parse_json(content)
    except JsonError:  # several lines, or no JSON: then the first line says why
        whole = None
    if isinstance(whole, dict):
        return whole
    record = next(read_jsonl(sniffed(io.BytesIO(content), name)), None)
    if record is None or isinstance(record, BadLine):
        raise ValueError("empty" if record is None else record.reason)
    return record
