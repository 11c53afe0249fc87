"""Object storage as the place of a store: S3 and what speaks its protocol, Google Cloud Storage, and memory.

An object appears whole when its upload is complete, and listing shows it at once; what object storage lacks is
renaming, so an object that is set aside is copied and then removed. Credentials come from the environment as
the libraries look for them there; none is taken from a URL, and none is shown in an error.
"""

from __future__ import annotations

import contextlib
import errno
import io
import logging
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import polars as pl

from joulemap.errors import MissingExtraError, StoreError, UsageError

PROTOCOLS = {"s3": "s3fs", "gs": "gcsfs", "memory": "fsspec"}
"""Each protocol that a store's URL may name, with the module that speaks it."""
_SECRET_NAME = re.compile(r"KEY|SECRET|TOKEN|PASSWORD|CREDENTIAL|FSSPEC", re.IGNORECASE)
_SHORTEST_SECRET = 8
_CREDENTIALS_LAST_S = 600
"""Polars asks again after this time, so that the library behind renews what expires."""


def is_url(text: str) -> bool:
    """Return whether a store is given by URL, not by path."""
    # One slash too few is still no path that anyone means; one letter is a drive's.
    return re.match(r"[A-Za-z][\w+.-]+:/", text) is not None


class ObjectPlace:
    """A prefix of an object store.

    Args:
        url: Such as ``s3://bucket/prefix``.

    Raises:
        UsageError: The URL names no bucket, holds a credential, or its protocol is none of ``PROTOCOLS``.
        MissingExtraError: The library that speaks the protocol is not installed.
        StoreError: The library refuses the URL or its settings.
    """

    def __init__(self, url: str) -> None:
        self.protocol, self._root = _checked(url)
        self.address = f"{self.protocol}://{self._root}"
        self._fs = _filesystem(self.protocol, self.address)

    def sizes_bytes(self, folder: str) -> dict[str, int]:
        """Return the Parquet objects below a prefix by name, sorted."""
        with self._errors():
            try:
                found = self._fs.find(self._path(folder), detail=True, refresh=True)
            except FileNotFoundError:
                # A bucket that does not exist must not pass for an empty store.
                if self.protocol == "memory" or self._fs.exists(self._root.partition("/")[0]):
                    return {}
                raise
        start = len(self._path("").lstrip("/"))
        sizes = {path.lstrip("/")[start:]: int(info["size"]) for path, info in found.items()}
        return {name: size for name, size in sorted(sizes.items()) if name.endswith(".parquet")}

    def read(self, names: Sequence[str]) -> list[bytes | OSError]:
        """Return each object's content, or why it cannot be read; many are fetched at once."""
        if not names:
            return []
        paths = [self._path(name) for name in names]
        with self._errors():
            found = self._fs.cat(paths, on_error="return")
        contents: list[bytes | OSError] = []
        for path in paths:
            content = found[path]
            contents.append(content if isinstance(content, bytes) else self._told(content))
        return contents

    def write(self, name: str, content: bytes) -> None:
        """Upload an object."""
        with self._errors():
            self._fs.pipe_file(self._path(name), content)

    def write_folder(self, folder: str, contents: Mapping[str, bytes]) -> None:
        """Upload the objects one by one: object storage has no folders to rename."""
        for name, content in contents.items():
            self.write(f"{folder}/{name}", content)

    def move(self, name: str, to: str) -> None:
        """Copy an object and then remove it, so that it is never lost between the two."""
        with self._errors():
            self._fs.cp_file(self._path(name), self._path(to))
            self._fs.rm_file(self._path(name))

    def remove(self, names: Sequence[str]) -> None:
        """Remove objects."""
        for name in names:
            with contextlib.suppress(FileNotFoundError), self._errors():
                self._fs.rm_file(self._path(name))

    def scan(self, names: Sequence[str]) -> pl.LazyFrame:
        """Return Parquet objects as one lazy table; Polars fetches the ranges that a query needs."""
        if self.protocol == "memory":
            return pl.scan_parquet([self._content(name) for name in names])
        urls = [self.address_of(name) for name in names]
        with self._errors():
            return pl.scan_parquet(urls, glob=False, **self._polars_settings())

    def metadata(self, name: str) -> dict[str, str]:
        """Return what a Parquet object says of itself."""
        if self.protocol == "memory":
            return pl.read_parquet_metadata(io.BytesIO(self._content(name)))
        with self._errors():
            return pl.read_parquet_metadata(self.address_of(name), **self._polars_settings())

    def _content(self, name: str) -> bytes:
        (content,) = self.read([name])
        if isinstance(content, OSError):
            raise content
        return content

    def address_of(self, name: str) -> str:
        """Return the object's URL."""
        return f"{self.address}/{name}"

    def _path(self, name: str) -> str:
        path = f"{self._root}/{name}"
        return f"/{path}" if self.protocol == "memory" else path

    def _polars_settings(self) -> dict[str, Any]:
        """Return what makes Polars ask the same server with the same credentials as fsspec does."""
        if self.protocol != "s3":
            return {}
        connected = self._fs.s3.meta
        options = {"aws_endpoint_url": connected.endpoint_url}
        if connected.region_name and connected.region_name != "aws-global":
            options["aws_region"] = connected.region_name
        if connected.endpoint_url.startswith("http://"):
            options["aws_allow_http"] = "true"
        if self._fs.anon:
            return {"storage_options": {**options, "aws_skip_signature": "true"}, "credential_provider": None}
        return {"storage_options": options, "credential_provider": self._credentials}

    def _credentials(self) -> tuple[dict[str, str], int]:
        from fsspec.asyn import sync

        async def frozen() -> Any:
            # The client's own, wherever it found them; botocore keeps them nowhere else in reach.
            held = self._fs.s3._request_signer._credentials
            return await held.get_frozen_credentials()

        held = sync(self._fs.loop, frozen)
        values = {"aws_access_key_id": held.access_key, "aws_secret_access_key": held.secret_key}
        if held.token:
            values["aws_session_token"] = held.token
        return values, int(time.time()) + _CREDENTIALS_LAST_S

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn whatever the libraries raise into an ``OSError`` that shows no credential."""
        try:
            yield
        except FileNotFoundError as error:
            raise FileNotFoundError(errno.ENOENT, self._shown(error)) from error
        except Exception as error:
            raise self._told(error) from error

    def _told(self, error: BaseException) -> OSError:
        if isinstance(error, FileNotFoundError):
            return FileNotFoundError(errno.ENOENT, self._shown(error))
        return OSError(errno.EIO, self._shown(error))

    def _shown(self, error: BaseException) -> str:
        # A bare FileNotFoundError of a library holds nothing but a path.
        text = re.sub(r"\s+", " ", str(error)).strip() or type(error).__name__
        if isinstance(error, FileNotFoundError):
            text = f"there is no {text}"
        for secret in self._secrets():
            text = text.replace(secret, "***")
        return text[:300]

    def _secrets(self) -> list[str]:
        """Return what must not be shown, longest first."""
        held = [getattr(self._fs, name, None) for name in ("key", "secret", "token", "username", "password")]
        given = [value for name, value in os.environ.items() if _SECRET_NAME.search(name)]
        texts = [text for text in (*held, *given) if isinstance(text, str) and len(text) >= _SHORTEST_SECRET]
        return sorted(texts, key=len, reverse=True)


def _checked(url: str) -> tuple[str, str]:
    """Return protocol and ``bucket/prefix`` of a store's URL; no message repeats a credential."""
    protocol, _, rest = url.partition(":")
    protocol = {"gcs": "gs", "s3a": "s3"}.get(protocol.lower(), protocol.lower())
    if protocol not in PROTOCOLS:
        msg = f"a store cannot lie at {protocol}://…: it lies in a folder, or at a URL of {_known()}"
        raise UsageError(msg, fix="for example --store s3://bucket/prefix")
    # Anywhere, not only before the first slash: a secret key may itself hold slashes.
    if "@" in rest or ":" in rest:
        msg = f"the store's URL ({protocol}://…@…) holds credentials, which would end up in histories and logs"
        raise UsageError(msg, fix="leave them out of the URL; give them in the environment (AWS_ACCESS_KEY_ID …)")
    root = rest.strip("/")
    if not root or re.search(r"[?#*\[\]\s\x00-\x1f]|//|(^|/)\.{1,2}(/|$)", root):
        msg = f"the store's URL ({protocol}://…) does not consist of a bucket and a prefix of plain names"
        raise UsageError(msg, fix="for example --store s3://bucket/prefix")
    return protocol, root


def _known() -> str:
    return ", ".join(f"{protocol}://" for protocol in PROTOCOLS)


def _filesystem(protocol: str, address: str) -> Any:
    try:
        import fsspec

        # Our error says what happened; without a handler, Python would print the library's tracebacks too.
        logging.getLogger(PROTOCOLS[protocol]).addHandler(logging.NullHandler())
        # A listing that was kept would hide what another process has written since.
        return fsspec.filesystem(protocol, use_listings_cache=False)
    except ImportError as error:
        extra = "objects"
        raise MissingExtraError(extra, f"the store {address}", PROTOCOLS[protocol]) from error
    except Exception as error:
        msg = f"the store {address} cannot be opened: {type(error).__name__}"
        raise StoreError(
            msg, fix="check the settings in the environment: AWS_…, GOOGLE_…, FSSPEC_… (docs/stores.md)"
        ) from error
