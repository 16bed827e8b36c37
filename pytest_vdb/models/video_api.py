"""A client of the OpenAI video API: requests over HTTP that are bounded, timed and retried.

The standard library's client is used directly: it follows no redirect, reads no proxy from the
environment, and its connections belong to one request each, so threads share nothing.
"""

from __future__ import annotations

import http.client
import json
import mimetypes
import os
import secrets
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urljoin, urlsplit

from pytest_vdb.errors import BadSetting, InfraError, SourceError
from pytest_vdb.records import Json
from pytest_vdb.units import plain

KEY = "VDB_API_KEY"  # the environment variable; no other key is ever sent anywhere

MAX_JSON = 2**20  # bytes of an answer about a job
MAX_VIDEO = 2**32  # bytes of a video
MAX_WORDS = 500  # characters of a server's own words in a message
MAX_PAUSE = 60.0  # seconds that a Retry-After may ask for
SLOW = 20  # times the timeout, for all of an answer: one byte now and then is no answer
DEPTH = 5  # of an error inside an error
CHUNK = 2**16
REDIRECTS = 3

AGAIN = frozenset({429, 500, 502, 503, 504})  # a GET may be repeated after one of these
REDIRECTED = frozenset({301, 302, 303, 307, 308})


@dataclass(frozen=True)
class Address:
    """Where a video API lives. ``create`` is the path that takes a POST, ``videos`` the jobs'."""

    scheme: str
    host: str
    port: int
    videos: str
    create: str

    @classmethod
    def of(cls, location: str) -> Address:
        """From ``http://host:port``, with or without ``/v1``, ``/v1/videos``, ``/v1/videos/sync``.

        Raises BadSetting for what is no such URL, and for a password in it: it would be shown.
        """
        example = "give the server's address, such as http://127.0.0.1:8000"
        try:
            parts = urlsplit(location)
            port = parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)
        except ValueError as exc:
            raise BadSetting(f"{plain(location)}: {exc}; {example}") from None
        if parts.username or parts.password:
            raise BadSetting(f"the URL of {parts.hostname} holds a password: set {KEY} instead")
        known = parts.scheme in ("http", "https") and port and parts.hostname
        if not known or parts.query or parts.fragment:
            shown = plain(location.partition("?")[0])
            raise BadSetting(f"{shown!r} is no address of a video API; {example}")
        path = parts.path.rstrip("/")
        sync = path.endswith("/videos/sync")
        base = path.removesuffix("/sync").removesuffix("/videos").removesuffix("/v1")
        videos = f"{base}/v1/videos"
        create = f"{videos}/sync" if sync else videos
        return cls(parts.scheme, parts.hostname or "", port, videos, create)

    @property
    def origin(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


@dataclass(frozen=True)
class Reply:
    """One answer. ``body`` is empty where it went to a file.

    ``started`` and ``heard`` are of the monotonic clock: when the request that was answered began,
    and when the answer's headers (of a video: its first byte) were here. ``failures`` counts the
    attempts before it.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    started: float
    heard: float
    failures: int = 0

    @property
    def is_video(self) -> bool:
        kind = self.headers.get("content-type", "").partition(";")[0].strip().lower()
        return kind.startswith("video/") or kind == "application/octet-stream"


class Lost(Exception):
    """No answer. ``sent``: whether the server may have received the request."""

    def __init__(self, message: str, sent: bool) -> None:
        super().__init__(message)
        self.sent = sent


@dataclass
class VideoApi:
    """Requests to one server.

    ``timeout`` (seconds) bounds every wait for the network, ``retries`` is how often a request
    that is safe to repeat is repeated. Every repetition is noted in ``retried``, in words.
    """

    address: Address
    timeout: float = 30.0
    retries: int = 2
    retried: list[str] = field(default_factory=list)

    def get(
        self,
        path: str,
        wait: Callable[[float], object] = time.sleep,
        into: BinaryIO | None = None,
    ) -> Reply:
        """GET ``path``, repeated where that can help; redirects inside this server are followed.

        The body of a 200 goes to ``into``, if given. ``wait`` pauses. Raises InfraError where no
        answer came or the server stayed too busy, SourceError for a redirect to another server.
        """
        for attempt in range(self.retries + 1):
            if into is not None:
                into.seek(0)
                into.truncate()
            pause = 0.1 * 2**attempt
            try:
                reply = self._followed(path, into)
            except Lost as lost:
                trouble = str(lost)
            else:
                if reply.status not in AGAIN:
                    return replace(reply, failures=attempt)
                trouble = f"HTTP {reply.status} {said(reply)}"
                pause = retry_after(reply, pause)
            if attempt < self.retries:
                self.retried.append(f"GET {path}: {trouble}")
                wait(pause)
        raise InfraError(self._gone(f"GET {path}", f"{self.retries + 1} times: {trouble}"))

    def post(
        self,
        body: bytes,
        content_type: str,
        timeout: float,
        wait: Callable[[float], object] = time.sleep,
        into: BinaryIO | None = None,
    ) -> Reply:
        """POST a new job; it is repeated only where the server certainly made none.

        That is after a refused connection and after HTTP 429. ``timeout`` is for the answer: a
        synchronous server gives it when the video is done. A video goes to ``into``. Raises
        InfraError where no answer came.
        """
        headers = {"Content-Type": content_type}
        path = self.address.create
        for attempt in range(self.retries + 1):
            pause = 0.1 * 2**attempt
            try:
                reply = self.exchange("POST", path, body, headers, timeout, into)
            except Lost as lost:
                trouble = str(lost)
                if lost.sent or attempt == self.retries:
                    raise InfraError(self._gone(f"POST {path}", trouble)) from lost
            else:
                if reply.status != 429 or attempt == self.retries:
                    return replace(reply, failures=attempt)
                trouble = f"HTTP 429 {said(reply)}"
                pause = retry_after(reply, pause)
            self.retried.append(f"POST {path}: {trouble}")
            wait(pause)
        raise AssertionError("unreachable")

    def forget(self, job: str) -> None:
        """Ask the server to delete ``job``; it may refuse, be gone or take too long."""
        with suppress(Lost):
            self.exchange("DELETE", f"{self.address.videos}/{job}", timeout=2.0)

    def exchange(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        into: BinaryIO | None = None,
    ) -> Reply:
        """One request, one answer, whatever its status. Raises Lost, SourceError (too large)."""
        timeout = self.timeout if timeout is None else timeout
        started = time.perf_counter()
        with closing(self._connected(min(timeout, self.timeout))) as connection:
            wire: socket.socket = connection.sock  # the answer may take it from the connection
            try:
                wire.settimeout(timeout)
                connection.request(method, path, body or None, {**_headers(), **(headers or {})})
                response = connection.getresponse()
                heard = time.perf_counter()
                wire.settimeout(self.timeout)
                known = {name.lower(): value for name, value in response.getheaders()}
                reply = Reply(response.status, known, b"", started, heard)
                if reply.is_video:  # its headers may have been sent before it was made
                    response.peek(1)
                    reply = replace(reply, heard=time.perf_counter())
                # The answer to a POST may be the record of a job, or the video.
                wanted = reply.status == 200 and (method == "GET" or reply.is_video)
                return replace(reply, body=self._content(response, into if wanted else None))
            except (OSError, http.client.HTTPException) as exc:
                raise Lost(_why(exc, timeout), sent=True) from exc

    # ------------------------------------------------------------------ inside

    def _connected(self, timeout: float) -> http.client.HTTPConnection:
        host, port = self.address.host, self.address.port
        if self.address.scheme == "https":
            context = ssl.create_default_context()
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                host, port, timeout=timeout, context=context
            )
        else:
            connection = http.client.HTTPConnection(host, port, timeout=timeout)
        try:
            connection.connect()
        except OSError as exc:
            connection.close()
            raise Lost(_why(exc, timeout), sent=False) from exc
        return connection

    def _content(self, response: http.client.HTTPResponse, into: BinaryIO | None) -> bytes:
        """The body, or nothing where it went to ``into``; bounded in size and time."""
        limit = MAX_JSON if into is None else MAX_VIDEO
        end = time.perf_counter() + SLOW * self.timeout
        pieces, size = [], 0
        while chunk := response.read(CHUNK):
            size += len(chunk)
            if time.perf_counter() > end:
                raise TimeoutError
            if size > limit:
                raise SourceError(
                    f"{self.address.origin} answered with more than {limit} bytes; "
                    "that is no answer of a video API"
                )
            if into is None:
                pieces.append(chunk)
            else:
                into.write(chunk)
        if response.length:  # read() in pieces gives less than was announced without a word
            raise http.client.IncompleteRead(b"", response.length)
        return b"".join(pieces)

    def _followed(self, path: str, into: BinaryIO | None) -> Reply:
        url = self.address.origin + path
        for _ in range(REDIRECTS + 1):
            reply = self.exchange("GET", url[len(self.address.origin) :], into=into)
            if reply.status not in REDIRECTED:
                return reply
            url = urljoin(url, reply.headers.get("location", ""))
            if not url.startswith(self.address.origin + "/"):
                raise SourceError(
                    f"{self.address.origin} sends {path} on to {plain(url)[:MAX_WORDS]}, which "
                    "is another server; let it serve its videos itself"
                )
        raise SourceError(f"{self.address.origin} redirects {path} more than {REDIRECTS} times")

    def _gone(self, request: str, trouble: str) -> str:
        return (
            f"the server at {self.address.origin} does not answer {request}: {trouble}; start it "
            "(--vdb-serve 'CMD {port}' does), correct its URL, or see its log"
        )


def said(reply: Reply) -> str:
    """The server's own words in an error, of any dialect, safe to print and cut to a line."""
    content = parsed(reply.body)
    return cut(reply.body.decode(errors="replace") if content is None else reason(content))


def parsed(body: bytes) -> Json:
    """``body`` as JSON; None where it is none."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def reason(content: Json, depth: int = 0) -> str:
    """What an error body or a job's ``error`` says: OpenAI's, FastAPI's, or anything else."""
    if isinstance(content, dict) and depth < DEPTH:
        for key in ("error", "detail", "message"):
            if content.get(key):
                return reason(content[key], depth + 1)
    if isinstance(content, list) and content and all(isinstance(c, dict) for c in content):
        lines = (f"{'.'.join(map(str, c.get('loc', [])))}: {c.get('msg', '')}" for c in content)
        return "; ".join(lines)
    return content if isinstance(content, str) else json.dumps(content)


def cut(text: str) -> str:
    """``text`` in one line without control characters, ``MAX_WORDS`` characters at most."""
    text = " ".join(text[: 4 * MAX_WORDS].split())
    return plain(text if len(text) <= MAX_WORDS else text[:MAX_WORDS] + " ...")


def retry_after(reply: Reply, otherwise: float) -> float:
    """Seconds that the server asks to wait, if it gives a number of them; at most a minute."""
    given = reply.headers.get("retry-after", "")
    return min(float(given), MAX_PAUSE) if given.isdecimal() else otherwise


def encode_json(fields: Mapping[str, Json]) -> tuple[bytes, str]:
    return json.dumps(fields).encode(), "application/json"


def encode_form(fields: Mapping[str, Json], image: Path | None = None) -> tuple[bytes, str]:
    """``multipart/form-data``; what is no text goes as JSON, ``image`` as ``input_reference``."""
    boundary = secrets.token_hex(16)
    parts = []
    for name, value in fields.items():
        text = value if isinstance(value, str) else json.dumps(value)
        name = name.replace("\\", "\\\\").replace('"', '\\"').replace("\r", "").replace("\n", "")
        parts.append((f'name="{name}"', text.encode()))
    if image is not None:
        kind = mimetypes.guess_type(image.name)[0] or "application/octet-stream"
        file = "reference" + (image.suffix if image.suffix[1:].isalnum() else "")
        head = f'name="input_reference"; filename="{file}"\r\nContent-Type: {kind}'
        parts.append((head, image.read_bytes()))
    body = b"".join(
        f"--{boundary}\r\nContent-Disposition: form-data; {head}\r\n\r\n".encode() + value + b"\r\n"
        for head, value in parts
    )
    return body + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"


def _headers() -> dict[str, str]:
    headers = {"Accept": "application/json, video/*", "User-Agent": "pytest-vdb"}
    if key := os.environ.get(KEY):
        if not (key.isascii() and key.isprintable()):
            raise BadSetting(f"{KEY} holds a character that no key has: set it without line ends")
        headers["Authorization"] = f"Bearer {key}"
    return headers


def _why(exc: BaseException, timeout: float) -> str:
    if isinstance(exc, TimeoutError):
        return f"no answer within {timeout:g} s"
    if isinstance(exc, socket.gaierror):
        return f"the host is not known ({exc.strerror})"
    if isinstance(exc, http.client.IncompleteRead):
        return "the answer ended too early"
    return cut(str(exc)) or type(exc).__name__
