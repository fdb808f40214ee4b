"""Small valid files of every kind that the project reads."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image

VOTES = (
    "rater_id,prompt_id,category,model_a,model_b,question,answer,left_model,response_s,answered_at\n"
    "r1,p1,Colors,x,y,quality,a,x,3.5,2024-01-02T03:04:05+00:00\n"
    "r2,p1,Colors,x,y,quality,tie,y,,\n"
    "r1,p2,Text,y,x,quality,b,y,1,\n"
)
SCORES = "prompt_id,model,score\np1,x,0.5\np1,y,0.25\n"
SUBMISSIONS = "Participant id,Status\nP1,APPROVED\nP2,RETURNED\n"
PROLIFIC = (
    "PROLIFIC_PID,prompt_id,category,model_a,model_b,question,answer\nP1,p1,Text,x,y,q,set a\n"
)
MTURK = (
    "WorkerId,AssignmentStatus,WorkTimeInSeconds,Input.prompt_id,Input.category,Input.model_a,"
    "Input.model_b,Input.left_model,Answer.q,Answer.r.left,Answer.r.right\n"
    "W1,Approved,33,p1,Text,x,y,x,A,true,false\n"
)
ARENA = [{"question_id": "q1", "model_a": "x", "model_b": "y", "winner": "tie", "judge": "j1"}]
PICKS = [
    {
        "caption": "a cat",
        "model_0": "x",
        "model_1": "y",
        "label_0": 1,
        "user_id": 5,
        "ranking_id": 3,
        "created_at": "2024-01-01",
    }
]
LABEL_STUDIO = [
    {
        "id": 7,
        "data": {
            "prompt_id": "p1",
            "category": "c",
            "model_a": "A",
            "model_b": "B",
            "left_model": "A",
        },
        "annotations": [
            {
                "completed_by": {"id": 3},
                "lead_time": 1.5,
                "created_at": "2024-05-01T10:00:00Z",
                "was_cancelled": False,
                "result": [
                    {"from_name": "q", "type": "choices", "value": {"choices": ["left"]}},
                    {"from_name": "r", "type": "pairwise", "value": {"selected": "right"}},
                ],
            }
        ],
    }
]
PROMPTS_CSV = "id,prompt,category\n1,a red car,Colors\n2,two cats,Counting\n"
PROMPTS_TSV = "Prompt\tCategory\na red car\tColors\ntwo cats\tCounting\n"
PROMPTS_TXT = "a red car\ntwo cats\n"
PROMPTS_JSONL = [{"prompt": "a red car", "id": 1, "category": "Colors"}, "two cats"]
CAPTIONS = [
    {"file_name": "a.png", "text": "a scene", "id": "one", "category": "c"},
    {"file_name": "b/c.png", "text": "another"},
    {"file_name": "a.png", "text": "the same scene"},
]
CAPTIONS_CSV = "file_name,text,id,category\na.png,a scene,1,c\nb/c.png,another,2,\n"
COCO = {
    "images": [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "b.png", "label": 3}],
    "annotations": [
        {"id": 10, "image_id": 1, "caption": "a scene"},
        {"id": 11, "image_id": 2, "caption": "another"},
    ],
}
RECORDS = {
    "schema_version": 1,
    "records": [
        {
            "metric": "fid",
            "value": 3.5,
            "n": 10,
            "direction": "lower",
            "interval": {"low": 3.0, "high": 4.0, "level": 0.95, "method": "m"},
            "fingerprint": {"a": 1},
            "details": {"p_value": 0.1},
        }
    ],
}


MANIFEST = [
    {
        "index": index,
        "caption_id": "a",
        "sample_index": 0,
        "seed": 1,
        "prompt": "a scene",
        "label": None,
        "image_id": None,
        "file": f"images/000/{index:06d}.png",
        "sha256": "0" * 64,
        "status": "ok",
        "reason": "",
        "notes": [],
    }
    for index in range(2)
]
TIMINGS = [{"first_index": 0, "num_images": 2, "elapsed_s": 1.5}]


def run_document() -> dict[str, Any]:
    """The configuration of a run."""
    from evalkit.core.run import config_hash

    config = {"seed": 0, "dataset": {"name": "shapes"}}
    return {
        "schema_version": 1,
        "hash": config_hash(config),
        "config": config,
        "made_with": {"evalkit": "0"},
    }


def write_study(folder: Path) -> Path:
    """Make a small study in `folder/study`, unless there is one."""
    from drawbench.study.design import load_preset, make_config
    from drawbench.study.making import make_study
    from drawbench.study.sources import open_source
    from drawbench.suites import make_suite

    if (folder / "study/study.json").is_file():
        return folder / "study"
    suite = make_suite("tiny", [("a red car", "Colors"), ("two cats", "Counting")], source="test")
    settings = {
        **load_preset("imagen-drawbench"),
        "models": ["north", "south"],
        "images_per_side": 1,
        "raters_per_item": 2,
        "num_practice": 0,
    }
    sources = []
    for seed, name in enumerate(("north", "south")):
        for place, prompt in enumerate(suite.prompts):
            path = folder / name / prompt.id / "0.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(picture(seed=2 * seed + place))
        sources.append(open_source(name, folder / name, suite.prompts, per_prompt=1))
    make_study(folder / "study", make_config(settings), suite, sources)
    return folder / "study"


def study_file(name: str) -> str:
    """A file of a small study."""
    with TemporaryDirectory(prefix="evalkit-fuzz-") as folder:
        return (write_study(Path(folder)) / name).read_text("utf-8")


def backups() -> list[bytes]:
    """The backup of a small study."""
    from drawbench.store import open_store
    from drawbench.store.backup import back_up
    from drawbench.study import load_study

    with TemporaryDirectory(prefix="evalkit-fuzz-") as name:
        folder = Path(name)
        store = open_store(load_study(write_study(folder)), create=True)
        try:
            rater = store.join().rater.id
            for place in store.hand(rater):
                for question in store.study.questions(place.item):
                    store.submit(rater, place.cell_id, question.id, "first", response_s=2.0)
            back_up(store, folder / "backup.zip")
        finally:
            store.database.close()
        return [(folder / "backup.zip").read_bytes()]


def picture(form: str = "PNG", seed: int = 0, **more: Any) -> bytes:
    """A small picture in one of Pillow's formats."""
    pixels = np.random.default_rng(seed).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, form, **more)
    return buffer.getvalue()


def pictures() -> list[bytes]:
    """Pictures in the formats that people use, and in some that they don't."""
    forms = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "TGA", "ICO", "QOI", "PCX", "SGI")
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = [picture(form, exif=exif) for form in ("JPEG", "PNG")]
    return [*(picture(form) for form in forms), *turned]


def members(kind: str = "set") -> dict[str, bytes]:
    """The files of a set of images with a table of captions."""
    table = "".join(json.dumps(row) + "\n" for row in CAPTIONS).encode()
    return {"a.png": picture(), "b/c.png": picture(seed=1), "metadata.jsonl": table}


def zipped(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip of files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def members_of(archive: bytes) -> dict[str, bytes]:
    """The files of a zip."""
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


def tarred(files: dict[str, bytes], mode: str = "w") -> bytes:
    """A tar of files, with a link to the first."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = tarfile.SYMTYPE, next(iter(files))
        archive.addfile(link)
    return buffer.getvalue()


def archives() -> list[bytes]:
    """A set of images in each kind of archive."""
    files = members()
    kinds = [tarred(files, mode) for mode in ("w", "w:gz", "w:bz2", "w:xz")]
    return [zipped(files), zipped(files, zipfile.ZIP_STORED), *kinds]


def npz(**arrays: np.ndarray) -> bytes:
    """A numpy archive."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def statistics() -> list[bytes]:
    """Statistics files of evalkit, pytorch-fid, ADM and clean-fid."""
    mean, covariance = np.zeros(4), np.eye(4)
    identity = np.array(json.dumps({"extractor": "e", "layer": "main", "preparation": {}}))
    rows = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    return [
        npz(mu=mean, sigma=covariance, n=np.array(9), identity=identity),
        npz(mu=mean, sigma=covariance, mu_s=mean, sigma_s=covariance),
        npz(feats=rows),
    ]


def sample_batches() -> list[bytes]:
    """A batch of samples as ADM writes it."""
    return [npz(arr_0=np.zeros((3, 8, 8, 3), np.uint8))]


def write_folder(folder: Path) -> Path:
    """Write the images of `members`, without their table."""
    for name, content in members().items():
        if name.endswith(".png"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
    return folder
