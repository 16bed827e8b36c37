"""A folder of real generated videos with their prompts, from ComfyUI's template packages.

The clips are previews that the templates' authors made with the models named here, re-encoded as
WebP, most of them 350 pixels wide: good for trying a suite on real video, not for judging a model.
The seeds that they were made with are not known; all are entered as 0.
"""

from __future__ import annotations

import json
import shutil
from importlib import metadata
from pathlib import Path

from pytest_vdb.errors import BadSetting, SourceError
from pytest_vdb.models.recorded import MANIFEST, Entry, read_manifest
from pytest_vdb.records import Json

PROMPTS = "comfyui-workflow-templates-json"
CLIPS = (
    "comfyui-workflow-templates-media-video",
    "comfyui-workflow-templates-media-assets-01",
    "comfyui-workflow-templates-media-assets-02",
)

# Model -> template -> the node that holds its prompt. Only clips that show their prompt
# (comparisons of two clips and collages are left out), but for SVD: it animates a still, and the
# published clip shows other scenery than the still's prompt. Don't score text alignment on it.
TEMPLATES: dict[str, dict[str, int]] = {
    "wan2.1": {
        "text_to_video_wan": 6,
        "image_to_video_wan": 6,
        "video_wan2.1_fun_camera_v1.1_1.3B": 6,
        "video_wan2.1_fun_camera_v1.1_14B": 6,
        "video_wan_ati": 6,
        "video_wan_vace_14B_ref2v": 105,
        "video_wan_vace_14B_t2v": 6,
        "video_wan_vace_flf2v": 6,
    },
    "wan2.2": {
        "video_wan2_2_14B_t2v": 89,
        "video_wan2_2_14B_i2v": 129,
        "video_wan2_2_14B_fun_camera": 107,
        "video_wan2_2_14B_fun_control": 99,
        "video_wan2_2_14B_fun_inpaint": 99,
        "video_wan2_2_14B_s2v": 6,
        "video_wan2_2_5B_fun_control": 6,
        "video_wan2_2_5B_fun_inpaint": 6,
        "video_wan2_2_5B_ti2v": 6,
    },
    "ltx-0.9.5": {"ltxv_text_to_video": 6, "ltxv_image_to_video": 6},
    "ltx-2.3": {
        "video_ltx2_3_t2v": 267,
        "video_ltx2_3_i2v": 320,
        "video_ltx2_3_ia2v": 340,
        "video_ltx2_3_id_lora": 340,
        "video_ltx2_3_flf2v": 128,
    },
    "ltx-2.5": {"video_ltx2_5_t2v": 405, "video_ltx2_5_i2v": 398},
    "hunyuan-video-1.5": {
        "video_hunyuan_video_1.5_720p_t2v": 44,
        "video_hunyuan_video_1.5_720p_i2v": 44,
    },
    "svd": {"txt_to_image_to_video": 18},
    "minimax-h3": {"video_minimax_h3_t2v": 140, "video_minimax_h3_i2v": 105},
}


def build(folder: Path | str) -> list[Entry]:
    """Fill ``folder`` with the clips and their ``prompts.jsonl``.

    Gives the manifest's entries. Raises SourceError for a package that is not installed or has
    changed, BadSetting for a folder that holds another manifest, which stays untouched.
    """
    folder = Path(folder)
    prompts, clips = _files(PROMPTS), {k: v for name in CLIPS for k, v in _files(name).items()}
    lines, sources = [], {}
    for model, templates in TEMPLATES.items():
        for template, node in templates.items():
            file = f"{template}-1.webp"
            prompt = _prompt(_find(prompts, f"{template}.json"), node)
            sources[file] = _find(clips, file)
            lines.append({"file": file, "prompt": prompt, "model": model, **_sizes(sources[file])})
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    _write(folder, text, sources)
    return list(read_manifest(folder))


def _files(package: str) -> dict[str, Path]:
    """Files of an installed distribution by name."""
    try:
        found = metadata.distribution(package).files
    except metadata.PackageNotFoundError as exc:
        raise SourceError(f'{package} is not installed: pip install "pytest-vdb[videos]"') from exc
    return {file.name: Path(str(file.locate())) for file in found or ()}


def _find(files: dict[str, Path], name: str) -> Path:
    if name not in files or not files[name].is_file():
        raise _changed(f"they hold no {name}")
    return files[name]


def _prompt(path: Path, node: int) -> str:
    """The longest text of the one node with this id, subgraphs included."""
    data: Json = json.loads(path.read_text(encoding="utf-8"))
    graphs = [data, *data.get("definitions", {}).get("subgraphs", [])]
    values = [
        n.get("widgets_values") for graph in graphs for n in graph["nodes"] if n["id"] == node
    ]
    texts = [v.strip() for v in (values or [None])[0] or () if isinstance(v, str) and v.strip()]
    if len(values) != 1 or not texts:
        raise _changed(f"node {node} of {path.name} holds no prompt")
    return max(texts, key=len)


def _changed(what: str) -> SourceError:
    return SourceError(
        f"the installed {PROMPTS} and its media packages are not those this was written for: "
        f'{what}; pip install --upgrade "pytest-vdb[videos]"'
    )


def _sizes(clip: Path) -> dict[str, int]:
    from PIL import Image

    with Image.open(clip) as picture:
        return {
            "num_frames": getattr(picture, "n_frames", 1),
            "height": picture.height,
            "width": picture.width,
        }


def _write(folder: Path, text: str, sources: dict[str, Path]) -> None:
    """Clips first, the manifest last and at once: a folder with a manifest is complete."""
    manifest = folder / MANIFEST
    if manifest.exists() and manifest.read_text(encoding="utf-8") != text:
        raise BadSetting(f"{manifest} is another manifest already; choose an empty folder")
    folder.mkdir(parents=True, exist_ok=True)
    for file, source in sources.items():
        shutil.copyfile(source, folder / file)  # a link would let an edited clip change the package
    draft = folder / f"{MANIFEST}.part"
    draft.write_text(text, encoding="utf-8")
    draft.replace(manifest)
