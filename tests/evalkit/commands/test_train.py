"""Training on one's own photographs: killed and resumed, fine-tuned, looked at, sampled from."""

from __future__ import annotations

import csv
import gzip
import json
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from PIL import Image
from safetensors.torch import load_file
from skimage import data as photographs

from evalkit.cli import main
from evalkit.commands.training_data import open_own_data
from generators.base import Request, resolve_settings
from generators.catalog import load_generator
from generators.recipes.catalog import RECIPES
from generators.recipes.needs import GLIDE_TEXT
from generators.recipes.recipe import load_recipe
from generators.tokenizer import clip_tokenizer, tiny_tokenizer
from generators.training.log import read_log
from generators.weights.networks import build_network
from generators.weights.published import PUBLISHED
from generators.weights.state_dicts import read_metadata
from generators.weights.zoo import ZOO, trained_state, zoo_weights

NUM_PHOTOGRAPHS = 200
NAMES = ("astronaut", "coffee", "chelsea", "rocket", "retina")
KILLED = """
import generators.training.loop as loop
loop.CHECKPOINT_EVERY_S = 0.5
from evalkit.cli import main
main()
"""


@pytest.fixture(scope="module")
def album(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 crops of scikit-image's photographs, no two alike, each with a caption beside it."""
    root = tmp_path_factory.mktemp("album")
    whole = {name: Image.fromarray(getattr(photographs, name)()) for name in NAMES}
    rng = np.random.default_rng(0)
    for number in range(NUM_PHOTOGRAPHS):
        name = NAMES[number % len(NAMES)]
        width, height = (int(side) for side in rng.integers(80, 200, 2))
        left = int(rng.integers(0, whole[name].width - width))
        top = int(rng.integers(0, whole[name].height - height))
        crop = whole[name].crop((left, top, left + width, top + height))
        crop.save(root / f"{number:03d}.jpg", quality=90)
        shape = "wide" if width > height else "tall"
        (root / f"{number:03d}.txt").write_text(f"a {shape} crop of the {name} photograph\n")
    return root


def evalkit(monkeypatch: pytest.MonkeyPatch, *words: object) -> None:
    AcceleratorState._reset_state(True)  # one process trains recipes of several precisions here
    monkeypatch.setattr("sys.argv", ["evalkit", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code in (0, None)


def refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: object
) -> str:
    monkeypatch.setattr("sys.argv", ["evalkit", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    said = capsys.readouterr().err.strip()
    assert len(said.splitlines()) == 1, said
    return said


def steps_of(folder: Path) -> list[int]:
    with (folder / "log.csv").open(newline="") as file:
        return [int(row["step"]) for row in csv.DictReader(file)]


def without_seconds(folder: Path) -> list[tuple[object, ...]]:
    return [(r.step, r.loss, r.learning_rate, r.validation_loss) for r in read_log(folder)]


@pytest.fixture(scope="module")
def trained(album: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of GLIDE's tiny base after 50 steps on the photographs."""
    out = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as monkeypatch:
        evalkit(monkeypatch, "train", *words(album), "--out", out)
    return out


def words(album: Path) -> list[object]:
    return [
        "glide-tiny-base-first", "--data", album, "--steps", 50, "--batch-size", 4,
        "--look-every", 25, "--cpu",
    ]  # fmt: skip


def test_a_killed_training_on_photographs_ends_byte_for_byte_alike(
    album: Path, trained: Path, tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-c", KILLED, "train", *map(str, words(album)), "--out", str(out)]
    process = subprocess.Popen(
        command, cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 240
    ready = (out / "log.csv", out / "checkpoint.safetensors")
    while not all(file.is_file() for file in ready) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    _, said = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL, said
    assert not (out / "weights.safetensors").exists()

    evalkit(monkeypatch, "train", *words(album), "--out", out)
    assert (out / "weights.safetensors").read_bytes() == (
        trained / "weights.safetensors"
    ).read_bytes()
    assert without_seconds(out) == without_seconds(trained)
    assert steps_of(out) == [20, 25, 40, 50]
    for name in ("0000025.png", "0000050.png", "captions.txt"):
        file = Path("samples") / name
        assert (out / file).read_bytes() == (trained / file).read_bytes()


def test_the_log_has_both_losses_and_the_grid_has_real_images_above(trained: Path) -> None:
    rows = read_log(trained)
    assert [row.validation_loss is not None for row in rows] == [False, True, False, True]
    first, last = (row.validation_loss for row in rows if row.validation_loss is not None)
    assert last < first
    assert all(np.isfinite(row.loss) for row in rows)
    captions = (trained / "samples" / "captions.txt").read_text().splitlines()
    grid = np.asarray(Image.open(trained / "samples" / "0000050.png"))
    assert len(captions) == 8
    assert all("photograph" in caption for caption in captions)
    assert grid.shape == (2 * 66, 8 * 66, 3)


def test_the_weights_are_sampled_from_with_their_own_vocabulary(trained: Path) -> None:
    weights = trained / "weights.safetensors"
    model = load_generator("glide:tiny", weights={"glide-tiny-base": weights})
    tokens = model.tokenizer.encode("a wide crop of the rocket photograph")
    assert len(tokens) == 7, "each word of the captions is one token"
    assert len(tiny_tokenizer().encode("a wide crop of the rocket photograph")) > 20
    assert zoo_weights("glide-tiny-base", weights).recipe.model["n_vocab"] == (
        model.tokenizer.num_tokens
    )
    settings = resolve_settings(model.spec, steps="base=2,upsampler=2", guidance="base=3")
    prompts = ("a tall crop of the coffee photograph", "a wide crop of the rocket photograph")
    made = model.generate([Request(prompt=p, seed=1) for p in prompts], settings)
    first, second = (sample.image for sample in made)
    assert first is not None
    assert first.shape == (64, 64, 3)
    assert not np.array_equal(first, second), "the caption counts"


def test_images_held_out_are_those_of_the_recipe(album: Path, trained: Path) -> None:
    recipe = zoo_weights("glide-tiny-base", trained / "weights.safetensors").recipe
    assert (recipe.data.num_images, recipe.data.hold_out) == (190, 0.05)
    assert recipe.data.vocabulary == "own"
    found = open_own_data(
        str(album), image_px=64, hold_out=0.05, seed=recipe.data.seed, captions=True, classes=False
    )
    assert found.fingerprint == recipe.data.fingerprint
    shown = (trained / "samples" / "captions.txt").read_text().splitlines()
    assert found.held_out is not None
    assert shown == [said[0] for said in found.held_out.captions[:8]]


def tuned(
    monkeypatch: pytest.MonkeyPatch, album: Path, out: Path, recipe: object, *more: object
) -> dict[str, dict[str, torch.Tensor]]:
    """Fine-tune for three steps; return network and average of the checkpoint."""
    evalkit(
        monkeypatch, "train", recipe, "--data", album, "--steps", 3, "--batch-size", 2, "--cpu",
        "--look-every", 100, "--hold-out", 0, "--learning-rate", 1e-3, "--out", out, *more,
    )  # fmt: skip
    saved = load_file(out / "checkpoint.safetensors")
    return {
        part: {k.removeprefix(part): v for k, v in saved.items() if k.startswith(part)}
        for part in ("network.", "ema.")
    }


@pytest.mark.parametrize(
    ("recipe", "model", "freeze"),
    [
        ("glide-tiny-base", "glide:tiny", "text"),
        ("glide-tiny-base", "glide:tiny", "unet"),
        ("glide-tiny-base", "glide:tiny", "input_blocks."),
        ("glide-tiny-base", "glide:tiny", None),
        ("glide-tiny-upsampler", "glide:tiny", None),
    ],
)
def test_fine_tuning_changes_all_and_only_what_it_should(
    recipe: str,
    model: str,
    freeze: str | None,
    album: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    more = ["--from", model, *(["--freeze", freeze] if freeze else [])]
    after = tuned(monkeypatch, album, tmp_path / "out", recipe, *more)
    before = trained_state(ZOO / f"{recipe}.safetensors")
    parts = {"text": GLIDE_TEXT, "input_blocks.": ("input_blocks.",)}

    def is_frozen(name: str) -> bool:
        if freeze == "unet":
            return not name.startswith(GLIDE_TEXT)
        return name.startswith(parts.get(freeze or "", ("-",)))

    for state in after.values():
        assert state.keys() == before.keys()
        same = {name for name in before if torch.equal(state[name], before[name])}
        assert same == {name for name in before if is_frozen(name)}
    vocabulary = read_metadata(tmp_path / "out" / "weights.safetensors").get("vocabulary", "")
    assert vocabulary == "", "fine-tuning keeps the tokens that the text was learned with"


def test_new_tokens_start_from_random_weights_and_all_else_does_not(
    album: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = ("--from", "glide:tiny", "--vocabulary", "clip", "--freeze", "unet")
    after = tuned(monkeypatch, album, tmp_path / "out", "glide-tiny-base", *more)["network."]
    began = json.loads((tmp_path / "out" / "start.json").read_text())
    assert began["random"] == ["token_embedding.weight"]
    assert began["sha256"] == zoo_weights("glide-tiny-base").sha256
    assert len(after["token_embedding.weight"]) == clip_tokenizer().num_tokens == 49_408
    before = trained_state(ZOO / "glide-tiny-base.safetensors")
    unet = [name for name in before if not name.startswith(GLIDE_TEXT)]
    assert all(torch.equal(after[name], before[name]) for name in unet)
    model = load_generator(
        "glide:tiny", weights={"glide-tiny-base": tmp_path / "out" / "weights.safetensors"}
    )
    assert model.tokenizer.encode("photograph") == clip_tokenizer().encode("photograph")


def small_released(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Put random weights of small networks where the released files are cached (simulated).

    Returns:
        Recipes that fine-tune them; their vocabulary of 444 tokens takes the place of GPT-2's.
    """
    monkeypatch.setenv("EVALKIT_CACHE", str(folder / "cache"))
    cache = folder / "cache" / "weights"
    cache.mkdir(parents=True)
    for ending, name in (("json", "gpt2-encoder"), ("bpe", "gpt2-merges")):
        packed = gzip.compress((ZOO / f"vocabulary.{ending}").read_bytes())
        (cache / PUBLISHED[name].file).write_bytes(packed)
    text = {"n_vocab": 444, "text_ctx": 64, "xf_width": 32, "xf_layers": 1, "xf_heads": 2}
    recipes = {}
    for part, file, more in (
        ("base", "glide-base.pt", {"image_size": 16}),
        ("upsampler", "glide-upsample.pt", {"image_size": 32}),
    ):
        told = tomllib.loads(RECIPES[f"glide-released-{part}"].path().read_text("utf-8"))
        told["model"] |= {**text, **more, "model_channels": 32, "channel_mult": [1, 2]}
        told["model"] |= {
            "attention_downsamples": [2],
            "num_res_blocks": 1,
            "num_head_channels": 16,
        }
        told["data"]["image_px"] = 64
        if part == "upsampler":
            told["objective"] |= {"low_res_px": 16, "crop_px": 32}
        torch.manual_seed(0)
        network = build_network(f"glide-{part}", told["model"])
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, std=0.05)
        state = {key: value.half() for key, value in network.state_dict().items()}
        torch.save(state, cache / file)
        recipes[part] = folder / f"{part}.toml"
        recipes[part].write_text(dumped(told))
    return recipes


def dumped(told: dict[str, Any]) -> str:
    tables = {key: value for key, value in told.items() if isinstance(value, dict)}
    lines = [f"{key} = {json.dumps(value)}" for key, value in told.items() if key not in tables]
    for name, table in tables.items():
        lines += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in table.items())]
    return "\n".join(lines)


def test_released_networks_are_fine_tuned_and_sampled_from(
    album: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipes = small_released(tmp_path, monkeypatch)
    weights = {}
    for part, recipe in recipes.items():
        out = tmp_path / part
        after = tuned(monkeypatch, album, out, recipe)["network."]
        file = "glide-base.pt" if part == "base" else "glide-upsample.pt"
        before = trained_state(tmp_path / "cache" / "weights" / file)
        assert after.keys() == before.keys()
        assert not any(torch.equal(after[name], before[name]) for name in before)
        assert max(float((after[k] - before[k]).abs().max()) for k in before) < 0.02
        assert read_metadata(out / "weights.safetensors")["vocabulary"] == "gpt2"
        weights[f"glide-{part}"] = out / "weights.safetensors"
    model = load_generator("glide:released", weights=weights)
    settings = resolve_settings(model.spec, steps="base=2,upsampler=2")
    (sample,) = model.generate([Request(prompt="a red circle", seed=0)], settings)
    assert sample.image is not None
    assert sample.image.shape == (32, 32, 3)


def test_dropout_is_the_same_after_a_kill(
    album: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The released networks drop units, which torch draws from a generator of its own."""
    recipe = small_released(tmp_path, monkeypatch)["base"]
    assert load_recipe(str(recipe)).model["dropout"] == 0.1
    common = (monkeypatch, album)
    whole = tuned(*common, tmp_path / "whole", recipe)["network."]
    monkeypatch.setattr("generators.training.loop.CHECKPOINT_EVERY_S", 0.0)
    real = torch.optim.AdamW.step
    count = iter(range(9))

    def die(self: torch.optim.AdamW, *arguments: Any) -> Any:
        if next(count) == 2:
            raise KeyboardInterrupt
        return real(self, *arguments)

    with monkeypatch.context() as killing:
        killing.setattr(torch.optim.AdamW, "step", die)
        killing.setattr("sys.argv", ["evalkit"])
        with pytest.raises((KeyboardInterrupt, AssertionError, SystemExit)):
            tuned(killing, album, tmp_path / "cut", recipe)
    torch.manual_seed(99)
    cut = tuned(*common, tmp_path / "cut", recipe)["network."]
    assert all(torch.equal(whole[name], cut[name]) for name in whole)


def test_classes_of_own_images_are_learned(
    tmp_path: Path, album: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = sorted(album.glob("*.jpg"))[:10]
    for number, file in enumerate(files):
        folder = tmp_path / "photos" / ("cups" if number % 2 else "people")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / file.name).write_bytes(file.read_bytes())
    out = tmp_path / "out"
    tuned(monkeypatch, tmp_path / "photos", out, "ddpm-tiny-class")
    recipe = zoo_weights("ddpm-tiny-class", out / "weights.safetensors").recipe
    assert recipe.model["num_classes"] == 2
    assert recipe.data.classes == ["cups", "people"]
    assert (out / "samples" / "0000003.png").is_file()
    model = load_generator(
        "ddpm:tiny-class", weights={"ddpm-tiny-class": out / "weights.safetensors"}
    )
    assert model.spec.num_classes == 2
    assert model.classifier is None, "the shipped one knows shapes"
    settings = resolve_settings(model.spec, steps="2")
    assert len(model.generate([Request(label=1, seed=0)], settings)) == 1


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["glide-tiny-base", "--hold-out", "0.1"], "--hold-out is for own images"),
        (["glide-tiny-base", "--vocabulary", "clip"], "--vocabulary is for own images"),
        (["glide-released-base"], "Give them with --data"),
        (["glide-tiny-base", "--data", "no/such"], "no such file or folder"),
        (["glide-tiny-base", "--data", "coco"], "evaluates on this data set"),
        (["glide-tiny-base", "--data", "shapes"], "trained on shapes without --data"),
        (["glide-tiny-base", "--data", "ALBUM", "--vocabulary", "t5"], "use own, clip, gpt2"),
        (
            ["glide-tiny-base", "--data", "ALBUM", "--from", "glide:tiny", "--freeze", "textt"],
            "it has: text, unet, pos",
        ),
        (
            ["glide-tiny-base-first", "--data", "ALBUM", "--freeze", "text", "--freeze", "unet"],
            "nothing",
        ),
        (["ddpm-tiny", "--data", "ALBUM", "--vocabulary", "own"], "no vocabulary of its own"),
        (["ddpm-tiny-class", "--data", "ALBUM"], "have no class"),
        (["imagen-tiny-base", "--data", "ALBUM"], "the guidance of a CLIP of shapes"),
        (["glide-tiny-base", "--data", "ALBUM", "--from", "imagen:tiny"], "no network of the kind"),
        (["glide-tiny-base", "--data", "ALBUM", "--from", "no.pt"], "--from no.pt: no such file"),
        (["glide-tiny-base", "--data", "ALBUM", "--accumulate", "3"], "cannot be split"),
        (["clip-tiny", "--data", "ALBUM", "--accumulate", "2"], "the batch can't be split"),
        (["glide-tiny-base", "--data", "ALBUM", "--batch-size", "0"], "at least 1, got 0"),
        (["glide-tiny-base", "--data", "ALBUM", "--learning-rate", "-1"], "above 0, got -1"),
    ],
)
def test_bad_input_is_one_line_before_the_work(
    arguments: list[str],
    complaint: str,
    album: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    given = [str(album) if word == "ALBUM" else word for word in arguments]
    assert complaint in refused(monkeypatch, capsys, "train", *given, "--cpu")
    assert not [*tmp_path.rglob("checkpoint.safetensors")]
