// The section "Let them compete": controls to settings, settings to pictures.
(() => {
  const section = document.getElementById("live");
  if (!section) return;
  const data = JSON.parse(document.getElementById("live-data").textContent);
  const form = section.querySelector("form");
  const [choices, stage, template] = [".choices", ".live-cells", "#live-cell"].map((one) => section.querySelector(one));
  const state = { place: 0, chosen: [], settings: {} };
  let [cells, waiting] = [[], false];

  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const percent = (share) => (Number.isNaN(share) ? "nothing" : `${Math.round(100 * share)} %`);

  /** Maps [K][C][P] and regions of a sample, decoded when it is first looked at. */
  function load(sample) {
    if (sample.values) return sample;
    const pixels = sample.size[0] * sample.size[1];
    sample.pixels = pixels;
    sample.values = Competition.fromHalves(new Uint16Array(bytes(sample.maps).buffer), sample.unit);
    sample.flat = Competition.summed(sample.values, [sample.classes.length, sample.channels, pixels]);
    sample.masks = (sample.regions ?? []).map((text) => {
      const bits = bytes(text);
      return Uint8Array.from({ length: pixels }, (_, p) => (bits[p >> 3] >> (p & 7)) & 1);
    });
    return sample;
  }

  /** Fill a canvas; `colour` gives red, green, blue and opacity (0 to 255) of a pixel, or nothing. */
  function paint(canvas, [height, width], colour) {
    [canvas.height, canvas.width] = [height, width];
    const context = canvas.getContext("2d");
    const picture = context.createImageData(width, height);
    for (let p = 0; p < height * width; p++) picture.data.set(colour(p) ?? [0, 0, 0, 0], 4 * p);
    context.putImageData(picture, 0, 0);
  }

  const opacity = (strength) => Math.min(1, Math.max(0, strength)) ** data.curve;

  /** Draw a map of a sample, base or refined, on its one scale. */
  function paintMap(canvas, sample, map) {
    const middle = (data.palette.length - 1) / 2;
    paint(canvas, sample.size, (p) => {
      const share = sample.scale > 0 && Number.isFinite(map[p]) ? map[p] / sample.scale : 0;
      return data.palette[Math.sign(share) * Math.round(opacity(Math.abs(share)) * middle) + middle];
    });
  }

  /** The value drawn in full colour: the 98 % quantile of those above zero, 0 without any. */
  function fullOf(values) {
    const sizes = values.filter((value) => value > 0).sort();
    return sizes.length ? sizes[Math.floor(0.98 * (sizes.length - 1))] : 0;
  }

  function compete(sample) {
    const size = sample.channels * sample.pixels;
    const given = new Float64Array(state.chosen.length * size);
    state.chosen.forEach((k, i) => given.set(sample.values.subarray(k * size, (k + 1) * size), i * size));
    const shape = [state.chosen.length, sample.channels, sample.pixels];
    const sizes = { separate: [], sum: [] };
    for (const way of ["separate", "sum"]) sizes[way] = state.chosen.map((k) => sample.sizes[way][k]);
    const { shares, kept, channels } = Competition.compete(given, shape, sizes, state.settings);
    shape[1] = channels;
    return { flat: Competition.summed(kept, shape), ...Competition.distribution(shares, shape) };
  }

  function draw() {
    waiting = false;
    const sample = load(data.samples[state.place]);
    const { pixels } = sample;
    const { flat, mean, winner, entropy } = compete(sample);
    const count = state.chosen.length;
    cells.forEach((cell, k) => {
      const place = state.chosen.indexOf(k);
      cell.root.classList.toggle("out", place < 0);
      const map = place < 0 ? new Float64Array(pixels) : flat.subarray(place * pixels, (place + 1) * pixels);
      cell.told.textContent = place < 0 ? "does not compete" : told(map, sample.masks[k]);
      // What is won by losing least is no evidence for the class.
      const lowest = state.settings.magnitude === "signed" ? 0 : -Infinity;
      paintMap(cell.refined, sample, map.map((a) => Math.max(a, lowest)));
    });
    const above = Float64Array.from(winner, (k, p) => (k < 0 ? 0 : mean[k * pixels + p] - 1 / count));
    const decision = entropy.map((nats) => 1 - nats / Math.log(count));
    const [clear, low] = [fullOf(above), fullOf(decision)];
    const figure = (name) => section.querySelector(`[data-figure=${name}] canvas`);
    paint(figure("winner"), sample.size, (p) => {
      if (winner[p] < 0) return null;
      const colour = sample.colours[state.chosen[winner[p]]];
      const parts = [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16));
      const own = sample.flat[state.chosen[winner[p]] * pixels + p] / sample.scale;
      return [...parts, 255 * opacity(Math.min(1, Math.max(0, own)) * Math.min(1, above[p] / clear))];
    });
    paint(figure("entropy"), sample.size, (p) => [59, 31, 107, 255 * (low ? opacity(decision[p] / low) : 0)]);
    const tell = (name, text) => (section.querySelector(`[data-text=${name}]`).textContent = `full colour: ${text}`);
    const digits = (number) => String(Number(number.toPrecision(2)));
    tell("winner", `a share ${digits(clear)} above 1/${count}`);
    tell("entropy", `entropy ${digits(1 - low)} ln ${count}`);
    const shared = section.querySelector("[data-figure=shared]");
    shared.classList.toggle("out", count < sample.classes.length);
  }

  /** What a class keeps, in words. */
  function told(map, mask) {
    const share = (test) => map.reduce((sum, a) => sum + test(a), 0) / map.length;
    const left = share((a) => a !== 0);
    if (!left) return "empty map";
    const least = state.settings.magnitude === "signed" ? share((a) => a < 0) : 0;
    const losing = least >= 0.01 ? `, ${percent(least)} by losing least` : "";
    return `keeps ${percent(left)}${losing}${mask ? `, ${percent(Competition.inside(map, mask))} inside` : ""}`;
  }

  function redraw() {
    if (!waiting) requestAnimationFrame(draw);
    waiting = true;
  }

  /** Show the settings on the controls. */
  function show() {
    const { temperature, tau } = state.settings;
    for (const name of ["scale", "magnitude", "channels"]) form.elements[name].value = state.settings[name];
    form.elements.temperature.value = Math.log10(temperature);
    form.elements.tau.value = Math.cbrt(tau); // finer where thresholds are small
    tell();
  }

  function tell() {
    for (const name of ["temperature", "tau"]) {
      const text = String(Number(state.settings[name].toPrecision(3)));
      form.querySelector(`output[for=live-${name}]`).value = text;
      form.elements[name].setAttribute("aria-valuetext", text);
    }
    const boxes = [...choices.querySelectorAll("input")];
    for (const box of boxes) box.disabled = box.checked && state.chosen.length === 2; // two must compete
    redraw();
  }

  /** Lay out one sample; with `settings`, competition begins with those of the run. */
  function open(place) {
    const sample = load(data.samples[place]);
    const radio = form.querySelector(`[name=sample][value="${place}"]`);
    state.place = place;
    state.chosen = sample.classes.map((_, k) => k);
    form.className = `live backdrop-${radio.dataset.place}`;
    form.querySelector(".channels").hidden = sample.channels === 1;
    choices.replaceChildren(...sample.classes.map((name, k) => {
      const label = document.createElement("label");
      const box = Object.assign(document.createElement("input"), { type: "checkbox", checked: true, value: k });
      const swatch = Object.assign(document.createElement("span"), { className: "swatch" });
      swatch.style.setProperty("--swatch", sample.colours[k]);
      label.append(box, swatch, name);
      return label;
    }));
    cells = sample.classes.map((name, k) => contender(sample, radio.dataset.place, name, k));
    stage.replaceChildren(...cells.map((cell) => cell.root));
    const shared = section.querySelector("[data-figure=shared]");
    const drawn = document.querySelector(`#gallery ~ .backdrop-${radio.dataset.place} [data-figure=shared] img`);
    shared.hidden = !drawn;
    if (drawn) shared.querySelector(".stack").replaceChildren(drawn.cloneNode());
    const ends = section.querySelectorAll(".ends-of-scale:last-child span");
    const scale = Number(sample.scale.toPrecision(2));
    [ends[0].textContent, ends[2].textContent] = [`−${scale}`, `+${scale}`];
    tell();
  }

  function contender(sample, place, name, k) {
    const root = template.content.cloneNode(true).firstElementChild;
    const text = (key) => root.querySelector(`[data-text=${key}]`);
    const canvas = (key) => root.querySelector(`[data-figure=${key}] canvas`);
    root.querySelector(".swatch").style.setProperty("--swatch", sample.colours[k]);
    text("name").textContent = name;
    for (const key of ["base", "refined"]) {
      canvas(key).setAttribute("aria-label", `${key} map of the class ${name}`);
      const outline = document.querySelector(`.backdrop-${place} .variants .cells .map:nth-child(${k + 1}) .outline`);
      if (outline) canvas(key).after(outline.cloneNode(true));
    }
    const map = sample.flat.subarray(k * sample.pixels, (k + 1) * sample.pixels);
    paintMap(canvas("base"), sample, map);
    if (sample.masks[k]) text("base").textContent = `${percent(Competition.inside(map, sample.masks[k]))} inside`;
    return { root, refined: canvas("refined"), told: text("refined") };
  }

  form.addEventListener("input", ({ target }) => {
    if (target.name === "sample") return open(Number(target.value));
    if (target.name === "temperature") state.settings.temperature = 10 ** target.value;
    else if (target.name === "tau") state.settings.tau = target.value ** 3;
    else if (target.type === "checkbox") {
      state.chosen = [...choices.querySelectorAll("input:checked")].map((box) => Number(box.value));
    } else if (target.name) state.settings[target.name] = target.value;
    return tell();
  });
  form.addEventListener("reset", (event) => {
    event.preventDefault(); // the settings of the run, not those of the markup
    start(state.place);
  });

  function start(place) {
    state.settings = { ...data.samples[place].settings };
    open(place);
    show();
  }

  start(0);
})();
