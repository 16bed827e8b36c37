"""Models whose files are missing, cut short or dangerous, and hubs that say no."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from pytest_vdb.errors import PickleRefused, SourceError
from pytest_vdb.models.embedded import tiny_wan
from pytest_vdb.models.open import open_source
from pytest_vdb.records import ModelSpec

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny Wan, its transformer in shards as a large one is saved."""
    folder = tmp_path_factory.mktemp("saved") / "wan"
    pipeline = tiny_wan()
    pipeline.save_pretrained(folder)
    (folder / "transformer" / WEIGHTS).unlink()
    pipeline.transformer.save_pretrained(folder / "transformer", max_shard_size="2MB")
    assert len(list((folder / "transformer").glob("*-of-*.safetensors"))) > 1
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "wan"))


def at(location: Path) -> ModelSpec:
    return ModelSpec(name="mine", source="diffusers", location=str(location))


def test_shards_load(saved: Path) -> None:
    assert open_source(at(saved)).nbytes > 0


def cut(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


def shard(folder: Path) -> Path:
    return sorted((folder / "transformer").glob("*-of-*.safetensors"))[1]


BREAKS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no weights": (lambda f: (f / "vae" / WEIGHTS).unlink(), rf"vae/{WEIGHTS}"),
    "no configuration": (lambda f: (f / "vae" / "config.json").unlink(), r"vae/config\.json"),
    "no component": (lambda f: shutil.rmtree(f / "text_encoder"), r"text_encoder/ \(nothing"),
    "no tokenizer": (lambda f: shutil.rmtree(f / "tokenizer"), r"tokenizer/ \(nothing"),
    "no shard": (lambda f: shard(f).unlink(), r"transformer/\S+-00002-of-\d+\.safetensors"),
    "a short shard": (
        lambda f: cut(shard(f), 3000),
        r"00002-of-\d+\.safetensors \((3000 of at least \d+ bytes|its header)",
    ),
    "a short file": (
        lambda f: cut(f / "vae" / WEIGHTS, (f / "vae" / WEIGHTS).stat().st_size - 1),
        rf"vae/{WEIGHTS} \(\d+ of at least \d+ bytes\)",
    ),
    "an empty file": (lambda f: (f / "vae" / WEIGHTS).write_bytes(b""), rf"vae/{WEIGHTS} \("),
    "no safetensors": (
        lambda f: (f / "vae" / WEIGHTS).write_bytes(b"<html>not found</html>" * 9),
        rf"vae/{WEIGHTS} \(",
    ),
    "a short index": (
        lambda f: cut(next((f / "transformer").glob("*.index.json")), 99),
        r"transformer/\S+index\.json \(no list",
    ),
    "a short model_index": (lambda f: cut(f / "model_index.json", 40), r"is no JSON"),
}


@pytest.mark.parametrize("what", BREAKS)
def test_a_half_downloaded_folder_says_what_is_missing(folder: Path, what: str) -> None:
    spoil, named = BREAKS[what]
    spoil(folder)
    with pytest.raises(SourceError, match=named) as caught:
        open_source(at(folder))
    message = str(caught.value)
    assert "half-downloaded" in message
    assert "hf download ORG/NAME --exclude" in message
    assert message.endswith(f"--local-dir {folder}")


def test_several_faults_are_named_at_once(folder: Path) -> None:
    (folder / "vae" / WEIGHTS).unlink()
    shard(folder).unlink()
    with pytest.raises(SourceError, match=rf"00002-of.*, vae/{WEIGHTS}"):
        open_source(at(folder))


def test_no_pipeline_at_all(tmp_path: Path) -> None:
    (tmp_path / "ltx-video-2b.safetensors").touch()
    with pytest.raises(SourceError, match=r"no model_index\.json \(it holds ltx-video-2b\.safet"):
        open_source(at(tmp_path))
    with pytest.raises(SourceError, match=r"there is no folder .*missing.* no hub id"):
        open_source(at(tmp_path / "missing"))


def test_a_pickle_is_refused_and_not_opened(folder: Path) -> None:
    (folder / "vae" / WEIGHTS).unlink()
    torch.save({"weight": torch.zeros(1)}, folder / "vae" / "diffusion_pytorch_model.bin")
    with pytest.raises(PickleRefused, match=r"pickles only \(diffusion_pytorch_model\.bin\)") as e:
        open_source(at(folder))
    assert "save_pretrained(FOLDER, safe_serialization=True)" in str(e.value)


def test_a_pickle_beside_safetensors_is_left_alone(folder: Path) -> None:
    (folder / "vae" / "diffusion_pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    assert open_source(at(folder)).nbytes > 0


def test_the_variant_that_is_there_is_named(folder: Path) -> None:
    vae = folder / "vae"
    (vae / WEIGHTS).rename(vae / "diffusion_pytorch_model.fp16.safetensors")
    with pytest.raises(SourceError, match=r"there is the variant fp16"):
        open_source(at(folder))
    spec = ModelSpec("mine", "diffusers", str(folder), options={"variant": "fp16"})
    assert open_source(spec).nbytes > 0


SERVER = """
import json, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SHA = "b" * 40
INDEX = {"_class_name": "WanPipeline", "transformer": ["evil", "Transformer"]}

class Hub(BaseHTTPRequestHandler):
    def answer(self, status, code="", body=b"{}"):
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
            self.send_header("X-Error-Message", code)
        self.send_header("X-Repo-Commit", SHA)
        self.send_header("ETag", '"0123456789abcdef0123456789abcdef"')
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self):
        name = self.path.split("?")[0].removeprefix("/api/models").split("/")[2]
        about = {"id": f"org/{name}", "sha": SHA, "siblings": [{"rfilename": "model_index.json"}]}
        known = json.dumps(about).encode()
        api = self.path.startswith("/api/")
        if name == "private":
            return self.answer(401)
        if name == "gated":
            return self.answer(200, "", known) if api else self.answer(403, "GatedRepo")
        if name == "broken":
            return self.answer(500)
        if name == "revised":
            return self.answer(404, "RevisionNotFound")
        if name == "empty":
            return self.answer(200, "", known) if api else self.answer(404, "EntryNotFound")
        if name == "evil":
            return self.answer(200, "", known if api else json.dumps(INDEX).encode())
        self.answer(404, "RepoNotFound")

    do_HEAD = do_GET

    def log_message(self, *args):
        pass

server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
print(server.server_port, flush=True)
server.serve_forever()
"""

OPEN = """
import json, os, sys
import torch._dynamo  # what takes seconds and does not read the environment; the hub's library does
assert "huggingface_hub" not in sys.modules

def said(location):
    from pytest_vdb.models.open import open_source
    from pytest_vdb.records import ModelSpec
    location, _, revision = location.partition("@")
    try:
        open_source(ModelSpec("mine", "diffusers", location, revision))
    except Exception as exc:
        return location, [type(exc).__name__, str(exc)]

for file, env, locations in json.loads(sys.argv[1]):
    pid = os.fork()
    if pid == 0:
        os.environ.update(env)
        with open(file, "w") as out:
            json.dump(dict(map(said, locations)), out)
        os._exit(0)
    os.waitpid(pid, 0)
"""

HUB = ("THUDM/CogVideoX-2B", "org/private", "org/gated", "org/broken", "org/revised@v9")


@dataclass
class Refused:
    """What opening hub ids raises in one environment: class and message by id."""

    home: Path
    endpoint: str
    errors: dict[str, tuple[str, str]]


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Refused]:
    """By hub: one that answers (a real server), one that cannot be reached, and none (offline).

    Each in a process of its own, which nothing else has told where the hub is.
    """
    server = subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        port = server.stdout.readline().strip()
        with socket.socket() as taken:  # bound and not listening: connections are refused
            taken.bind(("127.0.0.1", 0))
            asked = {
                "answers": (port, (*HUB, "org/empty", "org/evil")),
                "unreachable": (str(taken.getsockname()[1]), ("THUDM/CogVideoX-2b@main",)),
                "offline": ("", ("org/model",)),
            }
            cases, homes = [], {name: tmp_path_factory.mktemp("home") for name in asked}
            for name, (port, locations) in asked.items():
                where = {"HF_ENDPOINT": f"http://127.0.0.1:{port}"} if port else OFFLINE
                env = {"HF_HOME": str(homes[name]), **where}
                cases.append((str(homes[name] / "said.json"), env, locations))
            done = subprocess.run(
                [sys.executable, "-c", OPEN, json.dumps(cases)],
                env={k: v for k, v in os.environ.items() if not k.startswith("HF_")},
                capture_output=True,
                text=True,
                timeout=120,
            )
    finally:
        server.kill()
        server.wait()
    assert done.returncode == 0, done.stderr
    return {
        name: Refused(
            home,
            f"http://127.0.0.1:{asked[name][0]}",
            {k: (v[0], v[1]) for k, v in json.loads((home / "said.json").read_text()).items()},
        )
        for name, home in homes.items()
    }


OFFLINE = {"HF_HUB_OFFLINE": "1"}


@pytest.mark.parametrize(
    ("location", "kind", "words"),
    [
        ("THUDM/CogVideoX-2B", "UnknownModel", ("no repository", "'THUDM/CogVideoX-2b'")),
        ("org/private", "SourceError", ("HTTP 401", "accept its licence", "hf auth login")),
        ("org/gated", "SourceError", ("HTTP 403", "accept its licence", "HF_TOKEN")),
        ("org/broken", "InfraError", ("cannot be reached", "hf download org/broken")),
        ("org/revised", "SourceError", ("no revision 'v9'",)),
        ("org/empty", "SourceError", ("no pipeline of diffusers", "-Diffusers")),
        ("org/evil", "SourceError", ("evil.Transformer", "is not run")),
    ],
)
def test_what_a_hub_answers(
    refused: dict[str, Refused], location: str, kind: str, words: tuple[str, ...]
) -> None:
    name, message = refused["answers"].errors[location]
    assert name == kind, message
    for word in words:
        assert word in message


def test_a_hub_that_cannot_be_reached_is_not_the_model_s_fault(
    refused: dict[str, Refused],
) -> None:
    hub = refused["unreachable"]
    name, message = hub.errors["THUDM/CogVideoX-2b"]
    assert name == "InfraError"
    assert f"the hub at {hub.endpoint} cannot be reached" in message
    assert 'hf download THUDM/CogVideoX-2b --revision main --exclude "*.bin"' in message
    assert str(hub.home) in message  # HF_HOME, as it is here


def test_offline_says_what_to_fetch_before(refused: dict[str, Refused]) -> None:
    hub = refused["offline"]
    name, message = hub.errors["org/model"]
    assert name == "SourceError"
    assert f"org/model is not in {hub.home / 'hub'}" in message
    assert "hf download org/model --exclude" in message
    assert f"(here {hub.home})" in message
