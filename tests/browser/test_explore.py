"""The explorer in a real Chromium: the pointer moves, and the pixels that are seen are the decoder's own."""

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from pyro_vae import generate, train
from pyro_vae.cli import main

pytestmark = pytest.mark.browser
ROOT = Path(__file__).parents[2]

# What tests look through: the models by name, their places on the screen, and the pixels of a picture's canvas.
LOOK = """
globalThis.model = (name) => Bokeh.documents[0].get_model_by_name(name)
globalThis.view = (name) => Bokeh.index.find_one(model(name))
globalThis.frame = (name) => {
  const {left, top} = view(name).el.getBoundingClientRect(), {left: x, top: y, width, height} = view(name).frame.bbox
  return [left + x, top + y, width, height]
}
globalThis.canvas = (name) => {
  const found = []
  const walk = (root) => root.querySelectorAll("*").forEach((each) => {
    if (each.tagName == "CANVAS") found.push(each)
    if (each.shadowRoot) walk(each.shadowRoot)
  })
  walk(view(name).shadow_el)
  return found[0]
}
globalThis.pixels = (name) => {
  const each = canvas(name), image = each.getContext("2d").getImageData(0, 0, each.width, each.height)
  return [each.width, each.height, [...image.data].filter((_, n) => n % 4 == 0)]
}
null
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser") / "run"
    return train(folder, samples=2e4, hidden=50, optimizer="adam", step_size=3e-3, progress=False)


class _Server:
    def __init__(self, path, *options):
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "pyro_vae", "explore", str(path), *options]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )
        self.address = self.process.stdout.readline().strip()

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.process.stderr.close()


@pytest.fixture(scope="module")
def server(run, chromium):
    served = _Server(run.path)
    yield served
    served.close()


def _opened(chromium, address, width=1300, height=1000):
    page = chromium.new_page(viewport={"width": width, "height": height})
    page.wrong = []
    page.on("pageerror", lambda error: page.wrong.append(str(error)))
    page.on("request", lambda r: page.wrong.append(r.url) if not r.url.startswith((address, "ws:", "data:")) else None)
    page.goto(address)
    page.wait_for_function("globalThis.explorer !== undefined", timeout=60_000)
    page.evaluate(LOOK)
    return page


@pytest.fixture
def page(chromium, server):
    opened = _opened(chromium, server.address)
    yield opened
    assert not opened.wrong  # no error, and nothing from another address
    opened.close()


def _on(page, x, y):
    """Where a place of the plane is on the screen."""
    left, top, width, height = page.evaluate("frame('plane')")
    x0, x1, y0, y1 = page.evaluate("[model('plane').x_range, model('plane').y_range].flatMap(r => [r.start, r.end])")
    return left + (x - x0) / (x1 - x0) * width, top + (1 - (y - y0) / (y1 - y0)) * height


def _seen(page):
    """The picture on the screen, in grey from 0 to 255: what lies in the middle of each of its 8 x 8 squares."""
    width, height, values = page.evaluate("pixels('picture')")
    shown = np.array(values, dtype=float).reshape(height, width)
    x, y, w, h = page.evaluate("['left', 'top', 'width', 'height'].map((each) => view('picture').frame.bbox[each])")
    scale = width / page.evaluate("canvas('picture').getBoundingClientRect().width")
    middles = (np.arange(8) + 0.5) / 8
    rows, columns = ((y + middles * h) * scale).astype(int), ((x + middles * w) * scale).astype(int)
    return shown[np.ix_(rows, columns)]


def _decoded(run, z):
    """What the decoder makes of z: ink on paper."""
    mean = generate.at(run.model, {"z": torch.tensor([z], dtype=torch.float32)})[0]
    return 255 * (1 - mean.clamp(0, 1).numpy().reshape(8, 8))


def _comes(page, run, z):
    """Waits until the picture on the screen is that of z."""
    expected = _decoded(run, z)
    for _ in range(100):
        if abs(_seen(page) - expected).max() <= 1.5:
            return
        time.sleep(0.1)
    np.testing.assert_allclose(_seen(page), expected, atol=1.5)


def test_the_picture_is_the_decoders_at_the_pointer(page, run):
    for target in ([0.5, -1.0], [-1.5, 1.0], [1.8, 1.6]):
        x, y = _on(page, *target)
        page.mouse.move(round(x), round(y))
        z = page.wait_for_function("explorer.z").json_value()
        # The pointer is on a whole pixel: a point is known to one of some hundred.
        np.testing.assert_allclose(z, target, atol=0.02)
        _comes(page, run, z)
    page.mouse.move(5, 5)  # it leaves the plane, and the held point is seen again
    z = page.evaluate("explorer.z")
    assert abs(np.array(z)).max() < 0.1
    _comes(page, run, z)


def test_a_drag_and_arrow_keys_move_the_point_and_the_sliders(page, run):
    page.mouse.move(*_on(page, 0.0, 0.0))
    page.mouse.down()
    for step in np.linspace(0, 1, 6):
        page.mouse.move(*_on(page, step * 1.2, step * -0.7))
    page.mouse.up()
    page.mouse.move(5, 5)
    z = page.evaluate("explorer.z")
    np.testing.assert_allclose(z, [1.2, -0.7], atol=0.05)
    _comes(page, run, z)
    sliders = page.evaluate("['z_1', 'z_2'].map((name) => model('slider ' + name).value)")
    np.testing.assert_allclose(sliders, z, atol=0.011)  # a step of theirs
    wide = page.evaluate("model('plane').x_range.end - model('plane').x_range.start")
    page.evaluate("view('plane').el.focus()")
    for key in ("ArrowRight", "ArrowRight", "ArrowUp"):
        page.keyboard.press(key)
    moved = page.evaluate("explorer.z")
    np.testing.assert_allclose(moved, [z[0] + 0.04 * wide, z[1] + 0.02 * wide], atol=1e-6)
    _comes(page, run, moved)


def test_a_slider_has_arrow_keys_of_its_own(page, run):
    before = page.evaluate("explorer.z")
    page.evaluate("view('slider z_1').shadow_el.querySelector('.noUi-handle').focus()")
    page.keyboard.press("ArrowRight")
    page.wait_for_function(f"explorer.z[0] > {before[0]}")
    z = page.evaluate("explorer.z")
    assert z[1] == before[1]
    _comes(page, run, z)


def test_a_click_chooses_a_datapoint(page, run):
    x, y = page.evaluate("['x', 'y'].map((axis) => [...model('plane').renderers[0].data_source.data[axis]])")
    places = np.stack([x, y], 1)
    inside = np.flatnonzero(abs(places).max(1) < 1.5)
    # One that no other lies close to.
    apart = np.linalg.norm(places[inside, None] - places[None], axis=2)
    number = inside[np.sort(apart, axis=1)[:, 1].argmax()]
    page.mouse.click(*_on(page, *places[number]))
    page.wait_for_function("model('told').text.startsWith('row ')", timeout=30_000)
    label = run.dataset.classes[run.dataset.test.labels[number]]
    assert page.evaluate("model('told').text").startswith(f"row {run.dataset.rows[1][number]} ({label})")
    page.mouse.move(5, 5)
    z = page.evaluate("explorer.z")
    np.testing.assert_allclose(z, places[number], atol=1e-4)
    _comes(page, run, z)
    page.evaluate("view('posterior').shadow_el.querySelector('button').click()")
    page.wait_for_function("model('cloud').data.x.length == 500", timeout=60_000)


def test_two_points_and_the_path_between_them(page, run):
    for name, target in (("A", (-1.0, 0.0)), ("B", (1.0, 1.0))):
        page.evaluate(f"explorer.pointer({{event_name: 'pan', x: {target[0]}, y: {target[1]}}})")
        page.evaluate(f"view('mark {name}').shadow_el.querySelector('button').click()")
    page.wait_for_function("model('strip path').renderers[0].data_source.data.image.length == 9", timeout=30_000)
    page.evaluate("model('along').value = 0.25")
    z = page.evaluate("explorer.z")
    np.testing.assert_allclose(z, [-0.5, 0.25], atol=1e-6)
    _comes(page, run, z)


def test_colours_are_those_of_a_column(page):
    labels = page.evaluate("[...model('plane').renderers[0].data_source.data.c]")
    assert len(set(labels)) == 10
    page.evaluate("view('colour').shadow_el.querySelector('select').value = 'z_1'")
    page.evaluate("view('colour').shadow_el.querySelector('select').dispatchEvent(new Event('change'))")
    page.wait_for_function("model('plane').renderers[0].data_source.data.c[0] % 1 != 0", timeout=30_000)


@pytest.mark.parametrize("width", [1300, 420])
def test_the_page_is_no_wider_than_its_window(chromium, server, width):
    page = _opened(chromium, server.address, width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    names = "['plane', 'picture', 'along', 'slider z_1', 'end']"
    boxes = page.evaluate(
        f"{names}.map((name) => view(name).el.getBoundingClientRect()).map((b) => [b.left, b.right, b.height])"
    )
    for left, right, height in boxes:
        assert left >= 0
        assert right <= width
        assert height > 20
    page.close()


def test_a_page_without_a_server_moves_through_its_grid(chromium, run, tmp_path):
    main(["explore", str(run.path), "--html", str(tmp_path / "page.html")])
    page = _opened(chromium, (tmp_path / "page.html").as_uri())
    side = 31  # what two million values are enough for, and no more
    ranges = page.evaluate("[model('plane').x_range, model('plane').y_range].map((r) => [r.start, r.end])")
    low, high = np.transpose(ranges)
    for target in ([0.5, -1.0], [-1.5, 1.0]):
        page.mouse.move(*_on(page, *target))
        z = np.array(page.evaluate("explorer.z"))
        cell = low + (np.floor((z - low) / (high - low) * side) + 0.5) / side * (high - low)
        _comes(page, run, cell.tolist())
    assert not page.wrong
    page.close()


def test_it_ends_when_its_page_asks(chromium, run):
    served = _Server(run.path)
    page = _opened(chromium, served.address)
    page.evaluate("view('end').shadow_el.querySelector('button').click()")
    assert served.process.wait(timeout=30) == 0
    assert served.process.stderr.read() == ""
    page.close()
    served.close()


def test_how_long_a_picture_takes(chromium, real_data, tmp_path):
    """Prints the time from a move of the pointer to other pixels on the screen, for MNIST 784-500-20."""
    path = (
        os.environ.get("EXPLORED")
        or train(tmp_path / "run", data="mnist", latent=20, samples=2e4, data_dir=str(real_data), progress=False).path
    )
    served = _Server(path)
    page = _opened(chromium, served.address)
    page.evaluate("""() => {
      let start = null, before = null
      const seen = canvas("picture")
      const look = () => seen.getContext("2d").getImageData(0, 0, seen.width, seen.height).data
        .reduce((sum, value, n) => n % 16 ? sum : (31 * sum + value) | 0, 0)
      globalThis.times = []
      document.addEventListener("pointermove", () => {
        if (start === null) {
          before = look()
          start = performance.now()
        }
      }, true)
      const frame = () => {
        if (start !== null && look() !== before) {
          times.push(performance.now() - start)
          start = null
        }
        requestAnimationFrame(frame)
      }
      requestAnimationFrame(frame)
    }""")
    rng = np.random.default_rng(0)
    for x, y in rng.uniform(-2, 2, (60, 2)):
        page.mouse.move(*_on(page, x, y))
        time.sleep(0.25)
    times = page.evaluate("times")
    assert len(times) > 50
    median, most = statistics.median(times), np.quantile(times, 0.9)
    print(f"\n{len(times)} moves: median {median:.0f} ms, nine of ten within {most:.0f} ms")
    page.close()
    served.close()
