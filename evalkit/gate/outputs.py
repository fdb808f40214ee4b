"""A gate's result as files: JSON, a Markdown summary, and JUnit XML for CI systems.

Before anything is measured, each file is written in the state "not finished", so that a crash or a
kill never leaves the result of an earlier gate behind.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from evalkit.core.results import ResultRecord, json_bytes, write_atomically
from evalkit.gate.requirements import EXIT_CODES, Judged, Rule, Verdict, overall
from evalkit.reports.formatting import interval_text, number, value_text

SCHEMA_VERSION = 1
UNFINISHED = "not finished"
_SENTENCES: Mapping[Verdict, str] = {
    "passed": "Passed: every requirement holds.",
    "failed": "Failed: a requirement is violated beyond chance.",
    "undecided": "Undecided: an interval contains its bound, so these images don't decide.",
    "not measured": "Not all could be measured, so the gate can't pass.",
}
_NO_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 can't contain."""


@dataclass(frozen=True, kw_only=True)
class GateResult:
    """What a gate found."""

    candidate: str
    baseline: str
    reference: str
    """Name of the reference of distances; `none` without one."""
    rule: Rule
    judged: Sequence[Judged]
    records: Sequence[ResultRecord] = ()
    """All records that were measured for it."""
    num_images: int = 0
    """Images of each run."""

    @property
    def verdict(self) -> Verdict:
        """The verdict on all requirements together."""
        return overall(self.judged)

    @property
    def exit_code(self) -> int:
        """0 passed, 1 failed, 3 not all measured, 4 undecided."""
        return EXIT_CODES[self.verdict]

    @property
    def sentences(self) -> list[str]:
        """The verdict in words, and what would decide it."""
        found = [_SENTENCES[self.verdict]]
        if self.verdict == "undecided":
            found += [say for one in self.judged if (say := what_decides(one, self.rule))]
        return found


@dataclass(frozen=True, kw_only=True)
class GateFiles:
    """Where a result is written; None: nowhere."""

    json: Path | None = None
    markdown: Path | None = None
    junit: Path | None = None

    def begin(self, candidate: str, baseline: str) -> None:
        """Write every file in the state "not finished"."""
        said = f"The gate of {candidate} against {baseline} did not finish."
        document = {"schema_version": SCHEMA_VERSION, "verdict": UNFINISHED, "exit_code": None,
                    "candidate": candidate, "baseline": baseline}  # fmt: skip
        self._write(_json(document), f"# Gate: {UNFINISHED}\n\n{said}\n", _unfinished_junit(said))

    def finish(self, result: GateResult) -> None:
        """Write the result into every file."""
        self._write(_json(as_document(result)), markdown(result), junit(result))

    def _write(self, *contents: str) -> None:
        for path, content in zip((self.json, self.markdown, self.junit), contents, strict=True):
            if path is not None:
                write_atomically(path, json_bytes(content))


def what_decides(judged: Judged, rule: Rule) -> str:
    """Say what would decide an undecided requirement; empty for any other."""
    if judged.verdict != "undecided":
        return ""
    metric = judged.requirement.metric
    if judged.images_to_decide is None:
        return f"{metric}: {judged.reason}." if judged.reason else ""
    return (
        f"{metric}: about {judged.images_to_decide:,} images per run decide it with probability "
        f"{rule.power:.0%}, if the truth is as estimated."
    )


def found_text(judged: Judged) -> str:
    """Return the value with its interval, or why there is none."""
    if judged.record is None or judged.record.value is None:
        return judged.reason
    return f"{value_text(judged.record)} {interval_text(judged.record)}".strip()


def p_text(judged: Judged) -> str:
    """Return the corrected p-value; empty where a verdict has none."""
    return "" if judged.p_value is None else f"p = {number(judged.p_value, 4)}"


def as_document(result: GateResult) -> dict[str, Any]:
    """Return the JSON document of a result."""
    return {
        "schema_version": SCHEMA_VERSION,
        "verdict": result.verdict,
        "exit_code": result.exit_code,
        "candidate": result.candidate,
        "baseline": result.baseline,
        "reference": result.reference,
        "alpha": result.rule.alpha,
        "power": result.rule.power,
        "num_images": result.num_images,
        "requirements": [_requirement(one) for one in result.judged],
        "records": [record.as_dict() for record in result.records],
    }


def _requirement(judged: Judged) -> dict[str, Any]:
    record = judged.record
    interval = None if record is None else record.interval
    return {
        "metric": judged.requirement.metric,
        "kind": judged.requirement.kind,
        "value": judged.requirement.value,
        "verdict": judged.verdict,
        "reason": judged.reason,
        "direction": judged.direction,
        "estimate": None if record is None else record.value,
        "low": None if interval is None else interval.low,
        "high": None if interval is None else interval.high,
        "level": None if interval is None else interval.level,
        "p_holm": judged.p_value,
        "images_to_decide": judged.images_to_decide,
    }


def markdown(result: GateResult) -> str:
    """Return a summary with a row for each requirement."""
    level = number(round(100 * result.rule.level, 6))
    lines = [
        f"# Gate: {result.verdict}",
        "",
        " ".join(map(_cell, result.sentences)),
        "",
        f"| metric | {_cell(result.candidate)} minus {_cell(result.baseline)} "
        f"[{level} % interval] | required | verdict |",
        "|---|---|---|---|",
    ]
    for one in result.judged:
        cells = (
            f"{one.requirement.metric} {_arrow(one)}".strip(),
            f"{found_text(one)} {p_text(one)}{_of_candidate(one)}".strip(),
            one.requirement.words,
            one.verdict,
        )
        lines.append(f"| {' | '.join(map(_cell, cells))} |")
    alpha = number(100 * result.rule.alpha)
    lines += [
        "",
        f"{result.num_images:,} images per run, reference: {_cell(result.reference)}. One-sided "
        f"level {alpha} %: a requirement whose truth is at its bound passes at most that often.",
    ]
    return "\n".join(lines) + "\n"


def junit(result: GateResult) -> str:
    """Return JUnit XML with a test case for each requirement.

    Undecided is a failure and not measured an error: a skipped case would count as harmless.
    """
    suite = ElementTree.Element(
        "testsuite",
        name=_xml(f"evalkit gate {result.candidate}"),
        tests=str(len(result.judged) + 1),
    )
    for one in result.judged:
        name = f"{one.requirement.metric} {one.requirement.words}"
        said = "; ".join(
            filter(None, [found_text(one), p_text(one), what_decides(one, result.rule)])
        )
        _add_case(suite, name, one.verdict, said)
    _add_case(suite, "gate", result.verdict, " ".join(result.sentences))
    return _xml_text(suite)


def _add_case(suite: ElementTree.Element, name: str, verdict: str, said: str) -> None:
    case = ElementTree.SubElement(suite, "testcase", classname="evalkit.gate", name=_xml(name))
    if verdict == "passed":
        ElementTree.SubElement(case, "system-out").text = _xml(said)
        return
    element = "failure" if verdict in ("failed", "undecided") else "error"
    message = _xml(f"{verdict}: {said}")
    ElementTree.SubElement(case, element, type=verdict, message=message).text = message


def _unfinished_junit(said: str) -> str:
    suite = ElementTree.Element("testsuite", name="evalkit gate", tests="1")
    _add_case(suite, "gate", UNFINISHED, said)
    return _xml_text(suite)


def _xml_text(suite: ElementTree.Element) -> str:
    for kind in ("failure", "error"):
        suite.set(f"{kind}s", str(len(suite.findall(f"testcase/{kind}"))))
    suite.set("skipped", "0")
    suites = ElementTree.Element("testsuites")
    suites.append(suite)
    ElementTree.indent(suites)
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        + ElementTree.tostring(suites, encoding="unicode")
        + "\n"
    )


def _json(document: Mapping[str, Any]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _xml(text: str) -> str:
    return _NO_XML.sub("\N{REPLACEMENT CHARACTER}", text)


def _cell(text: str) -> str:
    """Escape a text for a cell of a Markdown table."""
    return re.sub(r"([\\|<`*])", r"\\\1", " ".join(text.split()))


def _arrow(judged: Judged) -> str:
    return {"higher": "↑", "lower": "↓", "none": ""}[judged.direction]


def _of_candidate(judged: Judged) -> str:
    return " (its own value)" if judged.requirement.kind == "bound" else ""
