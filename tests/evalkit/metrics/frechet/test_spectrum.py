"""The sum of roots of a population's spectrum against closed forms, limits and simulation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit.metrics.frechet import spectrum
from evalkit.metrics.frechet.spectrum import sum_of_roots

ROUNDING = 1e-10


def closed_form(eigenvalues: np.ndarray, freedom: int) -> float:
    """For equal degrees of freedom N: 2 N (sum sqrt(l) - sum sqrt(xi)), xi a rank-one change."""
    roots = np.sqrt(eigenvalues)
    changed = np.linalg.eigvalsh(np.diag(eigenvalues) - np.outer(roots, roots) / freedom)
    return float(2 * freedom * (roots.sum() - np.sqrt(np.clip(changed, 0, None)).sum()))


spectra = st.lists(st.floats(-8, 8), min_size=1, max_size=20).map(lambda x: np.exp(np.array(x)))


@given(eigenvalues=spectra, more=st.floats(1.06, 50))
def test_equal_freedom_has_a_closed_form(eigenvalues: np.ndarray, more: float) -> None:
    freedom = int(len(eigenvalues) * more) + 1
    found = sum_of_roots(eigenvalues, freedom_fake=freedom, freedom_real=freedom)
    assert found == pytest.approx(closed_form(eigenvalues, freedom), rel=1e-7)


@given(eigenvalues=spectra, first=st.integers(22, 500), second=st.integers(22, 500))
def test_both_sets_play_the_same_part(eigenvalues: np.ndarray, first: int, second: int) -> None:
    one = sum_of_roots(eigenvalues, freedom_fake=first, freedom_real=second)
    other = sum_of_roots(eigenvalues, freedom_fake=second, freedom_real=first)
    assert one == pytest.approx(other, rel=ROUNDING)


@given(eigenvalues=spectra, factor=st.floats(1e-6, 1e6))
def test_it_scales_as_a_root_does(eigenvalues: np.ndarray, factor: float) -> None:
    for freedom_real in (30, None):
        plain = sum_of_roots(eigenvalues, freedom_fake=25, freedom_real=freedom_real)
        scaled = sum_of_roots(factor * eigenvalues, freedom_fake=25, freedom_real=freedom_real)
        assert scaled == pytest.approx(np.sqrt(factor) * plain, rel=ROUNDING)


@given(eigenvalues=spectra)
def test_infinitely_many_images_leave_nothing_to_correct(eigenvalues: np.ndarray) -> None:
    many = 10**7
    plain = np.sqrt(eigenvalues).sum()
    assert sum_of_roots(eigenvalues, freedom_fake=many, freedom_real=many) == pytest.approx(
        plain, rel=1e-5
    )
    known = sum_of_roots(eigenvalues, freedom_fake=25, freedom_real=None)
    nearly = sum_of_roots(eigenvalues, freedom_fake=25, freedom_real=10**7)
    assert known == pytest.approx(nearly, rel=1e-5)


@pytest.mark.parametrize("freedom_real", [70, 1_000, None])
def test_more_nodes_change_nothing(
    freedom_real: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over 13 decades of eigenvalues, and with hardly more images than dimensions."""
    eigenvalues = np.logspace(-9, 4, 64)
    few = sum_of_roots(eigenvalues, freedom_fake=70, freedom_real=freedom_real)
    monkeypatch.setattr(spectrum, "_NODES", 4_096)
    many = sum_of_roots(eigenvalues, freedom_fake=70, freedom_real=freedom_real)
    assert few == pytest.approx(many, rel=ROUNDING)


@pytest.mark.parametrize(("n", "m"), [(60, 60), (60, 800), (800, 60), (60, None)])
def test_the_mean_over_draws_is_the_population_s(n: int, m: int | None) -> None:
    """Four standard errors of the mean of 200 draws; the plug-in sum is 20 of them away."""
    rng = np.random.default_rng(0)
    d = 40
    first, second = rng.normal(size=(2, d, d)) / np.sqrt(d) + np.eye(d)
    truth = np.sqrt(np.linalg.eigvals(first @ first.T @ second @ second.T).real).sum()
    found, plug_in = [], []
    for _ in range(200):
        fake = np.cov((rng.normal(size=(n, d)) @ first.T).T)
        real = second @ second.T if m is None else np.cov((rng.normal(size=(m, d)) @ second.T).T)
        values = np.linalg.eigvals(fake @ real).real
        found.append(
            sum_of_roots(values, freedom_fake=n - 1, freedom_real=None if m is None else m - 1)
        )
        plug_in.append(np.sqrt(values).sum())
    error = np.std(found) / np.sqrt(len(found))
    assert abs(np.mean(found) - truth) < 4 * error
    assert abs(np.mean(plug_in) - truth) > 20 * error
