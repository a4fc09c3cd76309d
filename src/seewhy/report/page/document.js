// Wires the controls, the pager, the theme and the copy buttons.
function refresh(first = true) {
  if (first) state.page = 0;
  const groups = grouped(ordered());
  state.order = groups.flat();
  const pages = Math.max(1, Math.ceil(groups.length / PER_PAGE));
  state.page = Math.min(state.page, pages - 1);
  const shown = groups.slice(state.page * PER_PAGE, (state.page + 1) * PER_PAGE);
  $('cards').querySelectorAll('.thumb').forEach((button) => painter.unobserve(button));
  const beside = shownMethods().length;
  $('cards').classList.toggle('pairs', beside < 2);
  $('cards').classList.toggle('halves', beside === 2 || beside === 3);
  $('cards').replaceChildren(...shown.map(card));
  const all = model().images.length;
  const total = grouped(model().images.map((_, i) => i)).length;
  const plural = total === 1 ? '' : 's';
  const targets = all === total ? '' : `, ${state.order.length === all ? '' : `${state.order.length} of `}${all} targets`;
  $('count').textContent = (groups.length === total ? `${total} image${plural}` : `${groups.length} of ${total} image${plural}`) + targets;
  $('reset').hidden = state.order.length === all;
  if (!shown.length) $('cards').append(element('p', { class: 'empty' }, 'No image matches these filters.'));
  fillPager(pages);
  say();
  paintTheRest();
  keepView();
}

// Cards below the fold are painted when there is time, so that they are there for a printer.
const idle = window.requestIdleCallback || ((work) => setTimeout(work, 200));
let round = 0;
function paintTheRest() {
  const mine = ++round;
  const queue = [...document.querySelectorAll('.thumb')];
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
  $('scale').replaceChildren(...legend(state.view, model().explainers.filter((one) => !state.hidden.has(one.name))));
}

function repaint() {
  say();
  for (const button of document.querySelectorAll('.thumb')) {
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
  const names = ['system', 'light', 'dark'];
  const set = (name) => {
    document.documentElement.dataset.theme = name;
    $('theme').textContent = `Theme: ${name}`;
  };
  let kept = 'system';
  try { kept = localStorage.getItem('theme') || kept; } catch { /* a page from a file may have no storage */ }
  set(names.includes(kept) ? kept : 'system');
  $('theme').addEventListener('click', () => {
    const next = names[(names.indexOf(document.documentElement.dataset.theme) + 1) % 3];
    set(next);
    try { localStorage.setItem('theme', next); } catch { /* as above */ }
  });
}

// The images that ask to be looked at, with the reasons.
function fillFocus() {
  const { images, explainers } = model();
  const first = explainers.findIndex((one) => !one.control);
  const seen = new Set();
  const rated = images.map((_, i) => i).sort((a, b) => images[b].suspicion - images[a].suspicion || a - b);
  const order = rated.filter((i) => !seen.has(images[i].image) && seen.add(images[i].image)).slice(0, 6);
  $('focus-cards').replaceChildren(...order.map((i) => {
    const { name, image, reasons, suspect, predicted, probability, correct } = images[i];
    const shown = suspect === null ? Math.max(first, 0) : suspect;
    const mark = { yes: '✓ ', no: '✗ ' }[correct] || '';
    return rove(element('article', { class: 'look', 'data-image': name },
      element('div', { class: 'two' }, thumb(i, null).querySelector('.thumb'), thumb(i, shown).querySelector('.thumb')),
      element('h3', {}, image), element('p', { class: 'said' }, `${mark}${predicted} ${share(probability)}, ${name === image ? '' : `${sayTarget(i)}, `}map of ${explainers[shown].name}${FACTS.models.length > 1 ? ` on ${model().model}` : ''}`),
      element('ul', { class: images[i].suspicion >= 1 ? 'reasons' : 'reasons calm' }, ...reasons.slice(0, 3).map((words) => element('li', {}, words)))));
  }));
}

// The view as the end of the address, so that it can be sent.
const FIELDS = ['model', 'metric', 'sort', 'search', 'label', 'predicted', 'correct', 'agreement-low', 'agreement-high'];
const START = {};
const tabSets = [];
const boards = [];
function viewAddress() {
  const view = new URLSearchParams();
  for (const id of FIELDS) if ($(id).value !== START[id]) view.set(id, $(id).value);
  if ($('descending').getAttribute('aria-pressed') === 'true') view.set('order', 'descending');
  if (state.view !== 'overlay') view.set('view', state.view);
  if (state.strength !== FACTS.strength) view.set('opacity', state.strength);
  for (const name of state.hidden) view.append('hide', name);
  if (state.page) view.set('page', state.page);
  tabSets.forEach(({ titles, chosen }, n) => { if (chosen()) view.set(`tab${n}`, titles[chosen()]); });
  boards.forEach(({ sorted }, n) => { if (sorted.column) view.set(`rows${n}`, `${sorted.column} ${sorted.way > 0 ? 'ascending' : 'descending'}`); });
  if ($('viewer').open) {
    view.set('image', there().images[viewer.image].name);
    if (viewer.one !== null) view.set('method', there().explainers[viewer.one].name);
    if (viewer.other !== 'none') view.set('beside', viewer.other === 'image' ? '' : nameOf(fromKey(viewer.other)));
    if (viewer.at !== state.model) view.set('of', viewer.at);
  }
  return String(view);
}

let wired = false;
function keepView() {
  if (!wired) return;
  const view = viewAddress();
  const now = location.hash.slice(1);
  if (view || now.includes('=')) history.replaceState(null, '', view ? `#${view}` : location.pathname + location.search);
}

function readView() {
  for (const id of FIELDS) START[id] = $(id).value;
  const view = new URLSearchParams(location.hash.slice(1));
  if (!location.hash.includes('=')) return;
  const page = Number(view.get('page')) || 0;
  if (view.has('model') && FACTS.models[view.get('model')]) {
    $('model').value = view.get('model');
    state.model = Number(view.get('model'));
  }
  const names = FACTS.models.flatMap((each) => each.explainers.map((one) => one.name));
  for (const name of view.getAll('hide')) if (names.includes(name)) state.hidden.add(name);
  fillControls();
  fillFocus();
  for (const id of FIELDS) if (view.has(id) && id !== 'model') $(id).value = view.get(id);
  for (const id of FIELDS) if ($(id).selectedIndex === -1) $(id).selectedIndex = 0;
  if (view.get('order') === 'descending') turn(true);
  if (VIEWS.includes(view.get('view'))) state.view = view.get('view');
  if (Number(view.get('opacity')) >= 0 && Number(view.get('opacity')) <= 1 && view.has('opacity')) state.strength = Number(view.get('opacity'));
  $('more').open = ['search', 'label', 'predicted', 'correct', 'agreement-low', 'agreement-high'].some((id) => view.has(id));
  $('methods-shown').open = state.hidden.size > 0;
  tabSets.forEach(({ titles, show }, n) => { if (titles.includes(view.get(`tab${n}`))) show(titles.indexOf(view.get(`tab${n}`))); });
  boards.forEach(({ heads, sort }, n) => {
    const [column, way] = (view.get(`rows${n}`) || '').split(' ');
    if (Number(column) in heads && Number(column) > 0) sort(Number(column), way === 'descending' ? -1 : 1);
  });
  refresh();
  state.page = page;
  refresh(false);
  const above = [...view.keys()].every((key) => /^(tab|rows)\d+$/.test(key));
  $(above ? 'leaderboard' : 'gallery').scrollIntoView({ block: 'start' });
  openNamed(FACTS.models[view.get('of')] ? Number(view.get('of')) : state.model, view.get('image'), view.get('method'));
  const beside = there().explainers.findIndex((one) => one.name === view.get('beside'));
  if ($('viewer').open && view.has('beside')) { viewer.other = beside < 0 ? 'image' : String(beside); fillViewer(); }
}

function openNamed(at, name, method) {
  const image = model(at).images.findIndex((one) => one.name === name);
  const explainer = model(at).explainers.findIndex((one) => one.name === method);
  if (image >= 0) openViewer(image, explainer < 0 ? null : explainer, at);
}

// Panels as tabs; without scripts, and in print, they stand below each other.
function wireTabs(box, number) {
  const panels = [...box.children];
  if (panels.length < 2) return;
  const show = (chosen) => {
    panels.forEach((panel, i) => {
      panel.hidden = i !== chosen;
      tabs[i].setAttribute('aria-selected', String(i === chosen));
      tabs[i].tabIndex = i === chosen ? 0 : -1;
    });
    keepView();
  };
  tabSets.push({ titles: panels.map((panel) => panel.dataset.title), chosen: () => panels.findIndex((panel) => !panel.hidden), show });
  const tabs = panels.map((panel, i) => element('button', { type: 'button', role: 'tab', id: `tab-${number}-${i}`, 'aria-controls': `panel-${number}-${i}`, onclick: () => show(i) }, panel.dataset.title));
  panels.forEach((panel, i) => {
    Object.assign(panel, { id: `panel-${number}-${i}`, role: 'tabpanel' });
    panel.setAttribute('aria-labelledby', tabs[i].id);
  });
  box.classList.add('wired');
  box.before(element('div', { class: 'tablist', role: 'tablist', 'aria-label': box.dataset.label, onkeydown: (event) => {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!by) return;
    const next = (tabs.indexOf(document.activeElement) + by + tabs.length) % tabs.length;
    show(next);
    tabs[next].focus();
    event.preventDefault();
  } }, ...tabs));
  show(0);
}

// A click on the head of a column sorts the rows by it, the best first, and a second one turns the order.
function wireColumns(board) {
  const heads = [...board.querySelectorAll('thead th')];
  const sorted = {};
  const sort = (column, way) => {
    Object.assign(sorted, { column, way });
    for (const other of heads) other.removeAttribute('aria-sort');
    heads[column].setAttribute('aria-sort', way > 0 ? 'ascending' : 'descending');
    const key = (row) => (row.cells[column].dataset.value ? way * Number(row.cells[column].dataset.value) : Infinity);
    const body = board.tBodies[0];
    body.append(...[...body.rows].sort((a, b) => key(a) - key(b) || 0));
    keepView();
  };
  boards.push({ heads, sorted, sort });
  heads.forEach((head, column) => {
    if (!column) return;
    const better = head.dataset.better === 'higher' ? -1 : 1;
    const button = element('button', { type: 'button', class: 'link' });
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener('click', () => sort(column, head.getAttribute('aria-sort') === (better > 0 ? 'ascending' : 'descending') ? -better : better));
  });
}

function turn(pressed) {
  $('descending').setAttribute('aria-pressed', String(pressed));
  $('descending').textContent = pressed ? 'descending' : 'ascending';
}

// One row per image and method, as metrics.csv, of the images that the filters leave.
function downloadScores() {
  const cell = (value) => {
    const text = value === null || value === undefined ? '' : String(value);
    const safe = typeof value === 'string' && /^'*[=+\-@\t\r]/.test(text) && Number.isNaN(Number(text)) ? `'${text}` : text;
    return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  };
  const { model: name, images, explainers, metrics, scores } = model();
  const facts = ['name', 'label', 'predicted', 'probability', 'correct', 'target', 'target_probability', 'agreement'];
  const lines = [['model', 'image', ...facts.slice(1), 'method', ...metrics.map((one) => one.name)]];
  for (const i of state.order) explainers.forEach((one, j) => lines.push([name, ...facts.map((key) => images[i][key]), one.name, ...metrics.map((metric) => scores[metric.name][i][j])]));
  save('scores.csv', new Blob([lines.map((line) => line.map(cell).join(',')).join('\n'), '\n'], { type: 'text/csv' }));
}

async function copy(button, text = button.dataset.copy) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = element('textarea', { class: 'sr', 'aria-label': 'copied text' });
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand('copy');
    area.remove();
  }
  const before = button.dataset.words || button.textContent;
  button.dataset.words = before;
  button.textContent = 'Copied';
  setTimeout(() => { button.textContent = before; }, 1500);
}

function start() {
  $('controls').addEventListener('submit', (event) => event.preventDefault());
  for (const radio of document.getElementsByName('view')) radio.addEventListener('change', () => { state.view = radio.value; repaint(); keepView(); });
  $('strength').addEventListener('input', (event) => strengthen(Number(event.target.value)));
  $('strength').addEventListener('change', keepView);
  for (const id of ['label', 'predicted', 'correct', 'metric', 'sort']) $(id).addEventListener('change', () => refresh());
  for (const id of ['search', 'agreement-low', 'agreement-high']) $(id).addEventListener('input', () => refresh());
  $('model').closest('label').hidden = FACTS.models.length < 2;
  $('model').addEventListener('change', (event) => { state.model = Number(event.target.value); fillControls(); fillFocus(); refresh(); });
  $('descending').addEventListener('click', () => { turn($('descending').getAttribute('aria-pressed') !== 'true'); refresh(); });
  $('csv').addEventListener('click', downloadScores);
  $('link').addEventListener('click', () => copy($('link'), `${location.href.split('#')[0]}#${viewAddress() || 'gallery'}`));
  for (const button of document.querySelectorAll('[data-class]')) button.addEventListener('click', () => { $('label').value = `=${button.dataset.class}`; $('more').open = true; refresh(); $('gallery').scrollIntoView(); });
  for (const button of document.querySelectorAll('[data-find]')) button.addEventListener('click', () => { $('search').value = button.dataset.find; $('more').open = true; refresh(); $('gallery').scrollIntoView(); });
  for (const row of document.querySelectorAll('.board tbody tr')) row.querySelector('button')?.addEventListener('click', () => sortBy(row.dataset.explainer, row.closest('table').dataset.model));
  for (const button of document.querySelectorAll('[data-open]')) button.addEventListener('click', () => openFirst(button.closest('table').dataset.model, button.dataset.open));
  for (const dot of document.querySelectorAll('.scatter [data-image]')) dot.addEventListener('click', () => openNamed(Number(dot.closest('figure').dataset.model), dot.dataset.image));
  document.querySelectorAll('.tabs').forEach(wireTabs);
  document.querySelectorAll('.board').forEach(wireColumns);
  $('reset').addEventListener('click', reset);
  for (const button of document.querySelectorAll('.copy')) button.addEventListener('click', () => copy(button));
  addEventListener('beforeprint', () => { for (const one of document.querySelectorAll('details:not(.appendix)')) one.open = true; });
  themes();
  wireViewer();
  fillControls();
  fillFocus();
  refresh();
  readView();
  wired = true;
  addEventListener('hashchange', () => { if (location.hash.includes('=')) location.reload(); });  // an address that was pasted
}

// The first explanation of an image, with the map of the first method.
function openFirst(label, image) {
  const at = FACTS.models.findIndex((one) => one.model === label);
  openNamed(at, model(at).images.find((one) => one.image === image)?.name, model(at).explainers[shownMethods(at)[0]]?.name);
}

// From a row of the leaderboard to the gallery, the worst images of this method first.
function sortBy(explainer, label) {
  const at = FACTS.models.findIndex((one) => one.model === label);
  if (at !== state.model) { $('model').value = at; $('model').dispatchEvent(new Event('change')); }
  const method = model().explainers.findIndex((one) => one.name === explainer);
  const metric = model().metrics.find((one) => one.name === $('metric').value);
  $('sort').value = `s${method}`;
  turn(metric && metric.better === 'lower');
  refresh();
  $('gallery').scrollIntoView();
}
start();
