"""Fetch one file over HTTP into ``NAME.part``, continued by a Range request and renamed when verified.

A part is continued only if the server still sends the same version (ETag or Last-Modified by If-Range, and the total
size); anything else starts again from byte 0. It is not a general HTTP client: no cookies, no authentication.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from graphinv.errors import DownloadError

__all__ = ["fetch"]

_CHUNK = 1 << 16  # bytes


def fetch(
    url: str,
    target: Path,
    verify: Callable[[Path], str | None],
    *,
    progress: bool = True,
    tries: int = 3,
    backoff_s: float = 1.0,
    timeout_s: float = 30.0,
) -> None:
    """Download ``url`` to ``target``; ``verify(part)`` returns what is wrong with the whole file, or None.

    Raises:
        DownloadError: the server cannot be reached or refuses (the part is kept), or the content is wrong (nothing
            is kept).
    """
    part = target.with_name(target.name + ".part")
    for attempt in range(tries):
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            resumed = _receive(url, part, progress, timeout_s)
            problem = verify(part)
            if problem and resumed:  # the server continued another version: once more, from byte 0
                _forget(part)
                _receive(url, part, progress, timeout_s)
                problem = verify(part)
            if problem:
                _forget(part)
                raise DownloadError(f"{url}: {problem}; nothing was kept")
            os.replace(part, target)
            _forget(part)
            return
        except (OSError, http.client.HTTPException) as error:
            refused = isinstance(error, urllib.error.HTTPError) and error.code < 500 and error.code != 429
            if refused or attempt == tries - 1:
                kept = f"; {part.stat().st_size} bytes are kept in {part} and continued" if part.is_file() else ""
                raise DownloadError(f"{url}: {error or type(error).__name__}{kept}") from error
            time.sleep(backoff_s * 2**attempt)


def _receive(url: str, part: Path, progress: bool, timeout_s: float) -> bool:
    """Bring ``part`` to its full size; return whether bytes of an earlier call were used."""
    state = _read_state(part)
    start = part.stat().st_size if part.is_file() and state.get("url") == url and state.get("version") else 0
    if start and start == state.get("size"):
        return True
    headers = {"User-Agent": "graphinv", "Accept-Encoding": "identity"}
    if start:
        headers |= {"Range": f"bytes={start}-", "If-Range": str(state["version"])}
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=timeout_s)
    except urllib.error.HTTPError as error:
        if error.code != 416 or not start:
            raise
        _forget(part)
        return _receive(url, part, progress, timeout_s)
    with response:
        offset, size = _extent(response)
        if offset and (offset != start or size != state.get("size")):
            _forget(part)
            raise ConnectionError(
                f"the server sent bytes from {offset} of {size}, expected {start} of {state.get('size')}"
            )
        if not offset:
            _write_state(part, url, response, size)
        _copy(response, part, offset, size, progress)
    return offset > 0


def _copy(response: http.client.HTTPResponse, part: Path, offset: int, size: int | None, progress: bool) -> None:
    """Append the body to the first ``offset`` bytes of ``part``; a short body is an error."""
    bar = tqdm(
        total=size, initial=offset, unit="B", unit_scale=True, desc=part.stem, disable=None if progress else True
    )
    with bar, open(part, "ab" if offset else "wb") as stream:
        while block := response.read(_CHUNK):
            stream.write(block)
            bar.update(len(block))
        stream.flush()
        os.fsync(stream.fileno())
    if size is not None and part.stat().st_size != size:
        raise ConnectionError(f"the connection ended after {part.stat().st_size} of {size} bytes")


def _extent(response: http.client.HTTPResponse) -> tuple[int, int | None]:
    """First byte that the body holds and the size of the whole file, None if not told."""
    if response.status == 206:
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
        if match is None:
            raise ConnectionError("the server sent a part of the file without saying which")
        return int(match[1]), int(match[2])
    length = response.headers.get("Content-Length")
    return 0, int(length) if length and length.isdigit() else None


def _state_path(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _read_state(part: Path) -> dict[str, object]:
    try:
        state = json.loads(_state_path(part).read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return {}
    return state if isinstance(state, dict) else {}


def _write_state(part: Path, url: str, response: http.client.HTTPResponse, size: int | None) -> None:
    """Record the version that ``part`` holds; a weak ETag cannot be used with If-Range."""
    tag = response.headers.get("ETag", "")
    version = tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified", "")
    part.unlink(missing_ok=True)  # never old bytes beside a new version
    _state_path(part).write_text(json.dumps({"url": url, "version": version, "size": size}), encoding="utf-8")


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _state_path(part).unlink(missing_ok=True)
