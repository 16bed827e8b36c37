"""The recipe: what the script has in a dict, environment variables and REQUIRED_GPUS."""


def pytest_vdb_models():
    from pytest_vdb import ModelSpec

    full = {"num_frames": 45, "height": 480, "width": 832, "num_inference_steps": 50}
    recipe = {"location": "engine:wan", "dtype": "bfloat16", "call": full, "devices": 2}
    return [
        ModelSpec(f"wan-{backend}", "factory", options={"attention_backend": backend}, **recipe)
        for backend in ("flash", "native")
    ]
