"""Published weights: found, recorded at first use, compared from then on."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from evalkit.cli import app
from evalkit.core.errors import MissingWeightsError, NetworkError, UnknownNameError, WeightsError
from generators.catalog import MODELS
from generators.ddpm.presets import PRESETS
from generators.weights import published as weights
from generators.weights.published import PUBLISHED, cached_file, locate, verify, weights_folder


@pytest.fixture
def cached() -> Path:
    """A file that someone put into the cache."""
    path = weights_folder() / PUBLISHED["gpt2-merges"].file
    path.parent.mkdir(parents=True)
    path.write_bytes(b"merges")
    return path


def test_a_file_without_a_published_hash_is_recorded_and_compared(cached: Path) -> None:
    assert cached_file("gpt2-merges").expected == ""
    assert locate("gpt2-merges") == cached
    known = cached_file("gpt2-merges")
    assert known.expected == hashlib.sha256(b"merges").hexdigest()
    assert known.origin == "unpublished"
    cached.write_bytes(b"tampered")
    with pytest.raises(WeightsError, match=r"unpublished, recorded at first use.*Delete it"):
        locate("gpt2-merges")


def test_a_published_hash_is_compared_from_the_first_use_on(
    cached: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import dataclasses

    row = dataclasses.replace(PUBLISHED["gpt2-merges"], sha256="0" * 64)
    monkeypatch.setitem(PUBLISHED, "gpt2-merges", row)
    with pytest.raises(WeightsError, match=r"expected 0{64} \(published\)"):
        verify("gpt2-merges")


def test_a_given_file_is_the_callers_own(cached: Path, tmp_path: Path) -> None:
    own = tmp_path / "mine"
    own.write_bytes(b"mine")
    assert locate("gpt2-merges", own) == own
    assert cached_file("gpt2-merges").recorded == ""
    with pytest.raises(MissingWeightsError, match="is not a file"):
        locate("gpt2-merges", tmp_path / "nowhere")


def test_a_fetched_file_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(url: str, target: Path, *, sha256_prefix: str, report: object) -> Path:
        assert url.endswith("base.pt")
        target.parent.mkdir(parents=True)
        target.write_bytes(b"weights")
        return target

    monkeypatch.setattr(weights, "fetch", fetch)
    locate("glide-base")
    assert cached_file("glide-base").recorded == hashlib.sha256(b"weights").hexdigest()


def test_what_can_not_be_had_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(*args: object, **kwargs: object) -> Path:
        raise NetworkError("no network: can't find the host")

    monkeypatch.setattr(weights, "fetch", fetch)
    with pytest.raises(MissingWeightsError, match=r"no network.*--weights glide-base=PATH.*tiny"):
        locate("glide-base", instead="glide:tiny")
    with pytest.raises(MissingWeightsError, match="never released"):
        locate("glide-paper-base")
    with pytest.raises(UnknownNameError, match="did you mean 'glide-base'"):
        locate("glide-bas")


def test_every_released_preset_has_addresses() -> None:
    for name, preset in PRESETS.items():
        assert MODELS[f"ddpm:{name}"].size_px == preset.network.image_size
        assert (MODELS[f"ddpm:{name}"].conditioning == "class") == bool(preset.num_classes)
        assert len(MODELS[f"ddpm:{name}"].files) == 1 + bool(preset.classifier)
    for row in MODELS.values():
        assert set(row.files) <= set(PUBLISHED)
    files = [row.file for row in PUBLISHED.values()]
    assert len(set(files)) == len(files)


def test_the_commands(cached: Path) -> None:
    run = CliRunner().invoke
    assert "gpt2-merges" in run(app, ["weights", "list"]).output
    verified = run(app, ["weights", "verify"])
    assert verified.exit_code == 0
    assert hashlib.sha256(b"merges").hexdigest() in verified.output
    fetched = run(app, ["weights", "fetch", "gpt2-merges"])
    assert fetched.exit_code == 0
    assert "unpublished" in fetched.output
    cached.write_bytes(b"tampered")
    assert isinstance(run(app, ["weights", "verify", "gpt2-merges"]).exception, WeightsError)
    cached.unlink()
    assert isinstance(run(app, ["weights", "verify"]).exception, MissingWeightsError)
