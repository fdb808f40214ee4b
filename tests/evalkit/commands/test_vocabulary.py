"""`evalkit vocabulary` makes the vocabulary of the zoo, and of other captions another one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from evalkit.cli import main
from generators.tokenizer import BytePairTokenizer
from generators.training.vocabulary import FILES
from generators.weights.zoo import ZOO


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr("sys.argv", ["evalkit", "vocabulary", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0


def test_the_vocabulary_of_the_zoo_comes_out_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(monkeypatch, "--data", "shapes", "--out", str(tmp_path / "new"))
    for name in FILES:
        assert (tmp_path / "new" / name).read_bytes() == (ZOO / name).read_bytes()
    assert "444 tokens of 20,000 captions" in " ".join(capsys.readouterr().out.split())


def test_options_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = {}
    for name, arguments in {
        "usual": ("--n", "20"),
        "more": ("--n", "40"),
        "small": ("--n", "20", "--size", "5"),
    }.items():
        run(monkeypatch, "--out", str(tmp_path / name), *arguments)
        folders[name] = (tmp_path / name / "vocabulary.bpe").read_text()
    assert len(set(folders.values())) == 3
    assert len(json.loads((tmp_path / "small" / "vocabulary.json").read_text())) == 256 + 5 + 1


def test_captions_of_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tmp_path / "data"
    data.mkdir()
    rows = [{"file_name": f"{i}.png", "text": "zebra zebra"} for i in range(2)]
    (data / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    from PIL import Image

    for row in rows:
        Image.new("RGB", (8, 8)).save(data / row["file_name"])
    run(monkeypatch, "--data", str(data), "--out", str(tmp_path / "out"))
    learned = BytePairTokenizer.from_files(*(tmp_path / "out" / name for name in FILES))
    assert len(learned.encode("zebra zebra")) == 2


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--data", "shaeps"], "did you mean 'shapes'"),
        (["--data", "no/folder"], "no such folder"),
        (["--out", "a.file"], "is a file. Give a folder"),
        (["--data", ".", "--n", "5"], "--n works with --data shapes only"),
        (["--data", "empty"], "empty"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str],
    complaint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.file").touch()
    (tmp_path / "empty").mkdir()
    out = [] if "--out" in arguments else ["--out", "new"]
    monkeypatch.setattr("sys.argv", ["evalkit", "vocabulary", *out, *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    said = capsys.readouterr().err.strip()
    assert complaint in said
    assert len(said.splitlines()) == 1
