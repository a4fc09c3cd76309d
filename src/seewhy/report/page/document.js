// Wires the controls, the pager, the theme and the copy buttons.
function refresh(first = true) {
  if (first) state.page = 0;
  state.order = ordered();
  const pages = Math.max(1, Math.ceil(state.order.length / PER_PAGE));
  state.page = Math.min(state.page, pages - 1);
  const shown = state.order.slice(state.page * PER_PAGE, (state.page + 1) * PER_PAGE);
  painter.disconnect();
  $('cards').replaceChildren(...shown.map(card));
  const total = model().images.length;
  const plural = total === 1 ? '' : 's';
  $('count').textContent = state.order.length === total ? `${total} image${plural}` : `${state.order.length} of ${total} image${plural}`;
  $('reset').hidden = state.order.length === total;
  if (!shown.length) $('cards').append(element('p', { class: 'empty' }, 'No image matches these filters.'));
  fillPager(pages);
  say();
  paintTheRest();
}

// Cards below the fold are painted when there is time, so that they are there for a printer.
const idle = window.requestIdleCallback || ((work) => setTimeout(work, 200));
let round = 0;
function paintTheRest() {
  const mine = ++round;
  const queue = [...$('cards').querySelectorAll('.thumb')];
  const next = async () => {
    const button = queue.shift();
    if (!button || mine !== round) return;
    painter.unobserve(button);
    await paintThumb(button);
    idle(next);
  };
  idle(next);
}

function fillPager(pages) {
  $('pager').hidden = pages < 2;
  const go = (page) => {
    state.page = page;
    refresh(false);
    $('gallery').scrollIntoView({ block: 'start' });
    $('count').textContent += `, page ${page + 1} of ${pages}`;
  };
  const select = element('select', { 'aria-label': 'page', onchange: (event) => go(Number(event.target.value)) },
    ...Array.from({ length: pages }, (_, i) => element('option', { value: i, selected: i === state.page }, `${i + 1} of ${pages}`)));
  $('pager').replaceChildren(
    element('button', { type: 'button', id: 'previous', disabled: state.page === 0, onclick: () => go(state.page - 1) }, '← Previous'), select,
    element('button', { type: 'button', id: 'next', disabled: state.page === pages - 1, onclick: () => go(state.page + 1) }, 'Next →'));
}

function say() {
  $('strength-said').textContent = `${Math.round(100 * state.strength)} %`;
  $('strength').value = state.strength;
  $('strength').disabled = state.view !== 'overlay';
  $('agreement-said').textContent = `${$('agreement-low').value} to ${$('agreement-high').value}`.replaceAll('-', '−');
  for (const radio of document.getElementsByName('view')) radio.checked = radio.value === state.view;
  $('scale').replaceChildren(...legend(state.view, model().explainers.filter((_, i) => !state.hidden.has(i))));
}

function repaint() {
  say();
  for (const button of $('cards').querySelectorAll('.thumb')) {
    painter.unobserve(button);
    painter.observe(button);
  }
  paintTheRest();
}

let waiting = 0;
function strengthen(value) {
  state.strength = value;
  cancelAnimationFrame(waiting);
  waiting = requestAnimationFrame(repaint);
}

function reset() {
  for (const id of ['search', 'label', 'predicted', 'correct']) $(id).value = '';
  $('agreement-low').value = -1;
  $('agreement-high').value = 1;
  refresh();
}

function themes() {
  const names = ['auto', 'light', 'dark'];
  const words = { auto: ['Auto', 'as the system'], light: ['Light', 'light'], dark: ['Dark', 'dark'] };
  const set = (name) => {
    document.documentElement.dataset.theme = name;
    [$('theme').textContent] = words[name];
    $('theme').setAttribute('aria-label', `colours: ${words[name][1]}`);
  };
  let kept = 'auto';
  try { kept = localStorage.getItem('theme') || kept; } catch { /* a page from a file may have no storage */ }
  set(names.includes(kept) ? kept : 'auto');
  $('theme').addEventListener('click', () => {
    const next = names[(names.indexOf(document.documentElement.dataset.theme) + 1) % 3];
    set(next);
    try { localStorage.setItem('theme', next); } catch { /* as above */ }
  });
}

async function copy(button) {
  const text = button.dataset.copy;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const range = document.createRange();
    range.selectNodeContents(button.parentElement.querySelector('code'));
    getSelection().removeAllRanges();
    getSelection().addRange(range);
    document.execCommand('copy');
  }
  button.textContent = 'Copied';
  setTimeout(() => { button.textContent = 'Copy'; }, 1500);
}

function start() {
  $('controls').addEventListener('submit', (event) => event.preventDefault());
  for (const radio of document.getElementsByName('view')) radio.addEventListener('change', () => { state.view = radio.value; repaint(); });
  $('strength').addEventListener('input', (event) => strengthen(Number(event.target.value)));
  for (const id of ['label', 'predicted', 'correct', 'metric', 'sort']) $(id).addEventListener('change', () => refresh());
  for (const id of ['search', 'agreement-low', 'agreement-high']) $(id).addEventListener('input', () => refresh());
  $('model').closest('label').hidden = FACTS.models.length < 2;
  $('model').addEventListener('change', (event) => { state.model = Number(event.target.value); state.hidden.clear(); fillControls(); refresh(); });
  $('descending').addEventListener('click', (event) => {
    const pressed = event.target.getAttribute('aria-pressed') !== 'true';
    event.target.setAttribute('aria-pressed', String(pressed));
    event.target.textContent = pressed ? 'falling' : 'rising';
    refresh();
  });
  $('reset').addEventListener('click', reset);
  for (const button of document.querySelectorAll('.copy')) button.addEventListener('click', () => copy(button));
  addEventListener('beforeprint', () => { for (const one of document.querySelectorAll('details')) one.open = true; });
  themes();
  wireViewer();
  fillControls();
  refresh();
}
start();
