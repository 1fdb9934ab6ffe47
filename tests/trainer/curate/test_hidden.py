"""Hidden characters: the audit names the articles that hold them, and no article of ordinary spelling."""

import pytest

from distillery_runtime.characters import INVISIBLE
from distillery_trainer.curate.checks import check_hidden


@pytest.mark.parametrize("kind", INVISIBLE)
def test_an_article_with_hidden_characters_is_named_with_their_kind(kind: str) -> None:
    first, _ = INVISIBLE[kind][0]

    finding = check_hidden(["a", "b"], [f"gun{chr(first)}man and gun{chr(first)}man", "gunman"])

    assert (finding.ids, finding.details["kinds"], finding.severity) == (["a"], {kind: 2}, "warning")


@pytest.mark.parametrize(
    "text", ["a\tb\r\nc", "می‌خواهم", "❤️ 👩‍🔬 🏴\U000e0067\U000e0062\U000e007f", "\ufeffStart", "क्‍ष", "é\u00a0è"]
)
def test_ordinary_spelling_hides_nothing(text: str) -> None:
    assert check_hidden(["a"], [text]).count == 0
