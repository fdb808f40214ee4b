"""Each protocol's pixels against a plain script in Pillow, torchvision and clean-fid.

The scripts are written as the projects wrote theirs; none of them uses evalkit.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter, ImageOps

from evalkit.core.errors import ConfigError, DataError
from evalkit.features.preparing import reference_preparation, sample_preparation
from evalkit.features.resize import resize_for_inception
from evalkit.features.sources import ImageItem, Preparation, load_image
from evalkit.options import MeasureOptions
from evalkit.protocols.applying import under
from evalkit.protocols.catalog import PROTOCOLS, open_protocol

Script = Callable[[Image.Image], Image.Image]


def photographs() -> list[Image.Image]:
    from skimage import data
    from sklearn.datasets import load_sample_images

    arrays = [data.coffee(), data.rocket(), data.retina(), *load_sample_images().images]
    return [Image.fromarray(np.asarray(array)) for array in arrays]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Photographs as files: grey, CMYK, rotated by EXIF, tiny, 3,000 px wide, odd sides."""
    folder = tmp_path_factory.mktemp("photographs")
    coffee, rocket, retina, china, flower = photographs()
    upright = Image.Exif()
    upright[0x0112] = 6  # turned by 90 degrees
    found = {}

    def save(name: str, image: Image.Image, **more: object) -> None:
        found[name] = folder / name
        image.save(found[name], **more)

    save("plain.jpg", china, quality=95)
    save("grey.jpg", rocket.convert("L"), quality=95)
    save("cmyk.jpg", flower.convert("CMYK"), quality=95)
    save("rotated.jpg", coffee, exif=upright, quality=95)
    save("tiny.png", china.resize((23, 17)))
    save("wide.jpg", retina.resize((3000, 1103)), quality=90)
    save("odd.png", flower.crop((0, 0, 401, 427)))
    return found


def opened(path: Path) -> Image.Image:
    return ImageOps.exif_transpose(Image.open(path)).convert("RGB")


def centre_square(image: Image.Image) -> Image.Image:
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))


def centre(size: int, filter: Image.Resampling) -> Script:  # noqa: A002
    return lambda image: centre_square(image).resize((size, size), filter)


def squashed(size: int, filter: Image.Resampling) -> Script:  # noqa: A002
    return lambda image: image.resize((size, size), filter)


def through_jpeg(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(io.BytesIO(buffer.getvalue())).convert("RGB")


def jpeg(quality: int) -> Script:
    return lambda image: through_jpeg(image, quality)


def then(*steps: Script) -> Script:
    def run(image: Image.Image) -> Image.Image:
        for step in steps:
            image = step(image)
        return image

    return run


def as_it_is(image: Image.Image) -> Image.Image:
    return image


def torchvision_resize(size: int, name: str) -> Script:
    from torchvision.transforms import InterpolationMode, Resize

    return Resize(size, InterpolationMode(name), antialias=True)


def shorter_side(size: int, name: str) -> Script:
    """mosaicml's LargestCenterSquare: torchvision's resize, then a crop with floor."""

    def crop(image: Image.Image) -> Image.Image:
        left, top = (image.width - size) // 2, (image.height - size) // 2
        return image.crop((left, top, left + size, top + size))

    return then(torchvision_resize(size, name), crop)


def torchvision_square(size: int) -> Script:
    from torchvision.transforms import CenterCrop

    return then(torchvision_resize(size, "bilinear"), CenterCrop(size))


def center_crop_arr(size: int) -> Script:
    """ADM's guided_diffusion/image_datasets.py."""

    def run(pil_image: Image.Image) -> Image.Image:
        while min(*pil_image.size) >= 2 * size:
            pil_image = pil_image.resize(
                tuple(x // 2 for x in pil_image.size),  # type: ignore[arg-type]
                resample=Image.Resampling.BOX,
            )
        scale = size / min(*pil_image.size)
        pil_image = pil_image.resize(
            tuple(round(x * scale) for x in pil_image.size),  # type: ignore[arg-type]
            resample=Image.Resampling.BICUBIC,
        )
        arr = np.array(pil_image)
        crop_y = (arr.shape[0] - size) // 2
        crop_x = (arr.shape[1] - size) // 2
        return Image.fromarray(arr[crop_y : crop_y + size, crop_x : crop_x + size])

    return run


R = Image.Resampling
BICUBIC_256 = centre(256, R.BICUBIC)
GIGAGAN = centre(256, R.LANCZOS)
SCRIPTS: dict[str, tuple[Script, Script]] = {
    "imagen-30k": (BICUBIC_256, as_it_is),
    "glide-30k": (BICUBIC_256, as_it_is),
    "unclip-30k": (BICUBIC_256, as_it_is),
    "dalle-30k": (BICUBIC_256, as_it_is),
    "ldm-30k": (BICUBIC_256, as_it_is),
    "sd-card-10k": (centre(512, R.BICUBIC), as_it_is),
    "gigagan-30k": (GIGAGAN, GIGAGAN),
    "dmd2-30k": (GIGAGAN, GIGAGAN),
    "karlo-30k": (shorter_side(256, "bicubic"), as_it_is),
    "mosaic-10k": (shorter_side(256, "bilinear"), as_it_is),
    "t2i-benchmark-30k": (
        centre(299, R.BICUBIC),
        then(jpeg(90), centre(299, R.BICUBIC)),
    ),
    "heim-30k": (then(squashed(512, R.LANCZOS), jpeg(75)), squashed(512, R.LANCZOS)),
    "mlperf-5k": (as_it_is, as_it_is),
    "cmmd-30k": (centre(336, R.BICUBIC), then(jpeg(75), centre(336, R.BICUBIC))),
    "bksdm-30k": (
        then(squashed(256, R.BICUBIC), jpeg(75)),
        then(jpeg(75), squashed(256, R.BICUBIC), jpeg(75)),
    ),
    "mjhq-playground": (as_it_is, as_it_is),
    "mjhq-sana": (torchvision_square(512), then(jpeg(75), torchvision_square(512))),
    "adm-in64-50k": (center_crop_arr(64), as_it_is),
    "adm-in128-50k": (center_crop_arr(128), as_it_is),
    "adm-in256-50k": (center_crop_arr(256), as_it_is),
    "adm-in512-50k": (center_crop_arr(512), as_it_is),
    "dit-in256-50k": (center_crop_arr(256), as_it_is),
    "dit-in512-50k": (center_crop_arr(512), as_it_is),
    "edm-cifar10-50k": (as_it_is, as_it_is),
    "edm-in64-50k": (centre(64, R.LANCZOS), as_it_is),
    "dmd2-in64-50k": (centre(64, R.LANCZOS), as_it_is),
    "ddpm-cifar10-50k": (as_it_is, as_it_is),
    "ddim-cifar10-50k": (as_it_is, as_it_is),
    "shapes-1k": (as_it_is, as_it_is),
}
"""What is done to a reference image, and to a sample, by protocol."""


def test_every_protocol_has_a_script() -> None:
    assert set(SCRIPTS) == set(PROTOCOLS)


@pytest.mark.parametrize("name", SCRIPTS)
def test_pixels_equal_a_plain_script(name: str, files: dict[str, Path]) -> None:
    options = under(open_protocol(name), MeasureOptions())
    preparations = reference_preparation(options), sample_preparation(options)
    for path in files.values():
        for preparation, script in zip(preparations, SCRIPTS[name], strict=True):
            found = load_image(ImageItem(path), preparation)
            expected = np.asarray(script(opened(path)))
            assert found.shape == expected.shape, (path.name, preparation)
            assert np.array_equal(found, expected), (path.name, preparation)


def test_the_blur_is_pillows(files: dict[str, Path]) -> None:
    protocol = open_protocol("dalle-30k")
    for radius in protocol.settings.blur_radii_px:
        options = under(protocol, MeasureOptions(blur_px=radius))
        for path in (files["plain.jpg"], files["grey.jpg"]):
            found = load_image(ImageItem(path), reference_preparation(options))
            blurred = BICUBIC_256(opened(path)).filter(ImageFilter.GaussianBlur(radius))
            assert np.array_equal(found, np.asarray(blurred))
    assert sample_preparation(options).blur_px == radius
    with pytest.raises(ConfigError, match=r"has the radii 1, 2, 4, 8"):
        under(protocol, MeasureOptions(blur_px=3.0))


def test_gigagans_images_reach_the_network_as_clean_fids(files: dict[str, Path]) -> None:
    build = pytest.importorskip("cleanfid.resize").build_resizer
    resize = build("clean")
    options = under(open_protocol("gigagan-30k"), MeasureOptions())
    for path in files.values():
        found = resize_for_inception(
            load_image(ImageItem(path), reference_preparation(options)), options.resize
        )
        expected = resize(np.asarray(GIGAGAN(opened(path))))
        # clean-fid leaves its overshoots; its network clips them.
        assert np.array_equal(found, (np.clip(expected, 0, 255).astype(np.float32) - 128) / 128)


def test_pytorch_fids_images_reach_the_network_as_torchs(files: dict[str, Path]) -> None:
    import torch

    options = under(open_protocol("bksdm-30k"), MeasureOptions())
    script = SCRIPTS["bksdm-30k"][0]
    for path in files.values():
        found = resize_for_inception(
            load_image(ImageItem(path), reference_preparation(options)), options.resize
        )
        unit = torch.from_numpy(np.asarray(script(opened(path))).copy()).permute(2, 0, 1) / 255
        expected = torch.nn.functional.interpolate(
            unit[None], size=(299, 299), mode="bilinear", align_corners=False
        )
        assert np.abs(found - (2 * expected[0].permute(1, 2, 0).numpy() - 1)).max() < 2e-6


def test_each_part_of_a_preparation_changes_pixels(files: dict[str, Path]) -> None:
    """No two preparations that differ in a setting give the same pixels and the same identity."""
    variants = [
        Preparation(crop="center", size_px=64),
        Preparation(crop="squash", size_px=64),
        Preparation(crop="short-side", size_px=64),
        Preparation(crop="adm", size_px=64),
        Preparation(crop="center", size_px=64, saved="jpeg-75"),
        Preparation(crop="center", size_px=64, reencode="jpeg-75"),
        Preparation(crop="center", size_px=64, reencode="jpeg-90"),
        Preparation(crop="center", size_px=64, blur_px=1.0),
    ]
    found = [load_image(ImageItem(files["plain.jpg"]), one) for one in variants]
    identities = {str(one.identity()) for one in variants}
    assert len(identities) == len(variants)
    for place, first in enumerate(found):
        for other in found[place + 1 :]:
            assert not np.array_equal(first, other)


def test_torchvisions_crop_differs_by_half_a_pixel(tmp_path: Path) -> None:
    """3 px too many: floor gives 1, rounding half to even gives 2."""
    wide = np.tile(np.arange(67, dtype=np.uint8)[None, :, None], (64, 1, 3))
    path = tmp_path / "wide.png"
    Image.fromarray(wide).save(path)
    floor = load_image(ImageItem(path), Preparation(crop="short-side", size_px=64))
    rounded = load_image(ImageItem(path), Preparation(crop="torchvision", size_px=64))
    assert (int(floor[0, 0, 0]), int(rounded[0, 0, 0])) == (1, 2)


def test_lossless_formats_are_no_difference() -> None:
    plain = Preparation(crop="center", size_px=64)
    assert Preparation(crop="center", size_px=64, saved="png").identity() == plain.identity()


def test_archives_with_a_name_twice_are_refused(tmp_path: Path) -> None:
    import warnings
    import zipfile

    from evalkit.features.sources import image_items

    path = tmp_path / "images.zip"
    content = io.BytesIO()
    Image.new("RGB", (8, 8)).save(content, "PNG")
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w") as archive:
        warnings.simplefilter("ignore")
        archive.writestr("a.png", content.getvalue())
        archive.writestr("a.png", content.getvalue())
    with pytest.raises(DataError, match=r"'a.png' occurs twice") as caught:
        image_items(path)
    assert "\n" not in str(caught.value)
