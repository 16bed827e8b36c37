"""How places are told: without what may be a secret."""

import pytest

from pytest_vdb.places import public


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("ours @ git+https://TOKEN@github.com/x/y@main", "ours @ git+https://github.com/x/y@main"),
        ("HTTPS://me:secret@host/a?key=1#k and s3://b/c", "https://host/a and s3://b/c"),
        ("origin/main", "origin/main"),
    ],
)
def test_urls_lose_user_password_and_query(text, told):
    assert public(text) == told
