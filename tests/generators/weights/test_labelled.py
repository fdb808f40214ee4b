"""A model's training data is known only for the weights that it is known of."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

from evalkit.core.downloads import sha256_of
from evalkit.generation import training_relation
from generators.weights.labelled import known_training_data
from generators.weights.published import RECORDS, weights_folder
from generators.weights.zoo import ZOO
from tests.support.fake_generators import plain_spec

SPEC = replace(plain_spec("glide:tiny"), training_data=("shapes",))


def test_weights_of_ones_own_are_unknown(tmp_path: Path) -> None:
    assert known_training_data(SPEC, {}) == ("shapes",)
    own = tmp_path / "own.safetensors"
    own.write_bytes(b"trained on anything")
    assert known_training_data(SPEC, {"glide-tiny-base": own}) == ()
    assert training_relation((), "coco") == "unknown"


def test_the_very_file_that_ships_is_known(tmp_path: Path) -> None:
    copied = shutil.copy(ZOO / "glide-tiny-base.safetensors", tmp_path / "copied.safetensors")
    given = {"glide-tiny-base": Path(copied)}
    assert known_training_data(SPEC, given) == ("shapes",)
    own = tmp_path / "own.safetensors"
    own.write_bytes(b"trained on anything")
    assert known_training_data(SPEC, {**given, "glide-tiny-upsampler": own}) == ()


def test_published_weights_are_known_by_their_recorded_hash(tmp_path: Path) -> None:
    file = tmp_path / "base.pt"
    file.write_bytes(b"the published file")
    given = {"glide-base": file}
    assert known_training_data(SPEC, given) == ()
    weights_folder().mkdir(parents=True, exist_ok=True)
    (weights_folder() / RECORDS).write_text(json.dumps({"glide-base.pt": sha256_of(file)}))
    assert known_training_data(SPEC, given) == ("shapes",)
