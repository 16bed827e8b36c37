from pytest_vdb import ModelSpec

FULL = {"num_frames": 45, "height": 480, "width": 832, "num_inference_steps": 50}
WAN = {"location": "engine:wan", "dtype": "bfloat16", "call": FULL, "devices": 2}


def pytest_vdb_models():
    return [
        ModelSpec(f"wan-{backend}", "factory", options={"attention_backend": backend}, **WAN)
        for backend in ("flash", "native")
    ]
