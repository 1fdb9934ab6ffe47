"""What only the decoder backend does: adapters in every dialect, and pooling at the last real token."""

# ruff: noqa: E402  # torch is optional: what needs it is imported after the skip

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
peft = pytest.importorskip("peft")

from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification

from distillery_runtime.errors import InputError
from distillery_runtime.spec.model import DecoderSettings, Window
from distillery_runtime.tokens.window import TokenIds, pad
from distillery_trainer.models.protocol import FitData
from distillery_trainer.neural import decoder
from distillery_trainer.neural.decoder import LastTokenRegressor, build

WINDOW = Window(max_tokens=24)
ADAPTER = "adapter_model.safetensors"
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def data(articles: SimpleNamespace) -> FitData:
    return FitData(articles.train_texts, articles.train_labels, articles.val_texts, articles.val_labels)


@pytest.fixture(scope="module")
def fitted(decoder_base: Path, data: FitData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("decoder") / "student"
    decoder.fit(settings(decoder_base), WINDOW, data, folder, 5, None)
    return folder


@pytest.fixture
def student(fitted: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(fitted, tmp_path / "copy"))


def settings(base: Path) -> DecoderSettings:
    training = {"epochs": 1, "patience": 1, "learning_rate": 0.02, "batch_tokens": 128}
    return DecoderSettings.model_validate(
        {"base_model": str(base), "lora": {"rank": 4, "alpha": 8, "dropout": 0.0}, "training": training}
    )


def rename(student: Path, new_name: Callable[[str], str]) -> None:
    tensors = load_file(student / ADAPTER)
    save_file({new_name(key): tensor for key, tensor in tensors.items()}, student / ADAPTER)


def long_dialect(key: str) -> str:
    key = key.replace("lora_A.weight", "lora_A.default.weight").replace("lora_B.weight", "lora_B.default.weight")
    return key.replace("score.weight", "score.modules_to_save.default.weight")


def middle_dialect(key: str) -> str:
    return key.replace("score.weight", "score.modules_to_save.weight")


def bare_dialect(key: str) -> str:
    return key.removeprefix("base_model.model.")


def test_every_linear_layer_and_the_head_are_saved_as_peft_names_them(fitted: Path) -> None:
    keys = set(load_file(fitted / ADAPTER))

    modules = [f"self_attn.{name}_proj" for name in "qkvo"] + [f"mlp.{name}_proj" for name in ("gate", "up", "down")]
    pairs = {
        f"base_model.model.model.layers.{layer}.{module}.lora_{half}.weight"
        for layer in range(2)
        for module in modules
        for half in "AB"
    }
    assert keys == pairs | {"base_model.model.score.weight"}


def test_the_saved_settings_are_complete_and_name_no_path(fitted: Path, decoder_base: Path) -> None:
    config = json.loads((fitted / "adapter_config.json").read_text())

    assert config["base_model_name_or_path"] == decoder_base.name
    assert config["task_type"] == "SEQ_CLS"
    assert config["modules_to_save"] == ["score"]
    assert config["target_modules"] == sorted(decoder.ADAPTED)


def test_peft_alone_loads_the_adapter_and_answers_alike(fitted: Path, decoder_base: Path, data: FitData) -> None:
    student = decoder.load(fitted, WINDOW)
    base = AutoModelForSequenceClassification.from_pretrained(decoder_base, num_labels=2, dtype=torch.float32)
    model = peft.PeftModel.from_pretrained(base, str(fitted)).eval()
    row = student.window.encode(data.val_texts[:1])[0]

    with torch.no_grad():
        answer = model(torch.from_numpy(row.ids[None])).logits.numpy()

    np.testing.assert_allclose(student.predict(data.val_texts[:1]), answer, atol=TOLERANCE)


@pytest.mark.parametrize("dialect", [long_dialect, middle_dialect, bare_dialect])
def test_an_adapter_in_another_dialect_answers_alike(
    fitted: Path, student: Path, data: FitData, dialect: Callable[[str], str]
) -> None:
    expected = decoder.load(fitted, WINDOW).predict(data.val_texts)
    rename(student, dialect)

    np.testing.assert_array_equal(decoder.load(student, WINDOW).predict(data.val_texts), expected)


def test_settings_of_another_peft_version_are_read(fitted: Path, student: Path, data: FitData) -> None:
    path = student / "adapter_config.json"
    config = json.loads(path.read_text())
    known = ("peft_type", "r", "lora_alpha", "lora_dropout", "target_modules", "bias")
    path.write_text(json.dumps({key: config[key] for key in known} | {"inference_mode": True, "from_the_future": 1}))

    answers = decoder.load(student, WINDOW).predict(data.val_texts)

    np.testing.assert_array_equal(answers, decoder.load(fitted, WINDOW).predict(data.val_texts))


@pytest.mark.parametrize(
    "lost",
    ["base_model.model.model.layers.1.mlp.up_proj.lora_B.weight", "base_model.model.score.weight"],
)
def test_an_adapter_without_a_tensor_is_refused_by_its_name(student: Path, lost: str) -> None:
    tensors = load_file(student / ADAPTER)
    del tensors[lost]
    save_file(tensors, student / ADAPTER)

    with pytest.raises(InputError) as caught:
        decoder.load(student, WINDOW)

    assert [(p.path, p.found) for p in caught.value.problems] == [(lost.removeprefix("base_model.model."), "missing")]


def test_an_adapter_for_other_layers_is_refused_with_all_of_their_names(student: Path) -> None:
    rename(student, lambda key: key.replace("layers.1.", "layers.7."))

    with pytest.raises(InputError) as caught:
        decoder.load(student, WINDOW)

    found = [problem.found for problem in caught.value.problems]
    assert (found.count("missing"), found.count("present")) == (14, 14)


def test_an_adapter_of_another_rank_is_refused(student: Path) -> None:
    path = student / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"r": 8}))

    with pytest.raises(InputError, match=r"lora_A\.weight: \[4, 32\], expected \[8, 32\]"):
        decoder.load(student, WINDOW)


def test_an_adapter_that_changes_the_base_when_it_starts_is_refused(student: Path) -> None:
    path = student / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"init_lora_weights": "pissa"}))

    with pytest.raises(InputError, match="a plain LoRA adapter"):
        decoder.load(student, WINDOW)


def test_another_base_model_than_the_recorded_one_is_refused(student: Path, decoder_base: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(decoder_base, tmp_path / "other"))
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 0.1}))
    record = json.loads((student / "base.json").read_text())
    (student / "base.json").write_text(json.dumps(record | {"folder": str(other)}))

    with pytest.raises(InputError, match="other files than the student was trained on"):
        decoder.load(student, WINDOW)


def test_a_model_without_a_causal_head_is_pointed_to_the_encoder_backend(
    encoder_base: Path, data: FitData, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="encoder backend"):
        decoder.fit(settings(encoder_base), WINDOW, data, tmp_path, 5, None)


def test_a_model_whose_layers_have_other_names_is_refused(
    decoder_base: Path, data: FitData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoder, "ADAPTED", ("q_proj", "qkv_proj", "dense"))

    with pytest.raises(InputError, match="tiny-gemma: no layers named qkv_proj, dense"):
        decoder.fit(settings(decoder_base), WINDOW, data, tmp_path, 5, None)


def test_a_base_model_that_lacks_a_weight_is_refused(decoder_base: Path, data: FitData, tmp_path: Path) -> None:
    base = Path(shutil.copytree(decoder_base, tmp_path / "base"))
    tensors = load_file(base / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, base / "model.safetensors", metadata={"format": "pt"})

    with pytest.raises(InputError, match=r"layers\.1\.mlp\.up_proj\.weight: missing"):
        decoder.fit(settings(base), WINDOW, data, tmp_path / "student", 5, None)


def test_a_base_model_that_has_gone_is_an_error_that_offers_what_to_do(
    student: Path, decoder_base: Path, tmp_path: Path
) -> None:
    record = json.loads((student / "base.json").read_text())
    gone = str(tmp_path / "gone")
    (student / "base.json").write_text(json.dumps(record | {"folder": gone, "model": gone}))

    with pytest.raises(InputError, match="no such folder, and not a Hub id"):
        decoder.load(student, WINDOW)


@pytest.fixture
def regressor(decoder_base: Path) -> LastTokenRegressor:
    torch.manual_seed(1)
    lora = peft.LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["q_proj"], modules_to_save=["score"])
    return build(decoder_base, 2, lora).eval()


def test_the_last_real_token_is_found_by_the_mask_even_if_its_id_is_that_of_padding(
    regressor: LastTokenRegressor,
) -> None:
    rows = [
        TokenIds(np.array(ids, dtype=np.int64), False) for ids in ([2, 5, 7, 0, 0], [2, 5, 7], [2, 5, 7, 9, 11, 4, 8])
    ]

    with torch.no_grad():
        together = regressor(*map(torch.from_numpy, pad(rows)))
        alone = torch.cat([regressor(*map(torch.from_numpy, pad([row]))) for row in rows])

    torch.testing.assert_close(together, alone, atol=TOLERANCE, rtol=0)
    assert not torch.allclose(together[0], together[1], atol=100 * TOLERANCE)


def test_scores_keep_float32_where_the_layers_compute_in_bfloat16(regressor: LastTokenRegressor) -> None:
    input_ids, mask = map(torch.from_numpy, pad([TokenIds(np.array([2, 5, 7], dtype=np.int64), False)]))

    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        rough = regressor(input_ids, mask)
    with torch.no_grad():
        exact = regressor(input_ids, mask)

    assert rough.dtype == torch.float32
    assert not torch.equal(rough, rough.bfloat16().float())
    torch.testing.assert_close(rough, exact, atol=0.05, rtol=0)
