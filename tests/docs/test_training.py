"""The loop of docs/training.md runs as printed, and its numbers are those of `evalkit score`."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from evalkit.core.results import read_records
from evalkit.metrics.torch_modules import as_uint8_images
from tests.evalkit.commands.test_commands import run

PAGE = Path(__file__).parents[2] / "docs" / "training.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text("utf-8"), flags=re.DOTALL)


def test_the_loop_runs_as_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    monkeypatch.chdir(tmp_path)
    (shell,), (loop,) = blocks("sh"), blocks("python")
    for line in shell.splitlines():
        assert run(*shlex.split(line)[1:]) == 0
    capsys.readouterr()
    scope: dict[str, Any] = {}
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(0)
        exec(compile(loop, PAGE.name, "exec"), scope)
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in printed] == ["10", "20"]
    found = {record.metric: record for record in scope["records"]}
    assert found["fd-infinity"].interval is not None
    assert found["clip-score"].interval is not None
    assert found["fd"].n == found["clip-score"].n == 160
    assert float(scope["values"]["fd"]) == pytest.approx(found["fd"].value, rel=1e-9)
    # The reference stays after reset, and the same images as files have the same numbers.
    generator, metrics = scope["generator"], scope["metrics"]
    with torch.no_grad():
        images = generator(torch.randn(8, 16, generator=torch.Generator().manual_seed(1)))
    metrics.update(images, captions=scope["prompts"][:8])
    folder = tmp_path / "samples"
    folder.mkdir()
    for index, image in enumerate(as_uint8_images(images, (-1, 1))):
        Image.fromarray(np.asarray(image)).save(folder / f"{index}.png")
    assert run("score", folder, "--against", "shapes.npz", "--features", "shapes-clip",
               "--metrics", "fd", "--json", "score.json") == 0  # fmt: skip
    (scored,) = (record for record in read_records(Path("score.json")) if record.metric == "fd")
    assert float(metrics.compute()["fd"]) == pytest.approx(scored.value, rel=1e-5)
    ours = metrics["fd"].records()[0].fingerprint
    for key in ("extractor", "extractor_hash", "reference_sha256"):
        assert ours[key] == scored.fingerprint[key]


def test_every_class_is_on_the_page() -> None:
    from evalkit.metrics import torch_modules

    table = PAGE.read_text("utf-8").partition("## Beside it")[0]
    for name in torch_modules.__all__:
        kind = getattr(torch_modules, name)
        is_metric = isinstance(kind, type) and issubclass(kind, torch_modules.ImageMetric)
        if is_metric and kind is not torch_modules.ImageMetric:
            assert f"`{name}`" in table, name
