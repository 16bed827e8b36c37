"""Stage 1, the VAE: on single frames first, then on whole clips, as video VAEs are trained.

The causal convolutions start with their last tap alone and the convolutions over time as copies,
so that what was learned on single frames already encodes and decodes a clip that stands still.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from data import clips, signal
from diffusers import AutoencoderKLWan
from muon import Both, averaged
from torch.nn import functional

CONFIG: dict[str, Any] = {
    "base_dim": 16,
    "z_dim": 8,
    "dim_mult": [1, 2, 2],
    "num_res_blocks": 1,
    "temperal_downsample": [True, True],
    "patch_size": 2,
    "in_channels": 12,
    "out_channels": 12,
    "scale_factor_spatial": 8,
    "scale_factor_temporal": 4,
    "latents_mean": [0.0] * 8,
    "latents_std": [1.0] * 8,
}
KL = 1e-4  # of the posterior, nats a latent value
EMA = 0.99


def train(
    image_steps: int,
    video_steps: int,
    log: Callable[..., None],
    device: str = "cpu",
    seed: int = 0,
) -> Any:
    """An AutoencoderKLWan in evaluation mode; ``log`` gets the loss every 50 steps."""
    torch.manual_seed(seed)
    vae = AutoencoderKLWan(**CONFIG).to(device)
    start_still(vae)
    _, video = clips(4096, seed)
    frames = video[:1024, :, ::2].transpose(1, 2).reshape(-1, 3, 1, *video.shape[3:])
    fit(vae, frames, image_steps, 16, 0.02, log, "vae on frames")
    return fit(vae, video, video_steps, 6, 0.01, log, "vae on clips").eval()


def fit(
    vae: Any,
    data: torch.Tensor,
    steps: int,
    batch: int,
    rate: float,
    log: Callable[..., None],
    name: str,
) -> Any:
    """Train ``vae`` in place on uint8 (N, 3, T, H, W) and give its moving average back."""
    inner = {
        key: p.ndim > 3 and not any(end in key for end in ("conv_in", "conv_out", "quant"))
        for key, p in vae.named_parameters()
    }
    optimiser = Both(
        [p for key, p in vae.named_parameters() if inner[key]],
        [p for key, p in vae.named_parameters() if not inner[key]],
        steps,
        muon=rate,
        adam=rate / 10,
    )
    average = averaged(vae, EMA)
    start = time.monotonic()
    for step in range(steps):
        x = signal(data[torch.randint(len(data), (batch,))].to(vae.device))
        posterior = vae.encode(x).latent_dist
        y = vae.decode(posterior.sample()).sample
        kl = KL * posterior.kl().mean() / posterior.mean[0].numel()
        loss = reconstruction(y, x) + kl
        optimiser.step(loss)
        average.update_parameters(vae)
        if step % 50 == 0 or step == steps - 1:
            mse = (y.detach() - x).square().mean()
            psnr = 10 * torch.log10(4 / mse)
            log(
                name,
                step=step,
                seconds=time.monotonic() - start,
                loss=loss.item(),
                kl=kl.item(),
                psnr=psnr.item(),
            )
    vae.load_state_dict(average.module.state_dict())
    return vae


@torch.no_grad()
def start_still(vae: Any) -> None:
    """Weights with which a VAE that knows frames would know clips that stand still."""
    vae.quant_conv.bias[CONFIG["z_dim"] :] = -5.0  # a posterior that starts wide stays wide
    vae.quant_conv.weight[CONFIG["z_dim"] :] *= 0.1
    for name, module in vae.named_modules():
        if not isinstance(module, torch.nn.Conv3d) or module.kernel_size[0] != 3:
            continue
        if name.endswith("time_conv"):
            out, into = module.weight.shape[:2]
            module.weight.zero_()
            module.weight[:, :, -1, 0, 0] = torch.eye(into, device=vae.device).repeat(
                out // into, 1
            )
            module.bias.zero_()
        else:
            module.weight[:, :, :-1] = 0
            module.weight[:, :, -1] *= 3**0.5


def reconstruction(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """L1 + 2 MSE, five times heavier near the shape's edge, + L1 of the spatial gradients.

    Both are clips in [−1, 1]; without the last terms corners come out round.
    """
    edge = functional.pad((_across(x)[..., :-1, :].abs() + _down(x)[..., :-1].abs()), (0, 1, 0, 1))
    near = functional.max_pool3d(
        (edge.amax(1, keepdim=True) > 0.05).float(), (1, 5, 5), 1, (0, 2, 2)
    )
    weight = (1 + 4 * near) / (1 + 4 * near).mean()
    error = y - x
    plain = (weight * (error.abs() + 2 * error.square())).mean()
    return plain + _across(error).abs().mean() + _down(error).abs().mean()


def _across(clip: torch.Tensor) -> torch.Tensor:
    return clip[..., 1:] - clip[..., :-1]


def _down(clip: torch.Tensor) -> torch.Tensor:
    return clip[..., 1:, :] - clip[..., :-1, :]


@torch.no_grad()
def encode(vae: Any, video: torch.Tensor, batch: int = 32) -> torch.Tensor:
    """The posterior means of uint8 (N, 3, T, H, W): float32 (N, z, t, h, w)."""
    parts = (signal(part.to(vae.device)) for part in video.split(batch))
    return torch.cat([vae.encode(part).latent_dist.mean for part in parts])


def normalise(vae: Any, latents: torch.Tensor) -> torch.Tensor:
    """Write the channels' mean and deviation into the config; give (latents − mean) / std."""
    mean, std = latents.mean((0, 2, 3, 4)), latents.std((0, 2, 3, 4))
    vae.register_to_config(latents_mean=mean.tolist(), latents_std=std.tolist())
    shape = (1, -1, 1, 1, 1)
    return (latents - mean.view(shape)) / std.view(shape)
