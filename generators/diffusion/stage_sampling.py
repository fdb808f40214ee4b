"""How one stage of a cascade is sampled: its process and the user's settings."""

from __future__ import annotations

from dataclasses import dataclass, replace

from evalkit.core.errors import ConfigError
from evalkit.core.progress import advance
from generators.diffusion.guidance import IMAGE_CHANNELS, Denoiser, classifier_free
from generators.diffusion.process import DiffusionProcess
from generators.diffusion.samplers import (
    PLAIN,
    Images,
    Rngs,
    SamplerOptions,
    process_for,
    sample,
)
from generators.diffusion.thresholding import PERCENTILE, Threshold, static_threshold, threshold_for
from generators.finite import StageWatch
from generators.settings import StageSettings


@dataclass(frozen=True, kw_only=True)
class StageSampling:
    """How to sample one stage, except for the network and the noise."""

    process: DiffusionProcess
    """All timesteps of the network's training."""
    sampler: str
    """A name of `generators.diffusion.samplers.CATALOG`."""
    steps: int | str
    """Number of evaluations of the network, or a respacing such as `ddim25`."""
    guidance_scale: float | None = None
    """Of classifier-free guidance, s in eps_u + s (eps_c - eps_u), 1 is off; or of a noisy
    classifier's gradient, 0 is off. None: the stage is not guided."""
    options: SamplerOptions = PLAIN
    """Further options of the sampler."""
    watch: StageWatch | None = None
    """Looks at all that the network returns; None: nobody does."""

    @classmethod
    def chosen(
        cls,
        process: DiffusionProcess,
        settings: StageSettings,
        watch: StageWatch | None = None,
    ) -> StageSampling:
        """Resolve the settings of a stage; `threshold`, `percentile` and `eta` are options.

        Raises:
            ConfigError: The settings have no sampler, no steps or an unknown threshold.
        """
        if settings.sampler is None or settings.steps is None:
            raise ConfigError(
                f"A diffusion stage needs a sampler and steps, got sampler {settings.sampler} and "
                f"steps {settings.steps}. Start from the generator's default settings."
            )
        return cls(
            process=process,
            sampler=settings.sampler,
            steps=settings.steps,
            guidance_scale=settings.guidance,
            options=SamplerOptions(
                eta=float(settings.options.get("eta", 0.0)), threshold=_threshold(settings)
            ),
            watch=watch,
        )

    @property
    def is_guided(self) -> bool:
        """Whether the unconditional half is needed as well."""
        return self.guidance_scale not in (None, 1.0)

    def guided(self, model: Denoiser, *, guided_channels: int = IMAGE_CHANNELS) -> Denoiser:
        """Return the model with classifier-free guidance, if the stage is guided.

        Args:
            model: Takes both halves as one batch where `is_guided`, else the conditional half.
            guided_channels: Width of what is diffused.
        """
        if self.guidance_scale is None or self.guidance_scale == 1.0:
            return model
        return classifier_free(model, self.guidance_scale, guided_channels=guided_channels)

    def with_threshold(self, threshold: Threshold | None) -> StageSampling:
        """Return the same sampling with another threshold."""
        return replace(self, options=replace(self.options, threshold=threshold))

    def sample(self, model: Denoiser, x_T: Images, rngs: Rngs) -> Images:
        """Run the sampler over its timesteps.

        Args:
            model: The denoiser, condition and guidance bound.
            x_T: The noise to start from.
            rngs: One per image, for the noise at each step.

        Raises:
            ConfigError: The sampler does not exist, does not support the options, or returned
                something else than images.
        """
        spaced = process_for(self.process, self.sampler, self.steps)
        options = replace(self.options, progress=self.options.progress or advance)
        if self.watch is not None:
            model = _watched(model, self.watch)
        if self.watch is not None and options.gradient is not None:
            options = replace(options, gradient=_watched(options.gradient, self.watch))
        made = sample(self.sampler, model, x_T, spaced, rngs, options)
        if made.shape != x_T.shape:
            raise ConfigError(
                f"The sampler {self.sampler} returned images of shape {tuple(made.shape)}, "
                f"expected {tuple(x_T.shape)}. Repair the package that registers it."
            )
        return made if self.watch is None else self.watch.mend(made)


def _watched(model: Denoiser, watch: StageWatch) -> Denoiser:
    return lambda x_t, t: watch.see(model(x_t, t))


def _threshold(settings: StageSettings) -> Threshold:
    if "threshold" not in settings.options:
        return static_threshold
    percentile = float(settings.options.get("percentile", PERCENTILE))
    return threshold_for(str(settings.options["threshold"]), percentile)
