"""Markup: real tags go, what only looks like one stays."""

import pytest

from distillery_runtime.articles.text import normalise
from distillery_runtime.spec.model import TextPolicy

POLICY = TextPolicy()


@pytest.mark.parametrize(
    "text",
    [
        "if x<y then z; y>0 holds",
        "1 < 2 and 3 > 2",
        "p<0.05, q>3",
        "a<b && c>d",
        "x<b then y>0",
        "a <b and c> d",
        "let a <i and j> b",
        "List<String> and Map<K, V>",
        "Vec<Option<T>>, Promise<object>, List<Button>, Set<Map<K, V>>",
        "std::map<int, string> f<float>(x)",
        "List<A>, Map<K, List<B>>; Box<I>(x) and Vec<U>[0]",
        "#include <iostream>",
        "<y> <name> <john@doe.com> <http://a.b/c> <std::string>",
        "$x<\\omega$ and $y>0$",
        "<3 </3 <> << >> <- -> => <= >= <=> < p >",
        "<|im_end|>",
        "a[b[0]]>3",
        "<a href",
        "<!-- never closed",
        "ends with <b",
    ],
)
def test_what_is_no_tag_is_kept(text: str) -> None:
    assert normalise(text, POLICY) == text


@pytest.mark.parametrize(
    ("dirty", "clean"),
    [
        ("H<sub>2</sub>O", "H2O"),
        ("<b>g</b>unman", "gunman"),
        ("<SPAN CLASS=\"x\">g</SPAN>un<wbr>man<a href='x'>s</a>", "gunmans"),
        ("<em>so</em>, <strong>yes</strong>.", "so, yes."),
        ("Published<time>12 May</time>", "Published12 May"),
        ("<P>one<P>two<BR>three<br/>four<Br />five", "one two three four five"),
        ("<ul><li>one</li><li>two</li></ul>", "one two"),
        ("<td nowrap>x<input disabled>y", "x y"),
        ("<p\n class = 'a'\n>x</p\n>y", "x y"),
        ("<p class = x>a<table border = 0>b<td hidden = x>c<div data-x = y>d", "a b c d"),
        ('<img alt="a > b" src=x>c', "c"),
        ('<img alt="a <b> c">d<img alt="1 < 2">e', "d e"),
        ('<p style="font-family: "Times"; x">t', "t"),
        ('<a href="x>text "quoted" more', 'text "quoted" more'),
        ('<a href="x"title="y">z</a>', "z"),
        ("a<\u00a0b> <a\u00a0href=x>y</a>", "a< b> y"),
        ('<my-card x="1">a</my-card><o:p></o:p><foo/>b', "a b"),
        ("x </whatever> y", "x y"),
        ("<item><headline>x</headline><x-y>y</x-y ></item><pubDate >z</pubDate>", "x y z"),
        ("un<B>so</B>und", "unsound"),
        ("<!DOCTYPE html><html><head><title>t</title></head><body>x</body></html>", "x"),
        ('<?xml version="1.0"?>x<![if !IE]>y<![endif]>', "x y"),
        ("a<![CDATA[x]]>b <![CDATA[<p>y</p>]]>", "axb y"),
        ("<![CDATA[never closed", "never closed"),
        ("a<!-- <p>x</p> -->b", "a b"),
        ("<script>a('<b>', \"</b>\")</script>b<STYLE type=x>p{}</style >c<ScRiPt>d</sCrIpT>", "b c"),
        ("<script>never closed", "never closed"),
        ("<script>x</script>a<style>never closed", "a never closed"),
        ("<scr<b></b>ipt>x", "x"),
        ("<<b>b>x<a <i>href=y>z", "xz"),
        ("&lt;b&gt; &amp;lt;", "<b> &lt;"),
    ],
)
def test_tags_are_removed_and_only_those_inside_words_join_them(dirty: str, clean: str) -> None:
    assert normalise(dirty, POLICY) == clean


def test_tags_without_end_inside_tags_leave_no_tag() -> None:
    assert "<" not in normalise("<" * 300 + "b>" * 300 + "x", POLICY)
