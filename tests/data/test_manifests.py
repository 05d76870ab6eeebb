"""Manifests are read strictly; files are found in order, downloaded, resumed and verified against a local server."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import logging
import os
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from graphinv.data._download import fetch
from graphinv.data.manifests import DataFile, Source, list_datasets, load_manifest, locate
from graphinv.errors import DownloadError, InputError

CONTENT = bytes(range(256)) * 1500  # 384,000 bytes
OTHER = CONTENT[::-1]


class Server:
    """An HTTP server of one file, whose content and manners a test sets."""

    def __init__(self) -> None:
        self.content = CONTENT
        self.etag: str | None = '"one"'
        self.ranges = True
        self.cut_after: int | None = None  # bytes of a body after which the connection breaks
        self.ignore_if_range = False
        self.requests: list[str | None] = []  # the Range header of each
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http.server_address[1]}/file"

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        wanted = handler.headers.get("Range")
        self.requests.append(wanted)
        if not handler.path.endswith("/file"):
            handler.send_error(404)
            return
        same = self.ignore_if_range or handler.headers.get("If-Range") == self.etag
        start = int(wanted[6:-1]) if wanted and self.ranges and same else 0
        if start >= len(self.content):
            handler.send_error(416)
            return
        body = self.content[start:]
        handler.send_response(206 if start else 200)
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(self.content) - 1}/{len(self.content)}")
        if self.etag:
            handler.send_header("ETag", self.etag)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body[: self.cut_after])

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    if "data" not in request.keywords:
        monkeypatch.delenv("GRAPHINV_DATA_DIR", raising=False)
    monkeypatch.delenv("GRAPHINV_CACHE_DIR", raising=False)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def data_file(tmp_path: Path, url: str | None = None, **changes: object) -> DataFile:
    sources = (Source(url),) if url else ()
    file = DataFile("molecules", "set/a.smi", "molecules", tmp_path / "manifest", sources, sha256(CONTENT))
    return dataclasses.replace(file, **changes)


def check(content: bytes) -> Callable[[Path], str | None]:
    return lambda part: None if part.read_bytes() == content else "wrong checksum"


def put(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


# downloading


def test_downloaded_file_is_complete_and_leaves_nothing_else(server: Server, tmp_path: Path) -> None:
    path = locate(data_file(tmp_path, server.url), cache_dir=tmp_path / "cache", progress=False)
    assert path == tmp_path / "cache" / "set" / "a.smi"
    assert path.read_bytes() == CONTENT
    assert [p.name for p in path.parent.iterdir()] == ["a.smi"]
    assert locate(data_file(tmp_path, server.url), cache_dir=tmp_path / "cache") == path
    assert len(server.requests) == 1  # the second call found it in the cache


def test_cut_connection_is_resumed_where_it_broke(server: Server, tmp_path: Path) -> None:
    server.cut_after = 200_000
    fetch(server.url, tmp_path / "a", check(CONTENT), progress=False, backoff_s=0.0)
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert server.requests == [None, "bytes=200000-"]


def test_part_survives_a_failed_call_and_is_continued_by_the_next(server: Server, tmp_path: Path) -> None:
    server.cut_after = 100_000
    with pytest.raises(DownloadError, match="100000 bytes are kept in"):
        fetch(server.url, tmp_path / "a", check(CONTENT), progress=False, tries=1)
    assert not (tmp_path / "a").exists()
    server.cut_after = None
    fetch(server.url, tmp_path / "a", check(CONTENT), progress=False, tries=1)
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert server.requests[-1] == "bytes=100000-"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("how", ["no ranges", "no version", "weak version"])
def test_download_starts_again_when_a_part_cannot_be_continued(server: Server, tmp_path: Path, how: str) -> None:
    server.ranges = how != "no ranges"
    server.etag = {"no ranges": '"one"', "no version": None, "weak version": 'W/"one"'}[how]
    server.cut_after = 100_000
    with pytest.raises(DownloadError):
        fetch(server.url, tmp_path / "a", check(CONTENT), progress=False, tries=1)
    server.cut_after = None
    fetch(server.url, tmp_path / "a", check(CONTENT), progress=False, tries=1)
    assert (tmp_path / "a").read_bytes() == CONTENT


@pytest.mark.parametrize("ignore_if_range", [False, True], ids=["honest", "ignores If-Range"])
@pytest.mark.parametrize("longer", [b"", b"more"], ids=["same size", "other size"])
def test_part_of_another_version_is_not_spliced(
    server: Server, tmp_path: Path, ignore_if_range: bool, longer: bytes
) -> None:
    server.cut_after = 100_000
    with pytest.raises(DownloadError):
        fetch(server.url, tmp_path / "a", check(CONTENT), progress=False, tries=1)
    server.content, server.etag, server.cut_after = OTHER + longer, '"two"', None
    server.ignore_if_range = ignore_if_range
    fetch(server.url, tmp_path / "a", check(OTHER + longer), progress=False, tries=2, backoff_s=0.0)
    assert (tmp_path / "a").read_bytes() == OTHER + longer


def test_part_of_another_address_or_without_a_record_is_not_used(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.part").write_bytes(OTHER[:1000])
    fetch(server.url, tmp_path / "a", check(CONTENT), progress=False, tries=1)
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert server.requests == [None]


def test_complete_part_that_was_not_renamed_needs_no_request(server: Server, tmp_path: Path) -> None:
    def stop(_: Path) -> str:
        raise OSError("killed here")

    with pytest.raises(DownloadError, match="killed here"):
        fetch(server.url, tmp_path / "a", stop, progress=False, tries=1)
    fetch(server.url, tmp_path / "a", check(CONTENT), progress=False, tries=1)
    assert (tmp_path / "a").read_bytes() == CONTENT and len(server.requests) == 1


def test_wrong_checksum_is_an_error_and_nothing_is_kept(server: Server, tmp_path: Path) -> None:
    server.content = OTHER
    with pytest.raises(DownloadError, match="sha256 should be .* nothing was kept"):
        locate(data_file(tmp_path, server.url), cache_dir=tmp_path / "cache", progress=False)
    assert not [p for p in (tmp_path / "cache").rglob("*") if p.is_file()]


def test_not_found_is_told_at_once_with_where_to_put_the_file(server: Server, tmp_path: Path) -> None:
    file = data_file(tmp_path, server.url + "/missing")
    with pytest.raises(DownloadError, match="404") as error:
        locate(file, cache_dir=tmp_path / "cache", progress=False)
    assert len(server.requests) == 1
    assert "GRAPHINV_DATA_DIR" in str(error.value) and str(tmp_path / "cache" / "set" / "a.smi") in str(error.value)


def test_server_that_is_gone_is_an_error_after_the_tries(tmp_path: Path) -> None:
    server = Server()
    server.close()
    with pytest.raises(DownloadError, match="refused"):
        fetch(server.url, tmp_path / "a", check(CONTENT), progress=False, backoff_s=0.0)
    assert not (tmp_path / "a").exists()


def test_next_source_is_tried_and_a_gzipped_one_is_stored_gzipped(server: Server, tmp_path: Path) -> None:
    server.content = gzip.compress(CONTENT)
    sources = (Source(server.url + "/missing"), Source(server.url, compression="gzip"))
    path = locate(data_file(tmp_path, sources=sources), cache_dir=tmp_path / "cache", progress=False)
    assert path.name == "a.smi.gz" and gzip.decompress(path.read_bytes()) == CONTENT


def test_cache_folder_that_cannot_be_made_is_an_error(server: Server, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(DownloadError):
        fetch(server.url, tmp_path / "cache" / "a", check(CONTENT), progress=False, backoff_s=0.0)


# finding and verifying


def test_places_are_searched_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = data_file(tmp_path)
    beside = put(tmp_path / "manifest" / file.path, CONTENT)
    assert locate(file, cache_dir=tmp_path / "cache") == beside
    cached = put(tmp_path / "cache" / file.path, CONTENT)
    monkeypatch.setenv("GRAPHINV_CACHE_DIR", str(tmp_path / "cache"))
    assert locate(file) == cached
    data = put(tmp_path / "data" / f"{file.path}.gz", CONTENT)
    monkeypatch.setenv("GRAPHINV_DATA_DIR", str(tmp_path / "data"))
    assert locate(file) == data
    given = put(tmp_path / "given" / file.path, CONTENT)
    assert locate(file, data_dir=tmp_path / "given") == given


@pytest.mark.parametrize("name", ["a.smi", "a.smi.gz"])
def test_local_file_with_the_wrong_content_is_an_error_and_not_skipped(tmp_path: Path, name: str) -> None:
    file = data_file(tmp_path)
    put(tmp_path / "cache" / file.path, CONTENT)
    put(tmp_path / "data" / "set" / name, OTHER)
    with pytest.raises(DownloadError, match=r"sha256 should be .*delete or replace it"):
        locate(file, data_dir=tmp_path / "data", cache_dir=tmp_path / "cache")


@pytest.mark.parametrize("damage", [lambda b: b[:-20], lambda b: b"no gzip", lambda b: b[:40] + b"\xff" * 40 + b[80:]])
def test_damaged_gzip_is_an_error(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    path = put(tmp_path / "data" / "set" / "a.smi.gz", CONTENT)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DownloadError, match=r"should be"):
        locate(data_file(tmp_path), data_dir=tmp_path / "data")


def test_truncated_file_is_told_by_its_size(tmp_path: Path) -> None:
    put(tmp_path / "data" / "set" / "a.smi", CONTENT[:-5])
    with pytest.raises(DownloadError, match=f"should be {len(CONTENT)} bytes"):
        locate(data_file(tmp_path, size=len(CONTENT)), data_dir=tmp_path / "data")


@pytest.mark.parametrize("form", ["a.smi", "a.smi.gz"])
def test_md5_of_a_plain_source_verifies_both_forms(tmp_path: Path, form: str) -> None:
    source = Source("http://127.0.0.1/none", md5=hashlib.md5(CONTENT).hexdigest())
    file = data_file(tmp_path, sha256=None, sources=(source,))
    path = put(tmp_path / "data" / "set" / form, CONTENT)
    assert locate(file, data_dir=tmp_path / "data", cache_dir=tmp_path / "cache") == path
    put(path, OTHER)
    with pytest.raises(DownloadError, match="md5"):
        locate(file, data_dir=tmp_path / "data", cache_dir=tmp_path / "cache")


def test_digest_of_the_served_gzip_verifies_the_same_gzip(tmp_path: Path) -> None:
    path = put(tmp_path / "data" / "set" / "a.smi.gz", CONTENT)
    source = Source("http://127.0.0.1/none", compression="gzip", sha256=sha256(path.read_bytes()))
    file = data_file(tmp_path, sha256=None, sources=(source,))
    assert locate(file, data_dir=tmp_path / "data") == path
    put(path, OTHER)
    with pytest.raises(DownloadError, match="its sha256 should be"):
        locate(file, data_dir=tmp_path / "data")


def test_file_without_a_known_digest_is_trusted_once_and_must_not_change(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = data_file(tmp_path, server.url, sha256=None)
    with caplog.at_level(logging.WARNING):
        path = locate(file, cache_dir=tmp_path / "cache", progress=False)
    assert "unverified" in caplog.text
    assert (tmp_path / "cache" / "set" / "a.smi.sha256").read_text().strip() == sha256(CONTENT)
    path.write_bytes(OTHER)
    with pytest.raises(DownloadError, match="recorded in"):
        locate(file, cache_dir=tmp_path / "cache")


def test_download_can_be_refused(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="download=False.*GRAPHINV_DATA_DIR"):
        locate(data_file(tmp_path, server.url), cache_dir=tmp_path / "cache", download=False)
    assert server.requests == []


# manifests


@pytest.mark.parametrize("name", list_datasets())
def test_shipped_manifest_loads_and_every_file_can_be_had_and_verified(name: str) -> None:
    manifest = load_manifest(name)
    assert manifest.name == name
    for file in manifest.files:
        assert file.sources or (file.folder / file.path).is_file()
        assert file.sha256 or any(source.sha256 or source.md5 for source in file.sources)
    by_file = [file.split for file in manifest.files if file.role == "molecules"]
    assert all(by_file) if manifest.split == "files" else not any(by_file)


def test_all_data_sets_are_listed() -> None:
    graphs = ["community_small", "ego_small", "enzymes", "grid", "planar", "sbm", "tree"]
    molecules = ["guacamol", "moses", "qm9", "smallmol", "zinc250k"]
    kinds = {"graphs": graphs, "molecules": molecules, "affinities": ["davis", "kiba"]}
    assert list_datasets() == sorted(sum(kinds.values(), []))
    for kind, names in kinds.items():
        assert [name for name in list_datasets() if load_manifest(name).kind == kind] == names


@pytest.mark.data
@pytest.mark.parametrize("name", list_datasets())
def test_files_at_hand_verify(name: str, tmp_path: Path) -> None:
    folder = os.environ.get("GRAPHINV_DATA_DIR")
    if not folder:
        pytest.skip("GRAPHINV_DATA_DIR is not set")
    here = [file for file in load_manifest(name).files if (Path(folder) / file.path).is_file()]
    if not here:
        pytest.skip(f"no file of {name} in GRAPHINV_DATA_DIR")
    for file in here:
        assert locate(file, cache_dir=tmp_path, download=False) == Path(folder) / file.path


MINIMAL = """
name = "mine"
title = "Mine"
licence = "none stated"
citation = "none"
split = "random:0.8/0.1/0.1:0"
header = false
column = 0
[vocabulary]
scheme = "element"
nodes = ["C"]
edges = ["single"]
[[files]]
name = "molecules"
path = "mine/a.smi"
role = "molecules"
"""


def test_manifest_of_ones_own_is_read_by_path(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(MINIMAL)
    manifest = load_manifest(tmp_path / "mine.toml")
    assert manifest.vocabulary.nodes == ("C",) and manifest.max_nodes is None
    path = put(tmp_path / "mine" / "a.smi", b"C\n")
    assert locate(manifest.file("molecules"), cache_dir=tmp_path / "cache") == path


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('title = "Mine"', "", "missing keys .'title'"),
        ('title = "Mine"', "title = 3", "title must be str"),
        ("header = false", "header = 0", "header must be bool"),
        ("column = 0", "column = true", "column must be"),
        ("column = 0", "column = 0\ncolour = 1", "unknown keys .'colour'"),
        ('role = "molecules"', 'role = "molecule"', "role"),
        ('role = "molecules"', 'role = "molecules"\nsha256 = "abc"', "sha256"),
        ('role = "molecules"', 'role = "molecules"\nmd5 = "abc"', "unknown keys"),
        ('"mine/a.smi"', '"/etc/passwd"', "path"),
        ('"mine/a.smi"', '"../a.smi"', "path"),
        ('"mine/a.smi"', '"mine/../../a.smi"', "path"),
        ('role = "molecules"', 'role = "molecules"\n[[files.sources]]\nurl = "file:///etc/passwd"', "url"),
        ('role = "molecules"', 'role = "molecules"\nsources = 3', "array of tables"),
        ('nodes = ["C"]', 'nodes = ["C", "C"]', "vocabulary"),
        ('nodes = ["C"]', "", "vocabulary"),
        ("[[files]]", "[[file]]", "files"),
        ("name", "= name", "not a readable TOML"),
    ],
)
def test_bad_manifest_says_what_is_wrong(tmp_path: Path, old: str, new: str, message: str) -> None:
    (tmp_path / "mine.toml").write_text(MINIMAL.replace(old, new, 1))
    with pytest.raises(InputError, match=message):
        load_manifest(tmp_path / "mine.toml")


def test_unknown_data_set_and_unknown_file_list_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no data set 'qm8'; available: .*qm9"):
        load_manifest("qm8")
    with pytest.raises(InputError, match="no data set"):
        load_manifest(tmp_path / "missing.toml")
    with pytest.raises(InputError, match="it has .'molecules'"):
        load_manifest("smallmol").file("split")
