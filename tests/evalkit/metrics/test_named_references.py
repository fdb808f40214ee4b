"""Published statistics by name: kept, pinned, and refused where they are something else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from evalkit import cli
from evalkit.commands.sets import open_against
from evalkit.core.downloads import sha256_of
from evalkit.core.errors import DataError, MissingDataError, UnknownNameError
from evalkit.core.progress import silent
from evalkit.metrics.named_references import (
    REFERENCES,
    keep_reference,
    open_reference,
    reference_path,
    state,
)
from evalkit.metrics.statistics_files import ReferenceStatistics, refuse_other_preparation
from evalkit.protocols.catalog import open_protocol

NAME = "coco-val2014@t2i-benchmark"


def statistics(path: Path, seed: int = 0) -> Path:
    rows = np.random.default_rng(seed).standard_normal((50, 8))
    np.savez(path, mu=rows.mean(0), sigma=np.cov(rows, rowvar=False))
    return path


def test_a_reference_is_kept_and_opened_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(MissingDataError, match="evalkit references keep coco-val2014@t2i"):
        open_reference(NAME)
    file = statistics(tmp_path / "stats.npz")
    cli.app(["references", "keep", NAME, str(file)], standalone_mode=False)
    assert "pinned" in capsys.readouterr().out
    found = open_against(NAME, None, silent)
    assert found.name == NAME
    assert isinstance(found.reference, ReferenceStatistics)
    assert found.reference.sha256 == sha256_of(file)
    cli.app(["references", "list"], standalone_mode=False)
    assert "cached, pinned" in " ".join(capsys.readouterr().out.split())


def test_its_hash_is_pinned_at_first_use(tmp_path: Path) -> None:
    keep_reference(NAME, statistics(tmp_path / "stats.npz"))
    assert "pinned" in state(NAME)
    with pytest.raises(DataError, match="at its first use on this machine") as caught:
        keep_reference(NAME, statistics(tmp_path / "other.npz", seed=1))
    assert "\n" not in str(caught.value)
    statistics(reference_path(NAME), seed=2)
    with pytest.raises(DataError, match="at its first use"):
        open_reference(NAME)


def test_a_published_hash_is_checked(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="git's hash is"):
        keep_reference("coco-val2014@mlperf", statistics(tmp_path / "val2014.npz"))


def test_pickles_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="it is a pickle"):
        open_reference("imagenet512@edm2")
    assert "refused" in state("imagenet512@edm2")
    np.savez(tmp_path / "objects.npz", mu=np.array([{}], dtype=object), sigma=np.eye(1))
    with pytest.raises(DataError, match="can't be read"):
        keep_reference(NAME, tmp_path / "objects.npz")


def test_unknown_names_get_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'coco-val2014@mlperf'"):
        open_against("coco-val2014@mlper", None, silent)


def test_a_reference_of_another_preparation_is_refused(tmp_path: Path) -> None:
    keep_reference(NAME, statistics(tmp_path / "stats.npz"))
    found = open_reference(NAME)
    stated = REFERENCES[NAME].preparation
    same = {"crop": "center", "size_px": 299, "filter": "bicubic"}
    refuse_other_preparation(found, same, "t2i-benchmark-30k", stated)
    reference = open_protocol("gigagan-30k").reference
    other = {"crop": reference.crop, "size_px": reference.size_px, "filter": reference.filter}
    with pytest.raises(DataError, match="with filter 'bicubic', but gigagan-30k says 'lanczos'"):
        refuse_other_preparation(found, other, "gigagan-30k", stated)
