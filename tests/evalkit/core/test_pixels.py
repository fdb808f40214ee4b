"""Pixels of every kind of file that COCO, users and cameras produce."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from evalkit.core import pixels
from evalkit.core.errors import ConfigError, DataError
from evalkit.core.pixels import (
    center_crop,
    encode_png,
    prepare,
    read_rgb,
    resize,
    squash,
    to_square,
)

JPEG_TOLERANCE = 4  # lossy at quality 95 on flat colours
REFUSED = (ConfigError, TypeError)  # TypeError where types are checked on the way in
WHITE, RED = (255, 255, 255), (200, 20, 30)


def encode(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def flat(mode: str, colour: object, size: tuple[int, int] = (6, 4)) -> Image.Image:
    return Image.new(mode, size, colour)


def only_colour(data: bytes) -> list[int]:
    pixels = read_rgb(data)
    assert pixels.dtype == np.uint8
    assert pixels.shape == (4, 6, 3)
    assert (pixels == pixels[0, 0]).all()
    return pixels[0, 0].tolist()


def test_plain_rgb_keeps_every_pixel():
    pixels = np.random.RandomState(0).randint(0, 256, (5, 7, 3)).astype(np.uint8)
    assert np.array_equal(read_rgb(encode_png(pixels)), pixels)


def test_gray_and_bilevel_become_three_equal_channels():
    assert only_colour(encode(flat("L", 77))) == [77, 77, 77]
    assert only_colour(encode(flat("1", 1))) == [255, 255, 255]
    assert only_colour(encode(flat("L", 77), "JPEG", quality=100)) == [77, 77, 77]


def test_alpha_is_composited_on_white():
    """Half of 200 and half of 255: 200 * 128/255 + 255 * 127/255 = 227.4."""
    assert only_colour(encode(flat("RGBA", (200, 0, 0, 128)))) == [227, 127, 127]
    assert only_colour(encode(flat("LA", (0, 0)))) == list(WHITE)
    assert only_colour(encode(flat("LA", (90, 255)))) == [90, 90, 90]


def test_transparent_palette_and_colour_key_show_white():
    palette = flat("P", 0)
    palette.putpalette([10, 20, 30, 40, 50, 60])
    assert only_colour(encode(palette)) == [10, 20, 30]
    assert only_colour(encode(palette, transparency=0)) == list(WHITE)
    assert only_colour(encode(flat("RGB", RED), transparency=RED)) == list(WHITE)


def test_cmyk_jpeg_as_adobe_writes_it():
    """Pillow writes and reads the inverted values of Adobe's marker: pure cyan stays cyan."""
    data = encode(flat("CMYK", (255, 0, 0, 0), (16, 16)), "JPEG", quality=100)
    assert b"Adobe" in data
    assert np.abs(read_rgb(data).astype(int) - (0, 255, 255)).max() <= JPEG_TOLERANCE
    black = encode(flat("CMYK", (0, 0, 0, 255), (16, 16)), "JPEG", quality=100)
    assert read_rgb(black).max() <= JPEG_TOLERANCE


@pytest.mark.parametrize("mode", ["YCbCr", "LAB"])
def test_other_colour_spaces_become_rgb(mode: str):
    image = flat("RGB", RED).convert("RGB")
    if mode == "LAB":
        from PIL import ImageCms

        srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        image = ImageCms.profileToProfile(image, srgb, lab, outputMode="LAB")
    else:
        image = image.convert(mode)
    found = np.array(only_colour(encode(image, "TIFF")))
    assert np.abs(found - RED).max() <= JPEG_TOLERANCE


def test_sixteen_bits_are_scaled_not_clipped():
    """65535 / 257 = 255, 32896 / 257 = 128, 128 / 257 rounds to 0 and 129 / 257 to 1."""
    values = np.array([[0, 128, 129, 32896, 65535]], np.uint16)
    for kind in ("PNG", "TIFF"):
        pixels = read_rgb(encode(Image.fromarray(values), kind))
        assert pixels[0, :, 0].tolist() == [0, 0, 1, 128, 255]
        assert (pixels[..., 0] == pixels[..., 2]).all()


@pytest.mark.parametrize("mode", ["I", "F"])
def test_32_bit_images_have_no_agreed_range(mode: str):
    with pytest.raises(DataError, match="no agreed range"):
        read_rgb(encode(flat(mode, 3), "TIFF"))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int):
    """The stored pixels are what a camera wrote; all eight must show the same upright picture."""
    upright = np.zeros((16, 24, 3), np.uint8)
    upright[:8, :8] = WHITE  # the corner at the top left
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: upright.transpose(1, 0, 2)[::-1],
        7: upright.transpose(1, 0, 2)[::-1, ::-1],
        8: upright.transpose(1, 0, 2)[:, ::-1],
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(np.ascontiguousarray(stored))
    for kind, tolerance in (("PNG", 0), ("JPEG", 40)):
        found = read_rgb(encode(image, kind, exif=exif))
        assert found.shape == upright.shape
        assert np.abs(found.astype(int) - upright).max() <= tolerance


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")  # Pillow's own words about this file
def test_broken_exif_counts_as_upright():
    data = encode(flat("RGB", RED), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff broken")
    assert read_rgb(data).shape == (4, 6, 3)


def test_first_frame_of_an_animation():
    frames = [flat("RGB", (9, 9, 9)), flat("RGB", RED)]
    data = encode(frames[0], "PNG", save_all=True, append_images=frames[1:])
    assert only_colour(data) == [9, 9, 9]


def test_truncated_corrupt_and_empty_files_name_the_file(tmp_path: Path):
    noise = np.random.RandomState(0).randint(0, 256, (64, 64, 3)).astype(np.uint8)
    whole = {kind: encode(Image.fromarray(noise), kind) for kind in ("PNG", "JPEG", "WEBP", "BMP")}
    bad = {f"half.{kind}": data[: len(data) // 2] for kind, data in whole.items()}
    bad |= {f"head.{kind}": data[:20] for kind, data in whole.items()}
    bad["flipped.png"] = whole["PNG"][:200] + bytes(300) + whole["PNG"][500:]
    bad |= {"text.jpg": b"<html>404</html>", "zero.png": b""}
    for name, data in bad.items():
        path = tmp_path / name
        path.write_bytes(data)
        with pytest.raises(DataError) as caught:
            read_rgb(path)
        message = str(caught.value)
        assert str(path) in message
        assert "\n" not in message
        assert "BytesIO" not in message


def test_missing_file_and_folder_name_the_path(tmp_path: Path):
    for path in (tmp_path / "none.png", tmp_path):
        with pytest.raises(DataError, match=str(path)):
            read_rgb(path)


def test_bytes_are_called_what_the_caller_calls_them():
    with pytest.raises(DataError, match=r"a\.zip:b\.png"):
        read_rgb(b"nothing", name="a.zip:b.png")


def test_no_other_module_decodes_images(root: Path):
    """Two decoders may differ; a screenshot for the documentation is no input."""
    packages = ("evalkit", "generators", "drawbench", "app", "benchmarks")
    files = [path for name in packages for path in (root / name).rglob("*.py")]
    opening = {
        path.relative_to(root).as_posix() for path in files if "Image.open(" in path.read_text()
    }
    assert opening == {"evalkit/core/pixels.py", "benchmarks/pictures.py"}


def test_a_png_has_the_bytes_of_run_folders_made_before():
    """Their manifests hold hashes of files that Pillow wrote at level 6, without any metadata."""
    noise = np.random.RandomState(3).randint(0, 256, (9, 5, 3)).astype(np.uint8)
    assert encode_png(noise) == encode(Image.fromarray(noise), compress_level=6)


def test_square_of_a_decoded_image_names_it():
    image = np.zeros((40, 60, 3), np.uint8)
    assert to_square(image, 8).shape == (8, 8, 3)
    with pytest.raises(DataError, match=r"^runs/a\.png: 60 x 40 px is not square"):
        to_square(image, 8, crop="none", name="runs/a.png")


def test_decompression_bomb_is_refused_before_decoding(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pixels, "MAX_PIXELS", 20)
    with pytest.raises(DataError, match="6 x 4 pixels, the limit is 20"):
        read_rgb(encode(flat("RGB", RED)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)  # Pillow's own alarm: 24 > 2 * 10
    with pytest.raises(DataError, match="decompression bomb"):
        read_rgb(encode(flat("RGB", RED)))


def test_center_crop_by_hand():
    """Width 7, height 4: side 4, left = (7 - 4) // 2 = 1."""
    pixels = np.arange(4 * 7 * 3, dtype=np.uint8).reshape(4, 7, 3)
    assert np.array_equal(center_crop(pixels), pixels[:, 1:5])
    tall = pixels.transpose(1, 0, 2)
    assert np.array_equal(center_crop(tall), tall[1:5])


def test_resize_keeps_the_aspect_and_squash_does_not():
    pixels = np.zeros((30, 60, 3), np.uint8)
    assert resize(pixels, 15).shape == (15, 30, 3)
    assert squash(pixels, 15).shape == (15, 15, 3)
    assert resize(pixels, 30) is pixels


def test_box_filter_by_hand():
    """Halving with a box averages 2 x 2 pixels: (0 + 100 + 50 + 250) / 4 = 100."""
    gray = np.array([[0, 100], [50, 250]], np.uint8)
    pixels = np.repeat(gray[..., None], 3, axis=2)
    assert squash(pixels, 1, "box").tolist() == [[[100, 100, 100]]]


def test_shrinking_is_antialiased():
    """A one-pixel checkerboard must turn gray; picking pixels would give black or white."""
    board = np.indices((64, 64)).sum(axis=0) % 2 * 255
    pixels = np.repeat(board[..., None], 3, axis=2).astype(np.uint8)
    for name in ("bicubic", "lanczos", "bilinear", "box"):
        small = squash(pixels, 8, name).astype(int)
        assert np.abs(small - 127.5).max() < 30


def test_each_option_of_prepare_matters():
    noise = np.random.RandomState(1).randint(0, 256, (40, 60, 3)).astype(np.uint8)
    data = encode_png(noise)
    results = {
        (crop, name): prepare(data, crop=crop, size_px=32, filter=name).tobytes()
        for crop in ("center", "squash")
        for name in ("bicubic", "lanczos", "bilinear", "box")
    }
    assert len(set(results.values())) == len(results)
    assert prepare(data).shape == (256, 256, 3)
    with pytest.raises(DataError, match="60 x 40 px is not square"):
        prepare(data, crop="none")
    square = encode_png(noise[:, :40])
    assert np.array_equal(prepare(square, crop="none", size_px=40), noise[:, :40])


def test_prepare_is_crop_then_resize():
    noise = np.random.RandomState(2).randint(0, 256, (40, 61, 3)).astype(np.uint8)
    cropped = Image.fromarray(noise[:, 10:50])
    expected = np.array(cropped.resize((16, 16), Image.Resampling.BICUBIC))
    assert np.array_equal(prepare(encode_png(noise), size_px=16), expected)


def test_unknown_options_and_sizes_are_refused():
    pixels = np.zeros((4, 4, 3), np.uint8)
    with pytest.raises(REFUSED, match="nearest"):
        squash(pixels, 2, "nearest")  # type: ignore[arg-type]
    with pytest.raises(REFUSED, match="middle"):
        prepare(encode_png(pixels), crop="middle")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="at least 1 px"):
        squash(pixels, 0)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 32))
def test_prepare_gives_the_size_asked_for(height: int, width: int, size_px: int):
    data = encode_png(np.full((height, width, 3), 99, np.uint8))
    for crop in ("center", "squash"):
        result = prepare(data, crop=crop, size_px=size_px)
        assert result.shape == (size_px, size_px, 3)
        assert (result == 99).all()


def _chunk(kind: bytes, content: bytes) -> bytes:
    crc = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", crc)


MEGABYTES = zlib.compress(b"x" * 5_000_000)
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf tiff:Orientation="6"/></x:xmpmeta>'


@pytest.mark.parametrize(
    "chunk",
    [
        _chunk(b"zTXt", b"parameters\0\0" + MEGABYTES),
        _chunk(b"iTXt", b"workflow\0\1\0\0\0" + MEGABYTES),
        _chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + MEGABYTES),
        _chunk(b"iCCP", b"profile\0\0" + MEGABYTES),
        _chunk(b"tEXt", b"prompt\0" + b"x" * 5_000_000),
        b"".join(_chunk(b"zTXt", b"k\0\0" + zlib.compress(b"x" * 900_000)) for _ in range(80)),
        _chunk(b"zTXt", b"parameters\0\0no zlib"),
        _chunk(b"iTXt", b"no zero bytes"),
    ],
)
def test_no_metadata_of_a_png_hides_its_pixels(chunk: bytes) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    plain = encode_png(pixels)
    header = 8 + 25  # the signature and IHDR
    np.testing.assert_array_equal(read_rgb(plain[:header] + chunk + plain[header:]), pixels)


@pytest.mark.parametrize(
    "chunk",
    [
        _chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP),
        _chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(XMP)),
    ],
)
def test_an_orientation_in_the_texts_of_a_png_is_applied(chunk: bytes) -> None:
    plain = encode_png(np.zeros((5, 7, 3), np.uint8))
    assert read_rgb(plain[:33] + chunk + plain[33:]).shape == (7, 5, 3)
