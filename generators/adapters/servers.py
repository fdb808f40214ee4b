"""Models behind a server with OpenAI's images API: `openai:MODEL --base-url ADDRESS`.

Every prompt ends as an image, as a refusal, or as a failure with a reason. The key comes from the
environment and is in no message and no file. It imports no torch.
"""

from __future__ import annotations

import base64
import binascii
import http.client
import json
import os
import random
import re
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

from evalkit.core.downloads import require_network
from evalkit.core.errors import ConfigError, DataError, NetworkError
from evalkit.core.pixels import read_rgb
from generators.adapters.access import Access
from generators.adapters.budget import Budget, Pace
from generators.base import (
    UNKNOWN_PRECISION,
    GeneratorSpec,
    Request,
    Sample,
    Settings,
    StageSettings,
    StageSpec,
)
from generators.errors import MissingKeyError, ServerError, UnsupportedRequestError

VENDOR = "https://api.openai.com/v1"
KEY = "OPENAI_API_KEY"  # the name of a variable, not a key
CONCURRENCY, RETRIES, TIMEOUT_S = 4, 6, 300.0  # the waits of 6 retries exceed a minute
FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 60.0
MOST_BYTES = 64 << 20
STAGE = "base"
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_REFUSALS = re.compile(r"content[_ ]policy|moderation|content[_ ]filter|safety", re.IGNORECASE)
_OUT_OF_MONEY = ("insufficient_quota", "billing_hard_limit_reached")
_WRONG_ADDRESS = (
    HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND,
    HTTPStatus.METHOD_NOT_ALLOWED,
)  # fmt: skip
_LIMITED = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
_UNDECIDED = {
    "size": str, "quality": str, "style": str, "background": str, "moderation": str,
    "output_format": str, "negative_prompt": str, "num_inference_steps": int,
    "guidance_scale": float,
}  # fmt: skip
"""Fields of a request that are sent only if they are set."""


class _RefusedError(Exception):
    """The server's moderation refused a prompt."""


class _FailedError(Exception):
    """A prompt that another try will not change."""


@dataclass(eq=False)
class _PassingError(Exception):
    """A fault that another try may change."""

    reason: str
    wait_s: float | None = None
    """The wait that the server asks for."""
    unreachable: bool = False

    def __str__(self) -> str:
        return self.reason


class ImagesServer:
    """A client of one model of a server.

    Args:
        spec: What the run's configuration states.
        model: The model's name on the server.
        access: Address and caps.
        key: The key, or an empty string.
    """

    def __init__(self, spec: GeneratorSpec, model: str, access: Access, key: str) -> None:
        self.spec = spec
        self.budget = Budget(request_limit(access))
        self._model = model
        self._access = access
        self._key = key
        self._base_url = _base_url(access)
        self._pace = Pace(access.requests_per_minute)
        self._opener = urllib.request.build_opener(_NoRedirects)
        self._stop = threading.Event()
        self._random = random.Random(0)  # noqa: S311 (spreads retries, protects nothing)

    def generate(self, requests: Sequence[Request], settings: Settings) -> list[Sample]:
        """Ask for one image per request, several at once; one batch.

        Raises:
            UnsupportedRequestError: A request has no prompt.
            CapReachedError: The cap does not cover the batch.
            ServerError: A wrong key, address or model, or an account without credit.
            NetworkError: The server is unreachable.
        """
        if any(request.prompt is None for request in requests):
            raise UnsupportedRequestError(f"{self.spec.name} needs a prompt in every request.")
        self.budget.reserve(len(requests))
        begun: list[int] = []
        self._stop.clear()
        pool = ThreadPoolExecutor(self._access.concurrency or CONCURRENCY)
        try:
            futures = [pool.submit(self._sample, r, settings, begun) for r in requests]
            samples = [future.result() for future in futures]
        finally:
            self._stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
            self.budget.release(len(requests) - len(begun))
        if all(unreachable for _, unreachable in samples):
            raise NetworkError(
                f"{self._base_url} is unreachable ({samples[0][0].reason}). Finished images are "
                "kept: run the same command again when it is back."
            )
        return [sample for sample, _ in samples]

    def _sample(
        self, request: Request, settings: Settings, begun: list[int]
    ) -> tuple[Sample, bool]:
        """Ask until there is an image or a reason; return it and whether nothing answered."""
        body = self._body(request, settings)
        retries = RETRIES if self._access.retries is None else self._access.retries
        unreachable, reason = True, ""
        for attempt in range(retries + 1):
            if self._stop.is_set():
                reason = reason or "the run was stopped"
                break
            self._pace.wait(self._stop)
            if not self.budget.take(first=attempt == 0):
                reason += "; the cap allows no further try"
                break
            if attempt == 0:
                begun.append(request.index)
            try:
                return self._asked(body, str(request.prompt)), False
            except _RefusedError as refusal:
                return Sample(image=None, status="refused", reason=str(refusal)), False
            except _FailedError as failure:
                return Sample(image=None, status="failed", reason=str(failure)), False
            except ServerError:
                self._stop.set()  # at once: no later request of the batch would be answered
                raise
            except _PassingError as fault:
                reason = f"{fault.reason}, after {attempt + 1} tries"
                unreachable = unreachable and fault.unreachable
                if attempt < retries:
                    self._back_off(attempt, fault)
        return Sample(image=None, status="failed", reason=reason), unreachable

    def _back_off(self, attempt: int, fault: _PassingError) -> None:
        """Wait before the next try: as the server asks, else twice as long each time."""
        if fault.wait_s is not None:
            self._pace.hold(min(fault.wait_s, LONGEST_WAIT_S))
            return
        longest = min(FIRST_WAIT_S * 2**attempt, LONGEST_WAIT_S)
        self._stop.wait(longest * (0.5 + self._random.random() / 2))

    def _body(self, request: Request, settings: Settings) -> dict[str, Any]:
        options = dict(settings[STAGE].options)
        body: dict[str, Any] = {"model": self._model, "prompt": request.prompt, "n": 1}
        wanted = options.pop("response_format")
        if wanted != "none":
            body["response_format"] = wanted
        if options.pop("seed"):
            body["seed"] = request.seed % 2**31  # servers keep it in 32 bits
        return body | options

    def _asked(self, body: Mapping[str, Any], prompt: str) -> Sample:
        """Send one request and read the image of the answer."""
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        address = f"{self._base_url}/images/generations"
        content = self._exchange(address, json.dumps(body).encode(), headers)
        try:
            item = json.loads(content)["data"][0]
            encoded, link = item.get("b64_json"), item.get("url")
            revised = item.get("revised_prompt")
        except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            raise _PassingError("the answer has no image") from error
        image = self._image(encoded, link)
        changed = isinstance(revised, str) and revised.strip() not in ("", prompt.strip())
        notes = (f"prompt revised by the server: {_shortened(str(revised))}",) if changed else ()
        return Sample(image=image, notes=notes)

    def _image(self, encoded: Any, link: Any) -> Any:
        try:
            if isinstance(encoded, str):
                content = base64.b64decode(encoded.partition(",")[2] or encoded, validate=True)
            elif isinstance(link, str) and link.startswith("data:"):
                content = base64.b64decode(link.partition(",")[2], validate=True)
            elif isinstance(link, str) and link.startswith(("http://", "https://")):
                content = self._exchange(link, None, {})  # the key is for the API alone
            else:
                raise _PassingError("the answer has no image")
            return read_rgb(content, name="the answer's image")
        except (binascii.Error, DataError) as error:
            raise _PassingError(f"the answer is no image ({_shortened(str(error))})") from error

    def _exchange(self, address: str, body: bytes | None, headers: Mapping[str, str]) -> bytes:
        """Send a request and read the whole answer within the time allowed."""
        timeout_s = self._access.timeout_s or TIMEOUT_S
        until = time.monotonic() + timeout_s
        # Only http and https addresses get here.
        request = urllib.request.Request(address, body, dict(headers))  # noqa: S310
        try:
            with self._opener.open(request, timeout=timeout_s) as response:
                return _read(response, until)
        except urllib.error.HTTPError as error:
            with error:
                raise self._judged(error, until) from error
        except TimeoutError as error:
            raise _PassingError(f"no answer within {timeout_s:g} s") from error
        except urllib.error.URLError as error:
            if isinstance(error.reason, TimeoutError):
                raise _PassingError(f"no answer within {timeout_s:g} s") from error
            raise _PassingError(f"no connection ({error.reason})", unreachable=True) from error
        except (http.client.HTTPException, OSError) as error:
            reason = str(error) or type(error).__name__
            raise _PassingError(f"the connection broke ({_shortened(reason)})") from error

    def _judged(self, error: urllib.error.HTTPError, until: float) -> Exception:
        """Return what an error of the server means for the prompt, or for the whole run."""
        code, message = _error_of(error, until)
        said = self._without_key(f"{error.code} {message}".strip())
        if error.code < HTTPStatus.INTERNAL_SERVER_ERROR and _REFUSALS.search(f"{code} {message}"):
            return _RefusedError(f"refused by the server: {said}")
        if code in _OUT_OF_MONEY:
            return ServerError(
                f"{self._base_url} has no credit left ({said}). Finished images are kept: run the "
                "same command again when there is."
            )
        if error.code in _WRONG_ADDRESS or error.code < HTTPStatus.BAD_REQUEST:
            return ServerError(
                f"{self._base_url} refuses {self.spec.name} ({said}). Check the model's name, "
                f"--base-url, and the key in {KEY}{'' if self._key else ', which is not set'}."
            )
        if error.code in _LIMITED:
            return _PassingError(f"limited by the server ({said})", _retry_after(error))
        if error.code >= HTTPStatus.INTERNAL_SERVER_ERROR or error.code in (
            HTTPStatus.REQUEST_TIMEOUT,
            HTTPStatus.CONFLICT,
        ):
            return _PassingError(f"an error of the server ({said})", _retry_after(error))
        return _FailedError(f"not accepted by the server: {said}")

    def _without_key(self, text: str) -> str:
        return text.replace(self._key, "(the key)") if self._key else text


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Follows no redirect, which would take the key to another host."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        """Refuse; the redirect then is an error."""
        return None


def check(name: str, weights: Mapping[str, Path]) -> None:
    """Check a name such as `openai:MODEL`.

    Raises:
        ConfigError: There are weights.
    """
    if weights:
        raise ConfigError(f"{name} takes no --weights; its server has them.")


def load(
    name: str, device: str, weights: Mapping[str, Path], access: Access | None
) -> ImagesServer:
    """Prepare the client of `openai:MODEL`.

    Raises:
        ConfigError: An address that is none, or no cap.
        MissingKeyError: The vendor needs a key, and the environment has none.
        NetworkError: The server is unreachable.
    """
    del device, weights
    access = access or Access()
    model, base_url = name.partition(":")[2], _base_url(access)
    if needs_cap(access):
        raise ConfigError(
            f"{name}: say how much may be asked of {base_url} before it starts: --max-requests N "
            "(retries count), or --max-cost AMOUNT with --price-per-image AMOUNT."
        )
    key = _key()
    if base_url == VENDOR and not key:
        raise MissingKeyError(
            f"{name} needs a key: set {KEY} in the environment, or give another server with "
            "--base-url."
        )
    require_network(base_url)
    spec = GeneratorSpec(
        name=name,
        display_name=model,
        conditioning="text",
        stages=(_stage(model, is_vendor=base_url == VENDOR),),
        precision=UNKNOWN_PRECISION,
        size_px=None,
        training_data=(),
        weights=f"served at {base_url}",
        weights_sha256="unknown: served",
    )
    return ImagesServer(spec, model, access, key)


def request_limit(access: Access) -> int | None:
    """Return how many requests the caps allow; None: any number.

    >>> request_limit(Access(max_requests=500, price=0.04, max_cost=10.0))
    250

    Raises:
        ConfigError: A cost without a price, or a cap that allows no request.
    """
    limits = [] if access.max_requests is None else [access.max_requests]
    if (access.max_cost is None) != (access.price is None):
        raise ConfigError(
            "--max-cost and --price-per-image belong together: give both, in one currency."
        )
    if access.max_cost is not None and access.price is not None:
        if not (access.price > 0 and access.max_cost >= 0):
            raise ConfigError(
                f"--price-per-image {access.price:g} and --max-cost {access.max_cost:g} must be "
                "positive."
            )
        limits.append(int(access.max_cost / access.price + 1e-9))
    if limits and min(limits) < 1:
        raise ConfigError("The cap allows no request. Raise --max-requests or --max-cost.")
    return min(limits, default=None)


def needs_cap(access: Access) -> bool:
    """Return whether a cap is missing: none is needed for a server on this machine."""
    host = urllib.parse.urlsplit(_base_url(access)).hostname
    return request_limit(access) is None and host not in _LOOPBACK


def _stage(model: str, *, is_vendor: bool) -> StageSpec:
    formats = ("b64_json", "url", "none")
    # The vendor's newer models refuse the field and always return base64, and it knows no seeds.
    wanted = "none" if model.startswith("gpt-image") else "b64_json"
    return StageSpec(
        name=STAGE,
        defaults=StageSettings(options={"response_format": wanted, "seed": not is_vendor}),
        choices={"response_format": formats},
        undecided=_UNDECIDED,
    )


def _base_url(access: Access) -> str:
    """Return the address of the API without a slash at its end.

    Raises:
        ConfigError: It is no address of a server, or has a password or a query.
    """
    text = (access.base_url or VENDOR).rstrip("/")
    parts = urllib.parse.urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(
            f"--base-url {text!r} is no address; expected such as http://localhost:8000/v1."
        )
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ConfigError(
            f"--base-url: {parts.hostname} has a name, password or query in its address. Give the "
            f"plain address, and the key in {KEY}."
        )
    return text


def _key() -> str:
    """Return the key of the environment, or an empty string.

    Raises:
        ConfigError: It can't be sent.
    """
    key = os.environ.get(KEY, "").strip()
    if not key.isascii() or not key.isprintable():
        raise ConfigError(f"{KEY} has characters that no key has. Set it again.")
    return key


def _read(response: Any, until: float) -> bytes:
    """Read an answer or an error, however slowly it comes, within the time and size allowed."""
    found = bytearray()
    while block := response.read1(1 << 16):
        found += block
        if time.monotonic() > until:
            raise TimeoutError
        if len(found) > MOST_BYTES:
            raise _PassingError(f"the answer is larger than {MOST_BYTES >> 20} MiB")
    return bytes(found)


def _error_of(error: urllib.error.HTTPError, until: float) -> tuple[str, str]:
    """Return code and message of an error of the API; its text where it is another server's."""
    try:
        content = _read(error, until)
    except (OSError, http.client.HTTPException, _PassingError):
        return "", ""
    try:
        found = json.loads(content)
        found = found.get("error", found)
        if isinstance(found, str):
            return "", _shortened(found)
        code = str(found.get("code") or found.get("type") or "")
        return code, _shortened(str(found.get("message") or found.get("detail") or code))
    except (ValueError, AttributeError):
        return "", _shortened(content.decode("utf-8", "replace"))


def _retry_after(error: urllib.error.HTTPError) -> float | None:
    try:
        return max(0.0, float(error.headers.get("Retry-After", "")))
    except ValueError:
        return None


def _shortened(text: str) -> str:
    """Return a text on one line, without what a terminal would interpret."""
    line = " ".join(text.split())
    return "".join(c for c in line if c.isprintable())[:300].rstrip(".")
