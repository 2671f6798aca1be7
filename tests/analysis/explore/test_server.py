"""The explorer's server: who may come in, what a page may ask, and how it ends. No browser is needed here."""

import asyncio
import http.client
import json
import queue
import socket
import threading
import time
import urllib.error
import urllib.request
from contextlib import ExitStack, closing, contextmanager

import numpy as np
import pytest
import torch
from bokeh.client import pull_session
from bokeh.document import Document
from bokeh.models import CustomAction
from tornado.ioloop import IOLoop
from tornado.websocket import websocket_connect

from pyro_vae.analysis.explore import server
from pyro_vae.analysis.explore.explorer import Explorer
from pyro_vae.errors import InputError


@contextmanager
def _serving(explorer):
    """Serves in a thread with a loop of its own; gives the address, and the thread."""
    addresses = queue.Queue()
    thread = threading.Thread(target=server.serve, args=(explorer,), kwargs={"started": addresses.put}, daemon=True)
    thread.start()
    address = addresses.get(timeout=30)
    yield address, thread
    if thread.is_alive():
        with _page(address) as page:
            page.say(do="end")
        thread.join(timeout=30)
    assert not thread.is_alive()


class _Page:
    """What a page's script does: it changes the hand, and sees what comes back."""

    def __init__(self, session, address):
        self.session, self.address, self.serial = session, address, 0

    def change(self, model, /, **values):
        """Changes a model as a page would."""
        self.session.document.get_model_by_name(model).update(**values)
        self.session.force_roundtrip()

    def see(self, name):
        """A model as the server has it. Bokeh's client misses what comes while it waits for something else."""
        with closing(pull_session(url=self.address, session_id=self.session.id, io_loop=IOLoop.current())) as other:
            return other.document.get_model_by_name(name)

    def until(self, name, true):
        for _ in range(100):
            if true(model := self.see(name)):
                return model
            time.sleep(0.05)
        return pytest.fail("no answer came")

    def say(self, **words):
        self.serial += 1
        self.change("hand", said=json.dumps({**words, "serial": self.serial}))

    def picture(self, z):
        self.serial += 1
        before = self.see("hand").answered
        self.change("hand", wanted=[float(self.serial), *z])
        self.until("hand", lambda hand: hand.answered > before)
        return self.see("shown").data


@contextmanager
def _page(address):
    session = pull_session(url=address, io_loop=IOLoop.current())
    try:
        yield _Page(session, address)
    finally:
        session.close()


@pytest.fixture(autouse=True)
def _loop():
    """Bokeh's client wants a loop."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    asyncio.set_event_loop(None)
    loop.close()


@pytest.fixture(scope="module")
def open_ones():
    """One server serves all tests, as the run that it serves does not change."""
    loop = asyncio.new_event_loop()
    with ExitStack() as stack:
        yield stack, []
        asyncio.set_event_loop(loop)
    asyncio.set_event_loop(None)
    loop.close()


@pytest.fixture
def explored(open_ones, pictures):
    stack, made = open_ones
    if not made:
        explorer = Explorer(pictures)
        made += [explorer, stack.enter_context(_serving(explorer))[0]]
    return made[0]


@pytest.fixture
def served(open_ones, explored):
    return open_ones[1][1]


def _status(url, **headers):
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def test_only_the_address_that_was_told_opens(served):
    root, token = served.rstrip("/").rsplit("/", 1)
    port = root.rsplit(":", 1)[1]
    assert len(token) >= 43  # 32 random bytes
    assert _status(served) == 200
    assert _status(f"http://localhost:{port}/{token}/") == 200
    wrong = token[:-1] + ("a" if token[-1] != "a" else "b")
    for path in (
        "",
        wrong,
        wrong + "/",
        token[:-1],
        token + "x",
        "static/js/bokeh.min.js",
        "favicon.ico",
        f"x/{token}",
    ):
        assert _status(f"{root}/{path}") == 403, path
        assert _status(f"{root}/{path}/ws") == 403, path
    assert _status(served, Origin=f"http://127.0.0.1:{port}") == 200
    for origin in (
        "http://evil.example",
        f"http://127.0.0.1:{int(port) + 1}",
        "null",
        f"http://127.0.0.1:{port}.evil.example",
    ):
        assert _status(served, Origin=origin) == 403, origin
    # A name of someone else's that points here.
    assert _status(served, Host="evil.example") == 403
    assert _status(served, Host=f"evil.example:{port}") == 403


def test_no_path_leads_out_of_the_servers_own_files(served):
    host = served.split("/")[2]
    token = served.rstrip("/").rsplit("/", 1)[1]
    for path in (
        "../../../../../../etc/passwd",
        "%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "//etc/passwd",
        "..%2f..%2fetc/passwd",
    ):
        connection = http.client.HTTPConnection(host, timeout=10)
        connection.request("GET", f"/{token}/static/{path}")  # as it is, where urllib would tidy it up
        answer = connection.getresponse()
        assert answer.status in (403, 404)
        assert b"root:" not in answer.read()
        connection.close()


@pytest.mark.parametrize("origin", ["http://evil.example", "null"])
def test_a_websocket_from_elsewhere_is_refused(served, origin):
    async def connect():
        from tornado.httpclient import HTTPClientError, HTTPRequest

        url = served.replace("http:", "ws:") + "ws"
        with pytest.raises(HTTPClientError, match="403"):
            await websocket_connect(HTTPRequest(url, headers={"Origin": origin}), subprotocols=["bokeh", "x"])

    asyncio.run(connect())


def test_it_listens_on_the_loopback_address_alone(served):
    port = int(served.split("/")[2].split(":")[1])
    hexadecimal = f":{port:04X}"
    with open("/proc/net/tcp") as v4, open("/proc/net/tcp6") as v6:
        lines = [line.split() for line in [*v4, *v6]]
    listening = [words[1] for words in lines if words[1].endswith(hexadecimal) and words[3] == "0A"]
    assert listening == [f"0100007F{hexadecimal}"]  # 127.0.0.1, its bytes turned round


def test_a_page_gets_the_decoders_own_values(served, explored):
    with _page(served) as page:
        for z in ([0.2, -0.4], [1.5, 0.3]):
            (image,) = page.picture(z)["image"]
            mean = torch.tensor(z) @ explored.run.model.weight.T + explored.run.model.bias
            grey = np.rint(mean.clamp(0, 1).numpy(force=True) * 255)
            np.testing.assert_allclose(np.asarray(image).view(np.uint8).reshape(-1, 4)[:, 0], grey, atol=1)


def test_a_page_changes_nothing_but_its_hand(served):
    with _page(served) as page:
        page.change("told", text="mine")
        page.change("plane", name="mine", tools=[CustomAction(icon="x")])
        page.change("hand", held=[1.0])
        assert page.see("told").text == ""
        assert page.see("plane").name == "plane"
        assert page.see("hand").held == []


def test_a_guarded_document_makes_no_model_of_what_it_is_sent():
    """Bokeh would make any of its models, and some of them read files."""
    from pyro_vae.analysis.explore.guard import guard
    from pyro_vae.analysis.explore.page import Hand

    document = Document()
    guard(document)
    hand = Hand(name="hand")
    document.add_root(hand)
    for new in (
        {"type": "object", "name": "CustomAction", "attributes": {"icon": "x.svg"}},
        3,
        None,
        [True],
        [[1]],
        {},
    ):
        for attribute in ("said", "wanted", "held", "name", "tags"):
            event = {"kind": "ModelChanged", "model": {"id": hand.id}, "attr": attribute, "new": new}
            document.apply_json_patch({"events": [event]})
    for events in (
        None,
        [None],
        [{}],
        [{"kind": "RootAdded", "model": {"id": hand.id}}],
        [{"kind": "TitleChanged", "title": "x"}],
    ):
        document.apply_json_patch({"events": events})
    assert (hand.said, hand.wanted, hand.held, hand.name, hand.tags) == ("", [], [], "hand", [])
    assert document.title == "Bokeh Application"
    event = {"kind": "ModelChanged", "model": {"id": hand.id}, "attr": "said", "new": "hello"}
    document.apply_json_patch({"events": [event]})
    assert hand.said == "hello"
    with pytest.raises(ValueError, match="cannot replace"):
        document.replace_with_json({})


def test_slow_and_vanished_clients_hold_nobody_up(explored, monkeypatch):
    monkeypatch.setattr(server, "_SECONDS", 1)
    with _serving(explored) as (address, _):
        host, port = address.split("/")[2].split(":")
        slow = [socket.create_connection((host, int(port)), timeout=10) for _ in range(20)]
        for each in slow:
            each.sendall(b"GET /half-a-request HTTP/1.1\r\nHost: ")
        vanished = pull_session(url=address, io_loop=IOLoop.current())
        vanished.document.get_model_by_name("hand").said = json.dumps({"do": "pick", "index": 1})
        vanished.close()
        with _page(address) as page:
            assert page.picture([0.0, 0.0])["image"]
        for each in slow:  # they are let go of
            assert each.recv(1000) in (b"", b"HTTP/1.1 400 Bad Request\r\n\r\n")
            each.close()


def test_it_ends_when_it_is_asked(explored):
    with _serving(explored) as (address, thread):
        with _page(address) as page:
            page.say(do="end")
            thread.join(timeout=30)
        assert not thread.is_alive()
        with pytest.raises(urllib.error.URLError):
            urllib.request.urlopen(address, timeout=5)


def test_a_port_in_use_is_named(explored):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(InputError, match=f"--port {port} is in use: give another, or leave it out"):
            server.serve(explored, port, started=lambda address: None)


def test_the_browsers_command_line_does_not_hold_the_token(monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    path = server._door("http://127.0.0.1:5/secret/")
    assert opened == [path.as_uri()]
    assert "secret" not in opened[0]
    assert path.stat().st_mode & 0o077 == 0
    assert "http://127.0.0.1:5/secret/" in path.read_text()
    path.unlink()
