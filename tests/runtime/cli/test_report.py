"""Tables: no two columns have the same name."""

import pytest

from distillery_runtime.cli.output import abbreviations, headings


@pytest.mark.parametrize(
    ("bundles", "expected"),
    [
        (["a-1@0123456789ab", "b-1@0123456789ab"], ["a-1", "b-1"]),
        (["a-1@0123456789ab", "a-2@0123456789ab"], ["a-1", "a-2"]),
        (["a-1@0123456789ab", "a-1@f123456789ab", "b-1@00"], ["a-1@0123", "a-1@f123", "b-1"]),
        (["a-1@0123456789ab", "a-1@0123457789ab"], ["a-1@0123456", "a-1@0123457"]),
        (["a-1@0123456789ab", "a-1@0123456789ac"], ["a-1@0123456789ab", "a-1@0123456789ac"]),
        (["a-1@0123456789ab", "a-1@0123456789ab"], ["a-1", "a-1"]),
    ],
)
def test_no_two_bundles_have_the_same_heading(bundles: list[str], expected: list[str]) -> None:
    assert headings(bundles) == expected


def test_no_two_dimensions_have_the_same_abbreviation() -> None:
    names = ["technology_readiness_level", "technical_performance", "technology_price", "team_power", "t_p_2"]

    short = abbreviations(names)

    assert len(set(short)) == len(names)
