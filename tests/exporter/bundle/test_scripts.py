"""The scripts that a vocabulary covers."""

from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from distillery_exporter.bundle.scripts import SAMPLES, SCRIPTS, covered_scripts

GREEK = "\u03b1\u03b2\u03b3\u03b4\u03b5\u03b6\u03b7\u03b8\u03b9\u03ba\u03bb\u03bc\u03bd\u03be\u03bf\u03c0\u03c1\u03c2"
LATIN = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ" + "".join(map(chr, range(0xDF, 0x100)))
HEBREW = "".join(map(chr, range(0x5D0, 0x5EB)))


@pytest.mark.parametrize(
    ("letters", "covered"), [(LATIN, ["Latin"]), (LATIN + HEBREW, ["Latin", "Hebrew"]), (LATIN + GREEK[:6], ["Latin"])]
)
def test_a_script_is_covered_where_nearly_all_its_letters_are(tmp_path: Path, letters: str, covered: list[str]) -> None:
    pieces = [("<unk>", 0.0), ("\u2581", -2.0), *((letter, -5.0) for letter in letters)]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=0))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))

    assert covered_scripts(tmp_path / "tokenizer.json") == covered


def test_bytes_cover_every_script(tmp_path: Path) -> None:
    vocabulary = {piece: i for i, piece in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
    tokenizer.save(str(tmp_path / "tokenizer.json"))

    assert covered_scripts(tmp_path / "tokenizer.json") == [*SCRIPTS, *SAMPLES]
