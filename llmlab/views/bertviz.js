/* bertviz without the network: its script runs with d3 and jQuery handed to it, in place of what
   it would load from elsewhere. Nothing becomes global, so hosts with a require of their own stay
   as they are. Only comments of this form and semicolons everywhere: see attention.js. */
function llmlabBertviz(tries) {
  'use strict';
  async function unpack(address) {
    const bytes = Uint8Array.from(atob(address.slice(address.indexOf(',') + 1)),
      (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('gzip'));
    return JSON.parse(await new Response(stream).text());
  }
  function library(source) {  /* as a CommonJS module */
    const module = { exports: {} };
    Function('module', 'exports', 'define', source)(module, module.exports, undefined);
    return module.exports;
  }
  async function open(root) {
    root.dataset.live = 'starting';
    const data = await unpack(root.dataset.bertviz);
    const draw = () => {
      let number = 0;  /* the first id that no other view in this page has */
      while (document.getElementById('llmlab-bertviz-' + number)) { number += 1; }
      const paper = document.createElement('div');
      /* bertviz writes in black: it gets white paper, also in a dark theme */
      paper.style.cssText = 'background:#ffffff;color:#000000;color-scheme:light;padding:8px;'
        + 'overflow-x:auto';
      paper.innerHTML = data.html;
      paper.firstElementChild.id = 'llmlab-bertviz-' + number;
      root.prepend(paper);
      const given = { d3: library(data.d3), jquery: library(data.jquery) };
      const require = (names, use) => use(...names.map((name) => given[name]));
      require.config = () => {};
      const script = data.script.replaceAll('llmlab-bertviz-0', 'llmlab-bertviz-' + number);
      Function('require', 'requirejs', 'console', script)(require, require, { log() {} });
      root.dataset.live = 'drawn';
    };
    if (!data.wait) {
      draw();
      return;
    }
    const button = document.createElement('button');
    button.type = 'button';
    button.textContent = 'Draw it all the same';
    button.addEventListener('click', () => { button.remove(); draw(); });
    root.prepend(button);
    root.dataset.live = 'waiting';
  }
  const found = [...document.querySelectorAll('.llmlab-bertviz:not([data-live])')];
  found.forEach((root) => open(root).catch((error) => {
    root.dataset.live = 'failed';
    console.error('llmlab: bertviz did not start.', error);
  }));
  if (!found.length && tries > 0) { setTimeout(() => llmlabBertviz(tries - 1), 100); }
}
llmlabBertviz(50);
