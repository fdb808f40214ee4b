"""The file of a gate: every key matters, and nothing else is taken."""

from __future__ import annotations

from pathlib import Path

import pytest

from evalkit.core.errors import ConfigError, EvalkitError, MissingDataError
from evalkit.gate.definition import gate_of, parse_pairs, read_gate

FILE = """
alpha = 0.025
power = 0.9
baseline = "runs/fp32"
against = "shapes"
superior-any = ["clip-score", "kid"]

[margins]
fid-infinity = 0.3
clip-score = 1

[equivalent]
precision-k5 = 0.02

[superior]
composition-pairs = 0.0

[bounds]
psnr = 30.0

[measure]
features = "shapes-clip"
clip-model = "shapes-clip"
"""


def test_every_key_is_read(tmp_path: Path) -> None:
    (tmp_path / "gate.toml").write_text(FILE)
    gate = read_gate(tmp_path / "gate.toml")
    assert (gate.rule.alpha, gate.rule.power, gate.rule.level) == (0.025, 0.9, 0.95)
    assert (gate.baseline, gate.against) == ("runs/fp32", "shapes")
    found = [(one.kind, one.metric, one.value) for one in gate.requirements]
    assert found == [
        ("non-inferior", "fid-infinity", 0.3),
        ("non-inferior", "clip-score", 1.0),
        ("equivalent", "precision-k5", 0.02),
        ("superior", "composition-pairs", 0.0),
        ("superior in any", "clip-score", 0.0),
        ("superior in any", "kid", 0.0),
        ("bound", "psnr", 30.0),
    ]
    assert gate.measure.features == gate.measure.clip_model == "shapes-clip"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "A gate needs a requirement"),
        ("[margin]\nfid = 1", "margin: unknown key. Known are alpha, power, baseline"),
        ("[margins]\nfid = -1", "margins.fid: Input should be greater than 0, got '-1'"),
        ("[margins]\nfid = 0", "margins.fid"),
        ("[margins]\nfid = nan", "margins.fid"),
        ("[margins]\nfid = inf", "margins.fid"),
        ('[margins]\nfid = "1"', "margins.fid"),
        ("[margins]\nfid = true", "margins.fid"),
        ("[margins]\nfidd = 1", "fid"),
        ("[margins]\npsnr = 1", "--bound psnr=NUMBER"),
        ("[margins]\nprdc = 1", "prdc has several records. Name one: precision-k"),
        ("[margins]\nimages-per-second = 1", "no paired difference"),
        ("[margins]\ncomposition-pairs-shuffled = 1", "no better direction"),
        ("alpha = 5\n[margins]\nfid = 1", "write 5 % as 0.05"),
        ("alpha = nan\n[margins]\nfid = 1", "Alpha nan"),
        ("power = 1\n[margins]\nfid = 1", "Power 1"),
        ("[margins]\nfid = 1\n[measure]\nlevel = 0.9", "measure.level: unknown key. Known are pro"),
        ('[margins]\nfid = 1\n[measure]\nclip_model = "x"', "measure.clip_model: unknown key"),
        ("superior-any = [1]", "superior-any.0"),
        ("[margins", "not a TOML file of a gate"),
    ],
)
def test_anything_else_is_one_line(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "gate.toml").write_text(text)
    with pytest.raises(EvalkitError) as refused:
        read_gate(tmp_path / "gate.toml")
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match="no such file"):
        read_gate(tmp_path / "gate.toml")


@pytest.mark.parametrize("text", ["clip-score", "clip-score=", "=1", "clip-score=x", "fid=nan"])
def test_arguments_of_another_form_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--margin expects METRIC=NUMBER"):
        parse_pairs([text], "--margin")


def test_a_metric_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match="gives fid twice"):
        parse_pairs(["fid=1", "fid=2"], "--margin")
    assert parse_pairs(["fid"], "--superior", default=0.0) == {"fid": 0.0}
    assert gate_of({"margins": {"fid": 1.0}}).alpha == 0.05
