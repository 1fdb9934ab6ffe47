"""A local HTTP server that speaks as Gemini's REST API and as OpenAI's chat completions do, by a script of the test.

`with OracleServer(script) as server:` answers at `server.url`. The script takes an `Ask` and gives an `Answer`; it is
called once for each call that would be paid, and once for each line of a batch. What was asked is in `server.asks`.
"""

import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

GEMINI_PATH = re.compile(r"/v1beta/models/([^:/]+):(generateContent|batchGenerateContent)")


@dataclass(frozen=True)
class Ask:
    """One call: `times` counts how often the same message came, from 1; `body` is what was sent."""

    kind: str  # "gemini", "openai" or "batch"
    model: str
    instruction: str
    message: str
    times: int
    body: Mapping[str, Any]
    headers: Mapping[str, str]

    @property
    def number(self) -> int:
        """N, where the message holds an `article number N.`"""
        return int(self.message.split("article number ")[1].split(".")[0])


@dataclass(frozen=True)
class Answer:
    """What the server does: a reply of `text`, or an HTTP error of `status` with `error` as its body."""

    text: str = ""
    input_tokens: int = 1000
    output_tokens: int = 50
    cached_tokens: int = 0
    thinking_tokens: int = 0
    finish: str | None = "stop"  # "length", "filter", or a word of the wire that is sent as it is
    status: int = 200
    error: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    raw_body: bytes | None = None  # sent as it is, with status and headers
    drop: bool = False  # closes the connection without an answer
    missing: bool = False  # of a batch: the line is left out


Script = Callable[[Ask], Answer]
FINISH = {"stop": "STOP", "length": "MAX_TOKENS", "filter": "SAFETY"}


def completion(answer: Answer, model: str) -> dict[str, Any]:
    """An answer as a chat completion."""
    finish = {"filter": "content_filter"}.get(answer.finish or "", answer.finish)
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "model": f"{model}-001",
        "choices": [{"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": answer.text}}],
        "usage": {
            "prompt_tokens": answer.input_tokens,
            "completion_tokens": answer.output_tokens + answer.thinking_tokens,
            "prompt_tokens_details": {"cached_tokens": answer.cached_tokens},
            "completion_tokens_details": {"reasoning_tokens": answer.thinking_tokens},
        },
    }


def content(answer: Answer, model: str) -> dict[str, Any]:
    """An answer as a GenerateContentResponse."""
    usage = {
        "promptTokenCount": answer.input_tokens,
        "candidatesTokenCount": answer.output_tokens,
        "totalTokenCount": answer.input_tokens + answer.output_tokens + answer.thinking_tokens,
    }
    if answer.cached_tokens:
        usage["cachedContentTokenCount"] = answer.cached_tokens
    if answer.thinking_tokens:
        usage["thoughtsTokenCount"] = answer.thinking_tokens
    parts = [{"text": answer.text}] if answer.text else []
    finish = FINISH.get(answer.finish or "", answer.finish)
    candidate = {"content": {"role": "model", "parts": parts}, "finishReason": finish, "index": 0}
    return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": f"{model}-001", "responseId": "r"}


class OracleServer:
    """The server, in threads of this process, until the block ends.

    Args:
        script: what to answer.
        polls: how often a batch job says that it is at work before it is done.
        batch_state: what a job that is done says.
    """

    def __init__(self, script: Script, polls: int = 1, batch_state: str = "BATCH_STATE_SUCCEEDED") -> None:
        self.script = script
        self.polls = polls
        self.batch_state = batch_state
        self.asks: list[Ask] = []
        self.times: Counter[str] = Counter()
        self.jobs: dict[str, dict[str, Any]] = {}
        self.files: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.lock = threading.Lock()
        self.break_reply = False  # the next answer is worked out and not sent
        self.fail_next: list[tuple[str, Answer]] = []  # (part of a path, what to answer there once)
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.owner = self
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    @property
    def url(self) -> str:
        """For Gemini; `/v1` beneath it is the OpenAI-compatible address."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> "OracleServer":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, kind: str, model: str, body: Mapping[str, Any], headers: Mapping[str, str]) -> Answer:
        """Counts one call and asks the script."""
        if kind == "openai":
            instruction, message = (str(m["content"]) for m in body["messages"])
        else:
            instruction = "".join(p["text"] for p in body["systemInstruction"]["parts"])
            message = "".join(p["text"] for c in body["contents"] for p in c["parts"])
        with self.lock:
            self.times[message] += 1
            ask = Ask(kind, model, instruction, message, self.times[message], body, headers)
            self.asks.append(ask)
        return self.script(ask)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    owner: OracleServer

    def handle_error(self, request: object, client_address: object) -> None:
        """Says nothing of clients that were killed."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, *_: object) -> None:
        """Says nothing."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        owner = self._begin()
        if self._fails(owner):
            return None
        if self.path.endswith("/chat/completions"):
            return self._chat(owner, json.loads(body))
        if self.path.startswith("/upload/v1beta/files"):
            return self._begin_upload(owner)
        if self.path.startswith("/upload-here/"):
            return self._upload(owner, body)
        found = GEMINI_PATH.fullmatch(self.path)
        if found and found[2] == "generateContent":
            return self._generate(owner, found[1], json.loads(body))
        if found:
            return self._create_job(owner, found[1], json.loads(body))
        return self._json(404, {"error": {"code": 404, "status": "NOT_FOUND", "message": self.path}})

    def do_GET(self) -> None:
        owner = self._begin()
        if self._fails(owner):
            return None
        path = self.path.partition("?")[0]
        if path == "/v1beta/batches":
            jobs = [self._job(owner, name) for name in reversed(owner.jobs)]
            return self._json(200, {"operations": jobs})
        if path.startswith("/v1beta/batches/"):
            return self._poll(owner, path.removeprefix("/v1beta/"))
        if path.startswith("/v1beta/files/") and path.endswith(":download"):
            name = path.removeprefix("/v1beta/").removesuffix(":download")
            if name in owner.files:
                return self._bytes(200, owner.files[name])
        return self._json(404, {"error": {"code": 404, "status": "NOT_FOUND", "message": self.path}})

    def _begin(self) -> OracleServer:
        owner = self.server.owner
        with owner.lock:
            owner.requests.append(f"{self.command} {self.path}")
        return owner

    def _fails(self, owner: OracleServer) -> bool:
        with owner.lock:
            place = next((i for i, (part, _) in enumerate(owner.fail_next) if part in self.path), None)
            planned = None if place is None else owner.fail_next.pop(place)[1]
        return planned is not None and self._unusual(planned)

    def _unusual(self, answer: Answer) -> bool:
        """Does what is no reply; False where there is to be one."""
        time.sleep(answer.delay_s)
        if answer.drop:
            self.close_connection = True
            return True
        if answer.raw_body is not None:
            self._bytes(answer.status, answer.raw_body, answer.headers)
            return True
        if answer.status != 200:
            self._json(answer.status, answer.error, answer.headers)
            return True
        return False

    def _chat(self, owner: OracleServer, body: Mapping[str, Any]) -> None:
        answer = owner.answer("openai", body["model"], body, dict(self.headers))
        if not self._unusual(answer):
            self._json(200, completion(answer, body["model"]), answer.headers)

    def _generate(self, owner: OracleServer, model: str, body: Mapping[str, Any]) -> None:
        answer = owner.answer("gemini", model, body, dict(self.headers))
        if not self._unusual(answer):
            self._json(200, content(answer, model), answer.headers)

    def _begin_upload(self, owner: OracleServer) -> None:
        with owner.lock:
            name = f"files/in{len(owner.files)}"
            owner.files[name] = b""
        url = f"{owner.url}/upload-here/{name}"
        self._bytes(200, b"{}", {"X-Goog-Upload-URL": url, "X-Goog-Upload-Status": "active"})

    def _upload(self, owner: OracleServer, body: bytes) -> None:
        name = self.path.removeprefix("/upload-here/")
        owner.files[name] += body
        final = "finalize" in self.headers.get("X-Goog-Upload-Command", "")
        file = {"file": {"name": name, "uri": f"{owner.url}/v1beta/{name}", "state": "ACTIVE"}}
        self._json(200, file, {"X-Goog-Upload-Status": "final" if final else "active"})

    def _create_job(self, owner: OracleServer, model: str, body: Mapping[str, Any]) -> None:
        lines = owner.files[body["batch"]["inputConfig"]["fileName"]].decode().splitlines()
        replies = []
        for line in map(json.loads, lines):
            answer = owner.answer("batch", model, line["request"], dict(self.headers))
            if answer.missing:
                continue
            failed = answer.status != 200
            replies.append({"key": line["key"], **({"error": answer.error} if failed else
                            {"response": content(answer, model)})})  # fmt: skip
        with owner.lock:
            name, output = f"batches/job{len(owner.jobs)}", f"files/out{len(owner.jobs)}"
            owner.files[output] = "".join(f"{json.dumps(reply)}\n" for reply in reversed(replies)).encode()
            display = body["batch"].get("displayName")
            owner.jobs[name] = {"display": display, "output": output, "polls": 0, "model": model}
        self._json(200, self._job(owner, name))

    def _poll(self, owner: OracleServer, name: str) -> None:
        if name not in owner.jobs:
            return self._json(404, {"error": {"code": 404, "status": "NOT_FOUND", "message": name}})
        owner.jobs[name]["polls"] += 1
        return self._json(200, self._job(owner, name))

    def _job(self, owner: OracleServer, name: str) -> dict[str, Any]:
        job = owner.jobs[name]
        done = job["polls"] >= owner.polls
        state = owner.batch_state if done else "BATCH_STATE_RUNNING"
        metadata = {"@type": "GenerateContentBatch", "displayName": job["display"], "state": state,
                    "model": f"models/{job['model']}", "name": name}  # fmt: skip
        if done and state in ("BATCH_STATE_SUCCEEDED", "BATCH_STATE_PARTIALLY_SUCCEEDED"):
            metadata["output"] = {"responsesFile": job["output"]}
        return {"name": name, "metadata": metadata, "done": done}

    def _json(self, status: int, value: object, headers: Mapping[str, str] | None = None) -> None:
        self._bytes(status, json.dumps(value).encode(), headers)

    def _bytes(self, status: int, value: bytes, headers: Mapping[str, str] | None = None) -> None:
        if self.server.owner.break_reply:
            self.server.owner.break_reply, self.close_connection = False, True
            return
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(value)))
        for name, text in (headers or {}).items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(value)
