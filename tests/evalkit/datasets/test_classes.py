"""Classes as frequent as in the reference, and requests that name nothing of it."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from evalkit.core.errors import ConfigError, DataError
from evalkit.datasets.base import Caption, CaptionedFiles
from evalkit.datasets.classes import (
    class_requests,
    image_labels,
    label_quotas,
    labelled_part,
    plain_requests,
)
from evalkit.datasets.image_folder import load_image_folder


def captioned(*labels: int | None) -> CaptionedFiles:
    """Two captions an image."""
    captions = tuple(
        Caption(f"{image}.{k}", str(image), "text", label)
        for image, label in enumerate(labels)
        for k in range(2)
    )
    return CaptionedFiles(
        "set", Path("/data"), captions, {str(i): f"{i}.png" for i in range(len(labels))}
    )


def test_quotas_by_hand():
    """Shares 3 : 2 : 1 of 10 are 5, 3.33 and 1.67: the last one has the largest remainder."""
    labels = {str(i): label for i, label in enumerate([0, 0, 0, 4, 4, 7])}
    assert label_quotas(labels, 10, seed=0) == {0: 5, 4: 3, 7: 2}


@given(st.lists(st.integers(0, 5), min_size=1, max_size=60), st.integers(1, 500))
def test_quotas_add_up_and_are_within_one_of_the_share(labels, n):
    quotas = label_quotas({str(i): label for i, label in enumerate(labels)}, n, seed=n)
    assert sum(quotas.values()) == n
    for label, count in Counter(labels).items():
        assert abs(quotas[label] - n * count / len(labels)) < 1


def test_requests_have_ids_of_their_own_and_come_in_turns():
    requests = class_requests({"a": 0, "b": 0, "c": 1, "d": 1}, 6, seed=0)
    assert [request.label for request in requests] == [0, 1, 0, 1, 0, 1]
    assert len({request.id for request in requests}) == 6
    assert {request.image_id for request in requests} == {""}
    assert [r.id for r in plain_requests(2)] == ["sample-0", "sample-1"]


def test_the_reference_is_the_part_that_has_a_class():
    dataset = captioned(0, None, 2)
    assert image_labels(dataset) == {"0": 0, "2": 2}
    part, labels = labelled_part(dataset, 3)
    assert part.name == "set"
    assert list(part.image_ids) == ["0", "2"]
    assert part.image_path("2") == Path("/data/2.png")
    assert labels == {"0": 0, "2": 2}


def test_subfolders_are_classes_in_alphabetical_order(tmp_path):
    for name in ("n02/x.png", "n01/y.png", "n01/z.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / name)
    dataset = load_image_folder(tmp_path)
    part, labels = labelled_part(dataset, 2)
    assert labels == {"n01/y.png": 0, "n01/z.png": 0, "n02/x.png": 1}
    assert part.image_path("n02/x.png") == tmp_path / "n02" / "x.png"
    with pytest.raises(ConfigError, match="2 subfolders, but the model has 1000"):
        labelled_part(dataset, 1000)
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "loose.png")
    with pytest.raises(DataError, match="no image has a class"):
        labelled_part(load_image_folder(tmp_path), 2)


def test_classes_that_the_model_does_not_know():
    with pytest.raises(ConfigError, match="has the classes 0 to 9, but the model has 0 to 6"):
        labelled_part(captioned(0, 9), 7)
    with pytest.raises(DataError, match="no image has a class"):
        labelled_part(captioned(None), 7)


def test_ties_are_broken_by_the_seed_and_not_by_the_number_of_a_class():
    """1,000 classes of one image each, n = 500: any 500 of them, another half for another seed."""
    labels = {str(i): i for i in range(1000)}
    chosen = {
        seed: {label for label, quota in label_quotas(labels, 500, seed).items() if quota}
        for seed in range(3)
    }
    for picked in chosen.values():
        assert len(picked) == 500
        assert 200 < sum(label < 500 for label in picked) < 300  # 250 of a fair draw, 4 deviations
    assert chosen[0] != chosen[1] != chosen[2]
    assert label_quotas(labels, 500, 1) == label_quotas(labels, 500, 1)


def folder_of_classes(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).mkdir(parents=True)
        Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(root / name / "0.png")
    return root


def test_labels_say_which_classes_a_folder_with_fewer_subfolders_has(tmp_path: Path):
    dataset = load_image_folder(folder_of_classes(tmp_path, "n01", "n02", "n07"))
    with pytest.raises(ConfigError, match="say with --labels"):
        labelled_part(dataset, 1000)
    _, labels = labelled_part(dataset, 1000, [5, 6, 991])
    assert labels == {"n01/0.png": 5, "n02/0.png": 6, "n07/0.png": 991}
    for wrong, complaint in (
        ([5, 6], "names 2 classes, but .* has 3"),
        ([5, 5, 6], "must differ"),
        ([5, 6, 1000], "the model has 0 to 999"),
    ):
        with pytest.raises(ConfigError, match=complaint):
            labelled_part(dataset, 1000, wrong)


def test_labels_select_the_images_of_a_table():
    part, labels = labelled_part(captioned(0, 3, 3, None, 7), 1000, [3, 7])
    assert labels == {"1": 3, "2": 3, "4": 7}
    assert sorted(part.image_ids) == ["1", "2", "4"]
    with pytest.raises(ConfigError, match="no image of class 5; its classes are 0, 3, 7"):
        labelled_part(captioned(0, 3, 7), 1000, [5])
