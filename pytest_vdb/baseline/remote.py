"""Baselines and media behind a URL: any that fsspec reads, or plain HTTP.

Media are kept in a local cache by their hash, which is checked. Baseline files may change under
their name, so they are fetched anew by every run.
"""

from __future__ import annotations

import base64
import hashlib
import io
import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote, unquote, urlsplit

from pytest_vdb.baseline.store import MediaFolder, Text, write_atomically
from pytest_vdb.errors import BaselineError, BaselineWriteError, LostMedium, Unreachable
from pytest_vdb.places import shown

if TYPE_CHECKING:
    from urllib.request import OpenerDirector, Request

URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:(//|:)")
SECONDS = 30.0
"""Patience with a server that does not answer."""

READ_ONLY = "{} is read only; write by a URL that can be written, such as s3://, or in a folder"

SUFFIXES = (".webp", ".npy", ".gz", ".mp4", ".webm", ".mkv", ".gif")
"""What a medium's name may end in, for a server that lists nothing: ours, and recorded clips'."""


def is_url(text: str) -> bool:
    return URL.match(text) is not None


class Remote(Protocol):
    """Files by path below one URL. Every method raises Unreachable."""

    url: str

    def get(self, path: str) -> bytes | None:
        """The content, or None where there is no such file."""

    def names(self, folder: str) -> list[str] | None:
        """Names in a folder; None where nothing can be listed."""

    def put(self, path: str, source: Path) -> None:
        """Write a file whole, over an older one."""


def connect(url: str) -> Remote:
    """The files below ``url``.

    Raises Unreachable: no URL after all, an unknown protocol, a package that lacks.
    """
    try:
        _ = urlsplit(url).hostname
    except ValueError as error:
        scheme = url.partition("://")[0]
        raise Unreachable(f"what begins with {scheme}:// here is no URL: {error}") from None
    return Http(url) if _is_http(url) else Filesystem(url)


def _is_http(url: str) -> bool:
    return url.startswith(("http://", "https://"))


def joined(url: str, name: str) -> str:
    """``url`` with ``name`` under its path, before the query of a signed URL."""
    if not _is_http(url):
        return f"{url.rstrip('/')}/{name}"
    whole, mark, query = url.partition("?")
    return f"{whole.rstrip('/')}/{name}{mark}{query}"


class Http:
    """A plain web server: read only, and it lists nothing that programs could rely on."""

    def __init__(self, url: str) -> None:
        self.url = shown(url).rstrip("/")
        self._query = urlsplit(url).query  # a signature, which belongs to every path below
        who = urlsplit(url).netloc.rpartition("@")[0]
        secret = base64.b64encode(unquote(who).encode()).decode()
        self._secret = f"Basic {secret}" if who else None

    def get(self, path: str) -> bytes | None:
        import http.client
        import urllib.error
        import urllib.request

        try:
            address = f"{self.url}/{quote(path)}" + (f"?{self._query}" if self._query else "")
            request = urllib.request.Request(address)
            if self._secret is not None:
                request.add_unredirected_header("Authorization", self._secret)
            with _opener().open(request, timeout=SECONDS) as answer:
                return bytes(answer.read())
        except urllib.error.HTTPError as error:
            if error.code in (404, 410):
                return None
            raise Unreachable(f"{shown(self.url)} answers {error.code} {error.reason}") from None
        except (OSError, ValueError, http.client.HTTPException) as error:
            why = getattr(error, "reason", error)
            raise Unreachable(f"{shown(self.url)} cannot be reached: {why}") from None

    def names(self, folder: str) -> list[str] | None:
        return None

    def put(self, path: str, source: Path) -> None:
        raise Unreachable(READ_ONLY.format(shown(self.url)))


def _opener() -> OpenerDirector:
    """As ``urlopen``, but a password goes to its own server alone, not where that redirects to."""
    import urllib.request

    class SameServer(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, req: Request, *rest: Any) -> Request | None:
            found = super().redirect_request(req, *rest)
            secret = req.get_header("Authorization")
            if found is not None and secret and _server(found.full_url) == _server(req.full_url):
                found.add_unredirected_header("Authorization", secret)
            return found

    return urllib.request.build_opener(SameServer)


def _server(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc


class Filesystem:
    """Anything that fsspec opens: ``file://``, ``memory://``, ``s3://``, ``gs://``, …"""

    def __init__(self, url: str) -> None:
        import fsspec

        self.url = url.rstrip("/")
        try:
            self._fs, root = fsspec.core.url_to_fs(url)
        except Exception as error:  # a protocol's own package may raise anything
            raise Unreachable(f"{shown(url)} cannot be opened: {error}") from None
        self._root = str(root).rstrip("/")

    def _ask(self, what: Callable[[], Any]) -> Any:
        try:
            return what()
        except FileNotFoundError:
            return None
        except Exception as error:  # each protocol has errors of its own
            why = f"{type(error).__name__}: {error}"
            raise Unreachable(f"{shown(self.url)} cannot be reached: {why}") from None

    def get(self, path: str) -> bytes | None:
        found = self._ask(lambda: self._fs.cat_file(f"{self._root}/{path}"))
        return None if found is None else bytes(found)

    def names(self, folder: str) -> list[str] | None:
        listed = self._ask(lambda: self._fs.ls(f"{self._root}/{folder}", detail=False))
        return sorted(PurePosixPath(str(name)).name for name in listed or [])

    def put(self, path: str, source: Path) -> None:
        from fsspec.implementations.local import LocalFileSystem

        target = f"{self._root}/{path}"
        if isinstance(self._fs, LocalFileSystem):
            write_atomically(Path(target), source.open("rb"))
            return

        def write() -> bool:
            self._fs.makedirs(target.rpartition("/")[0], exist_ok=True)
            self._fs.put_file(str(source), target)
            self._fs.invalidate_cache()
            return True

        if not self._ask(write):
            raise Unreachable(f"{shown(self.url)} has no place for {path}")


class RemoteFiles:
    """Baseline files behind a URL."""

    def __init__(self, remote: Remote) -> None:
        self.remote = remote

    def text(self, relative: str) -> Text | None:
        try:
            content = self.remote.get(relative)
        except Unreachable as error:
            raise BaselineError(
                f"{error}. Baseline files are never taken from a cache, for they change: run where "
                "it can be reached, or name a folder with --vdb-baselines"
            ) from None
        if content is None:
            return None
        where = f"{shown(self.remote.url)}/{relative}"
        try:
            text = content.decode()
        except UnicodeDecodeError as error:
            raise BaselineError(f"{where} cannot be read: {error}") from None
        return Text(text, where, "put the right one there with vdb push --files")

    def environments(self, model: str, name: str) -> list[str]:
        try:
            keys = self.remote.names(model) or []
            folder, _, last = name.rpartition("/")
            below = [
                (key, self.remote.names(f"{model}/{key}/{folder}".rstrip("/"))) for key in keys
            ]
        except Unreachable:
            return []
        return [key for key, names in below if last in (names or [])]


class RemoteBlobs:
    """Media behind a URL, each fetched once into ``cache``.

    ``needed`` gives the hashes that this run's baselines name, for the message when the URL cannot
    be reached.
    """

    def __init__(self, remote: Remote, cache: Path, needed: Callable[[], set[str]]) -> None:
        self.remote = remote
        self.cache = MediaFolder(cache)
        self.needed = needed

    def find(self, sha256: str) -> Path:
        if (path := self.cache.held(sha256)) is not None:
            return path
        try:
            name, content = self._fetch(sha256)
        except Unreachable as error:
            raise Unreachable(self._offline(sha256, error)) from None
        if content is None:
            raise LostMedium(
                f"reference medium {sha256[:12]}… is not at {shown(self.remote.url)}: bring it "
                "there with vdb push from where the baseline was made"
            )
        if hashlib.sha256(content).hexdigest() != sha256:
            raise LostMedium(
                f"{shown(self.remote.url)}/{sha256[:2]}/{name} does not match its name: it was "
                "altered or truncated; delete it there and bring it again with vdb push"
            )
        target = self.cache.root / sha256[:2] / name
        write_atomically(target, io.BytesIO(content))
        return target

    def _fetch(self, sha256: str) -> tuple[str, bytes | None]:
        listed = self.remote.names(sha256[:2])
        if listed is None:
            listed = [sha256 + suffix for suffix in SUFFIXES]
        for name in listed:
            if PurePosixPath(name).stem == sha256:
                content = self.remote.get(f"{sha256[:2]}/{name}")
                if content is not None:
                    return name, content
        return "", None

    def _offline(self, sha256: str, error: Unreachable) -> str:
        needed = self.needed() | {sha256}
        lacking = sorted(one for one in needed if self.cache.held(one) is None)
        few = ", ".join(f"{one[:12]}…" for one in lacking[:4])
        more = f" and {len(lacking) - 4} more" if len(lacking) > 4 else ""
        return (
            f"{error}. Of {len(needed)} reference media that these baselines name, "
            f"{len(needed) - len(lacking)} are in the cache {self.cache.root} and these are not: "
            f"{few}{more}. Run once where it can be reached, or copy them into the cache"
        )

    def add(self, source: Path) -> None:
        folder = source.name[:2]
        try:
            if source.name not in (self.remote.names(folder) or []):
                self.remote.put(f"{folder}/{source.name}", source)
        except Unreachable as error:
            raise BaselineWriteError(f"{source.name} was not written: {error}") from None
        self.cache.add(source)
