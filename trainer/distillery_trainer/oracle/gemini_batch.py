"""Gemini's batch mode: a file of questions in, a file of replies out, matched by key.

Questions go in as an uploaded file because its lines carry a key that comes back with each reply. Inlined requests have
been seen to come back without their metadata and in another order (googleapis/python-genai, issues 1909 and 2008).
"""

import io
import json
from collections.abc import Iterator, Mapping, Sequence

from google.genai import errors, types

from distillery_runtime.articles.jsonl import BadLine, read_jsonl
from distillery_trainer.oracle.errors import OracleError, RetryError
from distillery_trainer.oracle.gemini import GeminiOracle
from distillery_trainer.oracle.gemini_wire import read_line_error, read_reply, request_body
from distillery_trainer.oracle.protocol import BatchResult, Reply, Request

FILE_TYPE = "jsonl"
# Files are kept for some days. Of one that is not there Google says 403, since it may be somebody else's.
GONE = {403, 404, 410}
# What is none of these has ended. (google-genai takes a job that succeeded in part for one that is still at work.)
UNDER_WAY = {"", "unspecified", "queued", "pending", "running", "cancelling", "paused", "updating"}


class GeminiBatches:
    """Jobs of the Gemini API's batch mode, over an oracle that knows model, settings and schema."""

    def __init__(self, oracle: GeminiOracle) -> None:
        self._oracle = oracle

    async def submit(self, name: str, requests: Sequence[Request]) -> str:
        """Uploads the questions and starts a job with `name` as its display name."""
        lines = (json.dumps({"key": r.key, "request": request_body(r, self._oracle.config)}) for r in requests)
        content = io.BytesIO("".join(f"{line}\n" for line in lines).encode())
        client = self._oracle.client.aio
        async with self._oracle.translated():
            file = await client.files.upload(
                file=content, config=types.UploadFileConfig(mime_type=FILE_TYPE, display_name=name)
            )
            job = await client.batches.create(
                model=self._oracle.model,
                src=types.BatchJobSource(file_name=file.name),
                config=types.CreateBatchJobConfig(display_name=name),
            )
        if not job.name:
            raise RetryError(
                "a batch without a name", "the provider started a job and did not say which", may_be_paid=True
            )
        return job.name

    async def find(self, name: str) -> str | None:
        """The provider's name of the job whose display name is `name`, or None if there is none."""
        async with self._oracle.translated():
            async for job in await self._oracle.client.aio.batches.list():
                if job.display_name == name:
                    return job.name
        return None

    async def fetch(self, remote: str) -> BatchResult | None:
        """What a job has brought, or None while it is at work."""
        async with self._oracle.translated():
            job = await self._oracle.client.aio.batches.get(name=remote)
            state = str(job.state.value if job.state else "").rpartition("_STATE_")[2].lower()
            if state in UNDER_WAY:
                return None
        if job.dest is None or job.dest.file_name is None:
            return BatchResult({}, state)
        async with self._oracle.translated():
            try:
                content = await self._oracle.client.aio.files.download(file=job.dest.file_name)
            except errors.APIError as error:
                if error.code not in GONE or not await self._is_gone(job.dest.file_name):
                    raise
                return BatchResult({}, state, is_gone=True)
        return BatchResult(dict(self._replies(content)), state)

    async def _is_gone(self, file: str) -> bool:
        """Whether the provider knows a file no more, asked in another way than for its content."""
        try:
            await self._oracle.client.aio.files.get(name=file)
        except errors.APIError as error:
            return error.code in GONE
        return False

    async def close(self) -> None:
        """Closes connections."""
        await self._oracle.close()

    def _replies(self, content: bytes) -> Iterator[tuple[str, Reply | OracleError]]:
        """Key and reply of each line; a line without a key belongs to no question and is passed over."""
        for line in read_jsonl(io.BytesIO(content)):
            if not isinstance(line, BadLine) and isinstance(line.get("key"), str):
                yield str(line["key"]), self._reply(line)

    def _reply(self, line: Mapping[str, object]) -> Reply | OracleError:
        if line.get("error"):
            return read_line_error(line["error"])
        try:
            return read_reply(line.get("response"), self._oracle.model)
        except OracleError as error:
            return error
