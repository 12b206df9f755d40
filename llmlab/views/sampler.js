/* The sampler. Plain elements and one canvas, no library, no build step. Only comments of this form
   and semicolons everywhere: some hosts join all lines of an output into one. */
function llmlabSampler(tries) {
  'use strict';
  const STYLE = `
    :host { display: block; } div, label, table, button, output { font: 13px/1.5 system-ui, sans-serif; }
    .all { max-width: 760px; color: var(--ink); }
    .sliders { display: grid; grid-template-columns: max-content minmax(120px, 320px) 6em;
      gap: 2px 12px; align-items: center; margin: 6px 0; }
    input[type=range] { width: 100%; margin: 0; accent-color: var(--bar); }
    output { font-variant-numeric: tabular-nums; }
    button { color: var(--ink); background: var(--paper); padding: 2px 10px; cursor: pointer;
      border: 1px solid var(--faint); border-radius: 4px; }
    .bar { display: flex; flex-wrap: wrap; gap: 6px 10px; align-items: center; margin: 6px 0; }
    input:focus-visible, button:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
    .says { min-height: 3em; margin: 6px 0; } .draws { min-height: 1.5em; margin: 2px 0; }
    code { font: 12px/1.5 ui-monospace, monospace; white-space: pre-wrap; color: var(--ink); }
    canvas { display: block; max-width: 100%; }
    table { border-collapse: collapse; width: 100%; margin: 8px 0; font-variant-numeric: tabular-nums; }
    caption { text-align: left; font-size: 12px; padding-bottom: 4px; color: var(--ink); }
    th { font-weight: 600; text-align: left; font-size: 12px; } td, th { padding: 1px 8px 1px 0; color: var(--ink); }
    td.token { white-space: nowrap; max-width: 12em; overflow: hidden; text-overflow: ellipsis; }
    td.wide { width: 45%; } .track { position: relative; height: 16px; }
    .track div { position: absolute; left: 0; top: 0; bottom: 0; box-sizing: border-box; }
    .own { border: 1px solid var(--faint); border-left: 0; } .here { background: var(--bar); top: 3px !important; bottom: 3px !important; }
    .gone { border: 1px dashed var(--faint); top: 3px !important; bottom: 3px !important;
      background: repeating-linear-gradient(135deg, var(--cut) 0 3px, transparent 3px 7px); }
    .tick { width: 3px; background: var(--accent); margin-left: -1px; }
    tr.cut td { color: var(--faint); } .key { display: inline-flex; gap: 5px; align-items: center; font-size: 12px; }
    .key i { position: relative; width: 22px; height: 12px; display: inline-block; box-sizing: border-box; }`;

  /* ---- the data ---- */
  async function unpack(address) {
    const text = atob(address.slice(address.indexOf(',') + 1));
    const bytes = Uint8Array.from(text, (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('gzip'));
    const whole = await new Response(stream).arrayBuffer();
    const view = new DataView(whole);
    const length = view.getUint32(0, true);
    const known = JSON.parse(new TextDecoder().decode(new Uint8Array(whole, 4, length)));
    const logits = new Float64Array(known.size);  /* likeliest first, the highest is 0 */
    const exact = 4 + length;
    const small = exact + 4 * known.ids.length;
    for (let i = 0; i < known.size; i += 1) {
      logits[i] = i < known.ids.length ? view.getFloat32(exact + 4 * i, true)
        : half(view.getUint16(small + 2 * i, true));
    }
    return { ...known, logits };
  }
  function half(bits) {
    const [power, rest] = [(bits >> 10) & 31, bits & 1023];
    const size = power === 31 ? (rest ? NaN : Infinity)
      : power ? 2 ** (power - 15) * (1 + rest / 1024) : rest * 2 ** -24;
    return bits & 32768 ? -size : size;
  }

  /* ---- what generate does: each filter works on what the one before has left. As the tokens are
     in order, each leaves the first so many. ---- */
  function weigh(logits, temperature) {
    const weights = logits.map((logit) => Math.exp(logit / temperature));
    return { temperature, weights, total: weights.reduce((sum, weight) => sum + weight, 0) };
  }
  function compute(logits, exact, { topK, topP, minP }, { weights, total }) {
    let finite = logits.length;
    while (logits[finite - 1] === -Infinity) { finite -= 1; }
    let k = topK ? Math.min(topK, finite) : finite;
    if (k <= exact) {  /* those as high as the k-th stay too */
      while (k < finite && logits[k] === logits[k - 1]) { k += 1; }
    }
    let left = 0;
    for (let i = 0; i < k; i += 1) { left += weights[i]; }
    let p = k;
    if (topP < 1) {
      let above = 0;  /* the probability of those that are likelier */
      p = 0;
      while (p < k && (p === 0 || above < topP * left)) { above += weights[p]; p += 1; }
    }
    let kept = p;
    while (kept > 1 && weights[kept - 1] < minP) { kept -= 1; }
    let mass = 0;
    for (let i = 0; i < kept; i += 1) { mass += weights[i]; }
    return { weights, total, finite, k, p, kept, mass };
  }

  /* ---- random numbers from a seed (mulberry32): the same draws in every browser ---- */
  function generator(seed) {
    let state = seed >>> 0;
    return () => {
      state = (state + 0x6D2B79F5) >>> 0;
      let mixed = Math.imul(state ^ (state >>> 15), state | 1);
      mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)) ^ mixed;
      return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
    };
  }

  /* ---- colours: from what lies behind the view, whatever the host calls its themes ---- */
  function numbers(colour) { return (colour.match(/[\d.]+/g) || [0, 0, 0, 0]).map(Number); }
  function light(rgb) { return (0.2126 * rgb[0] + 0.7152 * rgb[1] + 0.0722 * rgb[2]) / 255; }
  function theme(root) {
    let behind = null;
    for (let node = root; node && !behind; node = node.parentElement) {
      const colour = numbers(getComputedStyle(node).backgroundColor);
      if (colour.length < 4 || colour[3] > 0.5) { behind = colour.slice(0, 3); }
    }
    /* nothing opaque (an output in a frame of its own): light words mean a dark page */
    const words = light(numbers(getComputedStyle(root).color));
    const dark = behind ? light(behind) < 0.5 : words > 0.5;
    const paper = behind || (dark ? [17, 17, 17] : [255, 255, 255]);
    return {
      dark, paper: 'rgb(' + paper + ')', ink: dark ? '#e6e6e6' : '#1f2328',
      faint: dark ? '#a8a8ae' : '#5f656c', cut: dark ? '#6a6a72' : '#b9bcc4',
      bar: dark ? '#8fb0ff' : '#3b5ba5', accent: dark ? '#ffd166' : '#b2182b',
    };
  }

  async function open(root) {
    root.dataset.live = 'starting';
    const data = await unpack(root.dataset.sampler);
    const { logits, tokens, size } = data;
    const first = { temperature: data.temperature, topK: data.top_k, topP: data.top_p, minP: data.min_p };
    const state = { ...first };
    const own = weigh(logits, 1);
    const rows = Math.min(data.rows, size, tokens.length);
    const draws = { random: generator(0), count: 0, of: new Map(), last: [] };

    /* ---- the page ---- */
    const host = document.createElement('div');
    host.dataset.lmSuppressShortcuts = 'true';  /* JupyterLab: arrow keys belong to the view */
    const shadow = host.attachShadow({ mode: 'open' });
    const make = (tag, parent, attributes, words) => {
      const node = document.createElement(tag);
      for (const [name, value] of Object.entries(attributes || {})) { node.setAttribute(name, value); }
      if (words !== undefined) { node.textContent = words; }
      parent.append(node);
      return node;
    };
    make('style', shadow, {}, STYLE);
    const all = make('div', shadow, { class: 'all' });
    const grid = make('div', all, { class: 'sliders' });
    const steps = [1, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 40, 50, 75, 100, 150, 200, 300, 500, 1000, 2000,
      5000, 10000, 20000, 50000, 100000].filter((k) => k < size);
    if (first.topK && first.topK < size && !steps.includes(first.topK)) { steps.push(first.topK); }
    steps.sort((a, b) => a - b).push(0);  /* at the right end: off */
    const percent = { min: 0, max: 1, step: 0.01 };
    const SLIDERS = [
      ['temperature', 'temperature', { min: Math.min(0.05, first.temperature),
        max: Math.max(3, first.temperature), step: 0.05 }, (v) => v, (v) => v, (v) => show(v, 2)],
      ['topK', 'top-k', { min: 0, max: steps.length - 1, step: 1 }, (at) => steps[at],
        (k) => steps.indexOf(k < size ? k : 0), (v) => (v && v < size ? grouped(v) : 'off')],
      ['topP', 'top-p', percent, (v) => v, (v) => v, (v) => (v < 1 ? show(v, 2) : 'off')],
      ['minP', 'min-p', percent, (v) => v, (v) => v, (v) => (v > 0 ? show(v, 2) : 'off')],
    ];
    const told = {};
    const inputs = SLIDERS.map(([key, name, range, read, place, say]) => {
      const words = make('label', grid, { for: key }, name);
      const input = make('input', grid, { type: 'range', id: key, ...range, 'data-part': name });
      const number = make('output', grid, { for: key, 'aria-live': 'off' });  /* the sentence below speaks */
      input.value = place(state[key]);
      told[key] = () => say(state[key]);
      const put = () => {
        number.textContent = told[key]();
        input.setAttribute('aria-valuetext', name + ' ' + told[key]());
      };
      input.addEventListener('input', () => {
        state[key] = read(+input.value);
        forget();
        put();
        redraw();
      });
      put();
      return { back() { state[key] = first[key]; input.value = place(first[key]); put(); }, words };
    });
    const bar = make('div', all, { class: 'bar' });
    const button = (name, title, act) => {
      const node = make('button', bar, { type: 'button', title }, name);
      node.addEventListener('click', () => { act(); redraw(); });
    };
    button('Draw 1', 'Draw one token', () => draw(1));
    button('Draw 100', 'Draw a hundred tokens', () => draw(100));
    button('Clear draws', 'Forget the draws; the next ones are the same again', forget);
    button('Reset', 'All sliders as they were', () => { forget(); inputs.forEach((one) => one.back()); });
    const says = make('div', all, { class: 'says', role: 'status', 'aria-live': 'polite' });
    const drawn = make('div', all, { class: 'draws', 'data-part': 'draws' });
    const canvas = make('canvas', all, { role: 'img', 'data-part': 'landscape' });
    const table = make('table', all);
    const caption = make('caption', table);
    const head = make('tr', make('thead', table));
    ['rank', 'token', '', 'probability', 'model’s own', 'drawn'].forEach((name) =>
      make('th', head, { scope: 'col' }, name));
    const body = make('tbody', table);
    const lines = [];
    for (let i = 0; i <= rows; i += 1) {
      const row = make('tr', body, { 'data-rank': i < rows ? i + 1 : 'others' });
      const cells = ['', 'token', 'wide', '', '', ''].map((name) => make('td', row, { class: name }));
      cells[0].textContent = i < rows ? i + 1 : '';
      cells[1].textContent = i < rows ? tokens[i] : 'all others';
      if (i < rows) { cells[1].title = 'id ' + data.ids[i]; }
      const track = make('div', cells[2], { class: 'track', 'aria-hidden': 'true' });
      const parts = ['own', 'here', 'tick'].map((name) => make('div', track, { class: name }));
      track.hidden = i === rows;
      lines.push({ row, cells, parts });
    }
    const key = make('div', all, { class: 'bar' });
    [['own', 'the model itself (temperature 1, nothing cut)'], ['here', 'with these settings'],
      ['gone', 'cut'], ['tick', 'share of the draws']].forEach(([name, words]) => {
      const one = make('span', key, { class: 'key' });
      make('i', one, { class: name });
      make('span', one, {}, words);
    });
    const code = make('code', make('div', all, {}, 'As code: '));

    /* ---- numbers and words ---- */
    function show(value, digits) { return value.toFixed(digits); }
    function grouped(value) { return String(value).replace(/\B(?=(\d{3})+$)/g, ','); }
    function quote(i) { return i < tokens.length ? '“' + tokens[i] + '”' : '“rank ' + grouped(i + 1) + '”'; }
    function reason(now, i) {
      return i >= now.finite ? '-inf' : i >= now.k ? 'top-k' : i >= now.p ? 'top-p' : 'min-p';
    }
    function chance(now, i) { return i < now.kept ? now.weights[i] / now.mass : 0; }
    let weighed = weigh(logits, state.temperature);
    let now = compute(logits, tokens.length, state, weighed);

    /* ---- draws ---- */
    function forget() { Object.assign(draws, { random: generator(0), count: 0, of: new Map(), last: [] }); }
    function draw(times) {
      const sums = new Float64Array(now.kept);
      let sum = 0;
      for (let i = 0; i < now.kept; i += 1) { sum += now.weights[i]; sums[i] = sum; }
      for (let n = 0; n < times; n += 1) {
        const at = draws.random() * sum;
        let [low, high] = [0, now.kept - 1];
        while (low < high) {
          const middle = (low + high) >> 1;
          if (sums[middle] > at) { high = middle; } else { low = middle + 1; }
        }
        draws.count += 1;
        draws.of.set(low, (draws.of.get(low) || 0) + 1);
        draws.last.push(low);
      }
      draws.last = draws.last.slice(-12);
    }

    /* ---- drawing ---- */
    let look = theme(root);
    function redraw() {
      if (weighed.temperature !== state.temperature) { weighed = weigh(logits, state.temperature); }
      now = compute(logits, tokens.length, state, weighed);
      const most = Math.max(chance(now, 0), own.weights[0] / own.total);
      const end = [0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1].find((step) => step >= most);
      const width = (share) => 100 * Math.min(1, share / end) + '%';
      lines.forEach(({ row, cells, parts }, i) => {
        const others = i === rows;
        const cut = !others && i >= now.kept;
        let [share, before, count] = [chance(now, i), own.weights[i] / own.total, draws.of.get(i) || 0];
        if (others) {
          [share, before, count] = [1, 1, draws.count];
          for (let j = 0; j < rows; j += 1) {
            share -= chance(now, j);
            before -= own.weights[j] / own.total;
            count -= draws.of.get(j) || 0;
          }
        }
        row.className = cut ? 'cut' : '';
        parts[0].style.width = width(before);
        parts[1].className = cut ? 'gone' : 'here';
        parts[1].style.width = width(cut ? now.weights[i] / now.total : share);
        parts[2].style.display = draws.count && !others && count ? '' : 'none';
        parts[2].style.left = width(count / draws.count);
        cells[3].textContent = cut ? 'cut: ' + reason(now, i) : show(Math.max(0, share), 3);
        cells[4].textContent = show(Math.max(0, before), 3);
        cells[5].textContent = draws.count && !cut ? count + ' (' + show(count / draws.count, 3) + ')' : '';
        if (others) {
          const more = Math.max(0, now.kept - rows);
          cells[1].textContent = more ? grouped(more) + ' more' : 'no others';
        }
      });
      caption.textContent = 'The likeliest tokens. A full bar is ' + end + '.';
      paint();
      speak();
    }
    function paint() {
      const [w, h, left, top, foot] = [Math.max(260, Math.min(760, root.clientWidth || 760)), 170, 44, 20, 34];
      const scale = window.devicePixelRatio || 1;
      canvas.width = Math.round(w * scale);
      canvas.height = Math.round(h * scale);
      canvas.style.width = w + 'px';
      canvas.style.height = h + 'px';
      const pen = canvas.getContext('2d');
      pen.scale(scale, scale);
      pen.font = '12px system-ui, sans-serif';
      pen.textBaseline = 'middle';
      const LOW = 1e-8;
      const right = w - 10;
      const floor = h - foot;
      const x = (rank) => left + (right - left) * Math.log(rank) / Math.log(size + 1);
      const y = (share) => top + (floor - top) * Math.log(Math.max(share, LOW)) / Math.log(LOW);
      /* no more points than there are pixels */
      const area = (from, to) => {
        pen.beginPath();
        pen.moveTo(x(from + 1), floor);
        for (let i = from; i < to;) {
          const height = y(now.weights[i] / now.total);
          pen.lineTo(x(i + 1), height);
          let next = Math.max(i + 1, Math.ceil(Math.exp(Math.log(i + 1) + 0.004 * Math.log(size + 1))) - 1);
          next = Math.min(next, to);
          pen.lineTo(x(next + 1), height);
          i = next;
        }
        pen.lineTo(x(to + 1), floor);
        pen.closePath();
      };
      area(0, now.kept);
      pen.fillStyle = look.bar;
      pen.fill();
      if (now.kept < size) {
        area(now.kept, size);
        pen.save();
        pen.clip();
        pen.strokeStyle = look.cut;
        pen.lineWidth = 2;
        pen.beginPath();
        for (let at = left - h; at < right; at += 8) {
          pen.moveTo(at, floor);
          pen.lineTo(at + h, floor - h);
        }
        pen.stroke();
        pen.restore();
        area(now.kept, size);
        pen.strokeStyle = look.faint;
        pen.lineWidth = 1;
        pen.stroke();
      }
      pen.strokeStyle = look.faint;
      pen.fillStyle = look.ink;
      pen.lineWidth = 1;
      pen.beginPath();
      pen.moveTo(left, top);
      pen.lineTo(left, floor);
      pen.lineTo(right, floor);
      pen.stroke();
      pen.textAlign = 'right';
      [[1, '1'], [1e-2, '0.01'], [1e-4, '0.0001'], [1e-6, '1e-6']].forEach(([share, words]) =>
        pen.fillText(words, left - 4, y(share)));
      pen.textAlign = 'center';
      for (let rank = 1; rank <= size; rank *= 10) { pen.fillText(grouped(rank), x(rank), floor + 9); }
      pen.textAlign = 'left';
      pen.fillText('probability after temperature, by rank (both axes logarithmic)', left, h - 8);
      /* where each filter that cuts something cuts */
      let label = top - 10;
      const labels = [];
      [['top-k', now.k, now.finite], ['top-p', now.p, now.k], ['min-p', now.kept, now.p]]
        .forEach(([name, after, before]) => {
          if (after >= before) { return; }
          const at = x(after + 0.5 + 0.5);
          pen.strokeStyle = look.accent;
          pen.setLineDash([4, 3]);
          pen.beginPath();
          pen.moveTo(at, label + 6);
          pen.lineTo(at, floor);
          pen.stroke();
          pen.setLineDash([]);
          const words = name + ' leaves ' + grouped(after);
          const room = pen.measureText(words).width;
          labels.push([words, at + 4 + room > right ? at - 4 - room : at + 4, label + 2, room]);
          label += 15;
        });
      labels.forEach(([words, at, height, room]) => {  /* over the lines, on paper of their own */
        pen.fillStyle = look.paper;
        pen.fillRect(at - 1, height - 7, room + 2, 14);
        pen.fillStyle = look.ink;
        pen.fillText(words, at, height);
      });
    }
    function sentence() {
      const count = now.kept < size ? grouped(now.kept) + ' of ' + grouped(size) + ' tokens stay'
        + (now.kept === 1 ? 's' : '') : 'all ' + grouped(size) + ' tokens stay';
      const best = [0, 1, 2].filter((i) => i < now.kept)
        .map((i) => quote(i) + ' ' + show(chance(now, i), 3)).join(', ');
      return 'Temperature ' + told.temperature() + ', top-k ' + told.topK() + ', top-p ' + told.topP()
        + ', min-p ' + told.minP() + ': ' + count + ', which had ' + show(now.mass / now.total, 3)
        + ' of the probability before the cut. Likeliest: ' + best + '.';
    }
    function tally() {
      if (!draws.count) { return 'No draws yet.'; }
      return grouped(draws.count) + (draws.count === 1 ? ' draw' : ' draws') + ' from seed 0, the last: '
        + draws.last.map((i) => (i < tokens.length ? tokens[i] : '⟨rank ' + grouped(i + 1) + '⟩')).join(' ');
    }
    function speak() {
      const words = sentence();
      if (says.textContent !== words) { says.textContent = words; }
      drawn.textContent = tally();
      canvas.setAttribute('aria-label', 'Probability by rank after temperature. ' + words);
      const parts = ['temperature=' + state.temperature, 'top_k=' + state.topK];  /* generate's own is 50 */
      if (state.topP < 1) { parts.push('top_p=' + state.topP); }
      if (state.minP > 0) { parts.push('min_p=' + state.minP); }
      code.textContent = 'model.generate(**inputs, do_sample=True, ' + parts.join(', ') + ')';
    }
    function dress() {
      ['paper', 'ink', 'faint', 'cut', 'bar', 'accent'].forEach((name) =>
        host.style.setProperty('--' + name, look[name]));
    }

    root.prepend(host);
    dress();
    redraw();
    root.querySelector('[data-still]').hidden = true;
    root.dataset.live = 'drawn';

    /* ---- what changes around the view ---- */
    const rethink = () => {
      const next = theme(root);
      if (root.isConnected && (next.dark !== look.dark || next.paper !== look.paper)) {
        look = next;
        dress();
        redraw();
      }
    };
    let width = root.clientWidth;
    new ResizeObserver(() => {
      rethink();
      if (root.clientWidth && root.clientWidth !== width) {
        width = root.clientWidth;
        redraw();
      }
    }).observe(root);
    const soon = () => { rethink(); setTimeout(rethink, 300); };  /* styles may load later */
    const watch = new MutationObserver(soon);
    watch.observe(document.documentElement, { attributes: true });
    watch.observe(document.body, { attributes: true });
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', soon);
  }

  const found = [...document.querySelectorAll('.llmlab-sampler:not([data-live])')];
  found.forEach((root) => open(root).catch((error) => {
    root.dataset.live = 'failed';  /* the table stays */
    console.error('llmlab: the sampler did not start.', error);
  }));
  /* some hosts run the script before its output stands in the page */
  if (!found.length && tries > 0) { setTimeout(() => llmlabSampler(tries - 1), 100); }
}
llmlabSampler(50);
