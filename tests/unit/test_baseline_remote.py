"""What a server is asked and told, and what a push may write over."""

import http.server
import threading
from contextlib import contextmanager

import pytest

from pytest_vdb import cli
from pytest_vdb.baseline import schema, update
from pytest_vdb.baseline.remote import connect, joined
from pytest_vdb.baseline.store import Store
from pytest_vdb.errors import Unreachable
from pytest_vdb.records import Kind, Measurement, Prompt, Provenance, Session, Value, Workload

WORKLOAD = Workload((Prompt("a", "a fox"),), (0,), {"num_frames": 5})


@contextmanager
def server(answer):
    """A web server on this machine; ``answer`` gives a status and headers for a path."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append((self.path, self.headers.get("Authorization")))
            status, headers = answer(self.path)
            self.send_response(status)
            for name, value in {**headers, "Content-Length": "0"}.items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, *_):
            pass

    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"127.0.0.1:{running.server_port}", asked
    finally:
        running.shutdown()
        running.server_close()


def test_a_signature_is_sent_and_never_shown():
    with server(lambda _: (200, {})) as (place, asked):
        remote = connect(joined(f"http://{place}/vdb?sig=secret", "media"))
        assert remote.get("ab/a b.webp") == b""
    assert asked == [("/vdb/media/ab/a%20b.webp?sig=secret", None)]
    assert "secret" not in remote.url


def test_a_password_goes_to_its_own_server_alone():
    with server(lambda _: (200, {})) as (other, theirs):

        def answer(path):
            if path.startswith("/moved"):
                return 302, {"Location": path.replace("/moved", "/here")}
            return 302, {"Location": f"http://{other}/there"}

        with server(answer) as (place, ours):
            assert connect(f"http://user:pass@{place}/moved").get("x") == b""
    assert [path for path, _ in ours] == ["/moved/x", "/here/x"]
    assert all(secret.startswith("Basic ") for _, secret in ours)
    assert theirs == [("/there", None)]


@pytest.mark.parametrize("url", ["http://[x/y", "s3://[x/y"])
def test_what_is_no_url(tmp_path, capsys, url):
    with pytest.raises(Unreachable, match="is no URL"):
        connect(url)
    stored(tmp_path / "one", "2026-01-01")
    assert cli.main(["push", str(tmp_path / "one"), url]) == 2
    assert "is no URL" in capsys.readouterr().err


# ------------------------------------------------------------------------------- push --files


def stored(root, *dates, keep=9):
    """A baselines folder with a session of one measurement a date."""
    score = Measurement(
        *("sharpness", "1", "higher", Kind.SCORE, "mean"),
        values=(Value("a", 0, 1.0),),
        provenance=Provenance("how"),
    )
    one = update.Update("m/e/test_f.json", "test_x", "m", {"device": "e"}, WORKLOAD, (score,), {})
    for date in dates:
        session = Session(date, "abc")
        place = Store(root, root / "media")
        update.apply(place, [one], session, mode="all", keep=keep, blobs=root / "none")
    return root


def there(place):
    (baseline,) = schema.read(place / "m/e/test_f.json").workloads.values()
    return list(baseline.sessions)


def test_a_push_writes_over_no_session_that_it_has_not_seen(tmp_path, capsys):
    shared = tmp_path / "shared"
    url = f"file://{shared}"
    ours = stored(tmp_path / "ours", "2026-01-01", "2026-01-02", keep=2)
    assert cli.main(["push", "--files", str(ours), url]) == 0
    stored(ours, "2026-01-03", keep=2)  # drops the oldest, as updates do
    assert cli.main(["push", "--files", str(ours), url]) == 0
    assert there(shared) == ["2026-01-02", "2026-01-03"]

    for other in (["2026-01-09"], ["2026-01-02"]):  # never saw any of them; missed the latest
        theirs = stored(tmp_path / other[0], *other)
        assert cli.main(["push", "--files", str(theirs), url]) == 2
        said = capsys.readouterr().err
        assert "holds sessions that" in said
        assert "2026-01-03" in said
        assert there(shared) == ["2026-01-02", "2026-01-03"]
    assert cli.main(["push", "--files", "--replace", str(theirs), url]) == 0
    assert there(shared) == ["2026-01-02"]
