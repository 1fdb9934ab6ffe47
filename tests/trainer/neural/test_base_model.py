"""Base models from folders and from a Hub: a local server that answers as the real one does (no torch needed)."""

import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from distillery_runtime.errors import DistilleryError, InputError
from distillery_runtime.spec.model import Window
from distillery_trainer.models.base_model import check_window, identity, resolve

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = {
    "config.json": b'{"model_type": "bert", "max_position_embeddings": 64}',
    "tokenizer.json": b"{}",
    "model.safetensors": b"weights",
    "pytorch_model.bin": b"a pickle",
    "onnx/config.json": b"{}",
    "README.md": b"a card",
}
# What the Hub answers to a request for a repository's metadata, or (second) for a file of it.
SERVED: dict[str, dict[str, bytes]] = {}  # other files than FILES, by repository
REFUSALS: dict[str, tuple[tuple[int, str] | None, tuple[int, str] | None]] = {
    "owner/good": (None, None),
    "owner/tiny-bert": (None, None),
    "owner/gated": (None, (401, "GatedRepo")),
    "owner/gated-for-this-token": (None, (403, "GatedRepo")),
    "owner/unknown-or-private": ((401, "RepoNotFound"), None),
    "owner/unknown": ((404, "RepoNotFound"), None),
    "owner/forbidden": ((403, ""), None),
    "owner/broken": ((500, ""), None),
}
RESOLVE = "import sys; from distillery_trainer.models.base_model import resolve; print(resolve(*sys.argv[1:]))"


class Hub(BaseHTTPRequestHandler):
    """The few answers of the Hub that a download needs."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.split("?")[0].strip("/")
        is_api = path.startswith("api/models/")
        parts = path.removeprefix("api/models/").split("/")
        repository, rest = "/".join(parts[:2]), parts[2:]
        files = SERVED.get(repository, FILES)
        refusal = REFUSALS[repository][0 if is_api else 1]
        if refusal:
            self._answer(b"", refusal[0], {"X-Error-Code": refusal[1]})
        elif is_api and rest[0] == "revision" and rest[1] not in ("main", COMMIT):
            self._answer(b"", 404, {"X-Error-Code": "RevisionNotFound"})
        elif is_api and rest[0] == "revision":
            self._answer(json.dumps({"id": repository, "sha": COMMIT, "siblings": []}).encode())
        elif is_api:
            tree = [{"type": "file", "path": n, "size": len(c), "oid": digest(c)} for n, c in files.items()]
            self._answer(json.dumps(tree).encode())
        else:
            content = files["/".join(rest[2:])]
            self._answer(content, 200, {"ETag": f'"{digest(content)}"', "X-Repo-Commit": COMMIT})

    def _answer(self, body: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


def digest(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


@pytest.fixture(scope="module")
def hub() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


Resolve = Callable[..., str]


@pytest.fixture
def resolve_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Resolve]:
    """Resolves with a client that knows the Hub at an endpoint and a cache of its own; gives the error as text."""
    from huggingface_hub import close_session, constants

    def resolve_there(model: str, revision: str, endpoint: str, *, is_offline: bool = False) -> str:
        settings = {  # which the client reads when it is imported
            "ENDPOINT": endpoint,
            "HUGGINGFACE_CO_URL_TEMPLATE": f"{endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}",
            "HF_HUB_CACHE": str(tmp_path / "hub"),
            "HF_HUB_OFFLINE": is_offline,
            "HF_HUB_DISABLE_XET": True,
        }
        for name, value in settings.items():
            monkeypatch.setattr(constants, name, value)
        try:
            return str(resolve(model, revision))
        except DistilleryError as error:
            return f"{type(error).__name__}: {error}"

    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield resolve_there
    close_session()


def resolve_elsewhere(model: str, revision: str, endpoint: str, home: Path, **more: str) -> str:
    """Resolves in a process of its own: the Hub client reads its endpoint when it is imported."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("HF_") and "proxy" not in key.lower()}
    environment = kept | {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HF_HUB_DISABLE_PROGRESS_BARS": "1", **more}
    done = subprocess.run(
        [sys.executable, "-c", RESOLVE, model, revision], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_model_is_fetched_without_pickles_and_other_formats_and_stays_usable_offline(
    hub: str, tmp_path: Path
) -> None:
    folder = Path(resolve_elsewhere("owner/good", "main", hub, tmp_path))

    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    assert names == ["README.md", "config.json", "model.safetensors", "tokenizer.json"]
    assert (folder / "model.safetensors").read_bytes() == FILES["model.safetensors"]
    assert identity(folder)["name"] == "owner/good"
    assert identity(folder)["commit"] == COMMIT
    again = resolve_elsewhere("owner/good", "main", unused_endpoint(), tmp_path, HF_HUB_OFFLINE="1")
    assert Path(again) == folder


def test_a_fetched_model_answers_as_its_original_does(hub: str, resolve_at: Resolve, encoder_base: Path) -> None:
    from distillery_trainer.neural.embedder import TorchEmbedder

    SERVED["owner/tiny-bert"] = {path.name: path.read_bytes() for path in encoder_base.iterdir()}
    fetched = resolve_at("owner/tiny-bert", COMMIT, hub)

    answers = [
        TorchEmbedder(folder, "main", Window(max_tokens=24)).embed(["river"]) for folder in (fetched, str(encoder_base))
    ]

    assert answers[0].tolist() == answers[1].tolist()


@pytest.mark.parametrize(
    ("model", "error", "words"),
    [
        (
            "owner/gated",
            "InputError",
            ["licence", "https://huggingface.co/owner/gated ", "HF_TOKEN", "--base-model DIR"],
        ),
        ("owner/gated-for-this-token", "InputError", ["licence", "HF_TOKEN", "--base-model DIR"]),
        ("owner/unknown-or-private", "InputError", ["no such public model", "spelling", "private", "HF_TOKEN"]),
        ("owner/unknown", "InputError", ["no such public model", "spelling"]),
        ("owner/forbidden", "InputError", ["refuses access (HTTP 403)", "HF_TOKEN"]),
        ("owner/broken", "ProviderError", ["cannot be fetched", "500", "--base-model DIR"]),
        ("./no/such/folder", "InputError", ["no such folder, and not a Hub id"]),
    ],
)
def test_a_refusal_says_what_to_do(hub: str, resolve_at: Resolve, model: str, error: str, words: list[str]) -> None:
    answer = resolve_at(model, "main", hub)

    assert answer.startswith(f"{error}: ")
    assert [word for word in [model, *words] if word not in answer] == []
    assert "\n" not in answer


def test_an_unknown_revision_is_named(hub: str, resolve_at: Resolve) -> None:
    answer = resolve_at("owner/good", "v9", hub)

    assert answer.startswith("InputError: ")
    assert "owner/good: no revision 'v9'" in answer


def test_a_hub_out_of_reach_is_a_provider_error_that_offers_a_folder(resolve_at: Resolve) -> None:
    answer = resolve_at("owner/good", "main", unused_endpoint())

    assert answer.startswith("ProviderError: owner/good: cannot be fetched (ConnectError: ")
    assert "--base-model DIR" in answer


def test_offline_without_the_model_says_that_offline_is_on(resolve_at: Resolve) -> None:
    answer = resolve_at("owner/good", "main", unused_endpoint(), is_offline=True)

    assert answer.startswith("ProviderError: owner/good: not in the Hub's cache and HF_HUB_OFFLINE is set")


def unused_endpoint() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    base = tmp_path / "my-model"
    base.mkdir()
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        (base / name).write_bytes(FILES[name])
    return base


def test_a_local_folder_is_used_as_it_is(folder: Path) -> None:
    assert resolve(str(folder), "any revision") == folder


def test_all_missing_files_of_a_folder_are_named(folder: Path) -> None:
    for name in ("tokenizer.json", "model.safetensors"):
        (folder / name).unlink()

    with pytest.raises(InputError) as caught:
        resolve(str(folder), "main")

    assert [problem.path for problem in caught.value.problems] == ["tokenizer.json", "*.safetensors"]


def test_an_identity_holds_digest_and_sizes_but_no_path(folder: Path) -> None:
    found = identity(folder)

    assert found == {
        "name": "my-model",
        "commit": None,
        "model_type": "bert",
        "config_sha256": hashlib.sha256(FILES["config.json"]).hexdigest(),
        "size_bytes": {name: len(FILES[name]) for name in ("config.json", "tokenizer.json", "model.safetensors")},
        "weights_sha256": [hashlib.sha256(FILES["model.safetensors"]).hexdigest()],
    }


@pytest.mark.parametrize(
    ("config", "limit"),
    [
        ({"model_type": "bert", "max_position_embeddings": 64, "pad_token_id": 1}, 64),
        ({"model_type": "xlm-roberta", "max_position_embeddings": 66, "pad_token_id": 1}, 64),
    ],
)
def test_a_window_may_be_as_large_as_the_models_usable_positions(
    folder: Path, config: dict[str, object], limit: int
) -> None:
    (folder / "config.json").write_text(json.dumps(config))

    check_window(folder, Window(max_tokens=limit))

    with pytest.raises(InputError, match=f"at most {limit}"):
        check_window(folder, Window(max_tokens=limit + 1))


def test_a_model_without_a_table_of_positions_has_no_limit(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "relative"}')

    check_window(folder, Window(max_tokens=32768))


@pytest.mark.parametrize("content", ["{", "[]"])
def test_a_config_that_is_no_json_object_is_refused(folder: Path, content: str) -> None:
    (folder / "config.json").write_text(content)

    with pytest.raises(InputError, match=r"config\.json"):
        identity(folder)
