"""An engine of two processes: each computes one half of classifier-free guidance.

Rank 0 denoises with the prompt and rank 1 with the empty one. After every pass of the transformer
they exchange what they got (torch.distributed, gloo), so that both take the same guided step; then
rank 0 decodes the video. It equals that of the pipeline in one process, where the two passes follow
one another.
"""

import multiprocessing
import os
import time

import torch
import torch.distributed as dist

from pytest_vdb.models.embedded import tiny_wan

COND, UNCOND = 0, 1  # ranks


def build(num_threads=1):
    """What `ModelSpec.location` names. Options of the model come as arguments."""
    return TwoRanks(num_threads)


class TwoRanks:
    """Called with a prompt, a seed and arguments; returns frames and what both ranks measured."""

    provides = ("stages", "memory")

    def __init__(self, num_threads):
        # pytest-vdb leases a port with the devices; 0 takes any that is free.
        port = int(os.environ.get("MASTER_PORT", 0))
        store = dist.TCPStore("127.0.0.1", port, is_master=True, wait_for_workers=False)
        spawn = multiprocessing.get_context("spawn")
        self.pipe, theirs = spawn.Pipe()
        arguments = (theirs, store.port, num_threads)
        self.worker = spawn.Process(target=_serve, args=arguments, daemon=True)
        self.worker.start()
        theirs.close()  # so that its end is seen here
        self.rank = Rank(COND, store, num_threads)

    def __call__(self, prompt, *, seed, guidance_scale=5.0, **arguments):
        try:
            self.pipe.send((seed, guidance_scale, arguments))
            video, stages, steps, mine = self.rank.generate(prompt, seed, guidance_scale, arguments)
            theirs = self.pipe.recv()
        except (EOFError, OSError, RuntimeError) as error:
            self.worker.join(1)  # what the end of the other rank looks like from here
            if self.worker.exitcode is None:
                raise
            raise RuntimeError(f"rank 1 ended with status {self.worker.exitcode}") from error
        return {
            "frames": video.frames[0],
            "stages": stages,
            "steps": steps,
            "ranks": [mine, theirs],
        }

    def close(self):
        dist.destroy_process_group()
        self.worker.kill()  # it waits for work and has nothing to put in order
        self.worker.join()
        self.pipe.close()


class Rank:
    """The whole pipeline in one process, whose transformer shares guidance with the other's."""

    def __init__(self, number, store, num_threads):
        torch.set_num_threads(num_threads)
        dist.init_process_group("gloo", store=store, rank=number, world_size=2)
        self.number = number
        self.scale = 1.0
        self.pipeline = tiny_wan()
        self.pipeline.transformer.register_forward_hook(self._guide)
        dist.barrier()  # both are ready

    @torch.inference_mode()
    def generate(self, prompt, seed, scale, arguments):
        """The video (rank 1 leaves its latent undecoded), stage and step times, own figures."""
        self.scale = scale
        clock = [time.perf_counter()]
        length = arguments.pop("max_sequence_length", 512)
        embeds, _ = self.pipeline.encode_prompt(prompt, None, False, max_sequence_length=length)
        clock.append(time.perf_counter())

        def tick(pipeline, step, timestep, tensors):
            clock.append(time.perf_counter())
            return tensors

        video = self.pipeline(
            prompt_embeds=embeds,
            guidance_scale=1.0,  # one pass a step: the other half is the other rank's
            generator=torch.Generator().manual_seed(seed),
            output_type="np" if self.number == COND else "latent",
            callback_on_step_end=tick,
            **arguments,
        )
        end = time.perf_counter()
        started, encoded, *ticks = clock
        stages = {
            "text_encode": encoded - started,
            "denoise": ticks[-1] - encoded,
            "decode": end - ticks[-1],
        }
        steps = [b - a for a, b in zip([encoded, *ticks], ticks, strict=False)]
        return video, stages, steps, {"seconds": end - started, "memory": peak_resident_set()}

    def _guide(self, transformer, inputs, output):
        """Both halves together: what the pipeline does by itself where it computes both."""
        halves = [torch.empty_like(output[0]) for _ in range(2)]
        dist.all_gather(halves, output[0].contiguous())
        return (halves[UNCOND] + self.scale * (halves[COND] - halves[UNCOND]),)


def peak_resident_set():
    """Bytes that this process held in memory at most since it began, libraries included (Linux).

    Not ``ru_maxrss``, in which a process starts with the peak of the one that started it.
    """
    with open("/proc/self/status") as status:
        (line,) = (line for line in status if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def _serve(pipe, port, num_threads):
    """Rank 1: does what rank 0 sends, until that dies and the pipe with it."""
    store = dist.TCPStore("127.0.0.1", port, is_master=False)
    rank = Rank(UNCOND, store, num_threads)
    while True:
        try:
            seed, scale, arguments = pipe.recv()
        except EOFError:
            return
        pipe.send(rank.generate("", seed, scale, arguments)[-1])
