"""The papers of the catalogs: each is found, each entry is BibTeX."""

from __future__ import annotations

import re

import pytest

from evalkit.catalog import DATASETS, METRICS, NETWORK_PAPERS
from evalkit.core.papers import PAPERS, bibliography, papers_in
from generators.catalog import MODELS
from generators.diffusion.samplers import SAMPLERS


def test_every_paper_that_a_catalog_names_is_a_row() -> None:
    named = [
        *(row.paper for row in METRICS.own.values() if not row.paper.startswith("evalkit.")),
        *(row.paper for row in DATASETS.own.values() if row.paper),
        *(row.paper for row in MODELS.values() if row.paper),
        *(row.paper for row in SAMPLERS.values()),
        *NETWORK_PAPERS.values(),
    ]
    for text in named:
        assert len(papers_in(text)) == len(re.findall(r"\b(?:19|20)\d\d\b", text)), text


def test_short_names_are_distinct() -> None:
    short = [paper.short for paper in PAPERS.values()]
    assert len(set(short)) == len(short)


@pytest.mark.parametrize("key", PAPERS)
def test_entries_are_bibtex(key: str) -> None:
    """ASCII, balanced braces, a key that begins with the first author, the fields of its kind."""
    paper, entry = PAPERS[key], PAPERS[key].bibtex(key)
    assert entry.isascii()
    assert entry.count("{") == entry.count("}")
    assert re.match(rf"@{paper.entry}\{{{key},\n", entry)
    assert str(paper.year) in key
    fields = set(re.findall(r"^  (\w+) = \{", entry, flags=re.MULTILINE))
    assert {"author", "title", "year"} <= fields
    assert {"inproceedings": "booktitle", "article": "journal", "techreport": "institution",
            "misc": "eprint"}[paper.entry] in fields  # fmt: skip
    if paper.arxiv:
        assert re.fullmatch(r"\d{4}\.\d{4,5}", paper.arxiv)
        assert int(paper.arxiv[:2]) + 2000 <= paper.year, "a preprint is no later than its venue"


def test_an_entry_by_hand() -> None:
    assert PAPERS["kynkaanniemi2023role"].bibtex("kynkaanniemi2023role") == (
        "@inproceedings{kynkaanniemi2023role,\n"
        '  author = {Kynk{\\"a}{\\"a}nniemi, Tuomas and Karras, Tero and Aittala, Miika and '
        "Aila, Timo and Lehtinen, Jaakko},\n"
        "  title = {{The Role of ImageNet Classes in Fr{\\'e}chet Inception Distance}},\n"
        "  booktitle = {International Conference on Learning Representations},\n"
        "  year = {2023},\n"
        "  eprint = {2203.06026},\n"
        "  archivePrefix = {arXiv},\n"
        "}"
    )


def test_a_bibliography_has_each_paper_once() -> None:
    text = bibliography(["holm1979simple", "heusel2017gans", "holm1979simple"])
    assert re.findall(r"^@\w+\{(\w+),", text, flags=re.MULTILINE) == [
        "holm1979simple",
        "heusel2017gans",
    ]
