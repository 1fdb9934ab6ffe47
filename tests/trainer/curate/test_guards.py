"""Guards: what is no article is dropped with a reason, what only speaks of such things is kept, duplicates go."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from distillery_runtime.articles.article import Article
from distillery_runtime.articles.text import ArticleText, compose
from distillery_runtime.spec.model import TextPolicy
from distillery_trainer.cli.main import main
from distillery_trainer.curate.guards import TABLE, Guards, read_table, sort_articles
from distillery_trainer.data.articles import read_received

STORY = (
    "The harbour town bought a ferry that runs on batteries. It crosses the water in eleven minutes, and its crew "
    "charges it while passengers board. The council expects to save fuel worth two hundred thousand euros a year."
)
WALLS = [
    ("not_found", "Error 404. The page you are looking for was moved or deleted long ago. Back to homepage."),
    ("not_found", "Pagina niet gevonden. De pagina die je zoekt is verhuisd naar een andere plek."),
    ("blocked_page", "Just a moment. We are checking your browser before you go on to the site you asked for today."),
    ("blocked_page", "Acceso denegado. Marque la casilla: no soy un robot, para poder continuar."),
    ("consent_wall", "We and our partners store data about you. Accept all cookies or manage consent in the settings."),
    ("consent_wall", "Wir und unsere Partner speichern Daten auf Ihrem Gerät. Alle akzeptieren, alle ablehnen."),
    ("consent_wall", "Nous et nos partenaires stockons des données sur votre appareil. Tout accepter, tout refuser."),
    ("paywall", "Abbonati per continuare. Sei già abbonato? Accedi per vedere tutto il testo."),
    ("paywall", "Assine para continuar lendo. Já é assinante? Entre com o seu endereço de correio aqui."),
    ("boilerplate", "Article URL: https://example.org/a.b/c Comments URL: https://example.org/7 Points: 3"),
    ("near_empty", "A ferry on batteries was bought."),
    ("garbled", f"{STORY} Itâ€™s the councilâ€™s wish, and itâ€™s the crewâ€™s."),
    ("not_prose", "12 34 56 78 90 | 11 22 33 44 55 | 66 77 88 99 10 | 20 30 40 50 60 {} [] () ;; == 70 80 90"),
]  # fmt: skip


def composed(text: str, title: str = "") -> ArticleText:
    return compose(Article("a", title, text), TextPolicy())


@pytest.mark.parametrize(("reason", "text"), WALLS)
def test_what_is_no_article_is_dropped_with_its_reason(reason: str, text: str) -> None:
    found = Guards().check(composed(text))

    assert found is not None
    assert found.reason == reason


def test_an_article_is_kept_and_so_is_one_about_walls() -> None:
    about = f"{STORY} Its readers hit a paywall: “Subscribe to continue reading”, it said, and “Accept all cookies”."

    assert Guards().check(composed(STORY)) is None
    assert Guards().check(composed(about)) is None


def test_a_wall_below_a_long_article_does_not_drop_it() -> None:
    long = " ".join([STORY] * 10)

    assert Guards().check(composed(f"{long} Subscribe now. Already a subscriber? Log in to continue.")) is None


def test_a_text_that_repeats_its_title_is_dropped() -> None:
    title = STORY.split(".")[0]

    found = Guards(min_words=5).check(composed(f"{title} Newswire", title))

    assert found is not None
    assert found.reason == "title_repeated"


def test_the_fewest_words_can_be_set_and_characters_count_where_there_are_no_spaces() -> None:
    assert Guards(min_words=40).check(composed(STORY)) is not None or len(STORY.split()) >= 40
    assert Guards(min_words=36).check(composed(STORY)) is None
    assert Guards().check(composed("港口小镇购买了一艘电池渡轮可以在十一分钟内过河")) is None


def test_every_reason_of_the_table_has_phrases_in_seven_languages_none_twice_in_one() -> None:
    for reason in read_table(TABLE):
        assert set(reason.phrases) == {"en", "nl", "de", "fr", "es", "pt", "it"}
        for phrases in reason.phrases.values():
            assert all(isinstance(phrase, str) and phrase == phrase.lower().strip() for phrase in phrases)
            assert len(set(phrases)) == len(phrases)


def test_of_duplicates_the_longest_text_is_kept_and_each_drop_is_explained(write_rows: Callable[..., Path]) -> None:
    longer = f"{STORY} More ferries will follow."
    rows = [{"id": n, "title": "", "text": text} for n, text in (("a", STORY), ("b", longer), ("c", STORY.upper()))]
    receipt = read_received([write_rows("a.jsonl", [*rows, {"id": "a", "text": "again"}, "{"])], TextPolicy())

    found = sort_articles(receipt, Guards())

    assert [(article.id, group) for article, group in found.kept] == [("b", "a")]
    assert [(article.id, why.reason, why.found) for article, why in found.dropped] == [
        ("a", "near_duplicate", "of b"),
        ("c", "near_duplicate", "of b"),
    ]
    assert found.counts() == {"near_duplicate": 2, "unreadable": 2}


def test_the_command_writes_what_it_keeps_and_what_it_drops(
    write_rows: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"id": "a", "title": "", "text": STORY, "source": "x"}, {"id": "b", "title": "", "text": WALLS[0][1]}]
    rows.append({"id": "c", "title": "", "text": STORY})
    out = tmp_path / "kept.jsonl"

    code = main(["guard", "--articles", str(write_rows("in.jsonl", rows)), "--out", str(out)])

    dropped = [json.loads(line) for line in (tmp_path / "kept.dropped.jsonl").read_text().splitlines()]
    assert code == 0
    assert [json.loads(line) for line in out.read_text().splitlines()] == [{**rows[0], "group": "a"}]
    assert [(row["id"], row["reason"]) for row in dropped] == [("b", "not_found"), ("c", "duplicate")]
    assert "duplicate" in capsys.readouterr().out
