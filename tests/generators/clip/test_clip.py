"""CLIP: equal to open_clip on the same weights, and its loss by hand."""

import logging
import math

import pytest
import torch
import torch.nn.functional as F

from generators.clip.model import Clip, ClipConfig, clip_loss
from generators.errors import ArchitectureError

SAME_MATHS = 1e-5  # relative L2 over two layers of another order of float32 sums
TINY = {
    "image_size": 16,
    "patch_size": 8,
    "vision_width": 32,
    "vision_layers": 2,
    "vision_heads": 2,
    "vocab_size": 20,
    "context_length": 6,
    "text_width": 32,
    "text_layers": 2,
    "text_heads": 2,
    "embed_dim": 24,
}


def tokens_and_mask():
    """Three words, one word, and a full context, which has no room for the end token (19)."""
    tokens = torch.tensor([[3, 4, 5, 19, 19, 19], [7, 19, 19, 19, 19, 19], [1, 2, 3, 4, 5, 6]])
    return tokens, tokens != 19


@pytest.fixture
def open_clip_tiny(caplog):
    open_clip = pytest.importorskip("open_clip")
    from open_clip.model import CLIP

    caplog.set_level(logging.ERROR)
    assert open_clip
    return CLIP(
        embed_dim=24,
        vision_cfg={
            "image_size": 16, "patch_size": 8, "width": 32, "layers": 2, "head_width": 16,
        },
        text_cfg={
            "context_length": 6, "vocab_size": 20, "width": 32, "layers": 2, "heads": 2,
        },
        quick_gelu=True,
    ).eval()  # fmt: skip


@torch.no_grad()
def test_both_towers_equal_open_clip(open_clip_tiny, randomised, relative_error):
    theirs = randomised(open_clip_tiny)
    ours = Clip(ClipConfig(**TINY)).eval()
    ours.load_state_dict(theirs.state_dict())
    images = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    mean = torch.tensor(ours.config.mean).view(3, 1, 1)
    std = torch.tensor(ours.config.std).view(3, 1, 1)
    expected = F.normalize(theirs.encode_image(((images + 1) / 2 - mean) / std), dim=-1)
    assert relative_error(ours.encode_image(images), expected) < SAME_MATHS

    tokens, mask = tokens_and_mask()
    expected = F.normalize(theirs.encode_text(tokens), dim=-1)  # pools at the highest id, 19
    assert relative_error(ours.encode_text(tokens, mask)[:2], expected[:2]) < SAME_MATHS


@torch.no_grad()
def test_vit_b_32_equals_open_clip(relative_error):
    open_clip = pytest.importorskip("open_clip")
    theirs = open_clip.create_model("ViT-B-32-quickgelu", pretrained=None).eval()
    ours = Clip(
        ClipConfig(
            image_size=224,
            patch_size=32,
            vision_width=768,
            vision_layers=12,
            vision_heads=12,
            vocab_size=49_408,
            context_length=77,
            text_width=512,
            text_layers=12,
            text_heads=8,
            embed_dim=512,
        )
    ).eval()
    ours.load_state_dict(theirs.state_dict())
    images = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0)) * 2 - 1
    mean = torch.tensor(ours.config.mean).view(3, 1, 1)
    std = torch.tensor(ours.config.std).view(3, 1, 1)
    expected = F.normalize(theirs.encode_image(((images + 1) / 2 - mean) / std), dim=-1)
    assert relative_error(ours.encode_image(images), expected) < SAME_MATHS
    tokens = open_clip.tokenize(["a dog", "a red cat on a mat"])
    mask = torch.arange(77)[None] < tokens.argmax(dim=-1)[:, None]
    expected = F.normalize(theirs.encode_text(tokens), dim=-1)
    assert relative_error(ours.encode_text(tokens, mask), expected) < SAME_MATHS


def test_loss_by_hand():
    """Two orthogonal pairs at scale 2: each row has logits 2 and 0, so ln(1 + e^-2) = 0.126928."""
    eye = torch.eye(2)
    assert clip_loss(eye, eye, torch.tensor(math.log(2.0))).item() == pytest.approx(
        0.126928, abs=1e-6
    )
    crossed = clip_loss(eye, eye.flip(0), torch.tensor(math.log(2.0)))
    assert crossed.item() == pytest.approx(2.126928, abs=1e-6)


def test_loss_caps_the_scale_and_forgives_equal_captions():
    eye = torch.eye(2)
    at_cap = clip_loss(eye, eye.flip(0), torch.tensor(math.log(100.0)))
    assert clip_loss(eye, eye.flip(0), torch.tensor(20.0)).item() == pytest.approx(at_cap.item())
    same = torch.ones(2, 1)
    scale = torch.tensor(0.0)
    assert clip_loss(same, same, scale).item() == pytest.approx(math.log(2))
    assert clip_loss(same, same, scale, duplicates=[5, 5]).item() == 0


def test_training_moves_every_parameter_and_brings_pairs_together():
    torch.manual_seed(0)
    clip = Clip(ClipConfig(**TINY))
    images = torch.rand(3, 3, 16, 16) * 2 - 1
    tokens, mask = tokens_and_mask()
    optimizer = torch.optim.Adam(clip.parameters(), lr=3e-3)
    losses = []
    for _ in range(15):
        optimizer.zero_grad()
        loss = clip_loss(
            clip.encode_image(images), clip.encode_text(tokens, mask), clip.logit_scale
        )
        loss.backward()
        dead = [n for n, p in clip.named_parameters() if p.grad is None or not p.grad.any()]
        assert dead == []
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2


@torch.no_grad()
def test_text_is_causal_and_read_behind_the_last_word(randomised):
    clip = randomised(Clip(ClipConfig(**TINY)))
    tokens, mask = tokens_and_mask()
    embeddings = clip.encode_text(tokens, mask)
    changed = tokens.clone()
    changed[1, 3] = 8  # behind the end token: nobody looks there
    torch.testing.assert_close(clip.encode_text(changed, mask)[1], embeddings[1])
    changed[1, 0] = 8
    assert not torch.allclose(clip.encode_text(changed, mask)[1], embeddings[1], atol=1e-3)


def test_noised_clip_knows_the_timestep(randomised):
    clip = randomised(Clip(ClipConfig(**TINY, num_timesteps=10)))
    images = torch.zeros(2, 3, 16, 16)
    early, late = clip.encode_image(images, torch.tensor([0, 9]))
    assert not torch.allclose(early, late, atol=1e-3)
    with pytest.raises(ArchitectureError, match="Timesteps are required"):
        clip.encode_image(images)
    with pytest.raises(ArchitectureError, match="Timesteps are required"):
        Clip(ClipConfig(**TINY)).encode_image(images, torch.tensor([0, 9]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"patch_size": 5}, "not a multiple of patch_size 5"),
        ({"text_heads": 3}, "not a multiple of text_heads 3"),
    ],
)
def test_configurations_that_cannot_be_built(changes, message):
    with pytest.raises(ArchitectureError, match=message):
        ClipConfig(**(TINY | changes))
    with pytest.raises(ArchitectureError, match="takes images of 16 x 16 px"):
        Clip(ClipConfig(**TINY)).encode_image(torch.zeros(1, 3, 8, 8))
