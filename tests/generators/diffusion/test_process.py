"""The process: worked examples, Bayes' rule by hand, and what must hold for any schedule."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from evalkit.core.errors import ConfigError
from generators.diffusion.process import DiffusionProcess
from generators.diffusion.respacing import karras_timesteps, spaced_timesteps
from generators.diffusion.schedules import betas_for, cosine_betas, linear_betas
from generators.diffusion.thresholding import dynamic_threshold, static_threshold
from tests.reference.plain_diffusion import alpha_bar, posterior

FLOAT32 = 2e-6  # a few roundings of numbers around 1
SCHEDULES = ("linear", "cosine")

# Its first call imports for a third of a second, which hypothesis would take for a slow example.
torch.testing.assert_close(torch.zeros(1), torch.zeros(1))

betas_lists = arrays(np.float64, st.integers(2, 30), elements=st.floats(1e-4, 0.6))


def numbers(*values):
    return torch.tensor(values).reshape(-1, 1, 1, 1)


def test_two_steps_by_hand():
    """betas 0.19 and 0.36: alphas 0.81 and 0.64, alpha_bar 0.81 and 0.5184.

    x_1 = sqrt(0.81) 0.5 + sqrt(0.19) 1 = 0.45 + 0.435890.
    Posterior at index 1: variance 0.36 * 0.19 / 0.4816 = 0.142027;
    mean 0.36 * 0.9 / 0.4816 x_0 + 0.19 * 0.8 / 0.4816 x_t = 0.672757 x_0 + 0.315615 x_t.
    """
    process = DiffusionProcess(betas=np.array([0.19, 0.36]))
    np.testing.assert_allclose(process.alpha_bar, [0.81, 0.5184])
    x_t = process.q_sample(numbers(0.5), torch.tensor([0]), numbers(1.0))
    assert x_t.item() == pytest.approx(0.885890, abs=1e-6)
    mean, log_variance = process.q_posterior(numbers(0.5), numbers(-1.0), torch.tensor([1]))
    assert mean.item() == pytest.approx(0.672757 * 0.5 - 0.315615, abs=1e-6)
    assert math.exp(log_variance.item()) == pytest.approx(0.142027, abs=1e-6)


@given(betas_lists, st.floats(-1, 1), st.floats(-3, 3), st.data())
def test_posterior_agrees_with_bayes_rule(betas, x_0, x_t, data):
    t = data.draw(st.integers(1, len(betas) - 1))
    expected_mean, expected_variance = posterior(list(betas), t, x_0, x_t)
    process = DiffusionProcess(betas=betas)
    mean, log_variance = process.q_posterior(numbers(x_0), numbers(x_t), torch.tensor([t]))
    assert mean.item() == pytest.approx(expected_mean, rel=1e-4, abs=1e-5)
    assert math.exp(log_variance.item()) == pytest.approx(expected_variance, rel=1e-4)


@given(betas_lists, st.data())
def test_respacing_keeps_alpha_bar_and_says_the_original_timesteps(betas, data):
    process = DiffusionProcess(betas=betas)
    indices = st.lists(st.integers(0, len(betas) - 1), min_size=1, unique=True)
    kept = sorted(data.draw(indices))
    respaced = process.respaced(kept)
    np.testing.assert_allclose(respaced.alpha_bar, process.alpha_bar[kept], rtol=1e-9)
    t = torch.arange(len(kept))
    assert respaced.network_timesteps(t).tolist() == kept
    expected = [alpha_bar(list(betas), i) for i in kept]
    np.testing.assert_allclose(respaced.alpha_bar, expected, rtol=1e-9)


@given(st.sampled_from(SCHEDULES), st.integers(0, 99), st.floats(-1, 1), st.integers(0, 2**31))
def test_q_sample_has_the_moments_of_the_closed_form(schedule, t, x_0, seed):
    """Noise of mean 0 and variance 1, made so exactly, gives exactly the mean and the variance."""
    process = DiffusionProcess.from_schedule(schedule, 100)
    noise = torch.randn(64, 1, 1, 1, generator=torch.Generator().manual_seed(seed)).double()
    noise = (noise - noise.mean()) / noise.std(correction=0)
    image = torch.full_like(noise, x_0)
    x_t = process.q_sample(image, torch.full((64,), t), noise)
    a = process.alpha_bar[t]
    assert x_t.mean().item() == pytest.approx(x_0 * math.sqrt(a), abs=1e-6)
    assert x_t.var(correction=0).item() == pytest.approx(1 - a, rel=1e-5)


@given(
    st.sampled_from(SCHEDULES),
    st.lists(st.integers(0, 900), min_size=1, max_size=4),
    st.integers(0, 2**32 - 1),
)
def test_eps_x_0_and_v_say_the_same(schedule, steps, seed):
    process = DiffusionProcess.from_schedule(schedule)
    t = torch.tensor(steps)
    generator = torch.Generator().manual_seed(seed)
    x_0 = torch.rand(len(t), 1, 2, 2, generator=generator) * 2 - 1
    eps = torch.randn(len(t), 1, 2, 2, generator=generator)
    x_t = process.q_sample(x_0, t, eps)
    # errors of x_t are divided by sqrt(alpha_bar), at least 0.02 up to t = 900
    torch.testing.assert_close(process.x_0_from_eps(x_t, t, eps), x_0, rtol=0, atol=1e-4)
    torch.testing.assert_close(process.x_0_from_v(x_t, t, process.v_from(x_0, t, eps)), x_0)
    # and those of eps by sqrt(1 - alpha_bar), at least 0.01
    torch.testing.assert_close(process.eps_from_x_0(x_t, t, x_0), eps, rtol=0, atol=1e-3)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_prediction_reads_as_the_same_image(schedule):
    generator = torch.Generator().manual_seed(0)
    x_0 = torch.rand(3, 3, 2, 2, generator=generator) * 2 - 1
    noise = torch.randn(3, 3, 2, 2, generator=generator)
    t = torch.tensor([0, 400, 800])
    images = []
    for prediction in ("eps", "x_0", "v"):
        process = DiffusionProcess.from_schedule(
            schedule, prediction=prediction, variance="fixed_small"
        )
        x_t = process.q_sample(x_0, t, noise)
        output = process.target(x_0, t, noise)
        images.append(process.p_mean_variance(output, x_t, t).x_0)
    for image in images:
        torch.testing.assert_close(image, x_0, rtol=0, atol=1e-4)


def test_the_released_process(reference, relative_error):
    """Tables and closed forms of the authors' code: float64 tables equal, float32 within 1e-6."""
    ref = reference("diffusion")
    x_0, t, noise, output = (ref.inputs[k] for k in ("x0", "t", "noise", "model_output"))
    for schedule in SCHEDULES:
        out = {
            k.removeprefix(f"{schedule}."): v
            for k, v in ref.outputs.items()
            if k.startswith(schedule)
        }
        process = DiffusionProcess.from_schedule(schedule)
        np.testing.assert_array_equal(process.betas, out["betas"].numpy())
        x_t = process.q_sample(x_0, t, noise)
        mean, log_variance = process.q_posterior(x_0, x_t, t)
        learned = process.p_mean_variance(output, x_t, t, threshold=static_threshold)
        checks = {
            "q_sample": x_t,
            "posterior_mean": mean,
            "posterior_log_variance": log_variance,
            "learned.mean": learned.mean,
            "learned.log_variance": learned.log_variance,
            "learned.pred_x0": learned.x_0,
        }
        for kind in ("fixed_small", "fixed_large"):
            fixed = DiffusionProcess.from_schedule(schedule, variance=kind)
            reverse = fixed.p_mean_variance(output[:, :3], x_t, t)
            checks[f"{kind}.mean"] = reverse.mean
            checks[f"{kind}.log_variance"] = reverse.log_variance
        for name, value in checks.items():
            assert relative_error(value, out[name]) < FLOAT32, name
        for spec in ("250", "ddim25", "10,15,20"):
            assert process.respaced(spec).timesteps.tolist() == out[f"respace.{spec}"].tolist()


def test_the_three_variances_differ_and_the_learned_one_lies_between():
    output = torch.cat([torch.zeros(1, 3, 2, 2), torch.full((1, 3, 2, 2), 0.2)], dim=1)
    x_t, t = torch.ones(1, 3, 2, 2), torch.tensor([500])
    small, large, learned = (
        DiffusionProcess.from_schedule("cosine", variance=variance)
        .p_mean_variance(output if variance == "learned_range" else output[:, :3], x_t, t)
        .log_variance.mean()
        for variance in ("fixed_small", "fixed_large", "learned_range")
    )
    assert learned.item() == pytest.approx(0.4 * small.item() + 0.6 * large.item(), rel=1e-5)
    assert small < large


def test_rescaled_timesteps_are_what_the_network_is_told():
    process = DiffusionProcess.from_schedule("cosine", 4000, timestep_scale=0.25)
    told = process.respaced("4").network_timesteps(torch.arange(4))
    assert told.tolist() == [0.0, 333.25, 666.5, 999.75]


def test_tables_cannot_be_changed():
    process = DiffusionProcess.from_schedule("linear")
    with pytest.raises(ValueError, match="read-only"):
        process.alpha_bar[0] = 0


@pytest.mark.parametrize(
    ("num_steps", "spec", "expected"),
    [
        (10, "10", tuple(range(10))),
        (10, "1", (0,)),
        (10, "2,3", (0, 4, 5, 7, 9)),
        (10, "ddim5", (0, 2, 4, 6, 8)),
        (11, "2,2", (0, 5, 6, 10)),
    ],
)
def test_respacing_by_hand(num_steps, spec, expected):
    assert spaced_timesteps(num_steps, spec) == expected


def test_fast27_swaps_the_last_step_for_an_earlier_one():
    steps = spaced_timesteps(1000, "fast27")
    assert len(steps) == 27
    assert (steps[0], steps[-2], steps[-1]) == (0, 800, 997)


@given(st.integers(1, 400), st.integers(1, 400))
def test_evenly_spread_steps_keep_both_ends_and_never_repeat(num_steps, count):
    if count > num_steps:
        with pytest.raises(ConfigError, match="steps in a section"):
            spaced_timesteps(num_steps, str(count))
        return
    steps = spaced_timesteps(num_steps, str(count))
    assert len(set(steps)) == count
    assert steps[0] == 0
    assert count == 1 or steps[-1] == num_steps - 1
    gaps = np.diff(steps)
    assert count < 3 or gaps.max() - gaps.min() <= 1


def test_karras_timesteps_follow_the_paper():
    """Eq. 5 with rho 7: the third of five sigmas is ((s_0^(1/7) + s_max^(1/7)) / 2)^7."""
    process = DiffusionProcess.from_schedule("cosine")
    sigmas = np.sqrt(1 / process.alpha_bar - 1)
    kept = process.respaced("karras5").timesteps
    assert kept[0] == 0
    assert sigmas[kept[-1]] == pytest.approx(80, rel=0.07)  # neighbours are 13 % apart there
    middle = ((sigmas[0] ** (1 / 7) + 80 ** (1 / 7)) / 2) ** 7
    assert sigmas[kept[2]] == pytest.approx(middle, rel=0.01)


@given(st.sampled_from(SCHEDULES), st.integers(30, 200), st.data())
def test_karras_timesteps_are_distinct_and_as_many_as_asked(schedule, num_steps, data):
    count = data.draw(st.integers(1, num_steps))
    kept = karras_timesteps(DiffusionProcess.from_schedule(schedule, num_steps).alpha_bar, count)
    assert len(set(kept)) == count
    assert list(kept) == sorted(kept)
    assert kept[0] >= 0
    assert kept[-1] < num_steps


def test_more_karras_steps_than_timesteps():
    with pytest.raises(ConfigError, match="must have 1 to 30 steps"):
        DiffusionProcess.from_schedule("cosine", 30).respaced("karras31")


@pytest.mark.parametrize("spec", ["", "0", "-5", "10,", "ddim", "fast", "2.5", "karras"])
def test_respacing_that_cannot_be_read(spec):
    with pytest.raises(ConfigError, match="expected '250'"):
        spaced_timesteps(1000, spec)


def test_ddim_without_a_whole_stride_says_what_to_do():
    with pytest.raises(ConfigError, match="Use '300'"):
        spaced_timesteps(1000, "ddim300")


def test_schedules():
    """Linear: 1e-4 to 0.02, scaled so that what is left at T hardly depends on T."""
    assert linear_betas(4000)[-1] == 0.005
    ends = [DiffusionProcess.from_schedule("linear", n).alpha_bar[-1] for n in (500, 1000, 4000)]
    np.testing.assert_allclose(np.log(ends), np.log(ends[1]), rtol=0.02)
    cosine = DiffusionProcess.from_schedule("cosine", 1000).alpha_bar
    half = math.cos((0.5 + 0.008) / 1.008 * math.pi / 2) ** 2
    start = math.cos(0.008 / 1.008 * math.pi / 2) ** 2
    assert cosine[499] == pytest.approx(half / start, rel=1e-12)
    assert cosine_betas(1000).max() == 0.999


def test_schedules_that_cannot_be():
    for call in (
        lambda: betas_for("sigmoid", 10),
        lambda: linear_betas(20),
        lambda: cosine_betas(0),
        lambda: DiffusionProcess(betas=np.array([])),
        lambda: DiffusionProcess(betas=np.array([0.0, 0.1])),
        lambda: DiffusionProcess(betas=np.array([0.1]), timesteps=np.array([1, 2])),
    ):
        with pytest.raises(ConfigError):
            call()


def test_dynamic_thresholding_by_hand():
    """The median of 4, 0.5 and 2 is 2: clip to [-2, 2], halve. Below 1 nothing moves."""
    image = torch.tensor([[-4.0, 0.5, 2.0], [0.1, -0.2, 0.3]])
    out = dynamic_threshold(image, percentile=0.5)
    torch.testing.assert_close(out, torch.tensor([[-1.0, 0.25, 1.0], [0.1, -0.2, 0.3]]))
    capped = dynamic_threshold(image, percentile=0.5, max_scale=1.0)
    torch.testing.assert_close(capped, static_threshold(image))
