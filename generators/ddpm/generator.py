"""DDPM, Improved DDPM and ADM as a `Generator`: a network, with classifier guidance or not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import UInt8
from numpy import ndarray
from torch import Tensor, nn

from evalkit.core.errors import WeightsError
from generators.base import GeneratorSpec, Request, Sample, Settings, StageSettings, StageSpec
from generators.ddpm.adm import NoisyClassifier
from generators.ddpm.pipeline import sample_images
from generators.ddpm.presets import CLASSIFIER, PRESETS, DDPMPreset
from generators.diffusion.losses import bits_per_dim
from generators.diffusion.noise import draw_noise, image_rngs
from generators.diffusion.process import DiffusionProcess
from generators.diffusion.samplers import SAMPLER_NAMES
from generators.diffusion.stage_sampling import StageSampling
from generators.diffusion.thresholding import THRESHOLDS
from generators.errors import UnsupportedRequestError
from generators.finite import BatchFaults, samples_of
from generators.nn.unet import UNet
from generators.numerics import Numerics, ready
from generators.pixels import from_uint8
from generators.recipes.recipe import Recipe
from generators.weights import networks
from generators.weights.parts import check_overrides
from generators.weights.published import MODEL_FILES, locate
from generators.weights.state_dicts import file_sha256, joint_hash, load_state_dict
from generators.weights.zoo import ZooWeights, zoo_weights

STAGE = "base"
TINY_STEPS = 25
TINY_SCALE = 5.0
"""Of classifier guidance: the smallest distance that `classifier_guidance` (benchmarks) found."""


class DDPMGenerator:
    """A network, its process and an optional classifier behind the Generator interface.

    Args:
        spec: Class-conditional if the network or the classifier knows classes.
        network: Called with (x, t), or with (x, t, y) where `takes_labels`.
        takes_labels: Whether the network itself takes class labels.
        process: All timesteps of its training.
        classifier: Of noisy images, for guidance.
        device: Where all of it runs.
    """

    def __init__(
        self,
        spec: GeneratorSpec,
        *,
        network: nn.Module,
        takes_labels: bool,
        process: DiffusionProcess,
        classifier: nn.Module | None,
        device: str,
    ) -> None:
        self.spec = spec
        self.network = ready(network, device)
        self.takes_labels = takes_labels
        self.process = process
        self.classifier = None if classifier is None else ready(classifier, device)
        self.device = device
        self.numerics = Numerics()

    def accelerate(self, numerics: Numerics) -> None:
        """Change the numerics of all later calls to `generate`."""
        self.numerics = numerics
        numerics.apply(self.network)

    @torch.no_grad()
    def generate(self, requests: Sequence[Request], settings: Settings) -> list[Sample]:
        """Generate one image per request; all requests are one batch.

        Raises:
            UnsupportedRequestError: A request has a prompt, or a label the model does not know.
        """
        labels = self._labels(requests)
        faults = BatchFaults(len(requests))
        running = self.numerics.running(self.network, self.device)
        with running, self.numerics.autocast(self.device):
            images = sample_images(
                self.network,
                image_rngs([request.seed for request in requests], STAGE),
                StageSampling.chosen(self.process, settings[STAGE], faults.at(STAGE)),
                size_px=self.spec.edge_px,
                labels=labels,
                label_network=self.takes_labels,
                classifier=self.classifier,
            )
        return samples_of(images, faults)

    @property
    def num_steps(self) -> int:
        """Timesteps of the process that it was trained with."""
        return self.process.num_steps

    @torch.no_grad()
    def bits_per_dim(
        self,
        images: UInt8[ndarray, "batch size size 3"],
        seeds: Sequence[int],
        *,
        steps: int | None = None,
    ) -> Tensor:
        """Compute the variational bound on each image's -log2 p per dimension; lower is better.

        Args:
            images: Of the network's size.
            seeds: One per image, for the noise at all timesteps.
            steps: Timesteps of a respaced process, whose bound is looser; None: all of them.

        Raises:
            UnsupportedRequestError: The network is class-conditional, so it has no p(x).
        """
        if self.takes_labels:
            raise UnsupportedRequestError(
                f"{self.spec.name} is class-conditional. Bits per dimension need an unconditional "
                "model."
            )
        process = self.process if steps is None else self.process.respaced(str(steps))
        x_0 = from_uint8(torch.from_numpy(images)).to(self.device)
        rngs = image_rngs(seeds, "nll")
        return bits_per_dim(
            self.network, process, x_0, lambda _: draw_noise(rngs, x_0.shape[1:], x_0.device)
        )

    def _labels(self, requests: Sequence[Request]) -> Tensor | None:
        if any(request.prompt is not None for request in requests):
            raise UnsupportedRequestError(
                f"{self.spec.name} takes no prompts; conditioning: {self.spec.conditioning}."
            )
        labels = [request.label for request in requests]
        if self.spec.num_classes is None:
            if any(label is not None for label in labels):
                raise UnsupportedRequestError(
                    f"{self.spec.name} is unconditional and takes no labels."
                )
            return None
        for label in labels:
            if label is None or not 0 <= label < self.spec.num_classes:
                raise UnsupportedRequestError(
                    f"{self.spec.name} needs a label from 0 to {self.spec.num_classes - 1}, "
                    f"got {label}."
                )
        return torch.tensor(labels, device=self.device)


def stage(
    *, steps: int, sampler: str, guidance: float | None, num_timesteps: int
) -> tuple[StageSpec]:
    """Build the one stage, with its defaults."""
    defaults = StageSettings(
        steps=steps, sampler=sampler, guidance=guidance, options={"threshold": "static", "eta": 0.0}
    )
    return (
        StageSpec(
            name=STAGE,
            defaults=defaults,
            samplers=SAMPLER_NAMES,
            max_steps=num_timesteps,
            choices={"threshold": THRESHOLDS},
            ranges={"eta": (0.0, 1.0)},
        ),
    )


def load_tiny(name: str, device: str, weights: Mapping[str, Path]) -> DDPMGenerator:
    """Load `ddpm:tiny`, or `ddpm:tiny-class` with its noisy classifier.

    Args:
        name: The catalog name.
        device: A torch device.
        weights: Files of `evalkit train` that replace the shipped ones.
    """
    part = name.replace(":", "-")
    parts = [part, "ddpm-tiny-classifier"] if name == "ddpm:tiny-class" else [part]
    check_overrides(name, weights, parts)
    trained = {each: zoo_weights(each, weights.get(each)) for each in parts}
    recipe = trained[part].recipe
    network = trained[part].network(UNet, part)
    classifier = None
    if len(parts) > 1 and _knows_classes_of(recipe, trained[parts[1]], given=parts[1] in weights):
        classifier = trained[parts[1]].network(NoisyClassifier, parts[1])
    process = DiffusionProcess.from_objective(recipe.objective)
    num_classes = recipe.model.get("num_classes")
    spec = GeneratorSpec(
        name=name,
        display_name="DDPM (tiny, class-conditional)" if num_classes else "DDPM (tiny)",
        conditioning="class" if num_classes else "none",
        stages=stage(
            steps=TINY_STEPS,
            sampler="ancestral",
            guidance=TINY_SCALE if classifier else None,
            num_timesteps=process.num_steps,
        ),
        size_px=int(recipe.model["image_size"]),
        training_data=("shapes",),
        weights="given: " + ", ".join(weights) if weights else "generators/zoo",
        weights_sha256=joint_hash(trained[each].sha256 for each in parts),
        num_classes=num_classes,
    )
    return DDPMGenerator(
        spec,
        network=network,
        takes_labels=num_classes is not None,
        process=process,
        classifier=classifier,
        device=device,
    )


def _knows_classes_of(recipe: Recipe, classifier: ZooWeights, *, given: bool) -> bool:
    """Return whether a classifier knows a network's classes; the shipped one knows shapes alone.

    Raises:
        WeightsError: It is given, and knows others.
    """
    known = classifier.recipe.data.classes
    if known == recipe.data.classes:
        return True
    if given:
        raise WeightsError(
            f"{classifier.recipe.name} knows other classes ({', '.join(known) or 'shapes'}) than "
            f"{recipe.name} ({', '.join(recipe.data.classes) or 'shapes'}). Train both on one set."
        )
    return False


def load_released(name: str, device: str, weights: Mapping[str, Path]) -> DDPMGenerator:
    """Load a preset of `generators.ddpm.presets` with its published weights.

    Raises:
        MissingWeightsError: A file is neither given, cached nor downloadable.
        WeightsError: A file doesn't fit.
    """
    preset = PRESETS[name.removeprefix("ddpm:")]
    parts = MODEL_FILES[name]
    check_overrides(name, weights, parts)
    files = [locate(part, weights.get(part), instead="ddpm:tiny") for part in parts]
    network = _from_file(files[0], preset.architecture, preset.settings)
    classifier = None
    if preset.classifier_settings is not None:
        classifier = _from_file(files[1], CLASSIFIER, preset.classifier_settings)
    return DDPMGenerator(
        _released_spec(name, preset, [file_sha256(file) for file in files]),
        network=network,
        takes_labels=preset.network.num_classes is not None,
        process=preset.process(),
        classifier=classifier,
        device=device,
    )


def _from_file(file: Path, name: str, settings: Mapping[str, Any]) -> nn.Module:
    return networks.load_released(name, load_state_dict(file), settings, source=file.name)


def _released_spec(name: str, preset: DDPMPreset, hashes: Sequence[str]) -> GeneratorSpec:
    return GeneratorSpec(
        name=name,
        display_name=preset.display_name,
        conditioning="none" if preset.num_classes is None else "class",
        stages=stage(
            steps=int(preset.respacing),
            sampler="ancestral",
            guidance=preset.classifier_scale if preset.classifier else None,
            num_timesteps=preset.num_steps,
        ),
        size_px=preset.network.image_size,
        training_data=(preset.training_data,),
        weights="released",
        weights_sha256=joint_hash(hashes),
        num_classes=preset.num_classes,
    )
