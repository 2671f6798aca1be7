// The hand on the latent space: it knows where z is, moves it, and asks what the model makes of it.
// Bokeh calls it once, when the page is there, with the models of page.py by name.

const {basis, center, least, most, start} = space

const held = {z: start}      // the point that stays
let shown = start            // the point whose picture is seen: the pointer's, or the one that is held
let serial = 0, waiting = null, since = -Infinity, setting = false, quiet = null
const ends = [null, null]    // A and B

const flat = grid?.pixels && Uint32Array.from(grid.pixels) // Bokeh's arrays have shapes, and no parts

const on = (z) => basis.map((row) => row.reduce((sum, v, j) => sum + v * (z[j] - center[j]), 0))
const inside = (z) => z.map((v, j) => Math.min(Math.max(v, least[j] ?? -Infinity), most[j] ?? Infinity))

// The point of the plane through the held one: what the plane does not show stays.
function at(x, y) {
  const [a, b] = on(held.z)
  return inside(held.z.map((v, j) => v + (x - a) * basis[0][j] + (y - b) * basis[1][j]))
}

// One question at a time: while an answer is on its way, only the newest of the next ones is kept.
function ask() {
  if (waiting === null || performance.now() - since < 2000) return
  since = performance.now()
  hand.wanted = [++serial, ...waiting]
  waiting = null
}

function look(z) {
  shown = z
  if (grid) {
    const [x, y] = on(z)
    const cell = (v, low, high, n) => Math.min(Math.max(Math.floor((v - low) / (high - low) * n), 0), n - 1)
    const place = cell(y, grid.low[1], grid.high[1], grid.side) * grid.side
      + cell(x, grid.low[0], grid.high[0], grid.side)
    if (grid.pixels === null) {
      picture.data = grid.bars[place]
    } else {
      const [image] = picture.data.image
      image.set(flat.subarray(place * image.length, (place + 1) * image.length))
      picture.change.emit()
    }
  } else {
    waiting = z
    ask()
  }
  const some = z.slice(0, 8).map((v, j) => `${space.names[j]} ${v.toFixed(2)}`).join(", ")
  readout.text = some + (z.length > 8 ? ", ..." : "")
}

function hold(z, settles = true) {
  held.z = inside(z)
  const [x, y] = on(held.z)
  marker.data = {x: [x], y: [y]}
  setting = true
  sliders.forEach((slider, n) => {
    const v = held.z[latents[n]]
    // A datapoint may lie where the prior hardly goes: the slider shows where.
    if (v < slider.start) slider.start = Math.floor(v * 10) / 10
    if (v > slider.end) slider.end = Math.ceil(v * 10) / 10
    slider.value = v
  })
  setting = false
  look(held.z)
  clearTimeout(quiet)
  if (settles) quiet = setTimeout(() => say({do: "settled", z: held.z}), 400)
}

function say(words) {
  if (!grid) hand.said = JSON.stringify({...words, serial: ++serial})
}

function nearest(x, y) {
  const wide = (plane.x_range.end - plane.x_range.start) / plane.inner_width
  const high = (plane.y_range.end - plane.y_range.start) / plane.inner_height
  const {x: xs, y: ys} = points.data
  let best = -1, least = 36 // six pixels
  for (let n = 0; n < xs.length; n++) {
    const apart = ((xs[n] - x) / wide) ** 2 + ((ys[n] - y) / high) ** 2
    if (apart < least) [best, least] = [n, apart]
  }
  return best
}

const free = () => plane.toolbar.gestures.pan.active == null // no tool has the drag

globalThis.explorer = {
  pointer(event) {
    if (event.event_name == "mousemove") look(at(event.x, event.y))
    else if (event.event_name == "mouseleave") look(held.z)
    else if (event.event_name == "pan" && free()) hold(at(event.x, event.y))
    else if (event.event_name == "tap") {
      const n = points === null ? -1 : nearest(event.x, event.y)
      if (n >= 0 && !grid) say({do: "pick", index: n})
      else hold(at(event.x, event.y))
    }
  },
  mark(n) {
    ends[n] = held.z
    const there = ends.filter((z) => z !== null).map(on)
    path.data = {x: there.map((p) => p[0]), y: there.map((p) => p[1])}
    along.disabled = ends.includes(null)
    if (!along.disabled) say({do: "path", from: ends[0], to: ends[1]})
  },
  say,
  get z() { return shown },
}

// These must be heard at once, where Bokeh's own callbacks wait for their turn.
sliders.forEach((slider, n) => slider.properties.value.change.connect(() => {
  if (!setting) hold(held.z.map((v, j) => j == latents[n] ? slider.value : v))
}))
along.properties.value.change.connect(() => {
  if (!ends.includes(null)) hold(ends[0].map((v, j) => v + along.value * (ends[1][j] - v)))
})
hand.properties.held.change.connect(() => hold(hand.held.slice(1), false))
hand.properties.answered.change.connect(() => {
  since = -Infinity
  ask()
})

document.addEventListener("keydown", (event) => {
  const steps = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowDown: [0, -1], ArrowUp: [0, 1]}
  const [target] = event.composedPath()
  // A slider, a list and a button have arrow keys of their own.
  if (!(event.key in steps) || /INPUT|SELECT|BUTTON|TEXTAREA/.test(target.tagName) || target.role == "slider") return
  const far = (event.shiftKey ? 0.1 : 0.02) * (plane.x_range.end - plane.x_range.start)
  const [x, y] = on(held.z), [dx, dy] = steps[event.key]
  event.preventDefault()
  hold(at(x + far * dx, y + far * dy))
})

hold(start, false)
