"""Both priors: what they may see, what their settings change, and the codes of embeddings."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from sampling import stage_sampling
from sklearn.decomposition import PCA

from generators.diffusion.noise import image_rngs
from generators.errors import ArchitectureError
from generators.unclip.autoregressive import (
    AutoregressivePrior,
    AutoregressivePriorConfig,
    EmbeddingCodes,
    sample_codes,
)
from generators.unclip.pipeline import best_of, prior_process, sample_prior
from generators.unclip.presets import PAPER_PRIOR, PAPER_PRIOR_AR
from generators.unclip.prior import DiffusionPrior, PriorConfig

SIZES = {"embed_dim": 16, "text_width": 32, "text_ctx": 12, "width": 32, "layers": 2, "heads": 2}
CODES = {"num_components": 5, "num_buckets": 8, "num_agreements": 4}
PROCESS = prior_process({"schedule": "cosine"})
SEEDS = [1, 2, 1]
ROUNDING = 1e-4  # float32 sums in another order, through a few steps


@pytest.fixture(scope="module")
def prior(randomised):
    return randomised(DiffusionPrior(PriorConfig(**SIZES)))


@pytest.fixture(scope="module")
def coder(randomised):
    network = AutoregressivePrior(AutoregressivePriorConfig(**SIZES, **CODES))
    noise = torch.randn(200, 16, generator=torch.Generator().manual_seed(0))
    network.codes.fit(noise * torch.linspace(2, 0.1, 16), noise[:, 0])
    return randomised(network)


def draw(prior, caption, empty, seeds=SEEDS, **options):
    settings = {"process": PROCESS, "steps": 4, "guidance_scale": 2.0, "sampler": "dpm++2m"}
    sampling = stage_sampling(settings | options)
    return sample_prior(prior, caption, empty, image_rngs(seeds), sampling)


def parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


def blocks(width, layers):
    """Per block: q, k, v and output (4 W^2 + 4 W), the MLP (8 W^2 + 5 W), two norms (4 W)."""
    return layers * (12 * width**2 + 13 * width)


def test_parameter_counts_of_the_paper():
    """Table 3; what is outside the blocks is written out once more, from the paper's text."""
    with torch.device("meta"):
        prior, coder = DiffusionPrior(PAPER_PRIOR), AutoregressivePrior(PAPER_PRIOR_AR)
    assert parameters(prior.transformer) == blocks(2048, 24)
    assert parameters(prior.transformer) == pytest.approx(1.209e9, rel=0.005)
    embeddings = 4 * 1024 * 2048 + 2 * 2048**2 + (256 + 4) * 2048
    assert parameters(prior) == pytest.approx(blocks(2048, 24) + embeddings, rel=0.005)
    assert parameters(coder.transformer) == blocks(1664, 24)
    embeddings = (2 * 1024 + 3 * 1024 + 256 + 319 + 1) * 1664
    assert parameters(coder) == pytest.approx(blocks(1664, 24) + embeddings, rel=0.005)


def test_padding_is_not_read(prior, coder, caption):
    disturbed = torch.where(caption.kept[..., None], caption.states, caption.states + 1)
    other = dataclasses.replace(caption, states=disturbed)
    z_t, t = torch.randn(3, 16), torch.tensor([0, 500, 999])
    assert torch.equal(prior(z_t, t, caption), prior(z_t, t, other))
    codes, agreement = torch.tensor([[1, 2]] * 3), torch.tensor([0, 1, 2])
    assert torch.equal(coder(codes, agreement, caption), coder(codes, agreement, other))


def test_every_part_of_the_sequence_matters(prior, caption, empty):
    z_t, t = torch.randn(3, 16), torch.tensor([0, 500, 999])
    usual = prior(z_t, t, caption)
    changes = [
        (z_t + 1, t, caption),
        (z_t, t + 1, caption),
        (z_t, t, dataclasses.replace(caption, states=empty.states)),
        (z_t, t, dataclasses.replace(caption, embedding=empty.embedding)),
    ]
    assert all((prior(*changed) - usual).abs().amax(dim=1).min() > 1e-3 for changed in changes)


def test_an_embedding_depends_on_its_own_noise_and_caption(prior, caption, empty):
    batch = draw(prior, caption, empty)
    alone = draw(prior, caption.select([1]), empty.select([1]), seeds=[2])
    torch.testing.assert_close(batch[1:2], alone, rtol=ROUNDING, atol=ROUNDING)
    torch.testing.assert_close(batch[0], batch[2], rtol=ROUNDING, atol=ROUNDING)


def test_settings_of_the_diffusion_prior_matter(prior, caption, empty):
    usual = draw(prior, caption, empty)
    for change in ({"guidance_scale": 1.0}, {"steps": 5}, {"sampler": "ancestral"}):
        assert not torch.allclose(draw(prior, caption, empty, **change), usual, atol=1e-3)


def test_guidance_extrapolates_the_whole_embedding(prior, caption, empty):
    """One step from T predicts z_0 itself, so guidance 3 is u + 3 (c - u) in every number."""
    with_caption, guided = (
        draw(prior, caption, empty, steps=1, sampler="ddim", guidance_scale=s) for s in (1.0, 3.0)
    )
    without = draw(prior, empty, empty, steps=1, sampler="ddim", guidance_scale=1.0)
    expected = without + 3 * (with_caption - without)
    torch.testing.assert_close(guided, expected, rtol=1e-3, atol=1e-3)


def test_the_candidate_closest_to_the_caption_is_kept():
    """By hand: against (1, 0) the second of three candidates wins, against (0, 1) the third."""
    drawn = [torch.tensor([[3.0, 4.0], [1.0, 0.0]]), torch.tensor([[5.0, 0.0], [4.0, -3.0]])]
    drawn.append(torch.tensor([[0.0, 1.0], [0.0, 7.0]]))
    texts = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    calls = iter(drawn)
    kept = best_of(lambda generators: next(calls), texts, [8, 9], candidates=3, scale=2.0)
    assert kept.tolist() == [[2.0, 0.0], [0.0, 2.0]]


def test_more_candidates_keep_those_before(prior, caption, empty):
    def cosine(candidates):
        kept = best_of(
            lambda generators: draw(
                prior, caption, empty, seeds=[g.initial_seed() for g in generators]
            ),
            caption.embedding,
            SEEDS,
            candidates=candidates,
            scale=1.0,
        )
        return (kept * caption.embedding).sum(dim=1)

    one, four = cosine(1), cosine(4)
    assert bool((four >= one - 1e-6).all())
    assert bool((four > one).any())


def test_components_are_those_of_another_library(coder):
    noise = torch.randn(300, 16, generator=torch.Generator().manual_seed(1))
    embeddings = noise * torch.linspace(3, 0.1, 16) + 1
    codes = EmbeddingCodes(coder.config)
    codes.fit(embeddings, noise[:, 0])
    other = PCA(n_components=5, svd_solver="full").fit(embeddings.double().numpy())
    theirs = torch.from_numpy(other.transform(embeddings.double().numpy())).float()
    mine = codes.components(embeddings)
    torch.testing.assert_close(mine.abs(), theirs.abs(), rtol=1e-3, atol=1e-3)
    assert bool((mine.var(dim=0).diff() < 0).all()), "ordered by variance"
    counts = codes.agreement(noise[:, 0]).bincount()
    assert counts.tolist() == [75, 75, 75, 75], "equally frequent"


def test_codes_lose_at_most_half_a_bucket(coder):
    noise = torch.randn(200, 16, generator=torch.Generator().manual_seed(0))
    embeddings = noise * torch.linspace(2, 0.1, 16)
    codes = coder.codes.encode(embeddings)
    assert codes.min() == 0
    assert codes.max() == 7
    back = coder.codes.components(coder.codes.decode(codes))
    exact = coder.codes.components(embeddings)
    inside = (exact > coder.codes.low) & (exact < coder.codes.high)
    width = (coder.codes.high - coder.codes.low) / 8
    assert bool(((back - exact).abs() <= width / 2 + 1e-5)[inside].all())
    assert torch.equal(coder.codes.encode(coder.codes.decode(codes)), codes)


def test_a_code_is_predicted_from_those_before_alone(coder, caption):
    agreement = torch.tensor([0, 3, 2])
    codes = torch.tensor([[0, 1, 2, 3], [7, 6, 5, 4], [1, 1, 1, 1]])
    logits = coder(codes, agreement, caption)
    assert logits.shape == (3, 5, 8)
    changed = codes.clone()
    changed[:, 2] = 7 - codes[:, 2]
    moved = (coder(changed, agreement, caption) - logits).abs().amax(dim=(0, 2))
    assert moved[:3].max() == 0
    assert moved[3:].min() > 1e-4
    assert not torch.allclose(coder(codes, agreement - 1 + 2 * (agreement == 0), caption), logits)


def test_the_loss_is_the_mean_cross_entropy_of_the_codes(coder, caption):
    embeddings, cosines = torch.randn(3, 16), torch.tensor([-1.0, 0.0, 1.0])
    codes = coder.codes.encode(embeddings)
    logits = coder(codes[:, :-1], coder.codes.agreement(cosines), caption).log_softmax(dim=-1)
    by_hand = [-sum(logits[b, k, codes[b, k]] for k in range(5)) / 5 for b in range(3)]
    torch.testing.assert_close(
        coder.loss(embeddings, cosines, caption), torch.stack(by_hand), rtol=1e-5, atol=1e-5
    )


def test_codes_are_drawn_from_each_images_own_generator(coder, caption, empty):
    def codes(rows, seeds, **options):
        told, none = caption.select(rows), empty.select(rows)
        return sample_codes(coder, told, image_rngs(seeds), empty=none, **options)

    batch = codes([0, 1, 2], SEEDS, guidance_scale=2.0)
    torch.testing.assert_close(batch[1:2], codes([1], [2], guidance_scale=2.0))
    assert torch.equal(batch[0], batch[2])
    assert not torch.equal(batch[0], batch[1])
    greedy = codes([0, 1, 2], SEEDS, guidance_scale=2.0, temperature=0.0)
    assert not torch.equal(greedy, batch)
    assert not torch.equal(codes([0, 1, 2], SEEDS), batch)
    assert torch.equal(F.normalize(greedy, dim=1).isfinite(), torch.ones(3, 16, dtype=torch.bool))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"heads": 3}, "width 32 is not a multiple of heads 3"),
        ({"num_components": 17}, r"at most embed_dim \(16\), got 17"),
        ({"num_agreements": 3}, "must be even"),
        ({"surprise": 1}, "Unknown settings of an autoregressive prior: surprise"),
    ],
)
def test_impossible_sizes_are_refused(change, complaint):
    with pytest.raises(ArchitectureError, match=complaint):
        AutoregressivePriorConfig.from_flat({**SIZES, **CODES, **change})
