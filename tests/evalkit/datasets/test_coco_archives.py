"""COCO's archives: resumed, checked by size and hash, extracted once."""

from __future__ import annotations

import hashlib
import io
import json
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from PIL import Image

from evalkit import cli
from evalkit.core.errors import DataError, NetworkError
from evalkit.datasets import coco_archives
from evalkit.datasets.coco_archives import ARCHIVES, Archive, extract, fetch_archives


def packed(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def small_coco() -> dict[str, bytes]:
    picture = io.BytesIO()
    Image.new("RGB", (8, 6)).save(picture, "JPEG")
    name = "COCO_val2014_000000000042.jpg"
    captions = {
        "images": [{"id": 42, "file_name": name}],
        "annotations": [{"id": 1, "image_id": 42, "caption": "a cat"}],
    }
    return {
        "annotations/annotations_trainval2014.zip": packed(
            {
                "annotations/captions_val2014.json": json.dumps(captions).encode(),
                "annotations/instances_val2014.json": b"{}",
            }
        ),
        "zips/val2014.zip": packed({f"val2014/{name}": picture.getvalue()}),
    }


class Host(HTTPServer):
    """Serves the archives; breaks off after `cut` bytes of a reply."""

    files: dict[str, bytes]
    cut: int | None = None
    requests: list[tuple[str, str | None]]


class Handler(BaseHTTPRequestHandler):
    server: Host

    def do_GET(self) -> None:
        content, wanted = self.server.files[self.path[1:]], self.headers.get("Range")
        self.server.requests.append((self.path[1:], wanted))
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        self.send_response(206 if wanted else 200)
        self.send_header("ETag", '"one"')
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        end = len(content) if self.server.cut is None else start + self.server.cut
        self.wfile.write(content[start:end])

    def log_message(self, *args: object) -> None:
        """Silent."""


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    monkeypatch.setenv("no_proxy", "*")
    running = Host(("127.0.0.1", 0), Handler)
    running.files, running.requests = small_coco(), []
    monkeypatch.setattr(coco_archives, "HOST", f"http://127.0.0.1:{running.server_port}")
    for name in ("annotations2014", "val2014"):
        path = ARCHIVES[name].path
        content = running.files[path]
        sha256 = hashlib.sha256(content).hexdigest()
        row = Archive(path=path, num_bytes=len(content), sha256=sha256)
        monkeypatch.setitem(ARCHIVES, name, row)
    thread = threading.Thread(target=running.serve_forever, args=(0.01,))
    thread.start()
    yield running
    running.shutdown()
    thread.join()
    running.server_close()


def test_a_download_resumes_and_the_data_set_opens(
    host: Host, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    host.cut = 100
    with pytest.raises(NetworkError):
        fetch_archives(tmp_path, "val2014")
    host.cut = None
    words = ["data", "coco", "--archives", "--coco-root", str(tmp_path)]
    cli.app(words, standalone_mode=False)
    assert host.requests[1][1] == "bytes=100-"
    assert "1 images, 1 captions" in " ".join(capsys.readouterr().out.split())
    assert not (tmp_path / "annotations" / "instances_val2014.json").exists()
    before = len(host.requests)
    fetch_archives(tmp_path, "val2014")
    assert len(host.requests) == before, "what is there is not downloaded again"


def test_another_hash_and_another_size_are_refused(host: Host, tmp_path: Path) -> None:
    path = ARCHIVES["annotations2014"].path
    host.files = {**host.files, path: host.files[path][:-1] + b"x"}
    with pytest.raises(DataError, match="sha256 starts with"):
        fetch_archives(tmp_path, "val2014")
    (tmp_path / "annotations_trainval2014.zip").write_bytes(b"short")
    with pytest.raises(DataError, match=r"5 bytes, expected \d+") as caught:
        fetch_archives(tmp_path, "val2014")
    assert "\n" not in str(caught.value)


def test_extracting_resumes_and_stays_in_the_folder(tmp_path: Path) -> None:
    archive = tmp_path / "a.zip"
    archive.write_bytes(packed({"val2014/a.jpg": b"aa", "val2014/b.jpg": b"bb"}))
    assert extract(archive, tmp_path) == 2
    (tmp_path / "val2014" / "b.jpg").write_bytes(b"b")
    assert extract(archive, tmp_path) == 1
    archive.write_bytes(packed({"../out.jpg": b"aa"}))
    with pytest.raises(DataError, match="stays in its folder"):
        extract(archive, tmp_path)
    archive.write_bytes(b"PK no archive")
    with pytest.raises(DataError, match="Remove it to download it again"):
        extract(archive, tmp_path)
