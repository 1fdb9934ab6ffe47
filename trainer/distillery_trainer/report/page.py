"""A page of HTML that stands alone: headings, paragraphs, tables and figures, everything in it escaped."""

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from distillery_trainer.report.svg import STYLE, Drawing

CSS = """
@page{size:A4;margin:16mm}
*{box-sizing:border-box}
body{font:15px/1.5 Georgia,'Times New Roman','DejaVu Serif',serif;color:#000;background:#fff;max-width:760px;
margin:0 auto;padding:24px 20px}
h1{font-size:27px;line-height:1.2;margin:0 0 4px}h2{font-size:19px;margin:38px 0 6px;border-bottom:1px solid #000;
padding-bottom:3px}p{margin:8px 0}ul{margin:6px 0;padding-left:22px}li{margin:4px 0}
.under{color:#333;margin-top:0}.answer{border:2px solid #000;padding:12px 18px;margin:20px 0}
.answer h2{border:0;margin:0 0 4px;font-size:22px}.absent{color:#333;font-style:italic}
figure{margin:14px 0 20px}figure svg{display:block;width:100%;height:auto}
figcaption{font-size:13.5px;line-height:1.45;color:#111;margin-top:6px}
table{border-collapse:collapse;width:100%;margin:12px 0 4px;font:12.5px/1.35 Helvetica,Arial,'DejaVu Sans',sans-serif}
th,td{text-align:right;padding:4px 6px;border-bottom:1px solid #bbb;vertical-align:top}
thead th{border-bottom:1.5px solid #000;vertical-align:bottom}th:first-child,td:first-child{text-align:left}
td small{display:block;color:#333;white-space:nowrap}tr.strong td{font-weight:bold}
table.wide{font-size:10.5px}table.wide th,table.wide td{padding:3px;white-space:nowrap}
table.wide th{white-space:normal;font-size:9.5px}
table.wide td:first-child,table.wide td:first-child small{white-space:normal;overflow-wrap:anywhere;min-width:130px}
td a{color:inherit}
table.text th,table.text td{text-align:left}table.text td:first-child{white-space:nowrap;width:4em}
details{margin:10px 0}summary{font-weight:bold;cursor:pointer}
dl{margin:8px 0}dt{font-weight:bold;float:left;clear:left;margin-right:8px}dd{margin:0 0 4px}
code{font-size:12.5px;overflow-wrap:anywhere}
@media print{body{font-size:10.5pt;max-width:none;padding:0}h2{break-after:avoid}
figure,tr,.answer,li,details{break-inside:avoid}figcaption,table{font-size:9pt}table.wide{font-size:7.5pt}}
"""
POLICY = "default-src 'none'; style-src 'unsafe-inline'"  # the page loads and runs nothing


@dataclass(frozen=True, slots=True)
class Cell:
    """A table's cell: its words, smaller ones below, and an http address that the words link to."""

    words: str
    below: str = ""
    link: str | None = None


def document(title: str, language: str, parts: Iterable[str]) -> str:
    """The whole page."""
    head = [
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title><style>{CSS}{STYLE}</style>",
    ]
    lines = [
        "<!DOCTYPE html>",
        f'<html lang="{language}">',
        "<head>",
        *head,
        "</head>",
        "<body>",
        *parts,
        "</body></html>",
    ]
    return "\n".join(lines) + "\n"


def escape(words: str) -> str:
    """Words that mean nothing to a browser."""
    return html.escape(words)


def paragraph(words: str, style: str = "") -> str:
    """A paragraph of plain words."""
    return f"<p{_class(style)}>{escape(words)}</p>"


def bullets(items: Iterable[str]) -> str:
    """A list of sentences."""
    return "<ul>" + "".join(f"<li>{escape(item)}</li>" for item in items) + "</ul>"


def section(title: str, *parts: str) -> str:
    """A part of the page under a heading."""
    return "\n".join([f"<section><h2>{escape(title)}</h2>", *parts, "</section>"])


def details(title: str, *parts: str) -> str:
    """A part under a title that folds it away; open at first, for what is folded is not printed."""
    return "\n".join([f"<details open><summary>{escape(title)}</summary>", *parts, "</details>"])


def absent(reason: str) -> str:
    """Says why something is not shown."""
    return paragraph(reason, "absent")


def figure(drawing: Drawing, caption: str) -> str:
    """A drawing with the words that tell how to read it."""
    return f"<figure>{drawing.document()}\n<figcaption>{escape(caption)}</figcaption></figure>"


def table(head: Sequence[str], rows: Sequence[Sequence[Cell]], style: str = "", strong: Sequence[int] = ()) -> str:
    """A table; the rows at the places `strong` stand out."""
    top = "".join(f"<th>{escape(name)}</th>" for name in head)
    lines = [
        f"<tr{_class('strong' if place in strong else '')}>{''.join(map(_cell, row))}</tr>"
        for place, row in enumerate(rows)
    ]
    return f"<table{_class(style)}><thead><tr>{top}</tr></thead>\n<tbody>" + "\n".join(lines) + "</tbody></table>"


def terms(pairs: Iterable[tuple[str, str]]) -> str:
    """Words and what they mean."""
    return "<dl>" + "".join(f"<dt>{escape(word)}</dt><dd>{escape(text)}</dd>" for word, text in pairs) + "</dl>"


def _cell(cell: Cell) -> str:
    words = escape(cell.words)
    if cell.link:
        words = f'<a href="{escape(cell.link)}" rel="noopener noreferrer">{words}</a>'
    return f"<td>{words}{f'<small>{escape(cell.below)}</small>' if cell.below else ''}</td>"


def _class(style: str) -> str:
    return f' class="{style}"' if style else ""
