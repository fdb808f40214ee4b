"""Tiny random pipelines in diffusers' format, a second or two each to build and to run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    PreTrainedTokenizerFast,
    T5Config,
)
from transformers.models.t5.modeling_t5 import T5EncoderModel

WORDS = ["<pad>", "</s>", "<unk>", "a", "red", "circle", "blue", "square"]


def build(kind: str, folder: Path) -> Path:
    """Save a tiny pipeline of one kind into a folder, and return it."""
    torch.manual_seed(0)
    BUILDERS[kind](folder)
    return folder


def clip_tokenizer(folder: Path) -> tuple[Any, int]:
    """Return a tokenizer of single letters, and the size of its vocabulary."""
    letters = [*"abcdefghijklmnopqrstuvwxyz"]
    words = [*letters, *(f"{c}</w>" for c in letters), "<|startoftext|>", "<|endoftext|>"]
    place = folder / "making"
    place.mkdir(parents=True)
    (place / "vocab.json").write_text(json.dumps({w: i for i, w in enumerate(words)}))
    (place / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer.from_pretrained(place, model_max_length=77), len(words)


def clip_config(size: int, **changes: Any) -> CLIPTextConfig:
    return CLIPTextConfig(
        **{
            "vocab_size": size, "hidden_size": 32, "projection_dim": 32, "intermediate_size": 37,
            "num_attention_heads": 4, "num_hidden_layers": 2, "max_position_embeddings": 77,
            "bos_token_id": size - 2, "eos_token_id": size - 1,
        }
        | changes
    )  # fmt: skip


def t5() -> tuple[Any, Any]:
    """Return a tokenizer of whole words and a T5 encoder."""
    fast = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<unk>"))
    fast.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=fast, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
    config = T5Config(vocab_size=len(WORDS), d_model=32, d_kv=8, d_ff=37, num_layers=1, num_heads=2)
    return tokenizer, T5EncoderModel(config)


def autoencoder(latent_channels: int = 4, **changes: Any) -> Any:
    import diffusers

    return diffusers.AutoencoderKL(
        **{
            "block_out_channels": (8, 16), "in_channels": 3, "out_channels": 3,
            "latent_channels": latent_channels, "norm_num_groups": 4, "sample_size": 32,
            "down_block_types": ("DownEncoderBlock2D",) * 2,
            "up_block_types": ("UpDecoderBlock2D",) * 2,
        }
        | changes
    )  # fmt: skip


def latent_unet(**changes: Any) -> Any:
    import diffusers

    return diffusers.UNet2DConditionModel(
        **{
            "block_out_channels": (8, 16), "layers_per_block": 1, "sample_size": 16,
            "in_channels": 4, "out_channels": 4, "norm_num_groups": 4, "cross_attention_dim": 32,
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"), "attention_head_dim": 4,
        }
        | changes
    )  # fmt: skip


def _ddim() -> Any:
    import diffusers

    return diffusers.DDIMScheduler(
        beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False, steps_offset=1
    )


def stable_diffusion(folder: Path) -> None:
    import diffusers

    tokenizer, size = clip_tokenizer(folder)
    diffusers.StableDiffusionPipeline(
        unet=latent_unet(), vae=autoencoder(), scheduler=_ddim(), tokenizer=tokenizer,
        text_encoder=CLIPTextModel(clip_config(size)), safety_checker=None,
        feature_extractor=None, requires_safety_checker=False,
    ).save_pretrained(folder)  # fmt: skip


def stable_diffusion_xl(folder: Path) -> None:
    import diffusers

    tokenizer, size = clip_tokenizer(folder)
    unet = latent_unet(
        cross_attention_dim=64, addition_embed_type="text_time", addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=80, transformer_layers_per_block=(1, 1),
        use_linear_projection=True,
    )  # fmt: skip
    diffusers.StableDiffusionXLPipeline(
        unet=unet, vae=autoencoder(), scheduler=diffusers.EulerDiscreteScheduler(),
        tokenizer=tokenizer, tokenizer_2=tokenizer, text_encoder=CLIPTextModel(clip_config(size)),
        text_encoder_2=CLIPTextModelWithProjection(clip_config(size)),
    ).save_pretrained(folder)  # fmt: skip


def stable_diffusion_3(folder: Path) -> None:
    import diffusers

    tokenizer, size = clip_tokenizer(folder)
    words, encoder = t5()
    diffusers.StableDiffusion3Pipeline(
        transformer=diffusers.SD3Transformer2DModel(
            sample_size=16, patch_size=1, in_channels=4, num_layers=1, attention_head_dim=8,
            num_attention_heads=4, caption_projection_dim=32, joint_attention_dim=32,
            pooled_projection_dim=64, out_channels=4,
        ),
        vae=autoencoder(use_quant_conv=False, use_post_quant_conv=False, shift_factor=0.06),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(), tokenizer=tokenizer,
        tokenizer_2=tokenizer, tokenizer_3=words,
        text_encoder=CLIPTextModelWithProjection(clip_config(size)),
        text_encoder_2=CLIPTextModelWithProjection(clip_config(size)), text_encoder_3=encoder,
    ).save_pretrained(folder)  # fmt: skip


def flux(folder: Path) -> None:
    import diffusers

    tokenizer, size = clip_tokenizer(folder)
    words, encoder = t5()
    diffusers.FluxPipeline(
        transformer=diffusers.FluxTransformer2DModel(
            patch_size=1, in_channels=4, num_layers=1, num_single_layers=1, attention_head_dim=16,
            num_attention_heads=2, joint_attention_dim=32, pooled_projection_dim=32,
            axes_dims_rope=(4, 4, 8), guidance_embeds=True,
        ),
        vae=autoencoder(
            1, use_quant_conv=False, use_post_quant_conv=False, shift_factor=0.0,
            scaling_factor=1.5,
        ),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(), tokenizer=tokenizer,
        text_encoder=CLIPTextModel(clip_config(size)), tokenizer_2=words, text_encoder_2=encoder,
    ).save_pretrained(folder)  # fmt: skip


def pixart(folder: Path) -> None:
    import diffusers

    words, encoder = t5()
    diffusers.PixArtAlphaPipeline(
        transformer=diffusers.PixArtTransformer2DModel(
            sample_size=8, num_layers=1, patch_size=2, attention_head_dim=8, num_attention_heads=3,
            caption_channels=32, in_channels=4, cross_attention_dim=24, out_channels=8,
            attention_bias=True, activation_fn="gelu-approximate", num_embeds_ada_norm=1000,
            norm_type="ada_norm_single", norm_elementwise_affine=False, norm_eps=1e-6,
            use_additional_conditions=False,
        ),
        vae=autoencoder(), scheduler=diffusers.DPMSolverMultistepScheduler(), tokenizer=words,
        text_encoder=encoder,
    ).save_pretrained(folder)  # fmt: skip


def unclip(folder: Path) -> None:
    import diffusers
    from diffusers.pipelines.deprecated.unclip.text_proj import UnCLIPTextProjModel

    tokenizer, size = clip_tokenizer(folder)
    up = {
        "sample_size": 32, "in_channels": 6, "out_channels": 3, "layers_per_block": 1,
        "block_out_channels": (32, 32),
        "down_block_types": ("ResnetDownsampleBlock2D",) * 2,
        "up_block_types": ("ResnetUpsampleBlock2D",) * 2,
    }  # fmt: skip
    prior = diffusers.PriorTransformer(
        num_attention_heads=2, attention_head_dim=12, embedding_dim=32, num_layers=1
    )
    torch.nn.init.ones_(prior.clip_std)  # a new one is zero, and so would all embeddings be
    diffusers.UnCLIPPipeline(
        prior=prior,
        decoder=diffusers.UNet2DConditionModel(
            sample_size=16, in_channels=3, out_channels=6, layers_per_block=1,
            block_out_channels=(32, 32),
            down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
            up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
            mid_block_type="UNetMidBlock2DSimpleCrossAttn", cross_attention_dim=40,
            attention_head_dim=8, resnet_time_scale_shift="scale_shift",
            class_embed_type="identity",
        ),
        text_encoder=CLIPTextModelWithProjection(clip_config(size, num_hidden_layers=1)),
        tokenizer=tokenizer,
        text_proj=UnCLIPTextProjModel(
            clip_embeddings_dim=32, time_embed_dim=128, cross_attention_dim=40
        ),
        super_res_first=diffusers.UNet2DModel(**up),
        super_res_last=diffusers.UNet2DModel(**up),
        prior_scheduler=diffusers.UnCLIPScheduler(
            variance_type="fixed_small_log", prediction_type="sample", clip_sample_range=5.0
        ),
        decoder_scheduler=diffusers.UnCLIPScheduler(variance_type="learned_range"),
        super_res_scheduler=diffusers.UnCLIPScheduler(variance_type="fixed_small_log"),
    ).save_pretrained(folder)  # fmt: skip
    index = json.loads((folder / "model_index.json").read_text())
    index["text_proj"] = ["unclip", "UnCLIPTextProjModel"]  # as the published repository has it
    (folder / "model_index.json").write_text(json.dumps(index))


def _if_parts() -> dict[str, Any]:
    import diffusers

    words, encoder = t5()
    return {
        "safety_checker": None, "feature_extractor": None, "watermarker": None,
        "requires_safety_checker": False, "tokenizer": words, "text_encoder": encoder,
        "scheduler": diffusers.DDPMScheduler(
            beta_schedule="squaredcos_cap_v2", thresholding=True, dynamic_thresholding_ratio=0.95,
            sample_max_value=1.0, prediction_type="epsilon", variance_type="learned_range",
        ),
    }  # fmt: skip


def _if_unet(**changes: Any) -> Any:
    import diffusers

    return diffusers.UNet2DConditionModel(
        **{
            "sample_size": 16, "layers_per_block": 1, "block_out_channels": (32, 32),
            "down_block_types": ("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
            "up_block_types": ("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
            "mid_block_type": "UNetMidBlock2DSimpleCrossAttn", "in_channels": 3,
            "out_channels": 6, "cross_attention_dim": 32, "encoder_hid_dim": 32,
            "attention_head_dim": 8, "addition_embed_type": "text",
            "addition_embed_type_num_heads": 2, "cross_attention_norm": "group_norm",
            "resnet_time_scale_shift": "scale_shift", "act_fn": "gelu",
        }
        | changes
    )  # fmt: skip


def deepfloyd(folder: Path) -> None:
    import diffusers

    diffusers.IFPipeline(unet=_if_unet(), **_if_parts()).save_pretrained(folder)


def deepfloyd_upsampler(folder: Path) -> None:
    import diffusers

    parts = _if_parts()
    diffusers.IFSuperResolutionPipeline(
        unet=_if_unet(sample_size=32, in_channels=6, class_embed_type="timestep"),
        image_noising_scheduler=parts["scheduler"],
        **parts,
    ).save_pretrained(folder)


def ddpm(folder: Path) -> None:
    import diffusers

    diffusers.DDPMPipeline(
        unet=diffusers.UNet2DModel(
            sample_size=16, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4,
            down_block_types=("DownBlock2D", "AttnDownBlock2D"), attention_head_dim=4,
            up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        ),
        scheduler=diffusers.DDPMScheduler(),
    ).save_pretrained(folder)  # fmt: skip


def dit(folder: Path) -> None:
    import diffusers

    diffusers.DiTPipeline(
        transformer=diffusers.DiTTransformer2DModel(
            sample_size=16, num_layers=1, patch_size=4, attention_head_dim=8,
            num_attention_heads=2, in_channels=4, out_channels=8, attention_bias=True,
            activation_fn="gelu-approximate", num_embeds_ada_norm=1000, norm_type="ada_norm_zero",
            norm_elementwise_affine=False,
        ),
        vae=autoencoder(), scheduler=_ddim(),
    ).save_pretrained(folder)  # fmt: skip


def upscaler(folder: Path) -> None:
    """Save a pipeline that enlarges an image, which has no text-to-image class."""
    import diffusers

    tokenizer, size = clip_tokenizer(folder)
    diffusers.StableDiffusionUpscalePipeline(
        unet=latent_unet(in_channels=7), vae=autoencoder(scaling_factor=0.08333),
        scheduler=_ddim(), tokenizer=tokenizer,
        low_res_scheduler=diffusers.DDPMScheduler(), text_encoder=CLIPTextModel(clip_config(size)),
    ).save_pretrained(folder)  # fmt: skip


BUILDERS: dict[str, Callable[[Path], None]] = {
    "sd": stable_diffusion,
    "sdxl": stable_diffusion_xl,
    "sd3": stable_diffusion_3,
    "flux": flux,
    "pixart": pixart,
    "unclip": unclip,
    "if": deepfloyd,
    "if-sr": deepfloyd_upsampler,
    "ddpm": ddpm,
    "dit": dit,
    "upscaler": upscaler,
}
