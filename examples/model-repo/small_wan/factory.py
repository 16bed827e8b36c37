"""What the gate runs: our pipeline in its smallest size."""

from small_wan.pipeline import EarlyGuidancePipeline


def build():
    """Seeded weights, so that nothing is downloaded.

    With weights of your own: ``EarlyGuidancePipeline.from_pretrained("weights/")``.
    """
    from pytest_vdb.models.embedded import tiny_wan

    return EarlyGuidancePipeline(**tiny_wan().components)
