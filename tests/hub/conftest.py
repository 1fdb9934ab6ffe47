"""A Hub of one's own: a real HTTP server on this machine that stores commits and speaks the Hub's protocol."""

import base64
import hashlib
import itertools
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import pytest
import yaml

WRITER = "hf_a_token_that_may_write"
READER = "hf_a_token_that_may_read"
LARGE = (".onnx", ".data")

Files = dict[str, bytes]


@dataclass
class Repository:
    """Commits by hash, branches by name."""

    name: str
    private: bool
    commits: dict[str, Files] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    def commit(self, branch: str, files: Files, message: str) -> str:
        content = [message, len(self.commits), {name: sha1(data) for name, data in sorted(files.items())}]
        found = sha1(json.dumps(content).encode())
        self.commits[found], self.branches[branch] = files, found
        self.messages.append(message)
        return found

    def files(self, revision: str) -> tuple[str, Files] | None:
        commit = self.branches.get(revision, revision)
        return (commit, self.commits[commit]) if commit in self.commits else None


@dataclass
class State:
    """What the server holds and has seen. `stops_at`: a file whose answer waits until `goes_on` is set.

    A hostile one says `sha` for the commit and other `sizes` than its files have, sends its answers a byte at a time at
    the paths that end with `trickles`, breaks off after `breaks_after` bytes, or sends endless zeros behind a file.
    """

    repositories: dict[str, Repository] = field(default_factory=dict)
    large: dict[str, bytes] = field(default_factory=dict)
    seen: list[tuple[str, str]] = field(default_factory=list)
    stops_at: str | None = None
    sha: str | None = None
    sizes: dict[str, int] = field(default_factory=dict)
    trickles: str | None = None
    breaks_after: int | None = None
    endless: str | None = None
    sent: int = 0
    stopped: threading.Event = field(default_factory=threading.Event)
    goes_on: threading.Event = field(default_factory=threading.Event)
    endpoint: str = ""

    def store(self, name: str, files: Files) -> str:
        """Makes a public repository whose main branch holds these files, and gives its commit."""
        self.repositories[name] = made = Repository(name, False)
        made.commit("main", {}, "initial commit")
        return made.commit("main", {".gitattributes": b"", **files}, "files")

    def fetched(self) -> list[str]:
        """The files whose content was asked for, in order."""
        return [path.split("/resolve/")[1].split("/", 1)[1] for verb, path in self.seen
                if verb == "GET" and "/resolve/" in path]  # fmt: skip


def sha1(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()


def make_handler(state: State) -> type[BaseHTTPRequestHandler]:
    class Hub(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = self._path()
            if path.startswith("api/models/"):
                self._model(path.removeprefix("api/models/").split("/"))
            else:
                owner, name, _, revision, *rest = path.split("/")
                self._file(f"{owner}/{name}", unquote(revision), "/".join(rest))

        def do_PUT(self) -> None:
            oid, data = self._path().removeprefix("large/"), self._body()
            if hashlib.sha256(data).hexdigest() != oid:
                return self._refuse(400)
            state.large[oid] = data
            return self._json({})

        def do_POST(self) -> None:
            path, body = self._path(), self._body()
            if path == "api/validate-yaml":
                return self._validate(json.loads(body)["content"])
            if self._token() != WRITER:
                return self._refuse(403 if self._token() else 401)
            if path == "api/repos/create":
                return self._create(json.loads(body))
            if path.endswith(".git/info/lfs/objects/batch"):
                return self._large(json.loads(body))
            owner, name, verb, revision = path.removeprefix("api/models/").split("/")
            repository = state.repositories[f"{owner}/{name}"]
            return {"branch": self._branch, "preupload": self._preupload, "commit": self._commit}[verb](
                repository, unquote(revision), body
            )

        def _validate(self, content: str) -> None:
            """As the Hub: a card without metadata will do, one whose metadata cannot be read will not."""
            try:
                sound = not content.startswith("---\n") or isinstance(yaml.safe_load(content.split("---\n")[1]), dict)
            except yaml.YAMLError:
                sound = False
            self._json(
                {"errors": [] if sound else [{"message": "metadata that is no YAML"}], "warnings": []},
                200 if sound else 400,
            )

        def _create(self, asked: Mapping[str, object]) -> None:
            name = f"{asked['organization']}/{asked['name']}"
            if name in state.repositories:
                return self._json({"url": f"{state.endpoint}/{name}", "error": "exists"}, 409)
            state.repositories[name] = made = Repository(name, asked.get("visibility") == "private")
            made.commit("main", {".gitattributes": b"*.onnx filter=lfs\n"}, "initial commit")
            return self._json({"url": f"{state.endpoint}/{name}"})

        def _branch(self, repository: Repository, branch: str, body: bytes) -> None:
            if branch in repository.branches:
                return self._json({"error": "exists"}, 409)
            repository.branches[branch] = repository.branches["main"]
            return self._json({})

        def _preupload(self, repository: Repository, revision: str, body: bytes) -> None:
            _, there = repository.files(revision) or ("", {})
            answers = []
            for path in (file["path"] for file in json.loads(body)["files"]):
                mode = "lfs" if path.endswith(LARGE) else "regular"
                oid = blob(there[path], path) if path in there else None
                answers.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid})
            self._json({"files": answers})

        def _large(self, asked: Mapping[str, list[dict[str, object]]]) -> None:
            answers = [
                {**file, "actions": {"upload": {"href": f"{state.endpoint}/large/{file['oid']}"}}}
                for file in asked["objects"]
            ]
            self._json({"transfer": "basic", "objects": answers})

        def _commit(self, repository: Repository, branch: str, body: bytes) -> None:
            _, there = repository.files(branch) or ("", {})
            files, message = dict(there), ""
            for line in map(json.loads, body.splitlines()):
                value = line["value"]
                if line["key"] == "header":
                    message = value["summary"]
                elif line["key"] == "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "lfsFile":
                    files[value["path"]] = state.large[value["oid"]]
                elif line["key"] == "deletedFile":
                    del files[value["path"]]
            oid = repository.commit(branch, files, message)
            self._json(
                {"success": True, "commitOid": oid, "commitUrl": f"{state.endpoint}/{repository.name}/commit/{oid}"}
            )

        def _model(self, parts: list[str]) -> None:
            name, rest = "/".join(parts[:2]), parts[2:]
            repository = self._readable(name)
            if repository is None:
                return self._refuse(401 if not self._token() else 404, "RepoNotFound")
            found = repository.files(unquote(rest[1]) if rest else "main")
            if found is None:
                return self._refuse(404, "RevisionNotFound")
            commit, files = found
            if rest[:1] == ["tree"]:
                tree = [{"type": "file", "path": n, "size": len(d), "oid": sha1(d)} for n, d in files.items()]
                return self._json(tree)
            siblings = [{"rfilename": n, "size": state.sizes.get(n, len(d))} for n, d in files.items()]
            sha = commit if state.sha is None else state.sha
            return self._json({"id": name, "sha": sha, "private": repository.private, "siblings": siblings})

        def _file(self, name: str, revision: str, path: str) -> None:
            repository = self._readable(name)
            if repository is None:
                return self._refuse(401, "RepoNotFound")
            found = repository.files(revision)
            if found is None or path not in found[1]:
                return self._refuse(404, "EntryNotFound")
            if path == state.stops_at and self.command == "GET":
                state.stopped.set()
                state.goes_on.wait(30)
            data, headers = found[1][path], {"ETag": f'"{sha1(found[1][path])}"', "X-Repo-Commit": found[0]}
            if path == state.endless and self.command == "GET":
                return self._send_without_end(data)
            begin = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").removesuffix("-"))
            return self._answer(data[begin:], 206 if begin else 200, headers)

        def _send_without_end(self, data: bytes) -> None:
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            try:
                for chunk in itertools.chain([data], itertools.repeat(bytes(1 << 16), 1 << 14)):
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
                    state.sent += len(chunk)
            except OSError:  # the client has had enough
                self.close_connection = True

        def _readable(self, name: str) -> Repository | None:
            repository = state.repositories.get(name)
            known = self._token() in (READER, WRITER)
            return repository if repository and (known or not repository.private) else None

        def _path(self) -> str:
            path = urlsplit(self.path).path.strip("/")
            state.seen.append((self.command, path))
            return path

        def _token(self) -> str:
            return (self.headers.get("Authorization") or "").removeprefix("Bearer ")

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))
            data = b""
            while size := int(self.rfile.readline(), 16):
                data += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return data

        def _refuse(self, status: int, code: str = "") -> None:
            self._answer(b"", status, {"X-Error-Code": code} if code else {})

        def _json(self, content: object, status: int = 200) -> None:
            self._answer(json.dumps(content).encode(), status, {"Content-Type": "application/json"})

        def _answer(self, body: bytes, status: int, headers: Mapping[str, str]) -> None:
            self.send_response(status)
            for key, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command != "HEAD":
                self._send(body)

        def _send(self, body: bytes) -> None:
            if state.trickles is not None and self._path().endswith(state.trickles):
                with suppress(OSError):  # the client has had enough
                    for byte in body:
                        self.wfile.write(bytes([byte]))
                        state.goes_on.wait(0.05)
            elif state.breaks_after is not None and len(body) > state.breaks_after:
                self.wfile.write(body[: state.breaks_after])
                self.close_connection = True
            else:
                self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    return Hub


def blob(data: bytes, path: str) -> str:
    """A file's id in git: of a large one the SHA-256 of its content, else that of a blob."""
    return hashlib.sha256(data).hexdigest() if path.endswith(LARGE) else sha1(b"blob %d\0" % len(data) + data)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[State]:
    """A Hub without repositories, which the client of this process talks to; no token is set."""
    from huggingface_hub import close_session, constants

    state = State()
    server = ThreadingHTTPServer(("127.0.0.1", 0), make_handler(state))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    state.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    settings = {  # which the client reads when it is imported
        "ENDPOINT": state.endpoint,
        "HUGGINGFACE_CO_URL_TEMPLATE": f"{state.endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}",
        "HF_HUB_OFFLINE": False,
        "HF_HUB_DISABLE_XET": True,
    }
    for name, value in settings.items():
        monkeypatch.setattr(constants, name, value)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield state
    state.goes_on.set()
    close_session()
    server.shutdown()
    server.server_close()


@pytest.fixture
def writer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", WRITER)
