"""How a model repository tells the plugin about its own pipeline."""


def pytest_vdb_models():
    from pytest_vdb import ModelSpec

    size = {"num_frames": 17, "height": 64, "width": 64, "num_inference_steps": 8}
    call = {**size, "guidance_scale": 5.0, "max_sequence_length": 64}
    return [
        ModelSpec("our-wan", "factory", "our_model:build", call=call, options={"num_threads": 1})
    ]
