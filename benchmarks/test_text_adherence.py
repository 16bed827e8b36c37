"""Does the embedded model still draw what its prompt says? Exact, on prompts it never saw.

The captions of the suite `shapes` mean nothing to a model that was not trained on them.
"""

import pytest

pytestmark = pytest.mark.vdb(prompts="shapes", num_seeds=1)


def test_text_adherence(vdb, vdb_model):
    if vdb_model.name != "shapes":
        pytest.skip("its prompts are those of the model shapes")
    assert vdb.score("shapes_color").mean > 0.9
    assert vdb.score("shapes_background").mean > 0.9
    assert vdb.score("shapes_shape").mean > 0.9
    assert vdb.score("shapes_direction").mean > 0.9
    assert vdb.score("shapes_adherence").mean > 0.9
