"""Backend `auto`: what it becomes on a machine that has some models and packages and lacks others."""

import socket
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from distillery_runtime.errors import InputError
from distillery_runtime.spec.model import FilterSpec
from distillery_trainer.filters.overrides import apply_overrides
from distillery_trainer.models.auto import BACKEND, EMBEDDER, Candidate, Choice, choose_backend
from distillery_trainer.models.choose import load_student

HERE = Candidate("encoder", packages=("numpy",))
NOT_INSTALLED = Candidate("encoder", packages=("no-such-distribution",))
HUB_ID = "owner/tiny"
FILES = ("config.json", "tokenizer.json", "model.safetensors")


def put_model(folder: Path, files: tuple[str, ...] = FILES) -> Path:
    """The files that a base model is known by, without content: a choice looks no further."""
    folder.mkdir(parents=True)
    for name in files:
        (folder / name).write_text("{}")
    return folder


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the Hub, on a machine where any use of the network is an error."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    return tmp_path / "hub"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return put_model(tmp_path / "e5")


def put_in_cache(cache: Path, files: tuple[str, ...] = FILES) -> None:
    repository = cache / "models--owner--tiny"
    put_model(repository / "snapshots" / ("0" * 40), files)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)


def asked(spec: FilterSpec, model: object, embedder: object, **settings: object) -> FilterSpec:
    models = {"student.encoder.base_model": str(model), EMBEDDER: str(embedder)}
    return apply_overrides(spec, {BACKEND: "auto"} | models | settings)


def choose(spec: FilterSpec, *candidates: Candidate, **options: Any) -> Choice:  # Any: of choose_backend
    found = choose_backend(spec, candidates=candidates, **options)
    assert found is not None
    return found


def test_a_model_in_a_folder_is_fitted_on_and_is_embedder_too(spec: FilterSpec, model: Path, hub_cache: Path) -> None:
    found = choose(asked(spec, model, model), HERE)

    assert found.settings == {BACKEND: "encoder"}
    assert found.better == ()


def test_a_model_in_the_hubs_cache_is_found_without_the_network(spec: FilterSpec, hub_cache: Path) -> None:
    put_in_cache(hub_cache)

    assert choose(asked(spec, HUB_ID, HUB_ID), HERE).settings == {BACKEND: "encoder"}


@pytest.mark.parametrize("missing", FILES)
def test_a_model_of_which_a_file_is_missing_is_not_here(spec: FilterSpec, hub_cache: Path, missing: str) -> None:
    put_in_cache(hub_cache, tuple(name for name in FILES if name != missing))

    assert choose(asked(spec, HUB_ID, HUB_ID), HERE).settings == {BACKEND: "static", EMBEDDER: "static"}


def test_without_a_model_static_is_fitted_and_the_way_to_better_is_named(spec: FilterSpec, hub_cache: Path) -> None:
    found = choose(asked(spec, HUB_ID, HUB_ID), HERE)

    assert found.settings == {BACKEND: "static", EMBEDDER: "static"}
    assert [f"hf download {HUB_ID}" in line for line in found.better] == [True]


def test_a_revision_is_part_of_the_way_to_a_model(spec: FilterSpec, hub_cache: Path) -> None:
    found = choose(asked(spec, HUB_ID, HUB_ID, **{"student.encoder.revision": "v2"}), HERE)

    assert f"hf download {HUB_ID} --revision v2" in found.better[0]


def test_without_a_package_static_is_fitted_and_the_package_is_named(spec: FilterSpec, model: Path) -> None:
    found = choose(asked(spec, model, model), NOT_INSTALLED)

    assert found.settings == {BACKEND: "static", EMBEDDER: "static"}
    assert [("no-such-distribution" in line, str(model) in line) for line in found.better] == [(True, False)]


def test_the_first_backend_that_can_be_fitted_is_taken(spec: FilterSpec, model: Path, hub_cache: Path) -> None:
    spec = asked(spec, model, model, **{"student.decoder.base_model": str(model)})
    decoder = Candidate("decoder", packages=("numpy",))

    assert choose(spec, decoder, HERE).settings == {BACKEND: "decoder"}
    assert choose(spec, HERE, decoder).settings == {BACKEND: "encoder"}
    assert choose(spec, NOT_INSTALLED, decoder).settings == {BACKEND: "decoder"}


def test_a_missing_embedder_becomes_static_beside_a_student_that_is_fitted_on_a_model(
    spec: FilterSpec, model: Path, hub_cache: Path
) -> None:
    found = choose(asked(spec, model, HUB_ID), HERE)

    assert found.settings == {BACKEND: "encoder", EMBEDDER: "static"}
    assert f"hf download {HUB_ID}" in found.better[0]


def test_a_probe_is_never_dearer_than_its_student(spec: FilterSpec, hub_cache: Path) -> None:
    found = choose(asked(spec, HUB_ID, HUB_ID), HERE, is_embedder_named=True)

    assert found.settings == {BACKEND: "static", EMBEDDER: "static"}


def test_a_backend_for_gpus_is_taken_only_where_there_is_one(spec: FilterSpec, model: Path, hub_cache: Path) -> None:
    torch = pytest.importorskip("torch")
    spec = asked(spec, model, model, **{"student.decoder.base_model": str(model)})

    found = choose(spec, Candidate("decoder", packages=("numpy",), needs_gpu=True), HERE)

    assert found.settings[BACKEND] == ("decoder" if torch.cuda.is_available() else "encoder")


@pytest.mark.parametrize("backend", ["decoder", "encoder", "static"])
def test_a_backend_that_was_named_is_not_chosen_again(spec: FilterSpec, backend: str, hub_cache: Path) -> None:
    assert choose_backend(apply_overrides(spec, {BACKEND: backend})) is None


def test_a_student_is_not_loaded_by_a_config_that_leaves_its_backend_open(spec: FilterSpec, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"config\.resolved\.yaml"):
        load_student(apply_overrides(spec, {BACKEND: "auto"}), tmp_path)
