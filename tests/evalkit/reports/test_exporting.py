"""Results as files: all formats of one comparison hold the same values."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
from dataclasses import fields, replace
from html.parser import HTMLParser
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit.catalog import EXPORTS
from evalkit.core.errors import ConfigError, OutputError
from evalkit.core.results import Interval, ResultRecord, read_records, results_schema
from evalkit.options.exporting import check_exports
from evalkit.reports import formatting, wording
from evalkit.reports.exporting import write_exports
from evalkit.reports.html import ComparisonReport, RunReport
from evalkit.reports.latex import _ESCAPES, escaped
from evalkit.reports.markdown import escaped as escaped_markdown
from evalkit.reports.methods import methods
from tests.evalkit.reports.examples import NASTY_PROMPTS, QUICK, make_record

Cells = list[list[str]]


@pytest.fixture(scope="module")
def files(
    comparison: ComparisonReport, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """One comparison in every format."""
    folder = tmp_path_factory.mktemp("exports")
    paths = {suffix: folder / f"comparison{suffix}" for suffix in EXPORTS}
    assert len(write_exports(list(paths.values()), comparison)) == len(EXPORTS)
    return paths


def unescaped_latex(text: str) -> str:
    for plain, command in sorted(_ESCAPES.items(), key=lambda pair: -len(pair[1])):
        text = text.replace(command, f"\0{ord(plain)}\0")
    return re.sub("\0(\\d+)\0", lambda found: chr(int(found[1])), text.replace("{}", ""))


def markdown_rows(text: str) -> Cells:
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [
        [re.sub(r"\\(.)", r"\1", cell) for cell in re.split(r" (?<!\\)\| ", line[2:-2])]
        for line in lines
    ]


def latex_rows(text: str) -> Cells:
    lines = [line for line in text.splitlines() if line.endswith(r" \\")]
    return [[unescaped_latex(c) for c in line.removesuffix(r" \\").split(" & ")] for line in lines]


class HtmlRows(HTMLParser):
    """The cells of all tables, row by row."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: Cells = []
        self.inside = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        del attrs
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th") and self.rows:
            self.rows[-1].append("")
            self.inside = True

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self.inside = False

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.rows[-1][-1] += f"{data} "


def shown(record: ResultRecord) -> list[str]:
    """The texts of a record's value and interval in every rounded format."""
    texts = (formatting.value_text(record), formatting.interval_text(record))
    return [formatting.typographic(text) for text in texts if text]


def test_all_formats_hold_the_same_values(
    comparison: ComparisonReport, files: dict[str, Path]
) -> None:
    records = read_records(files[".json"])
    assert [r.as_dict() for r in records] == [r.as_dict() for r in comparison.records]
    with files[".csv"].open(newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    assert len(rows) == len(records)
    for row, record in zip(rows, records, strict=True):
        ends = record.interval
        assert [row["subject"], row["metric"], row["label"], row["n"]] == [
            record.subject, record.metric, wording.label(record), str(record.n),
        ]  # fmt: skip
        assert [row["value"], row["low"], row["high"]] == [
            "" if value is None else repr(value)
            for value in (record.value, ends and ends.low, ends and ends.high)
        ]
        assert row["n_reference"] == "1000"
        p_value = record.details.get("p_value")
        assert row["p_value"] == ("" if p_value is None else repr(p_value))
    tables = {
        ".md": markdown_rows(files[".md"].read_text("utf-8")),
        ".tex": latex_rows(files[".tex"].read_text("utf-8")),
        ".html": HtmlRows(files[".html"].read_text("utf-8")).rows,
    }
    for suffix, table in tables.items():
        for record in records:
            place = record.subject
            labels = {wording.label(record), wording.label(record).removesuffix(", difference")}
            texts = shown(record) or [formatting.typographic("failed")]
            assert any(
                all(text in " ".join(row) for text in texts)
                and (place in " ".join(row) or any(label in " ".join(row) for label in labels))
                for row in table
            ), (suffix, record.subject, record.metric)


def test_a_cell_stands_where_its_model_and_its_metric_meet(
    comparison: ComparisonReport, files: dict[str, Path]
) -> None:
    """In Markdown and LaTeX, by the headings of row and column."""
    measured = [r for r in comparison.records if not wording.is_difference(r) and r.value]
    for rows in (
        markdown_rows(files[".md"].read_text("utf-8")),
        latex_rows(files[".tex"].read_text("utf-8")),
    ):
        header, *lines = rows
        by_name = {line[0]: line for line in lines}
        for record in measured:
            labels = [cell.partition(" ↑")[0].partition(" ↓")[0] for cell in header]
            if wording.label(record) in labels:
                cell = by_name[record.subject][labels.index(wording.label(record))]
            else:
                (line,) = [one for name, one in by_name.items() if wording.label(record) in name]
                cell = line[header.index(record.subject)]
            assert all(text in cell for text in shown(record))


def test_a_value_is_rounded_nowhere_else(files: dict[str, Path]) -> None:
    """A change of one value is a change of every file."""
    record = read_records(files[".json"])[0]
    assert record.value is not None
    changed = replace(record, value=record.value + 10)
    page = RunReport(title="t", question="q", records=[changed])
    folder = files[".json"].parent
    for suffix in EXPORTS:
        if suffix != ".bib":
            write_exports([folder / f"changed{suffix}"], page)
            text = (folder / f"changed{suffix}").read_text("utf-8")
            assert formatting.value_text(changed) in text


class TestSchema:
    def test_an_export_and_a_run_s_records_are_valid(self, files: dict[str, Path]) -> None:
        jsonschema.Draft202012Validator.check_schema(results_schema())
        jsonschema.validate(json.loads(files[".json"].read_text("utf-8")), results_schema())

    def test_it_has_the_fields_of_the_records(self) -> None:
        defined = results_schema()["$defs"]
        for name, kind in (("record", ResultRecord), ("interval", Interval)):
            named = [field.name for field in fields(kind)]
            assert sorted(defined[name]["properties"]) == sorted(named)
            assert sorted(defined[name]["required"]) == sorted(named)

    @pytest.mark.parametrize(
        "change",
        [
            {"value": None},
            {"state": "failed"},
            {"state": "failed", "value": None, "reason": ""},
            {"n": -1},
            {"n": 1.5},
            {"direction": "up"},
            {"extra": 1},
            {"interval": {"low": 0.0, "high": 1.0, "level": 1.0, "method": "m"}},
            {"interval": {"low": 0.0, "high": 1.0, "level": 0.95}},
            {"fingerprint": []},
            {"metric": ""},
        ],
    )
    def test_what_contradicts_itself_is_invalid(self, change: dict[str, object]) -> None:
        record = make_record(half_width=0.3).as_dict()
        jsonschema.validate({"schema_version": 1, "records": [record]}, results_schema())
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(
                {"schema_version": 1, "records": [record | change]}, results_schema()
            )

    def test_another_version_is_invalid(self) -> None:
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({"schema_version": 2, "records": []}, results_schema())


class TestLatex:
    @pytest.mark.parametrize(
        ("text", "latex"),
        [
            ("50 % of a_b", r"50 \% of a\_b"),
            ("R&D #1 $5", r"R\&D \#1 \$5"),
            ("{x}~^", r"\{x\}\textasciitilde{}\textasciicircum{}"),
            ("a\\b", r"a\textbackslash{}b"),
            ("\\input{/etc/passwd}", r"\textbackslash{}input\{/etc/passwd\}"),
            ("x < y > z | w", r"x \textless{} y \textgreater{} z \textbar{} w"),
            ("−0.5, FD∞ ↓", r"$-$0.5, FD$\infty$ $\downarrow$"),
            ("two\nlines\x07", "two lines "),
        ],
    )
    def test_escapes(self, text: str, latex: str) -> None:
        assert escaped(text) == latex

    @QUICK
    @given(st.text(alphabet=st.sampled_from([*_ESCAPES, *"aB1 ,"]), max_size=30))
    def test_a_text_comes_back(self, text: str) -> None:
        text = re.sub(" +", " ", text)
        assert unescaped_latex(escaped(text)) == text

    def test_a_hostile_model_is_text(self, tmp_path: Path) -> None:
        page = hostile_page()
        write_exports([tmp_path / "x.tex"], page)
        text = (tmp_path / "x.tex").read_text("utf-8")
        outside = re.sub(r"^%.*$", "", text, flags=re.MULTILINE)
        assert not re.search(r"\\(input|write|immediate)\b", outside)
        assert not re.search(r"(?<!\\)[#~]", outside.replace(r"~\cite", ""))

    def test_it_compiles(self, comparison: ComparisonReport, tmp_path: Path) -> None:
        program = shutil.which("pdflatex")
        if program is None:
            pytest.skip("needs pdflatex: apt-get install texlive-latex-recommended")
        for name, page in (("good", comparison), ("hostile", hostile_page(latin=True))):
            write_exports([tmp_path / f"{name}.tex"], page)
            (tmp_path / "paper.tex").write_text(
                "\\documentclass{article}\\usepackage[T1]{fontenc}\\usepackage{booktabs}\n"
                f"\\begin{{document}}\\input{{{name}.tex}}\\end{{document}}\n"
            )
            done = subprocess.run(
                [program, "-interaction=nonstopmode", "-halt-on-error", "paper.tex"],
                cwd=tmp_path, capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert done.returncode == 0, done.stdout[-1500:]


def hostile_page(*, latin: bool = False) -> RunReport:
    """A page whose every text tries to be markup."""
    prompts = [text for text in NASTY_PROMPTS if text.isascii()] if latin else NASTY_PROMPTS
    names = [*prompts, "\\input{/etc/passwd} \\write18{ls} %", "| a | b |\n---", "#~^_{}$&"]
    records = [
        make_record(subject=name, reason=name, value=1.0 + i) for i, name in enumerate(names)
    ]
    return RunReport(title=names[-1], question=names[-1], records=records, warnings=names)


def test_markdown_keeps_a_table_a_table(tmp_path: Path) -> None:
    write_exports([tmp_path / "x.md"], hostile_page())
    text = (tmp_path / "x.md").read_text("utf-8")
    (width,) = {line.count(" | ") - line.count("\\|") for line in text.splitlines() if
                line.startswith("| ") and "\\|" not in line}  # fmt: skip
    assert width >= 1
    assert "<script>" not in text
    assert escaped_markdown("a | b\n*c*") == "a \\| b \\*c\\*"


class TestMethods:
    def test_it_says_what_was_run_and_cites_it(self, comparison: ComparisonReport) -> None:
        said = methods(comparison.records)
        text = said.render()
        for wanted in (
            "images by unclip:tiny for 1,000 captions of shapes", "seed 0",
            "FD (shapes-clip) (Heusel et al. 2017)", "Naeem et al. 2020", "Ramesh et al. 2022",
            "Intervals (95 %)", "paired differences", "evalkit 0.1.0",
        ):  # fmt: skip
            assert wanted in text, wanted
        assert "Ho & Salimans 2022" in text, "guidance 1.5"
        assert "Holm" not in text, "there is no correction in these records"
        assert set(re.findall(r"^@\w+\{(\w+),", said.bibtex, flags=re.MULTILINE)) == set(said.keys)

    def test_only_what_was_run_is_cited(self) -> None:
        only = methods([make_record("clip-score", fingerprint={}, subject="x")])
        assert only.keys == ("hessel2021clipscore",)
        assert methods([]).parts == ()

    def test_latex_cites_by_key(self, files: dict[str, Path]) -> None:
        text = files[".tex"].read_text("utf-8")
        cited = {key for keys in re.findall(r"\\cite\{([^}]+)\}", text) for key in keys.split(",")}
        listed = set(re.findall(r"^@\w+\{(\w+),", files[".bib"].read_text("ascii"), re.MULTILINE))
        assert cited == listed
        assert cited


class TestRefusals:
    @pytest.mark.parametrize("name", ["x.txt", "x", "x.json.gz", ".json"])
    def test_an_unknown_suffix(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(ConfigError, match=r"\.json, \.csv, \.html, \.md, \.tex, \.bib"):
            check_exports((tmp_path / name,))

    def test_a_suffix_in_capitals_is_known(self, tmp_path: Path) -> None:
        check_exports((tmp_path / "X.JSON",))

    def test_one_file_twice(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="twice"):
            check_exports((tmp_path / "x.md", tmp_path / "x.md"))

    def test_a_folder(self, tmp_path: Path) -> None:
        (tmp_path / "x.md").mkdir()
        with pytest.raises(OutputError, match="is a folder"):
            check_exports((tmp_path / "x.md",))

    def test_a_file_in_the_way(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(OutputError, match="can't be written"):
            check_exports((tmp_path / "file" / "x.md",))
