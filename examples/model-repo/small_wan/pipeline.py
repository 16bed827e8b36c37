"""Our pipeline: diffusers' WanPipeline, guided only while the noise is high."""

from diffusers import WanPipeline

GUIDED = 0.3  # the share of the noise levels, from the top, that are guided


class EarlyGuidancePipeline(WanPipeline):
    """Guidance doubles the work of a step. Late steps do without: what the video shows is settled.

    The idea is that of Kynkäänniemi et al. 2024, "Applying Guidance in a Limited Interval Improves
    Sample and Distribution Quality in Diffusion Models".
    """

    @property
    def do_classifier_free_guidance(self):
        now = self.current_timestep  # None before the first step, while the prompt is encoded
        last = (1 - GUIDED) * self.scheduler.config.num_train_timesteps
        return super().do_classifier_free_guidance and (now is None or bool(now >= last))
