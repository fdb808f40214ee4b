"""JSON, Markdown and JUnit XML of one result hold the same verdicts and values."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from evalkit.core.results import Interval, ResultRecord
from evalkit.gate.outputs import GateFiles, GateResult
from evalkit.gate.requirements import Judged, Requirement, Rule, Verdict, judge

REQUIRED = Requirement(metric="clip-score", kind="non-inferior", value=1.0)


def record(low: float, high: float) -> ResultRecord:
    interval = Interval(low=low, high=high, level=0.9, method="simulated")
    return ResultRecord(
        metric="clip-score-difference", value=(low + high) / 2, n=100, direction="higher",
        interval=interval, standard_error=(high - low) / 3.29,
    )  # fmt: skip


def result(*judged: Judged, candidate: str = "cand") -> GateResult:
    return GateResult(
        candidate=candidate, baseline="base", reference="none", rule=Rule(), judged=judged,
        records=[one.record for one in judged if one.record is not None], num_images=100,
    )  # fmt: skip


def one_of(verdict: Verdict) -> Judged:
    ends = {"passed": (-0.5, 0.5), "failed": (-3.0, -2.0), "undecided": (-1.5, 0.5)}
    if verdict == "not measured":
        return Judged(requirement=REQUIRED, verdict=verdict, reason="no weights")
    found = judge(REQUIRED, record(*ends[verdict]), Rule(), num_images=100)
    assert found.verdict == verdict
    return found


@pytest.fixture
def files(tmp_path: Path) -> GateFiles:
    return GateFiles(json=tmp_path / "g.json", markdown=tmp_path / "g.md", junit=tmp_path / "g.xml")


def read(files: GateFiles) -> tuple[dict[str, object], str, ElementTree.Element]:
    assert files.json is not None
    assert files.markdown is not None
    assert files.junit is not None
    root = ElementTree.fromstring(files.junit.read_text("utf-8"))
    return json.loads(files.json.read_text("utf-8")), files.markdown.read_text("utf-8"), root


@pytest.mark.parametrize(
    ("verdict", "code", "element"),
    [
        ("passed", 0, None),
        ("failed", 1, "failure"),
        ("not measured", 3, "error"),
        ("undecided", 4, "failure"),
    ],
)
def test_they_agree(files: GateFiles, verdict: Verdict, code: int, element: str | None) -> None:
    files.finish(result(one_of("passed"), one_of(verdict)))
    document, markdown, root = read(files)
    assert (document["verdict"], document["exit_code"]) == (verdict, code)
    assert markdown.startswith(f"# Gate: {verdict}\n")
    assert f"| {verdict} |\n" in markdown
    suite = root[0]
    bad = suite.findall("testcase/failure") + suite.findall("testcase/error")
    assert len(bad) == (0 if element is None else 2)  # the requirement and the gate
    assert {one.tag for one in bad} == ({element} if element else set())
    assert (suite.get("tests"), suite.get("skipped")) == ("3", "0")
    counted = int(suite.get("failures", "")) + int(suite.get("errors", ""))
    assert counted == len(bad)
    if verdict == "undecided":
        needed = one_of("undecided").images_to_decide
        assert f"about {needed:,} images per run" in markdown
        assert f"about {needed:,} images per run" in bad[0].get("message", "")


def test_a_result_of_before_is_gone_once_a_gate_begins(files: GateFiles) -> None:
    files.finish(result(one_of("passed")))
    files.begin("cand", "base")
    document, markdown, root = read(files)
    assert (document["verdict"], document["exit_code"]) == ("not finished", None)
    assert "not finished" in markdown
    assert root.findall("testsuite/testcase/error")


def test_names_that_are_no_xml_and_no_table_cell(files: GateFiles) -> None:
    files.finish(result(one_of("failed"), candidate="a|b<c>\x00\x1b&\ud800"))
    _, markdown, root = read(files)
    assert root[0].get("name", "").startswith("evalkit gate a|b<c>")
    rows = [line for line in markdown.splitlines() if line.startswith("|")]
    assert {line.replace(r"\|", "").count("|") for line in rows} == {5}
