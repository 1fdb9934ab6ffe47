"""Gemini through google-genai, one question at a time; `gemini_batch` asks many in one job."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import httpx2
from google import genai
from google.genai import errors, types

from distillery_trainer.oracle import connections
from distillery_trainer.oracle.credentials import without_key
from distillery_trainer.oracle.errors import UNREADABLE, OracleError, RetryError
from distillery_trainer.oracle.gemini_wire import generation_config, read_error, read_reply
from distillery_trainer.oracle.http_status import from_transport, retry_after
from distillery_trainer.oracle.protocol import Reply, Request, Settings

GOOGLE = "https://generativelanguage.googleapis.com/"
API_VERSION = "v1beta"  # where batches and response schemas are; google-genai's own default has changed


class GeminiOracle:
    """Asks one model of the Gemini API, with the reply's schema enforced.

    google-genai neither retries nor continues replies here: each call is one paid request, which the driver counts.

    Args:
        model: the model's name.
        settings: how it is asked.
        schema: the reply's JSON Schema.
        key: of the provider; appears in no error.
        base_url: where the API is, if not at Google.
        timeout_s: for each connection and read; whoever calls bounds the whole.
    """

    def __init__(
        self,
        model: str,
        settings: Settings,
        schema: Mapping[str, object],
        key: str,
        base_url: str | None = None,
        timeout_s: float = 120.0,
    ) -> None:
        self.model = model
        self.config = generation_config(settings, schema)
        self._key = key
        self._url = base_url or GOOGLE
        self._http = connections.asynchronous(self._url)
        options = types.HttpOptions(
            base_url=self._url,
            api_version=API_VERSION,
            timeout=max(1, round(timeout_s * 1000)),
            retry_options=types.HttpRetryOptions(attempts=1),
            httpx_async_client=self._http,
            httpx_client=httpx2.Client(verify=connections.tls()),
            async_client_args={"ssl": connections.tls()},
        )
        self.client = genai.Client(vertexai=False, api_key=key, http_options=options)

    async def ask(self, request: Request) -> Reply:
        """The reply to one question; raises as `Oracle.ask` says."""
        config = types.GenerateContentConfig.model_validate(
            {**self.config, "systemInstruction": request.instruction, "automaticContinuation": False}
        )
        async with self.translated():
            response = await self.client.aio.models.generate_content(
                model=self.model, contents=request.message, config=config
            )
            body = response.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"sdk_http_response"})
            return read_reply(body, self.model)

    async def close(self) -> None:
        """Closes connections."""
        await self._http.aclose()
        self.client.close()

    @asynccontextmanager
    async def translated(self) -> AsyncIterator[None]:
        """Turns what google-genai and the connection raise into our errors, without the key."""
        try:
            yield
        except errors.APIError as error:
            headers = getattr(error.response, "headers", None) or {}
            found = read_error(error.code, _without_key(error.details, self._key), retry_after(headers))
            raise found from None
        except OracleError:
            raise
        except httpx2.HTTPError as error:
            raise from_transport(error, self._url) from error
        except ValueError as error:  # a body that is no JSON, or JSON that google-genai cannot read
            detail = without_key(str(error), self._key)
            raise RetryError(UNREADABLE, f"{self._url}: {detail[:200]}", may_be_paid=True) from None


def _without_key(details: object, key: str) -> object:
    """An error's JSON in which a server may have repeated the key, without it."""
    found: object = json.loads(without_key(json.dumps(details), key))
    return found
