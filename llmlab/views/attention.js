/* The attention explorer. Plain canvas, no library, no build step. Only comments of this form and
   semicolons everywhere: some hosts join all lines of an output into one. The whole module is one
   function, so that the button HTML can write its source into a page of its own. */
function llmlabAttention(tries) {
  'use strict';
  const MASKED = 254;  /* palette entries: 0 to 253 are weights from 0 to 1, then masked, then gap */
  const FULL = 253;
  const STYLE = `
    :host { display: block; } div, label { font: 13px/1.5 system-ui, sans-serif; color: var(--ink); }
    .bar { display: flex; flex-wrap: wrap; gap: 6px 14px; align-items: center; margin: 6px 0; }
    .panes { display: flex; flex-wrap: wrap; gap: 18px; align-items: flex-start; }
    .panes > div { max-width: 100%; min-width: 0; }
    .scroll { overflow: auto; max-height: 620px; padding: 3px; }
    canvas { display: block; touch-action: manipulation; cursor: pointer; }
    canvas:focus-visible, select:focus-visible, button:focus-visible, input:focus-visible {
      outline: 2px solid var(--accent); outline-offset: 2px; }
    select, button { font: inherit; color: var(--ink); background: var(--paper); padding: 2px 8px;
      border: 1px solid var(--faint); border-radius: 4px; }
    label { display: inline-flex; gap: 5px; align-items: center; }
    .says { min-height: 3em; margin: 6px 0; max-width: 60em; }
    .help { font-size: 12px; margin: 2px 0 4px; max-width: 60em; }`;

  /* ---- the data: a PNG, unpacked by hand, because a canvas may round the colours ---- */
  async function unpack(address) {
    const text = atob(address.slice(address.indexOf(',') + 1));
    const bytes = new Uint8Array(text.length);
    for (let at = 0; at < text.length; at += 1) { bytes[at] = text.charCodeAt(at); }
    const view = new DataView(bytes.buffer);
    const parts = [];
    let width = 0;
    for (let at = 8; at < bytes.length;) {
      const size = view.getUint32(at);
      const kind = text.slice(at + 4, at + 8);
      if (kind === 'IHDR') { width = view.getUint32(at + 8) * bytes[at + 16] / 8; }
      if (kind === 'IDAT') { parts.push(bytes.subarray(at + 8, at + 8 + size)); }
      at += size + 12;
    }
    const stream = new Blob(parts).stream().pipeThrough(new DecompressionStream('deflate'));
    const raw = new Uint8Array(await new Response(stream).arrayBuffer());
    return { raw, stride: width + 1 };  /* each row begins with its filter, always 0 */
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
    /* nothing opaque (an output in a frame of its own): Colab and VS Code name a dark theme on the
       page; elsewhere light words mean a dark page */
    const named = document.documentElement.matches('[theme=dark]')
      || document.body.matches('.vscode-dark, .vscode-high-contrast:not(.vscode-high-contrast-light)');
    const words = light(numbers(getComputedStyle(root).color));
    const dark = behind ? light(behind) < 0.5 : named || words > 0.5;
    const paper = behind || (dark ? [17, 17, 17] : [255, 255, 255]);
    const stops = dark ? [paper, [134, 96, 200], [226, 208, 255]]
      : [paper, [150, 112, 200], [72, 30, 120]];
    const ramp = [];
    for (let i = 0; i <= FULL; i += 1) {
      const share = 2 * Math.sqrt(i / FULL);  /* the root makes small weights visible */
      const [from, to] = share < 1 ? [stops[0], stops[1]] : [stops[1], stops[2]];
      const part = share < 1 ? share : share - 1;
      ramp.push(from.map((value, j) => Math.round(value + part * (to[j] - value))));
    }
    const mask = dark ? [52, 52, 56] : [228, 228, 232];
    ramp.push(mask, mask);
    /* the same as one number a colour, as ImageData holds them */
    const packed = Uint32Array.from(ramp, ([r, g, b]) => 255 * 2 ** 24 + b * 65536 + g * 256 + r);
    return {
      dark, ramp, packed, paper: 'rgb(' + paper + ')', mask: 'rgb(' + mask + ')',
      mesh: dark ? '#4a4a50' : '#c4c6cc', ink: dark ? '#e6e6e6' : '#1f2328',
      faint: dark ? '#b0b0b0' : '#565b61', hatch: dark ? '#8a8a90' : '#9a9aa2',
      accent: dark ? '#ffd166' : '#b2182b',
      query: dark ? '#62b7ec' : '#0072b2', key: dark ? '#f0a35e' : '#b84e00',
      link: dark ? '#c9a7ff' : '#6b3fa0',
    };
  }

  /* ---- two pens with the same strokes: one for the screen, one for SVG ---- */
  function canvasPen(canvas, width, height) {
    const scale = window.devicePixelRatio || 1;
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
    canvas.style.width = width + 'px';
    canvas.style.height = height + 'px';
    const pen = canvas.getContext('2d');
    pen.scale(scale, scale);
    const set = (settings) => Object.assign(pen, { globalAlpha: 1, textBaseline: 'middle' }, settings);
    return {
      scale,
      rect(x, y, w, h, colour, alpha = 1) {
        set({ fillStyle: colour, globalAlpha: alpha }).fillRect(x, y, w, h);
      },
      frame(x, y, w, h, colour) {
        set({ strokeStyle: colour, lineWidth: 2 }).strokeRect(x, y, w, h);
      },
      line(x1, y1, x2, y2, colour, alpha, thick) {
        set({ strokeStyle: colour, globalAlpha: alpha, lineWidth: thick }).beginPath();
        pen.moveTo(x1, y1);
        pen.lineTo(x2, y2);
        pen.stroke();
      },
      text(words, x, y, { colour, size = 12, align = 'left', turn = 0, bold = false, room = 1e4 }) {
        const font = (bold ? 'bold ' : '') + size + 'px system-ui, sans-serif';
        set({ fillStyle: colour, font, textAlign: align }).save();
        pen.translate(x, y);
        pen.rotate(turn * Math.PI / 180);
        pen.fillText(fit(pen, words, room), 0, 0);
        pen.restore();
      },
      fits(words, size, room) {
        pen.font = size + 'px system-ui, sans-serif';
        return fit(pen, words, room);
      },
      /* a grid of weights; far faster than a rectangle each */
      cells(x, y, w, h, rows, columns, entryAt, look) {
        const small = Object.assign(document.createElement('canvas'), { width: columns, height: rows });
        const image = new ImageData(columns, rows);
        const dots = new Uint32Array(image.data.buffer);
        dots.forEach((_, i) => {
          dots[i] = look.packed[entryAt(Math.floor(i / columns), i % columns)];
        });
        small.getContext('2d').putImageData(image, 0, 0);
        set({ imageSmoothingEnabled: false }).drawImage(small, x, y, w, h);
      },
      pixels(x, y, image) { pen.putImageData(image, Math.round(x * scale), Math.round(y * scale)); },
    };
  }
  function fit(pen, words, room) {
    if (pen.measureText(words).width <= room) { return words; }
    let letters = Array.from(words);
    while (letters.length > 1 && pen.measureText(letters.join('') + '…').width > room) {
      letters = letters.slice(0, -1);
    }
    return letters.join('') + '…';
  }
  function svgPen(width, height, measure) {
    const safe = (words) => words.replace(/[&<>"\u0000-\u001f]/g,
      (letter) => '&#' + (letter.charCodeAt(0) || 65533) + ';');
    const marks = [];
    const mark = (name, attributes, words = '') => {
      const written = Object.entries(attributes).map(([key, value]) =>
        key + '="' + (typeof value === 'number' ? +value.toFixed(2) : value) + '"');
      marks.push('<' + name + ' ' + written.join(' ') + '>' + safe(words) + '</' + name + '>');
    };
    const rect = (x, y, w, h, colour, alpha = 1) =>
      mark('rect', { x, y, width: w, height: h, fill: colour, 'fill-opacity': alpha });
    return {
      rect,
      frame(x, y, w, h, colour) {
        mark('rect', { x, y, width: w, height: h, fill: 'none', stroke: colour, 'stroke-width': 2 });
      },
      line(x1, y1, x2, y2, colour, alpha, thick) {
        mark('line', { x1, y1, x2, y2, stroke: colour, 'stroke-opacity': alpha, 'stroke-width': thick });
      },
      text(words, x, y, { colour, size = 12, align = 'left', turn = 0, bold = false, room = 1e4 }) {
        mark('text', {
          transform: 'translate(' + x.toFixed(2) + ' ' + y.toFixed(2) + ') rotate(' + turn + ')',
          dy: '0.35em', fill: colour, 'font-size': size, 'font-weight': bold ? 'bold' : 'normal',
          'text-anchor': { left: 'start', center: 'middle', right: 'end' }[align],
        }, measure(words, size, room));
      },
      cells(x, y, w, h, rows, columns, entryAt, look) {
        for (let row = 0; row < rows; row += 1) {
          for (let from = 0, to = 0; from < columns; from = to) {  /* one for each run of a colour */
            const entry = entryAt(row, from);
            while (to < columns && entryAt(row, to) === entry) { to += 1; }
            rect(x + from * w / columns, y + row * h / rows, (to - from) * w / columns, h / rows,
              'rgb(' + look.ramp[entry] + ')');
          }
        }
      },
      done() {
        return '<svg xmlns="http://www.w3.org/2000/svg" width="' + width + '" height="' + height
          + '" viewBox="0 0 ' + width + ' ' + height + '" font-family="system-ui, sans-serif">\n'
          + marks.join('\n') + '\n</svg>\n';
      },
    };
  }

  async function open(root) {
    const source = root.outerHTML;
    root.dataset.live = 'starting';
    const data = JSON.parse(root.dataset.attention);
    const weights = await unpack(root.querySelector('img').src);
    const vectors = root.dataset.qk ? await unpack(root.dataset.qk) : null;
    const { tokens, keys, layers, heads, causal, cross, padding, split, qk } = data;
    const [rows, columns] = [tokens.length, keys.length];
    /* i is the place of a layer among those shown; layers[i] is its number in the model */
    const start = (i, h, q) => (1 + h * (rows + 1) + q) * weights.stride + 2 + i * (columns + 1);
    const level = (i, h, q, k) => weights.raw[start(i, h, q) + k];
    const masked = (q, k) => level(0, 0, q, k) === MASKED;  /* the same in all heads */
    const padded = (place, isQuery) => !(isQuery && cross) && padding.includes(place);
    const state = {
      layer: data.layer, head: data.head, query: null, key: null, over: null, mode: 'matrix',
      onlyLayer: '', onlyHead: '', pair: '',
    };
    const weight = (q, k) => {
      const value = level(state.layer, state.head, q, k);
      return value > FULL ? 0 : value / FULL;
    };
    const part = (place) => (place < split ? 'A' : 'B');
    const shown = (q, k) => !state.pair || part(q) + part(k) === state.pair;
    const title = () => 'Layer ' + layers[state.layer] + ', head ' + heads[state.head];
    /* what is pointed at counts before what was chosen */
    const focus = () => state.over || { query: state.query, key: state.key };

    /* ---- the page ---- */
    const host = document.createElement('div');
    host.dataset.lmSuppressShortcuts = 'true';  /* JupyterLab: arrow keys belong to the view */
    const shadow = host.attachShadow({ mode: 'open' });
    const make = (tag, parent, attributes = {}, words = '') => {
      const node = document.createElement(tag);
      Object.entries(attributes).forEach(([name, value]) => node.setAttribute(name, value));
      node.textContent = words;
      parent.append(node);
      return node;
    };
    make('style', shadow, {}, STYLE);
    const bar = make('div', shadow, { class: 'bar' });
    const menu = (name, entries, change) => {
      const select = make('select', make('label', bar, {}, name), { 'aria-label': name });
      entries.forEach(([value, words]) => make('option', select, { value }, words));
      select.addEventListener('change', () => { change(select.value); redraw(true); });
      return select;
    };
    const all = (names) => [['', 'all'], ...names.map((name, i) => [i, name])];
    const layerMenu = menu('Layers', all(layers), (value) => {
      state.onlyLayer = value;
      if (value !== '') { setLayer(+value); }
    });
    menu('Heads', all(heads), (value) => {
      state.onlyHead = value;
      if (value !== '') { state.head = +value; }
    });
    const modes = [['matrix', 'matrix'], ['lines', 'lines']];
    if (qk) { modes.push(['qk', 'query · key (layer ' + layers[qk.layer] + ')']); }
    const modeMenu = menu('Head as', modes, (value) => {
      state.mode = value;
      if (value !== 'qk') { return; }
      if (state.onlyLayer !== '') { state.onlyLayer = layerMenu.value = qk.layer; }
      state.layer = qk.layer;
      state.query ??= lastQuery();
    });
    if (split) {
      const pairs = ['AA', 'AB', 'BA', 'BB'].map((pair) => [pair, pair[0] + ' → ' + pair[1]]);
      menu('Links', [['', 'all'], ...pairs], (value) => { state.pair = value; });
    }
    const button = (name, title, act) =>
      make('button', bar, { type: 'button', title }, name).addEventListener('click', act);
    button('PNG', 'Save this head as PNG', savePNG);
    button('SVG', 'Save this head as SVG', saveSVG);
    button('HTML', 'Save the explorer as a page of its own', saveHTML);
    const panes = make('div', shadow, { class: 'panes' });
    const canvas = (pane, name, label) => make('canvas', make('div', pane, { class: 'scroll' }),
      { tabindex: '0', role: 'application', 'data-part': name, 'aria-label': label });
    const left = make('div', panes);
    make('div', left, { class: 'help' }, 'All heads: a column is a layer, a row a head.');
    const overview = canvas(left, 'overview',
      'All heads. Left and right choose the layer, up and down the head.');
    const right = make('div', panes, { style: 'flex-grow: 1' });
    const help = make('div', right, { class: 'help' });
    const detail = canvas(right, 'detail', 'One head. Up and down choose the query token, left and '
      + 'right the key token, Escape none.');
    const says = make('div', shadow, { class: 'says', role: 'status', 'aria-live': 'polite' });

    /* ---- all heads ---- */
    let look = theme(root);
    let grid = null;   /* where the overview's tiles lie */
    let plan = null;   /* where the detail's parts lie */
    function setLayer(i) {
      state.layer = i;
      if (state.mode === 'qk' && i !== qk.layer) { state.mode = modeMenu.value = 'matrix'; }
    }
    function lastQuery() {
      let last = rows - 1;
      while (last > 0 && padded(last, true)) { last -= 1; }
      return last;
    }
    function drawOverview() {
      const listed = (only, names) => (only === '' ? names.map((_, i) => i) : [+only]);
      const [across, down] = [listed(state.onlyLayer, layers), listed(state.onlyHead, heads)];
      const room = Math.max(280, root.clientWidth - 60);
      const tile = Math.max(8, Math.min(64, Math.floor(room / across.length) - 2,
        Math.floor(430 / down.length) - 2));
      const [x0, y0, step] = [30, 18, tile + 2];
      const pen = canvasPen(overview, x0 + across.length * step + 4, y0 + down.length * step + 4);
      grid = { x0, y0, step, across, down };
      pen.rect(x0 - 2, y0 - 2, across.length * step + 2, down.length * step + 2, look.mesh);
      const size = Math.max(1, Math.round(tile * pen.scale));
      const under = (count) => Array.from({ length: size }, (_, pixel) => {
        const from = Math.floor(pixel * count / size);  /* the tokens under each pixel */
        return [from, Math.max(from + 1, Math.floor((pixel + 1) * count / size))];
      });
      const [rowsUnder, columnsUnder] = [under(rows), under(columns)];
      across.forEach((i, a) => down.forEach((h, d) => {
        const image = new ImageData(size, size);
        const dots = new Uint32Array(image.data.buffer);
        for (let y = 0; y < size; y += 1) {
          const [q0, q1] = rowsUnder[y];
          for (let x = 0; x < size; x += 1) {
            const [k0, k1] = columnsUnder[x];
            let most = -1;  /* the largest weight under this pixel: thin lines survive */
            for (let q = q0; q < q1; q += 1) {
              const row = start(i, h, q);
              for (let k = k0; k < k1; k += 1) {
                const value = weights.raw[row + k];
                if (value > most && value <= FULL && shown(q, k)) { most = value; }
              }
            }
            dots[y * size + x] = look.packed[most < 0 ? MASKED : most];
          }
        }
        pen.pixels(x0 + a * step, y0 + d * step, image);
      }));
      const every = (room) => Math.ceil(room / step);  /* numbers where they don't overlap */
      const style = { colour: look.ink, size: 11 };
      across.forEach((i, a) => a % every(18) || pen.text(String(layers[i]),
        x0 + a * step + tile / 2, 9, { ...style, align: 'center' }));
      down.forEach((h, d) => d % every(12) || pen.text(String(heads[h]),
        x0 - 6, y0 + d * step + tile / 2, { ...style, align: 'right' }));
      const [a, d] = [across.indexOf(state.layer), down.indexOf(state.head)];
      if (a >= 0 && d >= 0) {
        pen.frame(x0 + a * step - 1, y0 + d * step - 1, step, step, look.accent);
      }
    }

    /* ---- one head ---- */
    const ruler = document.createElement('canvas').getContext('2d');
    ruler.font = 'bold 13px system-ui, sans-serif';
    function longest(names, least) {  /* room for the longest label, in pixels */
      const widths = names.map((name) => ruler.measureText((split ? 'A ' : '') + name).width);
      return Math.ceil(Math.min(110, Math.max(least, ...widths)));
    }
    function planDetail() {
      if (state.mode === 'lines') {
        const step = Math.max(rows, columns) > 40 ? 14 : 20;
        const x1 = 14 + longest(tokens, 50);
        const x2 = x1 + 170;
        const bars = x2 + 16 + longest(keys, 50);
        return { step, x1, x2, bars, y0: 48, width: bars + 100,
          height: 56 + step * Math.max(rows, columns) };
      }
      if (state.mode === 'qk') {
        const cell = Math.max(2, Math.min(40, Math.floor(420 / qk.dim)));
        const x1 = 120 + cell * qk.dim;
        return { step: 18, cell, x0: 120, x1, y0: 116, width: x1 + 260, height: 126 + 18 * columns };
      }
      const cell = Math.max(2, Math.min(34, Math.floor(560 / Math.max(rows, columns))));
      const [x0, y0] = [14 + longest(tokens, 56), 52 + longest(keys, 20)];
      return { step: cell, cell, x0, y0, width: x0 + cell * columns + 12, height: y0 + cell * rows + 8 };
    }
    function drawDetail() {
      plan = planDetail();
      right.style.flexBasis = plan.width + 8 + 'px';
      paint(canvasPen(detail, plan.width, plan.height));
    }
    function paint(pen) {
      pen.text(title(), 8, 12, { colour: look.ink, size: 13, bold: true });
      ({ matrix: paintMatrix, lines: paintLines, qk: paintQK })[state.mode](pen);
    }
    function label(pen, place, isQuery, x, y, options) {
      const chosen = focus()[isQuery ? 'query' : 'key'] === place;
      const ink = isQuery ? look.query : look.key;
      pen.text((split ? part(place) + ' ' : '') + (isQuery ? tokens : keys)[place], x, y,
        { colour: padded(place, isQuery) ? look.faint : ink, bold: chosen, ...options });
    }
    function hatch(pen, x, y, w, h) {  /* strokes of 45 degrees, cut at the rectangle */
      for (let at = -h; at < w; at += 8) {
        const [from, to] = [Math.max(0, at), Math.min(w, at + h)];
        pen.line(x + from, y + h - (from - at), x + to, y + h - (to - at), look.hatch, 0.55, 1);
      }
    }
    function blocked(pen, x, y, w, h) {
      pen.rect(x, y, w, h, look.mask);
      hatch(pen, x, y, w, h);
    }
    function paintMatrix(pen) {
      const { cell, x0, y0 } = plan;
      const [w, h] = [cell * columns, cell * rows];
      const { query, key } = focus();
      const at = (q, k) => level(state.layer, state.head, q, k);
      pen.text('query ↓', x0 - 8, y0 - 10, { colour: look.query, align: 'right' });
      pen.text('key →', x0, 32, { colour: look.key });
      pen.cells(x0, y0, w, h, rows, columns, (q, k) => (at(q, k) > FULL || shown(q, k) ? at(q, k) : 0),
        look);
      for (let q = 0; q < rows && cell >= 8; q += 1) {
        for (let from = 0, to = 0; from < columns; from = to + 1) {  /* runs of masked keys */
          for (to = from; to < columns && masked(q, to);) { to += 1; }
          if (to > from) { hatch(pen, x0 + from * cell, y0 + q * cell, (to - from) * cell, cell); }
        }
        for (let k = 0; k < columns && cell >= 30; k += 1) {
          const value = at(q, k);
          if (value > 1 && value <= FULL && shown(q, k)) {  /* 0.00 is left out */
            const colour = light(look.ramp[value]) > 0.45 ? '#000000' : '#ffffff';
            pen.text((value / FULL).toFixed(2), x0 + (k + 0.5) * cell, y0 + (q + 0.5) * cell,
              { colour, size: 11, align: 'center' });
          }
        }
      }
      const skip = Math.ceil(12 / cell);  /* labels where they don't overlap, and the chosen one */
      const free = (place, chosen) => place === chosen
        || (place % skip === 0 && (chosen === null || Math.abs(place - chosen) >= skip));
      tokens.forEach((_, q) => free(q, query)
        && label(pen, q, true, x0 - 6, y0 + (q + 0.5) * cell, { align: 'right', room: 112 }));
      keys.forEach((_, k) => free(k, key)
        && label(pen, k, false, x0 + (k + 0.5) * cell, y0 - 6, { turn: -90, room: 112 }));
      if (split) {
        pen.line(x0, y0 + split * cell, x0 + w, y0 + split * cell, look.ink, 1, 1.5);
        pen.line(x0 + split * cell, y0, x0 + split * cell, y0 + h, look.ink, 1, 1.5);
      }
      pen.frame(x0 - 1, y0 - 1, w + 2, h + 2, look.faint);
      if (query !== null) { pen.frame(x0 - 1, y0 + query * cell - 1, w + 2, cell + 2, look.accent); }
      if (key !== null) { pen.frame(x0 + key * cell - 1, y0 - 1, cell + 2, h + 2, look.accent); }
    }
    function paintLines(pen) {
      const { step, x1, x2, bars, y0 } = plan;
      const { query, key } = focus();
      const size = step < 18 ? 11 : 13;
      pen.text('query', x1 - 6, 34, { colour: look.query, align: 'right' });
      pen.text('key', x2 + 6, 34, { colour: look.key });
      const middle = (place) => y0 + (place + 0.5) * step;
      const alone = query !== null || key !== null;
      for (let q = 0; q < rows; q += 1) {
        for (let k = 0; k < columns; k += 1) {
          const value = weight(q, k);
          const meant = (query === null || q === query) && (key === null || k === key);
          if (value > 0.004 && meant && shown(q, k)) {
            pen.line(x1, middle(q), x2, middle(k), look.link, alone ? Math.sqrt(value) : value,
              alone ? 2.5 : 1.5);
          }
        }
      }
      tokens.forEach((_, q) => {
        if (padded(q, true)) { blocked(pen, 8, middle(q) - step / 2 + 1, x1 - 10, step - 2); }
        label(pen, q, true, x1 - 6, middle(q), { align: 'right', room: 120, size });
      });
      keys.forEach((_, k) => {
        const hidden = query === null ? padded(k) : masked(query, k);
        if (hidden) { blocked(pen, x2 + 2, middle(k) - step / 2 + 1, bars - x2 - 6, step - 2); }
        label(pen, k, false, x2 + 6, middle(k), { room: 120, size });
        if (query !== null && !hidden && shown(query, k)) {
          const value = weight(query, k);
          pen.rect(bars, middle(k) - step / 2 + 3, 50 * value, step - 6, look.link);
          pen.text(value.toFixed(2), bars + 6 + 50 * value, middle(k), { colour: look.ink, size });
        }
      });
      if (split) {
        const y = y0 + split * step;
        pen.line(8, y, x1, y, look.ink, 1, 1);
        pen.line(x2, y, bars, y, look.ink, 1, 1);
      }
    }

    /* ---- queries and keys of one layer: 16-bit numbers in a second PNG ---- */
    function vector(isKey, place) {
      const row = isKey
        ? heads.length * rows + Math.floor(state.head * qk.keyHeads / heads.length) * columns + place
        : state.head * rows + place;
      const range = isKey ? qk.keyRange : qk.queryRange;
      const at = row * vectors.stride + 1;
      return Array.from({ length: qk.dim }, (_, d) => range
        * ((vectors.raw[at + 2 * d] * 256 + vectors.raw[at + 2 * d + 1]) - 32768) / 32767);
    }
    function paintQK(pen) {
      const { step, cell, x0, x1, y0 } = plan;
      const query = focus().query ?? lastQuery();
      const q = vector(false, query);
      const products = keys.map((_, k) => {
        const one = vector(true, k);
        const each = q.map((value, d) => value * one[d]);
        return { k, one, each, score: each.reduce((sum, value) => sum + value, 0) * qk.scale };
      });
      const seen = products.filter(({ k }) => !masked(query, k));
      const best = focus().key ?? seen.reduce((a, b) => (b.score > a.score ? b : a), seen[0])?.k ?? 0;
      const peak = (list) => Math.max(1e-9, ...list.map(Math.abs));
      const strip = (values, most, y, height) => values.forEach((value, d) =>
        pen.rect(x0 + d * cell, y, cell, height, value < 0 ? look.key : look.query,
          Math.sqrt(Math.min(1, Math.abs(value) / most))));
      const name = (words, y, colour, bold) =>
        pen.text(words, x0 - 6, y, { colour, align: 'right', room: 108, bold });
      const ink = { colour: look.ink };
      pen.text('blue: positive', x1 + 12, 40, ink);
      pen.text('orange: negative', x1 + 12, 62, ink);
      name('q ' + tokens[query], 40, look.query);
      strip(q, peak(q), 32, 16);
      name('k ' + keys[best], 62, look.key);
      strip(products[best].one, peak(products[best].one), 54, 16);
      pen.text('q × k, dimension by dimension', x0, y0 - 14, { ...ink, room: x1 - x0 });
      pen.text('score', x1 + 60, y0 - 14, { ...ink, align: 'right' });
      pen.text('→ softmax', x1 + 72, y0 - 14, ink);
      const most = peak(seen.map(({ each }) => peak(each)));
      products.forEach(({ k, each, score }) => {
        const y = y0 + k * step;
        name(keys[k], y + step / 2, look.key, k === best);
        if (masked(query, k)) {
          blocked(pen, x0, y + 1, qk.dim * cell, step - 2);
          pen.text('masked', x1 + 60, y + step / 2, { colour: look.faint, align: 'right' });
          return;
        }
        strip(each, most, y + 1, step - 2);
        const value = weight(query, k);
        pen.text(score.toFixed(2), x1 + 60, y + step / 2, { ...ink, align: 'right' });
        pen.rect(x1 + 72, y + 4, 120 * value, step - 8, look.link);
        pen.text(value.toFixed(2), x1 + 78 + 120 * value, y + step / 2, ink);
      });
    }

    /* ---- words ---- */
    function sentence() {
      const { query, key } = focus();
      const name = (names, place) => '“' + names[place] + '” (token ' + place + ')';
      /* the three strongest of [its name, its weight] */
      const top = (list) => list.sort((a, b) => b[1] - a[1]).slice(0, 3)
        .map(([other, value]) => '“' + other + '” ' + value.toFixed(2)).join(', ') + '.';
      const counts = (q, k) => !masked(q, k) && shown(q, k);
      if (query !== null && key !== null) {
        const link = name(tokens, query) + ' to ' + name(keys, key);
        if (!masked(query, key)) {
          return 'weight from ' + link + ' is ' + weight(query, key).toFixed(2) + '.';
        }
        return link + ' is masked: ' + (padded(key) || padded(query, true) ? 'padding.' : 'a later token.');
      }
      if (query !== null) {
        if (padded(query, true)) { return name(tokens, query) + ' is padding: masked.'; }
        return name(tokens, query) + ' looks most at '
          + top(keys.flatMap((other, k) => (counts(query, k) ? [[other, weight(query, k)]] : [])));
      }
      if (key !== null) {
        if (padded(key)) { return name(keys, key) + ' is padding: masked, no token looks at it.'; }
        return name(keys, key) + ' is looked at most by '
          + top(tokens.flatMap((other, q) => (counts(q, key) ? [[other, weight(q, key)]] : [])));
      }
      return null;
    }
    function speak() {
      const said = sentence();
      const words = title()
        + (said ? ': ' + said : '. Point at a token or click on one to see where it looks.');
      if (says.textContent !== words) { says.textContent = words; }
    }
    const HELP = {
      matrix: () => 'A row is a query token, a column the key token that it looks at; '
        + (look.dark ? 'lighter' : 'darker') + ' is more.',
      lines: () => 'From each query token on the left a line to the key tokens it looks at; the '
        + 'stronger, the more weight.',
      qk: () => 'Query times key, summed over all dimensions and times the scale '
        + +qk.scale.toFixed(4) + ', is the score; softmax over the scores makes the weights.'
        + (qk.agrees ? '' : ' In this model something else is added to the scores (such as a position '
        + 'bias), so the weights shown are not their softmax alone.'),
    };
    const why = [causal && 'later tokens', padding.length && 'padding'].filter(Boolean).join(' and ');
    function redraw(everything) {
      ['paper', 'ink', 'faint', 'accent'].forEach((name) =>
        host.style.setProperty('--' + name, look[name]));
      help.textContent = HELP[state.mode]() + (why ? ' Hatched: ' + why + ', masked.' : '');
      if (everything) { drawOverview(); }
      drawDetail();
      speak();
    }

    /* ---- pointer and keyboard ---- */
    function place(event, canvas) {
      const box = canvas.getBoundingClientRect();
      return [event.clientX - box.left, event.clientY - box.top];
    }
    function found(event) {
      const inside = (value, count) => (value >= 0 && value < count ? value : null);
      const [x, y] = place(event, detail);
      const at = Math.floor((y - plan.y0) / plan.step);
      if (state.mode === 'lines') {
        if (x < plan.x1 + 20) { return { query: inside(at, rows), key: null }; }
        return { query: null, key: x > plan.x2 - 20 ? inside(at, columns) : null };
      }
      if (state.mode === 'qk') { return { query: state.query, key: inside(at, columns) }; }
      const k = Math.floor((x - plan.x0) / plan.cell);
      return {
        query: k < columns ? inside(at, rows) : null,
        key: at < rows ? inside(k, columns) : null,
      };
    }
    let waiting = false;
    function point(over) {
      if (JSON.stringify(over) === JSON.stringify(state.over)) { return; }
      state.over = over;
      if (waiting) { return; }
      waiting = true;
      requestAnimationFrame(() => { waiting = false; drawDetail(); speak(); });
    }
    detail.addEventListener('pointermove', (event) => {
      const spot = found(event);
      point(spot.query === null && spot.key === null ? null : spot);
    });
    detail.addEventListener('pointerleave', () => point(null));
    detail.addEventListener('click', (event) => {
      const spot = found(event);
      const again = spot.query === state.query && spot.key === state.key;
      state.query = again && state.mode !== 'qk' ? null : spot.query;
      state.key = again ? null : spot.key;
      state.over = null;
      redraw(false);
    });
    function tileAt(event) {
      const [x, y] = place(event, overview);
      const a = grid.across[Math.floor((x - grid.x0) / grid.step)];
      const d = grid.down[Math.floor((y - grid.y0) / grid.step)];
      return a === undefined || d === undefined ? null : [a, d];
    }
    overview.addEventListener('pointermove', (event) => {
      const tile = tileAt(event);
      overview.title = tile ? 'Layer ' + layers[tile[0]] + ', head ' + heads[tile[1]] : '';
    });
    overview.addEventListener('click', (event) => {
      const tile = tileAt(event);
      if (!tile) { return; }
      setLayer(tile[0]);
      state.head = tile[1];
      redraw(true);
    });
    const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const clamp = (value, count) => Math.max(0, Math.min(count - 1, value));
    function keyboard(canvas, act) {
      canvas.addEventListener('keydown', (event) => {
        const arrow = ARROWS[event.key];
        if (event.ctrlKey || event.metaKey || event.altKey) { return; }
        if (!arrow && event.key !== 'Escape') { return; }
        event.preventDefault();
        event.stopPropagation();
        state.over = null;
        act(arrow);
      });
    }
    keyboard(overview, (arrow) => {
      if (!arrow) { return; }
      const step = (list, now, by) => list[clamp(list.indexOf(now) + by, list.length)];
      setLayer(step(grid.across, state.layer, arrow[0]));
      state.head = step(grid.down, state.head, arrow[1]);
      redraw(true);
    });
    keyboard(detail, (arrow) => {
      const step = (now, by, count) => (now === null ? 0 : clamp(now + by, count));
      if (!arrow) {
        state.key = null;
        if (state.mode !== 'qk') { state.query = null; }
      } else if (state.mode === 'qk' ? arrow[0] : arrow[1]) {
        state.query = step(state.query, arrow[0] + arrow[1], rows);
      } else {
        state.key = step(state.key, arrow[0] + arrow[1], columns);
      }
      redraw(false);
      const scroll = detail.parentElement;
      const at = plan.y0 + plan.step * (state.query ?? state.key ?? 0);
      if (at < scroll.scrollTop + plan.y0) { scroll.scrollTop = at - plan.y0; }
      if (at + plan.step > scroll.scrollTop + scroll.clientHeight) {
        scroll.scrollTop = at + 2 * plan.step - scroll.clientHeight;
      }
    });

    /* ---- to take away ---- */
    function download(blob, name) {
      const address = URL.createObjectURL(blob);
      const link = make('a', shadow, { href: address, download: name });
      link.click();
      link.remove();
      setTimeout(() => URL.revokeObjectURL(address), 10000);
    }
    const fileName = (ending) =>
      'attention-layer' + layers[state.layer] + '-head' + heads[state.head] + '.' + ending;
    function exported(pen) {  /* dark ink on white paper, whatever the theme */
      const before = look;
      const paper = make('div', document.body, { style: 'background:#ffffff;color:#1f2328' });
      look = theme(paper);
      paper.remove();
      state.over = null;
      pen.rect(0, 0, plan.width, plan.height, look.paper);
      paint(pen);
      look = before;
      redraw(false);
    }
    function savePNG() {
      const canvas = document.createElement('canvas');
      exported(canvasPen(canvas, plan.width, plan.height));
      canvas.toBlob((blob) => download(blob, fileName('png')));
    }
    function saveSVG() {
      const measure = canvasPen(document.createElement('canvas'), 1, 1).fits;
      const pen = svgPen(plan.width, plan.height, measure);
      exported(pen);
      download(new Blob([pen.done()], { type: 'image/svg+xml' }), fileName('svg'));
    }
    function saveHTML() {
      const still = new DOMParser().parseFromString(source, 'text/html');
      still.querySelectorAll('script').forEach((node) => node.remove());
      const page = '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        + '<meta name="viewport" content="width=device-width"><title>Attention</title><style>'
        + ':root{color-scheme:light dark}body{font:15px/1.5 system-ui,sans-serif;margin:24px;'
        + 'background:#fff;color:#1f2328}@media(prefers-color-scheme:dark){body{background:#111;'
        + 'color:#e6e6e6}}</style></head><body><main><h1>Attention</h1>' + still.body.innerHTML
        + '</main><' + 'script type="module">' + String(llmlabAttention)
        + ';llmlabAttention(0);<' + '/script></body></html>\n';
      download(new Blob([page], { type: 'text/html' }), 'attention.html');
    }

    root.prepend(host);
    redraw(true);
    root.querySelector('figure').hidden = true;
    root.querySelectorAll('details').forEach((node) => { node.open = false; });
    root.dataset.live = 'drawn';

    /* ---- what changes around the view ---- */
    const rethink = () => {
      const now = theme(root);
      if (root.isConnected && (now.dark !== look.dark || now.paper !== look.paper)) {
        look = now;
        redraw(true);
      }
    };
    let width = root.clientWidth;
    new ResizeObserver(() => {
      rethink();
      if (root.clientWidth && root.clientWidth !== width) {
        width = root.clientWidth;
        redraw(true);
      }
    }).observe(root);
    const soon = () => { rethink(); setTimeout(rethink, 300); };  /* styles may load later */
    const watch = new MutationObserver(soon);
    [document.documentElement, document.body].forEach((node) => watch.observe(node, { attributes: true }));
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', soon);
  }

  const found = [...document.querySelectorAll('.llmlab-attention:not([data-live])')];
  found.forEach((root) => open(root).catch((error) => {
    root.dataset.live = 'failed';  /* the picture and the table stay */
    console.error('llmlab: the attention explorer did not start.', error);
  }));
  /* some hosts run the script before its output stands in the page */
  if (!found.length && tries > 0) { setTimeout(() => llmlabAttention(tries - 1), 100); }
}
llmlabAttention(50);
