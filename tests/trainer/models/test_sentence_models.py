"""Folders of sentence-transformers: what would be left out is refused, by file, value found and cure."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models, normalizers

from distillery_runtime.errors import InputError
from distillery_trainer.models.sentence_models import (
    Dense,
    Pooling,
    check_sentence_model,
    copy_statements,
    read_embedder,
    statement_files,
)

ST = "sentence_transformers.models."
MEAN = {"word_embedding_dimension": 32, "pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}
CLS = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
Files = Mapping[str, object]


def modules(*kinds: str) -> list[dict[str, object]]:
    return [
        {"idx": i, "name": str(i), "path": "" if i == 0 else f"{i}_{kind.rpartition('.')[2]}", "type": kind}
        for i, kind in enumerate(kinds)
    ]


PLAIN = modules(f"{ST}Transformer", f"{ST}Pooling")
NORMALISED = modules(f"{ST}Transformer", f"{ST}Pooling", f"{ST}Normalize")
PROMPTED = {"prompts": {"query": "query: ", "passage": "passage: "}, "default_prompt_name": "query"}


def folder(path: Path, files: Files) -> Path:
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    if files.get("lowers"):
        tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.save(str(path / "tokenizer.json"))
    for name, content in files.items():
        if "json" in name:
            (path / name).parent.mkdir(exist_ok=True)
            (path / name).write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def check(path: Path, files: Files, pooling: Pooling = "mean", prefix: str = "") -> None:
    check_sentence_model("owner/model", folder(path, files), pooling, prefix)


@pytest.mark.parametrize(
    ("files", "pooling", "prefix"),
    [
        ({}, "mean", ""),
        ({}, "cls", "query: "),
        ({"config.json": {}, "onnx/config.json": {}}, "cls", ""),
        ({"modules.json": PLAIN, "1_Pooling/config.json": MEAN}, "mean", ""),
        ({"modules.json": PLAIN, "1_Pooling/config.json": {}}, "mean", ""),
        ({"modules.json": PLAIN, "1_Pooling/config.json": {"pooling_mode": "cls"}}, "cls", ""),
        ({"modules.json": NORMALISED, "1_Pooling/config.json": CLS}, "cls", ""),
        ({"modules.json": PLAIN, "1_Pooling/config.json": {"pooling_mode_lasttoken": True}}, "lasttoken", ""),
        ({"config_sentence_transformers.json": PROMPTED}, "mean", "query: "),
        ({"config_sentence_transformers.json": {**PROMPTED, "default_prompt_name": None}}, "mean", "any: "),
        ({"config_sentence_transformers.json": {"prompts": {"d": ""}, "default_prompt_name": "d"}}, "mean", ""),
        ({"sentence_bert_config.json": {"max_seq_length": 128, "do_lower_case": False}}, "mean", ""),
        ({"sentence_bert_config.json": {"do_lower_case": True}, "lowers": True}, "mean", ""),
    ],
)
def test_what_the_config_says_too_is_accepted(tmp_path: Path, files: Files, pooling: Pooling, prefix: str) -> None:
    check(tmp_path, files, pooling, prefix)


@pytest.mark.parametrize(
    ("files", "told"),
    [
        (
            {"modules.json": PLAIN, "1_Pooling/config.json": CLS},
            "1_Pooling/config.json: pooling by cls, expected mean, as the config says: set pooling: cls in the config",
        ),
        (
            {"modules.json": PLAIN, "1_Pooling/config.json": {"pooling_mode_max_tokens": True}},
            "pooling by max, expected mean, as the config says: choose another model",
        ),
        (
            {"modules.json": PLAIN, "1_Pooling/config.json": MEAN | {"pooling_mode_cls_token": True}},
            "pooling by cls and mean",
        ),
        ({"modules.json": PLAIN, "1_Pooling/config.json": {"pooling_mode": ["mean", "max"]}}, "mean and max"),
        ({"modules.json": PLAIN, "1_Pooling/config.json": {"pooling_mode_new": True}}, "pooling by pooling_mode_new"),
        ({"modules.json": PLAIN, "1_Pooling/config.json": {"pooling_mode_mean_tokens": False}}, "pooling by nothing"),
        ({"1_Pooling/config.json": CLS}, "pooling by cls"),
        ({"modules.json": PLAIN}, "1_Pooling/config.json: missing"),
        ({"modules.json": modules(f"{ST}Transformer", f"{ST}Dense")}, "modules.json: 1_Dense: a module Dense"),
        ({"2_Dense/config.json": {}}, "a module Dense"),
        ({"modules.json": modules(f"{ST}Transformer", "custom_st.Pooling")}, "a module custom_st.Pooling"),
        ({"modules.json": modules(f"{ST}Transformer", f"{ST}WeightedLayerPooling")}, "a module WeightedLayerPooling"),
        ({"modules.json": modules(f"{ST}Transformer", f"{ST}Normalize", f"{ST}Normalize")}, "a second module"),
        ({"modules.json": [{"type": f"{ST}Transformer", "path": "0_Transformer"}]}, "the transformer in 0_Transformer"),
        ({"modules.json": "no json"}, "modules.json: not JSON"),
        ({"modules.json": {"type": 3}}, "a list of modules"),
        ({"config_sentence_transformers.json": PROMPTED}, 'set prefix: "query: " in the config'),
        ({"config_sentence_transformers.json": {"default_prompt_name": "x"}}, "'x', expected the name of one of its"),
        ({"config_sentence_transformers.json": {"model_type": "SparseEncoder"}}, "'SparseEncoder'"),
        ({"config_sentence_transformers.json": []}, "list, expected a JSON object"),
        ({"sentence_bert_config.json": {"do_lower_case": True}}, "do_lower_case: true"),
    ],
)
def test_what_would_be_left_out_is_refused_with_a_cure(tmp_path: Path, files: Files, told: str) -> None:
    with pytest.raises(InputError) as caught:
        check(tmp_path, files)

    assert told in str(caught.value)


def test_a_prefix_beside_pooling_that_leaves_prompts_out_is_refused(tmp_path: Path) -> None:
    files = {"modules.json": PLAIN, "1_Pooling/config.json": MEAN | {"include_prompt": False}}

    check(tmp_path, files)
    with pytest.raises(InputError, match="include_prompt"):
        check(tmp_path, files, prefix="query: ")


def test_a_model_that_is_trained_on_may_read_further_than_before(tmp_path: Path) -> None:
    check(tmp_path, {"sentence_bert_config.json": {"max_seq_length": 64}})


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    files = {
        "modules.json": modules(f"{ST}Transformer", f"{ST}Pooling", f"{ST}Dense"),
        "1_Pooling/config.json": CLS,
        "config_sentence_transformers.json": PROMPTED,
        "sentence_bert_config.json": {"do_lower_case": True},
    }

    with pytest.raises(InputError) as caught:
        check(tmp_path, files)

    assert len(caught.value.problems) == 4


def test_the_files_of_modules_are_those_to_fetch(tmp_path: Path) -> None:
    kinds = modules(f"{ST}Transformer", f"{ST}Pooling", f"{ST}Dense")

    assert statement_files(folder(tmp_path, {"modules.json": kinds})) == [
        "1_Pooling/config.json",
        "2_Dense/config.json",
        "2_Dense/model.safetensors",
    ]


def test_a_model_made_of_another_says_the_same(tmp_path: Path) -> None:
    (source := tmp_path / "source").mkdir()
    (target := tmp_path / "target").mkdir()
    folder(source, {"modules.json": PLAIN, "1_Pooling/config.json": CLS, "config_sentence_transformers.json": PROMPTED})

    copy_statements(source, target)

    with pytest.raises(InputError, match="pooling by cls") as caught:
        check_sentence_model("made", target, "mean", "")
    assert len(caught.value.problems) == 2


DENSE = modules(f"{ST}Transformer", f"{ST}Pooling", f"{ST}Dense", f"{ST}Normalize")
TANH = {"out_features": 8, "activation_function": "torch.nn.modules.activation.Tanh"}
DENSE_FILES = {"modules.json": DENSE, "1_Pooling/config.json": CLS, "2_Dense/config.json": TANH}


def dense_folder(path: Path, files: Files) -> Path:
    (path / "2_Dense").mkdir()
    (path / "2_Dense" / "model.safetensors").write_bytes(b"")
    return folder(path, files)


def test_a_frozen_encoder_is_read_as_its_folder_says(tmp_path: Path) -> None:
    found = read_embedder(
        "model", dense_folder(tmp_path, DENSE_FILES | {"config_sentence_transformers.json": PROMPTED})
    )

    assert (found.prefix, found.pooling, found.normalise, found.is_sentence_model) == ("query: ", "cls", True, True)
    assert found.dense == (Dense("2_Dense", 8, "Tanh"),)
    assert found.width(32) == 8


def test_a_plain_folder_is_pooled_by_the_mean_and_brought_to_length_one(tmp_path: Path) -> None:
    found = read_embedder("model", folder(tmp_path, {}))

    assert (found.prefix, found.pooling, found.normalise, found.is_sentence_model) == ("", "mean", True, False)


def test_a_model_without_normalize_is_not_normalised_but_its_joined_layers_are(tmp_path: Path) -> None:
    path = folder(tmp_path, {"modules.json": PLAIN, "1_Pooling/config.json": {"pooling_mode": "max"}})

    assert (read_embedder("m", path).pooling, read_embedder("m", path).normalise) == ("max", False)
    assert read_embedder("m", path, layers=[1, 2]).normalise
    assert read_embedder("m", path, layers=[1, 2]).width(32) == 64
    assert read_embedder("m", path, pooling="mean_max", layers=[1, 2]).width(32) == 128


@pytest.mark.parametrize(
    ("files", "options", "problem"),
    [
        ({}, {"pooling": "mean"}, "pooling by cls, expected mean, as the config says: set pooling: cls"),
        ({}, {"pooling": "mean_max"}, "pooling: mean_max without layers, expected layers"),
        ({}, {"layers": [4, 8]}, "layers: 4, 8, expected none: this model's Dense reads the last layer"),
        ({"config_sentence_transformers.json": PROMPTED}, {"prefix": ""}, 'set prefix: "query: " in the config'),
        ({"sentence_bert_config.json": {"max_seq_length": 64}}, {"tokens": 65}, "set window.max_tokens: 64"),
        ({"tokenizer_config.json": {"model_max_length": 64}}, {"tokens": 65}, "set window.max_tokens: 64"),
        ({"sentence_bert_config.json": {"transformer_task": "fill-mask"}}, {}, "transformer_task: 'fill-mask'"),
        (
            {"1_Pooling/config.json": {"pooling_mode": "weightedmean"}},
            {},
            "weightedmean, expected mean, cls, max or",
        ),
        ({"1_Pooling/config.json": {"pooling_mode": ["mean", "max"]}}, {}, "pooling by mean and max"),
        ({"2_Dense/config.json": TANH | {"use_residual": True}}, {}, "use_residual: true"),
        ({"2_Dense/config.json": TANH | {"activation_function": "my.Tanh"}}, {}, "activation_function: 'my.Tanh'"),
        ({"2_Dense/config.json": TANH | {"module_input_name": "token_embeddings"}}, {}, "token_embeddings"),
        ({"modules.json": modules(f"{ST}Transformer", f"{ST}Dense", f"{ST}Pooling")}, {}, "a Dense before the Pooling"),
        ({"modules.json": modules(f"{ST}Transformer", f"{ST}Pooling", f"{ST}CNN")}, {}, "2_CNN: a module CNN"),
        ({"modules.json": modules(f"{ST}Transformer", f"{ST}Pooling", "my.Dense")}, {}, "a module my.Dense"),
        ({"modules.json": modules(f"{ST}Transformer")}, {}, "no Pooling"),
        ({"modules.json": [*PLAIN, {"type": f"{ST}Normalize", "path": "3"}, DENSE[2]]}, {}, "a Dense after Normalize"),
    ],
)
def test_a_frozen_encoder_that_would_be_misread_is_refused_with_a_cure(
    tmp_path: Path, files: Files, options: dict[str, Any], problem: str
) -> None:
    with pytest.raises(InputError) as caught:
        read_embedder("owner/model", dense_folder(tmp_path, DENSE_FILES | files), **options)

    assert problem in str(caught.value)
