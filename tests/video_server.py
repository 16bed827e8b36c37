"""A small server of the OpenAI video API over tiny-wan, with misbehaviour to be switched on.

``python video_server.py PORT [FOLDER]`` listens on 127.0.0.1 once the model is loaded. It really
generates, one job at a time from a queue, and encodes without loss (H.264 RGB, qp 0). With FOLDER
it loads no model, for tests of its life alone; it starts a process of its own, notes both
processes' ids there in ``pids``, and dies at once where VIDEO_SERVER_DIES is set. Where
VIDEO_SERVER_DRAWS is set its videos are drawn, without torch.

POST /control sets, in JSON: ``dialect`` ("openai", "sglang": JSON alone and no word about its
queue, "vllm-omni": forms alone), ``modes`` ({mode: how many times}), ``seconds`` (what some modes
last), ``memory`` (tell the process's peak). GET /seen gives every request so far, ``reset`` in
/control forgets them.
"""

from __future__ import annotations

import json
import os
import queue
import resource
import subprocess
import sys
import threading
import time
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")


class Engine:
    """tiny-wan behind a queue; the job dicts are what GET answers."""

    def __init__(self) -> None:
        self._load()
        self.jobs: dict[str, dict[str, Any]] = {}
        self.videos: dict[str, bytes] = {}
        self.queue: queue.Queue[tuple[str, dict[str, Any]]] = queue.Queue()
        threading.Thread(target=self._work, daemon=True).start()

    def _load(self) -> None:
        import torch

        from pytest_vdb.models.embedded import tiny_wan

        torch.set_num_threads(1)
        self.pipeline = tiny_wan()

    def create(self, fields: dict[str, Any]) -> dict[str, Any]:
        job = {"id": f"video_{len(self.jobs)}", "object": "video", "status": "queued"}
        job |= {"created_at": int(time.time()), "progress": 0, "model": "tiny-wan"}
        self.jobs[job["id"]] = job
        self.queue.put((job["id"], fields))
        return job

    def _work(self) -> None:
        while True:
            name, fields = self.queue.get()
            job = self.jobs.get(name, {})
            while STATE.takes("stay-queued"):
                time.sleep(STATE.seconds)
            if STATE.dialect != "sglang":
                job["status"] = "in_progress"
            if STATE.takes("fail"):
                job |= {
                    "status": "failed",
                    "error": {"code": 500, "message": "NaN\x1b[31m in step 3"},
                }
                continue
            if STATE.takes("slow"):
                time.sleep(STATE.seconds)
            started = time.perf_counter()
            self.videos[name], stages = self.generate(fields)
            job["inference_time_s"] = time.perf_counter() - started
            job |= {"completed_at": int(time.time()), "progress": 100}
            if STATE.dialect == "vllm-omni":
                job |= {"stage_durations": stages, "peak_memory_mb": 0.0}
            if STATE.memory:
                job["peak_memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            job["status"] = "completed"

    def generate(self, fields: dict[str, Any]) -> tuple[bytes, dict[str, float]]:
        """The encoded video, and seconds by the names that a profiler gives them."""
        import torch

        width, height = map(int, fields["size"].split("x"))
        wanted = {
            name: kind(fields[name])
            for name, kind in (
                ("num_frames", int),
                ("num_inference_steps", int),
                ("guidance_scale", float),
                ("negative_prompt", str),
            )
            if name in fields
        }
        decode, seconds = self.pipeline.vae.decode, []

        def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            try:
                return decode(*args, **kwargs)
            finally:
                seconds.append(time.perf_counter() - start)

        self.pipeline.vae.decode = timed
        start = time.perf_counter()
        try:
            with torch.inference_mode():
                frames = self.pipeline(
                    fields["prompt"],
                    width=width,
                    height=height,
                    generator=torch.Generator("cpu").manual_seed(int(fields["seed"])),
                    output_type="np",
                    **wanted,
                ).frames[0]
        finally:
            self.pipeline.vae.decode = decode
        forward = time.perf_counter() - start
        stages = {"WanPipeline.forward": forward, "WanPipeline.vae.decode": sum(seconds)}
        stages["WanPipeline.diffuse"] = forward - sum(seconds)
        return encoded((frames * 255).round().astype("uint8"), int(fields.get("fps", 8))), stages


class Drawn(Engine):
    """A texture that drifts, which takes as long as a model would."""

    def _load(self) -> None:
        pass

    def generate(self, fields: dict[str, Any]) -> tuple[bytes, dict[str, float]]:
        import numpy as np

        width, height = map(int, fields["size"].split("x"))
        random = np.random.default_rng([int(fields["seed"]), len(fields["prompt"])])
        picture = random.integers(0, 256, (height, width, 3), np.uint8)
        time.sleep(0.02 * int(fields["num_inference_steps"]))
        frames = [np.roll(picture, step, axis=1) for step in range(int(fields["num_frames"]))]
        return encoded(np.stack(frames), int(fields.get("fps", 8))), {}


def encoded(frames: Any, fps: int) -> bytes:
    import av

    file = BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264rgb", rate=fps, options={"qp": "0"})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "rgb24"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return file.getvalue()


class State:
    """What /control set and /seen shows."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.clear()

    def clear(self) -> None:
        self.dialect, self.modes, self.seconds, self.memory = "openai", {}, 0.2, False
        self.seen: list[dict[str, Any]] = []

    def takes(self, mode: str) -> bool:
        """Whether to misbehave so once more."""
        with self.lock:
            left = self.modes.get(mode, 0)
            self.modes[mode] = max(0, left - 1)
            return left > 0


STATE = State()
ENGINE: Engine


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        if self.path == "/seen":
            return self.answer(200, STATE.seen)
        STATE.seen.append({"method": "GET", "path": self.path})
        if self.path == "/health":
            return self.answer(200, {})
        if self.misbehaves("get"):
            return None
        parts = self.path.split("/")
        job = ENGINE.jobs.get(parts[3] if len(parts) > 3 else "")
        if job is None:
            return self.answer(404, {"detail": "Video not found"})
        if parts[-1] != "content":
            return self.answer(200, job)
        return self.content(job)

    def content(self, job: dict[str, Any]) -> None:
        video = ENGINE.videos[job["id"]]
        if STATE.takes("redirect"):
            return self.answer(302, {}, Location=self.path)
        if STATE.takes("redirect-away"):
            return self.answer(302, {}, Location="http://192.0.2.1/video.mp4")
        if STATE.takes("truncate"):
            video = video[: len(video) // 2]
        if STATE.takes("cut-off"):
            self.answer(200, video[: len(video) // 2], length=len(video))
            self.close_connection = True
            return None
        return self.answer(200, video)

    def do_DELETE(self) -> None:
        STATE.seen.append({"method": "DELETE", "path": self.path})
        ENGINE.jobs.pop(self.path.split("/")[3], None)
        self.answer(200, {"deleted": True})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == "/control":
            wanted = json.loads(body)
            if wanted.pop("reset", False):
                STATE.clear()
            vars(STATE).update(wanted)
            return self.answer(200, {})
        fields, files = self.fields(body)
        seen = {"method": "POST", "path": self.path, "fields": fields, "files": files}
        seen["key"] = self.headers.get("Authorization")
        STATE.seen.append(seen)
        if self.misbehaves("post"):
            return None
        form = self.headers["Content-Type"].startswith("multipart/")
        if STATE.dialect == "vllm-omni" and not form:
            lack = {"loc": ["body", "prompt"], "msg": "Field required", "type": "missing"}
            return self.answer(422, {"detail": [lack]})
        if STATE.dialect == "sglang" and form and not files:
            return self.answer(400, {"detail": "input_reference file is required"})
        if int(fields["num_frames"]) > 100:
            return self.answer(400, {"error": {"message": "num_frames must be at most 100\x07"}})
        if self.path.endswith("/sync"):
            video, stages = ENGINE.generate(fields)
            told = {"X-Stage-Durations": json.dumps(stages), "X-Peak-Memory-MB": "0.000"}
            return self.answer(200, video, **told)
        job = ENGINE.create(fields)
        ends = ("completed", "failed")
        seen["open"] = sum(one["status"] not in ends for one in [*ENGINE.jobs.values()])
        return self.answer(200, job)

    def misbehaves(self, verb: str) -> bool:
        """Do one of the modes ``<verb>-...`` that are on, and say whether one was."""
        for status in (400, 401, 404, 429, 500, 503):
            if STATE.takes(f"{verb}-{status}"):
                after = {"Retry-After": "1"} if status == 429 else {}
                self.answer(status, {"error": {"message": f"as asked: {status}"}}, **after)
                return True
        if STATE.takes(f"{verb}-close"):
            self.close_connection = True
        elif STATE.takes(f"{verb}-hang"):
            time.sleep(STATE.seconds)
            self.close_connection = True
        elif STATE.takes(f"{verb}-garbage"):
            self.answer(200, b'{"id": "video_0", \x1b[31m')
        elif STATE.takes(f"{verb}-huge"):
            self.answer(200, b" " * 2**21)
        elif STATE.takes(f"{verb}-die"):
            os._exit(3)
        else:
            return False
        return True

    def fields(self, body: bytes) -> tuple[dict[str, Any], dict[str, int]]:
        """Fields, and bytes of each file, of JSON or a form."""
        kind = self.headers["Content-Type"]
        if kind == "application/json":
            return json.loads(body), {}
        fields, files = {}, {}
        parts = BytesParser().parsebytes(f"Content-Type: {kind}\r\n\r\n".encode() + body)
        for part in parts.get_payload():
            name = part.get_param("name", header="content-disposition")
            content = part.get_payload(decode=True)
            if part.get_filename():
                files[name] = len(content)
            else:
                fields[name] = content.decode()
        return fields, files

    def answer(self, status: int, body: Any, length: int | None = None, **headers: str) -> None:
        video = isinstance(body, bytes) and body[4:8] == b"ftyp"
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "video/mp4" if video else "application/json")
        self.send_header("Content-Length", str(len(content) if length is None else length))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)


def main(argv: list[str]) -> None:
    global ENGINE
    port = int(argv[0])
    if len(argv) > 1:
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        (Path(argv[1]) / "pids").write_text(f"{os.getpid()} {child.pid}")
        if os.environ.get("VIDEO_SERVER_DIES"):
            sys.exit("CUDA error: no kernel image is available")
    else:
        ENGINE = Drawn() if os.environ.get("VIDEO_SERVER_DRAWS") else Engine()
    print("listening", flush=True)
    ThreadingHTTPServer.request_queue_size = 64
    ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()


if __name__ == "__main__":
    main(sys.argv[1:])
