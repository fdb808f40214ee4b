"""Raters see what metrics measure: the same pixels of the same file, or the same error."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from drawbench.report.pictures import picture
from drawbench.study.design import load_preset, make_config
from drawbench.study.folder import IMAGE_FOLDER
from drawbench.study.images import blind_copy, store_blind
from drawbench.study.making import make_study
from drawbench.study.sources import open_source
from drawbench.suites import Suite
from evalkit.core.errors import DataError
from evalkit.features.sources import ImageItem, Preparation, load_image

EXIF_ORIENTATION = 0x0112
MODES = (
    *("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB"),
    *("HSV", "I", "F", "I;16", "I;16B", "I;16L", "I;16N"),
)
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "JPEG2000", "PPM", "TGA", "ICO", "AVIF")
REFUSED_MODES = {"I", "F"}
SAMPLES = (0, 1, 127, 128, 129, 255, 256, 65279, 65280, 65535)


def measured(path: Path) -> np.ndarray:
    """What a metric gets of a file."""
    return load_image(ImageItem(path), Preparation())


def shown(path: Path, folder: Path) -> np.ndarray:
    """What a rater's browser gets: the file of the study's folder, decoded by Pillow alone."""
    copy = blind_copy(path.read_bytes(), name=str(path))
    entry = store_blind(folder, copy, source="m", prompt_id="p", sample_index=0, origin=b"")
    with Image.open(folder / IMAGE_FOLDER / f"{entry.key}.png") as stored:
        assert (stored.mode, stored.format, stored.info) == ("RGB", "PNG", {})
        return np.array(stored)


def outcome(read: Callable[[Path], np.ndarray], path: Path) -> tuple[object, ...]:
    """Pixels, or the words of the error after the name of the file."""
    try:
        pixels = read(path)
    except DataError as error:
        name, separator, words = str(error).partition(": ")
        assert (name, separator) == (str(path), ": ")
        return ("error", words)
    return (pixels.shape, pixels.tobytes())


def of_mode(mode: str, values: np.ndarray) -> Image.Image:
    """An image whose samples are these 16-bit values, as far as its mode can hold them."""
    if mode.startswith("I;16"):
        kind = ">u2" if mode == "I;16B" else "<u2"
        return Image.frombytes(mode, values.shape[::-1], values.astype(kind).tobytes())
    if mode in ("I", "F"):
        return Image.fromarray(values.astype(np.int32 if mode == "I" else np.float32))
    eight = Image.fromarray((values // 257).astype(np.uint8))
    bands = len(Image.new(mode, (1, 1)).getbands())
    if mode in ("1", "P"):
        return eight.convert(mode)
    turned = [eight, *(eight.point(partial(_shifted, by=91 * band)) for band in range(1, bands))]
    if mode == "PA":
        return Image.merge("LA", turned).convert("PA")
    if mode == "La":
        return Image.merge("LA", turned).convert("La")
    return Image.merge(mode, turned)


def _shifted(value: int, *, by: int) -> int:
    return (value + by) % 256


def written(image: Image.Image, kind: str, **options: object) -> bytes | None:
    """The image as a file, or None where Pillow can't write it so."""
    buffer = io.BytesIO()
    try:
        image.save(buffer, kind, **options)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return buffer.getvalue()


def png_of_16_bit_colour(values: np.ndarray) -> bytes:
    """A PNG of 16 bits a channel, which Pillow reads but doesn't write."""
    height, width = values.shape
    samples = np.repeat(values[..., None], 3, axis=2).astype(">u2")
    lines = b"".join(b"\0" + line.tobytes() for line in samples)

    def chunk(name: bytes, body: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(name + body))
        return struct.pack(">I", len(body)) + name + body + checksum

    head = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    parts = [(b"IHDR", head), (b"IDAT", zlib.compress(lines)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def assert_same(content: bytes, folder: Path) -> tuple[object, ...]:
    """Both sides agree on a file; what they agree on."""
    path = folder / "sample.png"
    path.write_bytes(content)
    metric = outcome(measured, path)
    assert outcome(lambda file: shown(file, folder), path) == metric
    return metric


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pixels")


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_in_every_format(mode: str, folder: Path) -> None:
    @settings(max_examples=12, deadline=None, database=None)
    @given(
        size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
        seed=st.integers(0, 2**31),
        orientation=st.integers(1, 8),
    )
    def agree(size: tuple[int, int], seed: int, orientation: int) -> None:
        values = np.random.RandomState(seed).choice(SAMPLES, size=size).astype(np.uint16)
        image = of_mode(mode, values)
        exif = Image.Exif()
        exif[EXIF_ORIENTATION] = orientation
        files = [written(image, kind, exif=exif) for kind in FORMATS]
        if mode in ("P", "L", "RGB", "1"):
            key = (int(values[0, 0]) // 257,) * 3 if mode == "RGB" else 0
            files += [written(image, kind, transparency=key) for kind in ("PNG", "GIF")]
        found = [assert_same(content, folder) for content in files if content is not None]
        kinds = {outcome[0] == "error" for outcome in found}
        if mode not in REFUSED_MODES:
            assert False in kinds or not found

    agree()


@pytest.mark.parametrize("mode", MODES)
def test_the_property_meets_each_mode_in_some_format(mode: str) -> None:
    """Each mode can be written somehow, or Pillow never hands it over: only then it may lack."""
    image = of_mode(mode, np.full((2, 3), 65280, np.uint16))
    files = [written(image, kind) for kind in FORMATS]
    assert any(files) or mode in ("La", "RGBa", "PA", "HSV", "I;16L", "I;16N")


@pytest.mark.parametrize(
    ("value", "level"), [(0, 0), (128, 0), (129, 1), (32896, 128), (65280, 254), (65535, 255)]
)
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_by_hand(value: int, level: int, kind: str, folder: Path) -> None:
    """value / 257, rounded: 65280 / 257 = 254.008; the upper byte alone would be 255."""
    content = written(Image.fromarray(np.full((2, 3), value, np.uint16)), kind)
    assert content is not None
    assert assert_same(content, folder) == ((2, 3, 3), bytes([level]) * 18)


def test_sixteen_bit_colour(folder: Path) -> None:
    """Pillow keeps the upper byte of these."""
    content = png_of_16_bit_colour(np.array([[0, 128, 65280, 65535]]))
    expected = bytes(level for level in (0, 0, 255, 255) for _ in range(3))
    assert assert_same(content, folder) == ((1, 4, 3), expected)


@pytest.mark.parametrize("mode", sorted(REFUSED_MODES))
def test_32_bits_are_refused_on_both_sides(mode: str, folder: Path) -> None:
    content = written(of_mode(mode, np.full((2, 3), 65280, np.uint16)), "TIFF")
    assert content is not None
    kind, words = assert_same(content, folder)
    assert kind == "error"
    assert "no agreed range" in str(words)
    assert "Convert it first" in str(words)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_an_animation_both_take_the_first_frame(kind: str, folder: Path) -> None:
    frames = [Image.new("RGB", (5, 4), colour) for colour in ((0, 0, 255), (255, 0, 0))]
    content = written(frames[0], kind, save_all=True, append_images=frames[1:], lossless=True)
    assert content is not None
    shape, pixels = assert_same(content, folder)
    assert (shape, pixels) == ((4, 5, 3), bytes((0, 0, 255)) * 20)


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n", b"GIF89a"])
def test_broken_files_get_the_same_words(content: bytes, folder: Path) -> None:
    kind, words = assert_same(content, folder)
    assert kind == "error"
    assert "Replace the file" in str(words)


def test_a_whole_study_shows_what_is_measured(
    tmp_path: Path, suite: Suite, make_images: Callable[..., Path]
) -> None:
    """From the folder of 16-bit images to the study's files, through `make_study`."""
    folders = [make_images(name, suite, count=1) for name in ("m1", "m2")]
    deep = folders[0] / suite.prompts[0].id / "0.png"
    Image.fromarray(np.full((8, 8), 65280, np.uint16)).save(deep)
    settings_ = {**load_preset("imagen-drawbench"), "models": ["m1", "m2"], "images_per_side": 1}
    sources = [open_source(at.name, at, suite.prompts, per_prompt=1) for at in folders]
    study = make_study(tmp_path / "study", make_config(settings_), suite, sources)
    for source in sources:
        for prompt in suite.prompts:
            (key,) = study.image_keys(source.name, prompt.id)
            stored = study.image_path(key)
            assert stored is not None
            assert np.array_equal(measured(stored), measured(source.files[prompt.id][0]))
    (key,) = study.image_keys("m1", suite.prompts[0].id)
    assert measured(study.image_path(key) or Path()).max() == 254


def test_a_check_names_the_file_of_a_broken_image(
    tmp_path: Path, suite: Suite, make_images: Callable[..., Path]
) -> None:
    folders = [make_images(name, suite, count=1) for name in ("m1", "m2")]
    for at in folders:
        for prompt in suite.prompts:
            Image.fromarray(np.zeros((4, 4), np.float32)).save(at / prompt.id / "0.tif")
            (at / prompt.id / "0.png").unlink()
    settings_ = {**load_preset("imagen-drawbench"), "models": ["m1", "m2"], "images_per_side": 1}
    sources = [open_source(at.name, at, suite.prompts, per_prompt=1) for at in folders]
    with pytest.raises(DataError, match=r"tiny-000/0\.tif: pixels of mode 'F'"):
        make_study(tmp_path / "study", make_config(settings_), suite, sources)


def test_a_picture_of_a_report_that_metrics_refuse_is_refused_too(tmp_path: Path) -> None:
    path = tmp_path / "deep.tif"
    Image.fromarray(np.zeros((4, 4), np.float32)).save(path)
    with pytest.raises(DataError, match="no agreed range"):
        picture(path, 8)
    with pytest.raises(DataError, match=r"gone\.png: can't read the image"):
        picture(tmp_path / "gone.png", 8)
