"""The released code's networks: same weights in, same numbers out."""

import pytest
import torch

from evalkit.core.errors import UnknownNameError, WeightsError
from generators.diffusion.guidance import classifier_free, classifier_gradient
from generators.diffusion.process import DiffusionProcess
from generators.diffusion.samplers import SamplerOptions, sample_ddim
from generators.errors import ArchitectureError
from generators.glide.model import TextStates
from generators.released import load_released

CALL = ("x", "t", "y", "tokens", "mask", "low_res")
PARITY = 1e-4  # float32 sums in another order; ours come out at 2e-6


@pytest.mark.parametrize(
    ("name", "file", "output"),
    [
        ("glide-base", "glide_base", "eps_and_var"),
        ("glide-upsampler", "glide_upsampler", "eps_and_var"),
        ("adm-unet", "adm_unet", "eps_and_var"),
        ("adm-classifier", "adm_classifier", "logits"),
    ],
)
@torch.no_grad()
def test_released_networks_give_the_authors_numbers(name, file, output, reference, relative_error):
    ref = reference(file)
    network = load_released(name, ref.weights, ref.config)
    call = {k: v for k, v in ref.inputs.items() if k in CALL}
    assert relative_error(network(**call), ref.outputs[output]) < PARITY


@torch.no_grad()
def test_glide_text_states_and_guided_ddim_sample(reference, relative_error):
    ref = reference("glide_base")
    network = load_released("glide-base", ref.weights, ref.config)
    text = network.encode_text(ref.inputs["tokens"], ref.inputs["mask"])
    empty = network.encode_text(ref.inputs["uncond_tokens"], ref.inputs["uncond_mask"])
    assert relative_error(text.proj, ref.outputs["text_proj"]) < PARITY
    assert relative_error(text.states, ref.outputs["text_states"]) < PARITY

    both = TextStates.cat([text, empty])
    model = classifier_free(lambda x, t: network(x, t, text=both), 3.0)
    process = DiffusionProcess.from_schedule("cosine").respaced("ddim10")
    images = sample_ddim(model, ref.inputs["z"], process)
    assert relative_error(images, ref.outputs["ddim10_cfg3"]) < PARITY


def test_classifier_guided_ddim_sample(reference, relative_error):
    ref, classifier_ref = reference("adm_unet"), reference("adm_classifier")
    network = load_released("adm-unet", ref.weights, ref.config)
    classifier = load_released("adm-classifier", classifier_ref.weights, classifier_ref.config)
    labels = ref.inputs["guide_y"]
    images = sample_ddim(
        lambda x, t: network(x, t, labels),
        ref.inputs["z"],
        DiffusionProcess.from_schedule("linear").respaced("ddim8"),
        options=SamplerOptions(gradient=classifier_gradient(classifier, labels, 2.5)),
    )
    assert relative_error(images, ref.outputs["ddim8_classifier_guided"]) < PARITY


def test_every_key_that_does_not_fit_is_listed(reference):
    ref = reference("adm_classifier")
    weights = dict(ref.weights)
    del weights["time_embed.0.bias"], weights["out.0.weight"]
    weights["lora.weight"] = torch.zeros(1)
    weights["out.0.bias"] = torch.zeros(7)
    with pytest.raises(WeightsError) as error:
        load_released("adm-classifier", weights, ref.config)
    message = str(error.value)
    assert "\n" not in message
    for part in ("2 missing: ", "time_embed.0.bias", "out.0.weight", "1 extra: lora.weight"):
        assert part in message
    assert "1 misshapen: out.0.bias is [7], expected [64]" in message


def test_unknown_networks_and_settings_are_refused(reference):
    ref = reference("adm_classifier")
    with pytest.raises(UnknownNameError, match="known: glide-base"):
        load_released("glide", ref.weights, ref.config)
    with pytest.raises(ArchitectureError, match="Unknown settings of a U-Net: widths"):
        load_released("adm-unet", {}, {"widths": 3})
    with pytest.raises(ArchitectureError, match="Missing settings of a U-Net: channel_mult"):
        load_released("adm-unet", {}, {})
    with pytest.raises(ArchitectureError, match="dims = 3 is not implemented, only 2"):
        load_released("adm-unet", {}, {"dims": 3})


def test_weights_are_float32_and_the_network_evaluates(reference):
    ref = reference("adm_classifier")
    network = load_released("adm-classifier", ref.weights, ref.config)
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}
    assert not network.training
