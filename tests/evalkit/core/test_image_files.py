"""What counts as an image of a folder, a zip or a tar: each once, and the rest counted."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evalkit.core.archives import Archive
from evalkit.core.errors import DataError, MissingDataError
from evalkit.core.image_files import scan
from evalkit.core.pixels import image_suffixes, read_rgb


def picture(form: str = "PNG", seed: int = 0) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, form)
    return buffer.getvalue()


FILES = {
    "a.png": picture(),
    "sub/deep/b.JPEG": picture("JPEG"),
    ".hidden.png": picture(),
    ".ipynb_checkpoints/a-checkpoint.png": picture(),
    "sub/._b.JPEG": b"\0\5\x16\7 AppleDouble",
    "__MACOSX/sub/._b.JPEG": b"\0\5\x16\7",
    "__MACOSX/a.png": b"no picture",
    "Thumbs.db": b"",
    "notes.xyz": b"",
    "sub/more.xyz": b"",
    "README": b"",
}


def folder(root: Path) -> Path:
    for name, content in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def zipped(path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in FILES.items():
            archive.writestr(f"./{name}" if name == "a.png" else name, content)
    return path


def tarred(path: Path, mode: str, files: dict[str, bytes] | None = None) -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, content in (files or FILES).items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


KINDS: dict[str, Callable[[Path], Path]] = {
    "folder": lambda tmp: folder(tmp / "set"),
    "zip": lambda tmp: zipped(tmp / "set.zip"),
    "tar": lambda tmp: tarred(tmp / "set.tar", "w"),
    "tar.xz": lambda tmp: tarred(tmp / "set.tar.xz", "w:xz"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_hidden_files_are_passed_over_and_the_rest_is_counted(kind: str, tmp_path: Path) -> None:
    found = scan(KINDS[kind](tmp_path))
    assert list(found.images) == ["a.png", "sub/deep/b.JPEG"]
    assert [source.read_bytes() for source in found.images.values()] == [
        FILES["a.png"],
        FILES["sub/deep/b.JPEG"],
    ]
    assert found.left_out() == "3 files left out: 2 .xyz, 1 (no ending)"
    assert found.left_out(used=["notes.xyz", "sub/more.xyz"]) == "1 file left out: (no ending)"


@pytest.mark.parametrize("form", ["AVIF", "GIF", "JPEG2000", "PPM", "QOI", "TGA", "WEBP"])
def test_formats_that_pillow_reads_are_images(form: str, tmp_path: Path) -> None:
    suffix = next(s for s, name in Image.registered_extensions().items() if name == form)
    Image.new("RGB", (8, 8), "red").save(tmp_path / f"a{suffix.upper()}", form)
    (source,) = scan(tmp_path).images.values()
    assert read_rgb(source.read_bytes()).shape == (8, 8, 3)


def test_formats_that_pillow_only_recognises_are_none() -> None:
    assert not {".eps", ".ps", ".mpg", ".h5", ".grib", ".wmf", ".pdf"} & image_suffixes()


def test_links_are_followed_each_folder_once(tmp_path: Path) -> None:
    root, outside = tmp_path / "set", tmp_path / "outside"
    for place in (root / "real", outside / "deep"):
        place.mkdir(parents=True)
        (place / "a.png").write_bytes(picture())
    (root / "real" / "again").symlink_to(root)  # a loop
    (root / "a-link").symlink_to(outside)
    (root / "z-link").symlink_to(outside / "deep")  # reached through a-link already
    (root / "alias.png").symlink_to(root / "real" / "a.png")  # a file of the set
    (root / "file.png").symlink_to(outside / "deep" / "a.png")
    (root / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (root / "self.png").symlink_to(root / "self.png")
    found = scan(root)
    assert len(found.images) == 2, list(found.images)
    assert "real/a.png" in found.images
    assert found.left_out() == "2 files left out: broken links"


def test_two_links_to_one_file_outside_are_two_images(tmp_path: Path) -> None:
    """A cache that stores equal files once still has as many samples as names."""
    (tmp_path / "blob").write_bytes(picture())
    (tmp_path / "set").mkdir()
    for name in ("a.png", "b.png"):
        (tmp_path / "set" / name).symlink_to(tmp_path / "blob")
    assert list(scan(tmp_path / "set").images) == ["a.png", "b.png"]


def test_links_in_a_tar(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "set.tar", "w") as archive:
        info = tarfile.TarInfo("sub/a.png")
        info.size = len(picture())
        archive.addfile(info, io.BytesIO(picture()))
        for name, kind, target in (
            ("sub/hard.png", tarfile.LNKTYPE, "sub/a.png"),
            ("sub/soft.png", tarfile.SYMTYPE, "a.png"),
            ("one.png", tarfile.SYMTYPE, "two.png"),
            ("two.png", tarfile.SYMTYPE, "one.png"),
            ("gone.png", tarfile.SYMTYPE, "../outside.png"),
        ):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = kind, target
            archive.addfile(link)
    found = scan(tmp_path / "set.tar")
    assert list(found.images) == ["sub/a.png", "sub/hard.png", "sub/soft.png"]
    assert {source.read_bytes() for source in found.images.values()} == {picture()}


def test_a_compressed_tar_is_unpacked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """3,000 members in another order than by name: reading them must not decompress each time."""
    names = [f"{i:04d}.png" for i in np.random.default_rng(0).permutation(3_000)]
    path = tarred(tmp_path / "set.tar.gz", "w:gz", {name: picture(seed=7) for name in names})
    decompressed = 0
    read = gzip.GzipFile.read

    def counted(file: gzip.GzipFile, size: int | None = -1) -> bytes:
        nonlocal decompressed
        content = read(file, size)
        decompressed += len(content)
        return content

    monkeypatch.setattr(gzip.GzipFile, "read", counted)
    found = scan(path)
    assert len(found.images) == 3_000
    assert all(source.read_bytes() == picture(seed=7) for source in found.images.values())
    size = len(gzip.decompress(path.read_bytes()))
    assert decompressed < 4 * size


def test_the_unpacked_copy_is_shared_by_processes_and_deleted(tmp_path: Path) -> None:
    archive = Archive(tarred(tmp_path / "set.tar.gz", "w:gz"))
    unpacked = archive._unpacked
    assert unpacked is not None
    assert unpacked.is_file()
    other = pickle.loads(pickle.dumps(archive.member("a.png")))
    assert other.read_bytes() == FILES["a.png"]
    del archive
    assert not unpacked.exists()


def gzipped(path: Path) -> Path:
    return tarred(path, "w:gz")


@pytest.mark.parametrize(("name", "write"), [("set.zip", zipped), ("set.tar.gz", gzipped)])
def test_a_damaged_archive_is_one_sentence(
    name: str, write: Callable[[Path], Path], tmp_path: Path
) -> None:
    whole = write(tmp_path / name)
    content = whole.read_bytes()
    said: list[str] = []
    for cut in range(0, len(content), 101):
        whole.write_bytes(content[:cut])
        try:
            [source.read_bytes() for source in scan(whole).images.values()]
        except DataError as error:
            said.append(str(error))
    assert len(said) > len(range(0, len(content), 101)) / 2
    assert all(str(whole) in text for text in said)


def test_nothing_and_no_images(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match="no such file or folder"):
        scan(tmp_path / "none")
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(DataError, match=r"expected a folder, \.zip, \.tar or \.npz"):
        scan(tmp_path / "a.txt")
    with pytest.raises(DataError, match=r"contains no images; .* 1 file left out: \.txt\."):
        scan(tmp_path).require_images()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_closed_folder_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0)
    with pytest.raises(DataError, match="can't be read"):
        scan(tmp_path)
