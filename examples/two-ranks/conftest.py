"""How a model repository tells the plugin about an engine that runs on two devices."""


def pytest_vdb_models():
    from pytest_vdb import ModelSpec

    size = {"num_frames": 17, "height": 64, "width": 64, "num_inference_steps": 8}
    call = {**size, "guidance_scale": 5.0, "max_sequence_length": 64}
    options = {"num_threads": 1}
    return [
        ModelSpec("two-ranks", "factory", "engine:build", call=call, options=options, devices=2)
    ]
