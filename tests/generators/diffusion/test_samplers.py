"""Samplers on data of which the best denoiser is known, and what each option changes."""

import math
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from packages import install_package

from evalkit.core.errors import ConfigError, UnknownNameError
from generators.diffusion.guidance import classifier_free, classifier_gradient, clip_gradient
from generators.diffusion.noise import draw_noise, image_rngs
from generators.diffusion.process import DiffusionProcess
from generators.diffusion.samplers import (
    CATALOG,
    SAMPLER_NAMES,
    SAMPLERS,
    UNBOUNDED,
    SamplerOptions,
    invert_ddim,
    process_for,
    sample,
    sample_ancestral,
    sample_ddim,
    sample_dpm_solver_pp_2m,
    sample_heun,
)
from tests.reference.plain_diffusion import ancestral_moments, gaussian_eps

MEAN, SIGMA = 0.2, 0.4
COSINE = DiffusionProcess.from_schedule("cosine", variance="fixed_small")


def gaussian_model(process=COSINE, mean=MEAN, sigma=SIGMA):
    """The exact denoiser of data N(mean, sigma^2), called with the original timesteps."""
    return lambda x, t: gaussian_eps(process.alpha_bar[int(t[0])], mean, sigma**2)(x)


def exact_flow(x_T, process):
    """Where the probability-flow equation takes x_T: (x - mean) / deviation stays."""
    last = process.alpha_bar[-1]
    deviation = math.sqrt(last * SIGMA**2 + 1 - last)
    return MEAN + SIGMA * (x_T - math.sqrt(last) * MEAN) / deviation


def noise(n, seed=0):
    return torch.randn(n, 1, 1, 1, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("sampler", ["ddim", "dpm++2m", "heun"])
def test_deterministic_samples_have_the_moments_of_the_data(sampler):
    n = 1000
    process = process_for(COSINE, sampler, 100)
    x = sample(sampler, gaussian_model(), noise(n), process, (), UNBOUNDED)
    # 4 standard errors, and 3 % for the steps that are missing
    assert x.mean().item() == pytest.approx(MEAN, abs=4 * SIGMA / math.sqrt(n))
    assert x.std().item() == pytest.approx(SIGMA, rel=4 / math.sqrt(2 * n) + 0.03)


def test_ancestral_samples_have_the_moments_that_follow_from_the_steps():
    """With 20 steps the deviation falls short of the data's by an eighth, as the recursion says."""
    n = 2000
    process = COSINE.respaced("20")
    mean, variance = ancestral_moments(list(process.betas), MEAN, SIGMA**2)
    assert 0.8 < math.sqrt(variance) / SIGMA < 0.95
    generators = image_rngs(range(n))
    x = sample_ancestral(gaussian_model(), noise(n), process, generators, UNBOUNDED)
    assert x.mean().item() == pytest.approx(mean, abs=4 * SIGMA / math.sqrt(n))
    assert x.var().item() == pytest.approx(variance, rel=4 * math.sqrt(2 / n))


@pytest.mark.parametrize(
    ("sampler", "order"),
    [(sample_ddim, 1), (sample_dpm_solver_pp_2m, 2), (sample_heun, 2)],
)
def test_deterministic_samplers_converge_at_their_order(sampler, order):
    """Twice the steps, half (first order) or a quarter (second order) of the error.

    On a process from alpha_bar 0.001 to 0.9999, evenly in lambda, so that the steps are alike.
    """

    def error(steps):
        lambdas = np.linspace(math.log(100), math.log(0.0316), steps)
        alpha_bar = 1 / (1 + np.exp(-2 * lambdas))
        betas = 1 - alpha_bar / np.append(1.0, alpha_bar[:-1])
        process = DiffusionProcess(betas=betas, variance="fixed_small")
        x_T = torch.tensor([-2.0, 0.5, 1.5]).reshape(3, 1, 1, 1)
        x_0 = sampler(gaussian_model(process), x_T, process, (), UNBOUNDED)
        return (x_0 - exact_flow(x_T, process)).abs().max().item()

    assert error(64) < 0.03
    assert math.log2(error(32) / error(64)) == pytest.approx(order, abs=0.5)


def test_one_ddim_step_by_hand():
    """betas 0.19, 0.36 at index 1; eps = 0.5: x_0 = (1 - sqrt(0.4816) 0.5) / 0.72.

    x_1 = 0.9 x_0 + sqrt(0.19) 0.5; then at index 0 the model's eps 0.5 again gives x_0 back.
    """
    process = DiffusionProcess(betas=np.array([0.19, 0.36]), variance="fixed_small")
    out = sample_ddim(lambda x, t: torch.full_like(x, 0.5), torch.ones(1, 1, 1, 1), process)
    x_0 = min((1 - math.sqrt(0.4816) * 0.5) / 0.72, 1.0)
    eps = (1 / 0.72 - x_0) / math.sqrt(1 / 0.5184 - 1)
    x_1 = 0.9 * x_0 + math.sqrt(0.19) * eps
    assert out.item() == pytest.approx((x_1 - math.sqrt(0.19) * 0.5) / 0.9, abs=1e-6)


def test_ddim_with_eta_1_is_ancestral_sampling():
    """DDIM's variance at eta 1 is the small fixed one, so that the same noise gives the same."""
    n = 500
    process = COSINE.respaced("20")
    model, x_T = gaussian_model(), noise(n)
    ancestral = sample_ancestral(model, x_T, process, image_rngs(range(n)), UNBOUNDED)
    fresh = SamplerOptions(eta=1.0, threshold=None)
    ddim = sample_ddim(model, x_T, process, image_rngs(range(n)), fresh)
    torch.testing.assert_close(ddim, ancestral, rtol=0, atol=1e-3)


def test_noise_is_the_images_own():
    """Alone, in a batch, in another order: the same image gets the same noise."""
    process, model = COSINE.respaced("5"), gaussian_model()

    def images(seeds):
        generators = image_rngs(seeds, "base")
        return sample_ancestral(model, draw_noise(generators, (3, 4, 4)), process, generators)

    together = images([1, 2, 3])
    torch.testing.assert_close(images([2])[0], together[1], rtol=0, atol=1e-6)
    torch.testing.assert_close(images([3, 1])[0], together[2], rtol=0, atol=1e-6)
    assert not torch.allclose(together[0], together[1])


def test_stages_and_seeds_draw_their_own_noise():
    def first(seed, stage):
        return draw_noise(image_rngs([seed], stage), (4,)).flatten().tolist()

    draws = [first(5, "base"), first(5, "upsampler"), first(5 + 2**32, "base"), first(6, "base")]
    assert len({tuple(draw) for draw in draws}) == 4


def test_options_matter():
    process, x_T = COSINE.respaced("6"), noise(8) * torch.ones(1, 3, 1, 1)
    model = gaussian_model(mean=2.0)
    results = {
        "ddim": sample("ddim", model, x_T, process, ()),
        "unclipped": sample("ddim", model, x_T, process, (), UNBOUNDED),
        "eta": sample("ddim", model, x_T, process, image_rngs(range(8)), SamplerOptions(eta=0.7)),
        "guided": sample("ddim", model, x_T, process, (), SamplerOptions(gradient=lambda x, t: -x)),
        "dpm": sample("dpm++2m", gaussian_model(), x_T, process, ()),
        "heun": sample("heun", gaussian_model(), x_T, process, ()),
        "fewer": sample("ddim", model, x_T, COSINE.respaced("3"), (), UNBOUNDED),
    }
    flat = [tuple(image.flatten().tolist()) for image in results.values()]
    assert len(set(flat)) == len(flat)


def test_steps_count_evaluations_of_the_network():
    for sampler in SAMPLER_NAMES:
        calls = []

        def model(x, t, calls=calls):
            calls.append(int(t[0]))
            return torch.zeros_like(x)

        process = process_for(COSINE, sampler, 7)
        sample(sampler, model, noise(1), process, image_rngs([0]))
        assert len(calls) == 7, sampler
        assert calls[0] == (999 if sampler != "heun" else 991), sampler
        assert calls[-1] == 0


def test_heun_with_few_steps_needs_timesteps_spaced_by_noise():
    """21 evaluations: evenly spaced, the correction of the first step throws samples far off."""
    x_T = noise(50)

    def error(process):
        x_0 = sample_heun(gaussian_model(), x_T, process, (), UNBOUNDED)
        return (x_0 - exact_flow(x_T, COSINE)).abs().mean().item()

    assert error(process_for(COSINE, "heun", 21)) < 0.1
    assert error(COSINE.respaced("11")) > 1


def test_progress_counts_to_the_end():
    seen = []
    process = COSINE.respaced("4")
    options = SamplerOptions(progress=lambda done, total: seen.append((done, total)))
    sample_ddim(gaussian_model(), noise(1), process, (), options)
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_samplers_that_cannot_be():
    with pytest.raises(UnknownNameError, match="Known: ancestral, ddim"):
        sample("euler", gaussian_model(), noise(1), COSINE.respaced("2"), ())
    with pytest.raises(ConfigError, match=r"has no eta, got 0\.5; samplers with eta: ddim"):
        sample(
            "heun", gaussian_model(), noise(1), COSINE.respaced("2"), (), SamplerOptions(eta=0.5)
        )


def test_what_a_row_says_of_its_sampler_is_so():
    """Only a stochastic one depends on the generators; each takes its least steps and no fewer."""
    for name, row in SAMPLERS.items():
        x = [
            sample(name, gaussian_model(), noise(1), COSINE.respaced("5"), image_rngs([seed]))
            for seed in (1, 2)
        ]
        assert torch.equal(*x) != row.stochastic, name
        fewest = process_for(COSINE, name, row.least_steps)
        assert sample(name, gaussian_model(), noise(1), fewest, image_rngs([0])).isfinite()
        with pytest.raises(ConfigError, match=f"{re.escape(name)} needs at least 1 steps, got 0"):
            process_for(COSINE, name, 0)


THEIRS = """
import torch
from generators.diffusion.samplers import SamplerRow

def still(model, x_T, process, generators, options):
    model(x_T, process.network_timesteps(torch.zeros(len(x_T), dtype=torch.long)))
    return torch.zeros_like(x_T)

ROW = SamplerRow(function=still, stochastic=False, paper="none", least_steps=2, most_steps=4)
"""
USE = """
from evalkit.core.errors import ConfigError
from generators.base import Request, resolve_settings
from generators.catalog import load_generator

model = load_generator("ddpm:tiny")
settings = resolve_settings(model.spec, sampler="their/still", steps="3")
made = model.generate([Request(seed=1)], settings)
assert set(made[0].image.flatten().tolist()) == {128}
for steps in ("1", "5"):
    try:
        settings = resolve_settings(model.spec, sampler="their/still", steps=steps)
        model.generate([Request(seed=1)], settings)
    except ConfigError as error:
        print(error)
"""


def test_a_sampler_of_another_package_serves_our_models(tmp_path, monkeypatch, root):
    """In a process of its own: names are read when the samplers are first imported."""
    install_package(
        tmp_path,
        monkeypatch,
        modules={"their_samplers": THEIRS},
        entry_points={"evalkit.samplers": {"their/still": "their_samplers:ROW"}},
    )
    assert CATALOG["their/still"].most_steps == 4
    paths = os.pathsep.join([str(tmp_path), str(root)])
    done = subprocess.run(
        [sys.executable, "-c", USE], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": paths},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"The sampler their/still needs at least 2 steps, at most 4, got {steps}."
        for steps in (1, 5)
    ]


def test_classifier_free_guidance_by_hand():
    """eps_c 1, eps_u 0.25, s 3: 0.25 + 3 * 0.75 = 2.5; variance channels stay conditional."""

    def network(x, t):
        assert len(x) == len(t) == 4
        conditional = torch.arange(4) < 2
        value = torch.where(conditional, 1.0, 0.25).reshape(4, 1, 1, 1)
        return value.expand(4, 6, 2, 2)

    out = classifier_free(network, 3.0)(torch.zeros(2, 3, 2, 2), torch.zeros(2))
    assert out.shape == (2, 6, 2, 2)
    assert set(out[:, :3].unique().tolist()) == {2.5}
    assert set(out[:, 3:].unique().tolist()) == {1.0}


def test_guidance_gradients_by_hand():
    """Logits (x, -x): d log p(0) / dx = 1 - tanh-like term = 2 (1 - sigmoid(2x)); at x = 0: 1."""

    def classifier(x, t):
        value = x.flatten(1).sum(dim=1)
        return torch.stack([value, -value], dim=1)

    gradient = classifier_gradient(classifier, torch.tensor([0, 1]), 2.5)
    x = torch.zeros(2, 1, 1, 1)
    assert gradient(x, torch.zeros(2)).flatten().tolist() == [2.5, -2.5]
    similar = clip_gradient(
        lambda x, t: x.flatten(1),
        torch.tensor([[0.5], [-1.0]]),
        logit_scale=100.0,
        guidance_scale=2,
    )
    assert similar(x, torch.zeros(2)).flatten().tolist() == [100.0, -200.0]


@pytest.mark.parametrize("sampler", ["ddim", "dpm++2m", "heun"])
def test_a_gradient_gives_the_posterior_of_bayes_rule(sampler):
    """Prior N(m, V), and y = 1 seen through noise of variance S: both gradients are exact.

    p(y | x_t) = N(E[x_0 | x_t], V (1 - a) / total + S), with E linear in x_t. Samples then are
    N((m S + y V) / (V + S), V S / (V + S)).
    """
    y, variance, seen = 1.0, SIGMA**2, 0.09

    def gradient(x, t):
        a = COSINE.alpha_bar[int(t[0])]
        total = a * variance + 1 - a
        gain = math.sqrt(a) * variance / total
        expected = MEAN + gain * (x - math.sqrt(a) * MEAN)
        return gain * (y - expected) / (variance * (1 - a) / total + seen)

    n = 1000
    process = process_for(COSINE, sampler, 100)
    options = SamplerOptions(threshold=None, gradient=gradient)
    x = sample(sampler, gaussian_model(), noise(n), process, (), options)
    deviation = math.sqrt(variance * seen / (variance + seen))
    expected = (MEAN * seen + y * variance) / (variance + seen)
    # 4 standard errors, and 3 % for the steps that are missing
    assert x.mean().item() == pytest.approx(expected, abs=4 * deviation / math.sqrt(n) + 0.02)
    assert x.std().item() == pytest.approx(deviation, rel=4 / math.sqrt(2 * n) + 0.03)


def test_a_gradient_shifts_the_mean_of_ancestral_steps_by_the_variance():
    """One step at index 1 with log variance ln v: the mean moves by v g, here 0.142027 * 2."""
    process = DiffusionProcess(betas=np.array([0.19, 0.36]), variance="fixed_small")
    seen = []

    def model(x, t):
        seen.append(x.item())
        return torch.zeros_like(x)

    for scale in (0.0, 2.0):
        sample_ancestral(
            model,
            torch.ones(1, 1, 1, 1),
            process,
            image_rngs([0]),
            SamplerOptions(gradient=lambda x, t, scale=scale: torch.full_like(x, scale)),
        )
    assert seen[3] - seen[1] == pytest.approx(0.142027 * 2, abs=1e-5)


@pytest.mark.parametrize("sampler", ["dpm++2m", "heun"])
def test_strong_gradients_stay_in_range(sampler):
    """At t = 999 of the cosine schedule x_0 would move by 20,000 times the gradient."""
    x = sample(
        sampler,
        gaussian_model(),
        noise(8),
        process_for(COSINE, sampler, 10),
        (),
        SamplerOptions(gradient=lambda x, t: torch.full_like(x, 3.0)),
    )
    assert x.abs().max() <= 1.0001


def test_inverted_ddim_finds_the_noise_of_an_image():
    """For data N(mean, sigma^2) the flow is known: it takes the noise found back to the image."""
    x_0 = torch.tensor([[0.5], [-0.3]])
    x_T = invert_ddim(gaussian_model(), x_0, COSINE)
    torch.testing.assert_close(exact_flow(x_T, COSINE), x_0, rtol=0.02, atol=0.005)
    back = sample_ddim(gaussian_model(), x_T, COSINE, (), UNBOUNDED)
    torch.testing.assert_close(back, x_0, rtol=0.02, atol=0.005)


def zero_terminal(prediction, num_steps=200, schedule="linear"):
    """A schedule rescaled to end in pure noise (Lin et al. 2023, algorithm 1)."""
    signal = np.sqrt(DiffusionProcess.from_schedule(schedule, num_steps).alpha_bar)
    signal = (signal - signal[-1]) * signal[0] / (signal[0] - signal[-1])
    ratios = signal**2 / np.append(1.0, signal[:-1] ** 2)
    return DiffusionProcess(betas=1 - ratios, prediction=prediction, variance="fixed_small")


def exact_v(process):
    """The exact v of data N(MEAN, SIGMA^2), finite at alpha_bar 0 too."""

    def model(x, t):
        alpha_bar = float(process.alpha_bar[int(t[0])])
        signal, sigma = math.sqrt(alpha_bar), math.sqrt(1 - alpha_bar)
        variance = alpha_bar * SIGMA**2 + 1 - alpha_bar
        x_0 = MEAN + signal * SIGMA**2 * (x - signal * MEAN) / variance
        eps = (x - signal * x_0) / sigma
        return signal * eps - sigma * x_0

    return model


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
@pytest.mark.parametrize("sampler", sorted(SAMPLERS))
def test_from_pure_noise_every_sampler_reaches_the_data(sampler, schedule):
    """alpha_bar 0 at the end: x_T tells nothing of the image, and the flow ends at its quantile."""
    n, process = 1000, zero_terminal("v", schedule=schedule)
    for respaced in (process.respaced("100"), process_for(process, sampler, 100)):
        made = sample(
            sampler, exact_v(process), noise(n), respaced, image_rngs(range(n)), UNBOUNDED
        )
        assert torch.isfinite(made).all()
        assert made.mean().item() == pytest.approx(MEAN, abs=4 * SIGMA / math.sqrt(n))
        assert made.std().item() == pytest.approx(SIGMA, rel=0.15)


@pytest.mark.parametrize("prediction", ["v", "x_0"])
@pytest.mark.parametrize("sampler", sorted(SAMPLERS))
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_pure_noise_is_finite_with_guidance_by_a_gradient(sampler, prediction, steps):
    process = zero_terminal(prediction).respaced(str(steps))
    options = SamplerOptions(gradient=lambda x, t: torch.ones_like(x))
    made = sample(sampler, lambda x, t: 0.3 * x, noise(4), process, image_rngs(range(4)), options)
    assert torch.isfinite(made).all()


def test_pure_noise_can_be_inverted_to():
    process = zero_terminal("v").respaced("50")
    found = invert_ddim(exact_v(zero_terminal("v")), torch.full((2, 1, 1, 1), 0.3), process)
    assert torch.isfinite(found).all()


def test_a_network_that_predicts_noise_needs_a_signal():
    with pytest.raises(ConfigError, match=r"alpha_bar is 0 .* Predict v or x_0"):
        zero_terminal("eps")
    with pytest.raises(ConfigError, match="index 1 of 3"):
        DiffusionProcess(betas=np.array([0.1, 1.0, 0.5]), prediction="v")
    with pytest.raises(ConfigError, match="betas must be"):
        DiffusionProcess(betas=np.array([0.1, np.nan]), prediction="v")
