"""Strategies for bad files: valid ones with damage, the wrong content, the right form with junk."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

ODD_TEXTS = (
    "",
    " ",
    "\ufeff",
    "a\u2028b\x0cc",
    "e\u0301",
    '"',
    '"open',
    "a,b\tc;d",
    "../../x",
    "/etc/passwd",
    "C:\\x",
    "=1+1",
    "\x00",
    "nan",
    "-1",
    "1e999",
    "x" * 300,
    "{}",
    "null",
)
ODD_VALUES: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    2**70,
    1e308,
    float("nan"),
    float("inf"),
    [],
    {},
    [[]],
    {"a": None},
    "\ud800",
    *ODD_TEXTS,
)
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 99\n"
PAGE = b"<!DOCTYPE html><html><head><title>Sign in</title></head><body></body></html>"

texts = st.one_of(st.sampled_from(ODD_TEXTS), st.text(max_size=30))
values = st.recursive(
    st.one_of(
        st.sampled_from(ODD_VALUES), st.text(max_size=10), st.integers(), st.floats(), st.none()
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=6,
)
junk = st.one_of(
    st.just(b""),
    st.just(POINTER),
    st.just(PAGE),
    st.binary(max_size=300),
    st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.text(max_size=50).map(lambda text: text.encode("utf-16")),
)


@st.composite
def mutated(draw: st.DrawFn, valid: Sequence[bytes]) -> bytes:
    """A valid file with up to four cuts, flips, insertions or repetitions."""
    content = bytearray(draw(st.sampled_from(list(valid))))
    for _ in range(draw(st.integers(0, 4))):
        if not content:
            break
        at = draw(st.integers(0, len(content) - 1))
        size = draw(st.integers(1, 16))
        match draw(st.sampled_from(["flip", "cut", "insert", "repeat", "end", "zero"])):
            case "flip":
                content[at] ^= draw(st.integers(1, 255))
            case "cut":
                del content[at : at + size]
            case "insert":
                content[at:at] = draw(st.binary(min_size=1, max_size=8))
            case "repeat":
                content[at:at] = content[at : at + size]
            case "end":
                del content[at:]
            case "zero":
                content[at : at + size] = bytes(len(content[at : at + size]))
    return bytes(content)


def damaged(valid: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """A damaged file, or another file in its place."""
    return st.one_of(mutated(valid), mutated(valid), junk)


@st.composite
def changed_json(draw: st.DrawFn, valid: Any) -> bytes:
    """A JSON document in which up to three parts have another value, or are missing."""
    document = json.loads(json.dumps(valid))
    for _ in range(draw(st.integers(1, 3))):
        document = _changed(draw, document)
    return json.dumps(document, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")


def _changed(draw: st.DrawFn, document: Any) -> Any:
    if not isinstance(document, dict | list) or not document or draw(st.integers(0, 5)) == 0:
        return draw(values)
    keys = list(document) if isinstance(document, dict) else list(range(len(document)))
    key = draw(st.sampled_from(keys))
    if draw(st.integers(0, 5)) == 0:
        del document[key]
    else:
        document[key] = _changed(draw, document[key])
    return document


@st.composite
def changed_lines(draw: st.DrawFn, valid: Sequence[Any]) -> bytes:
    """JSON Lines of which some are changed, repeated, blank or no JSON."""
    lines = []
    for row in valid:
        match draw(st.sampled_from(["same", "same", "changed", "twice", "blank", "text"])):
            case "same":
                lines.append(json.dumps(row).encode())
            case "changed":
                lines.append(draw(changed_json(row)))
            case "twice":
                lines += [json.dumps(row).encode()] * 2
            case "blank":
                lines.append(b"")
            case "text":
                lines.append(draw(texts).encode("utf-8", "surrogatepass"))
    return draw(st.sampled_from([b"\n", b"\r\n", b"\r"])).join(lines)


@st.composite
def changed_table(draw: st.DrawFn, text: str, *, tabs: bool = False) -> bytes:
    """A table in which up to three cells are odd, or rows are longer, shorter or repeated."""
    separator = "\t" if tabs else ","
    rows = list(csv.reader(io.StringIO(text), delimiter=separator))
    for _ in range(draw(st.integers(1, 3))):
        row = rows[draw(st.integers(0, len(rows) - 1))]
        match draw(st.sampled_from(["cell", "cell", "cell", "more", "fewer", "again"])):
            case "cell" if row:
                row[draw(st.integers(0, len(row) - 1))] = draw(texts)
            case "more":
                row.append(draw(texts))
            case "fewer" if row:
                row.pop()
            case "again":
                rows.append(list(row))
    quote = draw(st.booleans())
    if quote and not tabs:
        buffer = io.StringIO()
        csv.writer(buffer, lineterminator="\n").writerows(rows)
        written = buffer.getvalue()
    else:
        written = "".join(separator.join(row) + "\n" for row in rows)
    return written.encode("utf-8", "surrogatepass")


@st.composite
def changed_toml(draw: st.DrawFn, text: str) -> bytes:
    """A TOML file in which up to three values are odd, or keys are misspelt or missing."""
    odd = (
        "-1",
        "0",
        "inf",
        "nan",
        "1e400",
        "99999999999999999999",
        "true",
        '""',
        '"x"',
        '"\\u0000"',
        "[]",
        "[1, 'a']",
        "{}",
        "{a = 1}",
        "2024-01-01",
        "'open",
    )
    lines = text.splitlines()
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(lines) - 1))
        key, equals, _ = lines[at].partition("=")
        match draw(st.sampled_from(["value", "value", "value", "key", "drop", "again", "table"])):
            case "value" if equals:
                lines[at] = f"{key}= {draw(st.sampled_from(odd))}"
            case "key" if equals:
                lines[at] = f"{key.strip()}x = 1"
            case "drop":
                lines[at] = ""
            case "again":
                lines.append(lines[at])
            case "table":
                lines.insert(at, draw(st.sampled_from(["[a]", "[[b]]", "[", "x"])))
    return "\n".join(lines).encode()
