"""The model under test, by name."""


def pytest_vdb_models():
    from pytest_vdb import ModelSpec

    size = {"num_frames": 5, "height": 64, "width": 64, "num_inference_steps": 6}
    return [
        ModelSpec(
            "small-wan",
            "factory",
            "small_wan.factory:build",
            call={**size, "guidance_scale": 5.0, "max_sequence_length": 64},
            options={"num_threads": 1},
        )
    ]
