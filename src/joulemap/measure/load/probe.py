"""Questions to a server before it is loaded: which models it serves, and how it counts tokens."""

from __future__ import annotations

import asyncio
import http.client
import json
import ssl
from dataclasses import replace
from typing import Any

from joulemap.errors import ServerError
from joulemap.measure.load.handle import run_load
from joulemap.measure.load.lengths import FixedLength
from joulemap.measure.load.plan import ClosedLoop, Limits, LoadPlan
from joulemap.measure.load.prompts import SyntheticPrompts, TokenRatio
from joulemap.measure.load.target import Endpoint, Target

PROBE_WORDS = (32, 160)
"""Lengths of the two prompts whose token counts give the ratio and the template's share."""
PROBE_REPLY_TOKENS = 8
"""Tokens of their replies: one alone may be part of a character, which is no text yet and looks like no answer."""
ANSWER_WITHIN_S = 30.0


def served_models(target: Target) -> tuple[str, ...]:
    """Return the models that a server offers, its first one first.

    Raises:
        ServerError: The server cannot be reached or does not answer as the API does.
    """
    kind = http.client.HTTPSConnection if target.secure else http.client.HTTPConnection
    options: dict[str, Any] = {"context": target.tls()} if target.secure else {}
    connection = kind(target.host, target.port, timeout=ANSWER_WITHIN_S, **options)
    key = target.api_key()
    try:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        connection.request("GET", target.path("models"), headers=headers)
        reply = connection.getresponse()
        body = reply.read()
    except ssl.SSLCertVerificationError as error:
        msg = f"the certificate of the server at {target.url} is not trusted: {error.verify_message}"
        fix = "export SSL_CERT_FILE=FILE, with the certificate of the authority that signed it"
        raise ServerError(msg, fix=fix) from error
    except ssl.SSLError as error:
        msg = f"the server at {target.url} does not speak TLS: {error.reason or error}"
        raise ServerError(msg, fix="is it an http:// address?") from error
    except (OSError, http.client.HTTPException) as error:
        msg = f"the server at {target.url} does not answer: {error or type(error).__name__}"
        raise ServerError(msg, fix="check that it runs, and the URL") from error
    finally:
        connection.close()
    if reply.status in {401, 403}:
        msg = f"the server at {target.url} wants a key: HTTP {reply.status}"
        raise ServerError(msg, fix=f"export {target.api_key_env}=…")
    try:
        return tuple(str(model["id"]) for model in json.loads(body)["data"])
    except (ValueError, KeyError, TypeError) as error:
        msg = f"the server at {target.url} lists no models: HTTP {reply.status}"
        raise ServerError(msg, fix="check the URL, or name the model") from error


async def token_ratio(target: Target) -> TokenRatio | None:
    """Find how the server counts our words, from two short requests; ``None`` if it tells no counts.

    Raises:
        ServerError: The requests failed.
    """
    counts = [await _prompt_tokens(target, words) for words in PROBE_WORDS]
    if counts[0] is None or counts[1] is None:
        return None
    per_word = (counts[1] - counts[0]) / (PROBE_WORDS[1] - PROBE_WORDS[0])
    if per_word <= 0:
        return None
    return TokenRatio(tokens_per_word=per_word, template_tokens=max(0.0, counts[0] - per_word * PROBE_WORDS[0]))


async def _prompt_tokens(target: Target, words: int) -> int | None:
    prompts = SyntheticPrompts(input_tokens=FixedLength(words), output_tokens=FixedLength(PROBE_REPLY_TOKENS))
    plan = LoadPlan(
        arrivals=ClosedLoop(concurrency=1),
        prompts=replace(prompts, ratio=TokenRatio()),
        max_requests=1,
        limits=Limits(drain_s=ANSWER_WITHIN_S),
    )
    row = (await run_load(plan, target)).requests.row(0, named=True)
    if row["error"] is not None:
        msg = f"the server at {target.url} did not answer a first request: {row['error']}: {row['error_detail']}"
        raise ServerError(msg)
    tokens: int | None = row["input_tokens"]
    return tokens


def find_token_ratio(target: Target) -> TokenRatio | None:
    """Run ``token_ratio`` to its end, from code that has no event loop."""
    if target.endpoint is Endpoint.IMAGES:
        return None
    return asyncio.run(token_ratio(target))
