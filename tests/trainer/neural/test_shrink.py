"""A shrunken base model: fewer layers and pieces, the same answers wherever it kept what it is asked for."""

# ruff: noqa: E402  # torch is optional: what needs it is imported after the skip

import json
import shutil
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from transformers import AutoModel

from distillery_runtime.errors import InputError
from distillery_trainer.models.model_card import Stated, stated
from distillery_trainer.neural.shrink import shrink

TEXTS = ["old tree", "old river", "old old tree"]
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]


def states(folder: Path, text: str) -> "torch.Tensor":
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    model = AutoModel.from_pretrained(folder, add_pooling_layer=False, dtype=torch.float32).eval()
    with torch.no_grad():
        return model(torch.tensor([tokenizer.encode(text).ids])).last_hidden_state


@pytest.mark.parametrize("name", ["encoder_base", "offset_encoder_base"])
def test_with_all_layers_the_texts_states_do_not_change(
    request: pytest.FixtureRequest, tmp_path: Path, name: str
) -> None:
    base: Path = request.getfixturevalue(name)
    layers = json.loads((base / "config.json").read_text())["num_hidden_layers"]

    report = shrink(base, TEXTS, layers, 3, tmp_path)

    assert report.pieces < report.pieces_before
    assert report.kept_share == 1
    for text in TEXTS:
        torch.testing.assert_close(states(tmp_path, text), states(base, text))


def test_the_smaller_model_states_the_licence_and_the_origin_of_the_larger_one(
    encoder_base: Path, tmp_path: Path
) -> None:
    commit = tmp_path / "models--owner--larger" / "snapshots" / "0123abcd"
    shutil.copytree(encoder_base, commit)
    (commit / "README.md").write_text("---\nlicense: mit\nbase_model: owner/largest\n---\n", encoding="utf-8")

    shrink(commit, TEXTS, 1, 3, tmp_path / "once")
    shrink(tmp_path / "once", TEXTS, 1, 3, tmp_path / "twice")

    assert stated(tmp_path / "once") == stated(tmp_path / "twice") == Stated("mit", ("owner/larger",))


def test_the_layers_that_stay_are_the_lowest(encoder_base: Path, tmp_path: Path) -> None:
    layers = json.loads((encoder_base / "config.json").read_text())["num_hidden_layers"]

    report = shrink(encoder_base, TEXTS, 1, 3, tmp_path)

    one = AutoModel.from_pretrained(tmp_path, add_pooling_layer=False).state_dict()
    all_layers = AutoModel.from_pretrained(encoder_base, add_pooling_layer=False).state_dict()
    key = "encoder.layer.{}.output.dense.weight"
    assert (report.layers, report.layers_before) == ((0,), layers)
    torch.testing.assert_close(one[key.format(0)], all_layers[key.format(0)])
    assert key.format(1) not in one


def test_the_most_used_pieces_stay_and_rarer_words_fall_into_characters(encoder_base: Path, tmp_path: Path) -> None:
    base = Path(shutil.copytree(encoder_base, tmp_path / "base"))
    pieces = [*SPECIAL, "▁sun", "▁tree", "▁", "t", "r", "e", "s", "u", "n", "x"]
    tokenizer = Tokenizer(models.Unigram([(piece, -float(len(SPECIAL) < i)) for i, piece in enumerate(pieces)], 3))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.add_special_tokens(SPECIAL)
    ends = [("<s>", 0), ("</s>", 2)]
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=ends)
    tokenizer.save(str(base / "tokenizer.json"))

    report = shrink(base, ["tree tree sun"], 1, 1, tmp_path / "small")

    small = Tokenizer.from_file(str(tmp_path / "small" / "tokenizer.json"))
    assert small.encode("tree sun").tokens == ["<s>", "▁tree", "▁", "s", "u", "n", "</s>"]
    assert "x" not in small.get_vocab()
    assert report.kept_share == pytest.approx(2 / 3, abs=1e-6)


def test_merges_are_refused_with_the_reason(encoder_base: Path, tmp_path: Path) -> None:
    base = Path(shutil.copytree(encoder_base, tmp_path / "base"))
    Tokenizer(models.BPE({"a": 0, "b": 1, "ab": 2}, [("a", "b")])).save(str(base / "tokenizer.json"))

    with pytest.raises(InputError, match=r"model.type: 'BPE', expected Unigram or WordPiece"):
        shrink(base, TEXTS, 1, 3, tmp_path / "small")


def test_more_layers_than_there_are_is_an_error(encoder_base: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="layers: 99, expected 1 to num_hidden_layers"):
        shrink(encoder_base, TEXTS, 99, 3, tmp_path / "small")
