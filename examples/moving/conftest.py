def pytest_vdb_models():
    from pytest_vdb import ModelSpec

    full = {"num_frames": 45, "height": 480, "width": 832, "num_inference_steps": 50}
    return [
        ModelSpec(f"wan-{b}", "factory", "our_engine:wan", dtype="bfloat16", call=full, devices=2,
                  options={"attention_backend": b, "flow_shift": 7.0})
        for b in ("flash", "native")
    ]
