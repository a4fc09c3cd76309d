// One picture large; two methods with a slider between them.
const viewer = { image: 0, one: null, other: 'none' };

function methodOptions(chosen, extra) {
  const names = [['image', 'the image'], ...model().explainers.map((one, i) => [String(i), one.name])];
  return [...extra, ...names].map(([value, words]) => element('option', { value, selected: value === chosen }, words));
}

const keyOf = (explainer) => (explainer === null ? 'image' : String(explainer));
const fromKey = (key) => (key === 'image' ? null : Number(key));

function openViewer(image, explainer) {
  Object.assign(viewer, { image, one: explainer });
  fillViewer();
  if (!$('viewer').open) $('viewer').showModal();
}

function fillViewer() {
  const facts = model().images[viewer.image];
  const compared = viewer.other !== 'none';
  const at = state.order.indexOf(viewer.image);
  const step = (by, words, label) => element('button', { type: 'button', id: `step${by}`, 'aria-label': label, disabled: !(at + by in state.order), onclick: () => stepImage(by) }, words);
  const views = element('select', { id: 'viewer-view', onchange: (event) => { state.view = event.target.value; repaint(); paintViewer(); } },
    ...VIEWS.map((view) => element('option', { value: view, selected: view === state.view }, { heat: 'heat map' }[view] || view)));
  const strength = element('input', { type: 'range', min: 0, max: 1, step: 0.05, value: state.strength, 'aria-label': 'overlay strength', oninput: (event) => { strengthen(Number(event.target.value)); paintViewer(); } });
  const one = element('select', { id: 'viewer-one', onchange: (event) => { viewer.one = fromKey(event.target.value); fillViewer(); } }, ...methodOptions(keyOf(viewer.one), []));
  const other = element('select', { id: 'viewer-other', onchange: (event) => { viewer.other = event.target.value; fillViewer(); } }, ...methodOptions(viewer.other, [['none', 'nothing']]));
  const handle = compared ? element('input', { type: 'range', id: 'handle', class: 'handle', min: 0, max: 100, step: 1, value: 50, 'aria-label': 'border between the two pictures', oninput: slide }) : null;
  const stage = element('div', { class: 'stage' },
    element('canvas', { id: 'canvas-one', role: 'img' }),
    compared ? element('canvas', { id: 'canvas-other', role: 'img' }) : null,
    compared ? element('span', { class: 'border', 'aria-hidden': 'true' }) : null, handle,
    compared ? element('span', { class: 'side left' }, nameOf(viewer.one)) : null,
    compared ? element('span', { class: 'side right' }, nameOf(fromKey(viewer.other))) : null,
    element('p', { class: 'flaw', hidden: true }));
  const focused = document.activeElement && document.activeElement.id;
  $('viewer').replaceChildren(
    element('header', {}, element('h3', { id: 'viewer-title' }, facts.name),
      element('div', { class: 'steps' }, step(-1, '↑', 'previous image'), step(1, '↓', 'next image'), element('button', { type: 'button', id: 'close', 'aria-label': 'close', onclick: () => $('viewer').close() }, '✕'))),
    element('p', { class: 'said' }, `predicted: ${facts.predicted} ${share(facts.probability)}${facts.label ? `, true: ${facts.label}` : ''}, explained: ${facts.target} ${share(facts.target_probability)}`),
    element('div', { class: 'choices' }, element('label', {}, 'method ', one), element('label', {}, 'compare with ', other), element('label', {}, 'view ', views), element('label', {}, 'strength ', strength)),
    stage, scoreTable());
  const again = focused && $(focused);
  if (again && $('viewer').contains(again) && !again.disabled) again.focus();
  else if ($('viewer').open) $('viewer').focus();
  paintViewer();
  if (compared) slide();
}

function nameOf(explainer) {
  return explainer === null ? 'the image' : model().explainers[explainer].name;
}

function scoreTable() {
  const columns = [viewer.one, ...(viewer.other === 'none' ? [] : [fromKey(viewer.other)])].filter((one) => one !== null);
  if (!columns.length || !model().metrics.length) return null;
  const arrows = { higher: ' ↑', lower: ' ↓' };
  const rows = model().metrics.map((metric) => element('tr', {}, element('th', { scope: 'row' }, metric.name.replaceAll('_', ' ') + (arrows[metric.better] || '')),
    ...columns.map((one) => element('td', { class: 'number' }, number(model().scores[metric.name][viewer.image][one])))));
  rows.push(element('tr', {}, element('th', { scope: 'row' }, 'colours saturate at'), ...columns.map((one) => element('td', { class: 'number' }, number(model().images[viewer.image].scales[one])))));
  return element('table', {}, element('thead', {}, element('tr', {}, element('td'), ...columns.map((one) => element('th', { scope: 'col', class: 'number' }, nameOf(one))))), element('tbody', {}, ...rows));
}

async function paintViewer() {
  const show = async (id, explainer) => {
    const canvas = $(id);
    canvas.setAttribute('aria-label', describe(viewer.image, explainer));
    return draw(canvas, state.model, viewer.image, explainer, state.view, state.strength);
  };
  const note = $('viewer').querySelector('.flaw');
  const jobs = [show('canvas-one', viewer.one)];
  if (viewer.other !== 'none') jobs.push(show('canvas-other', fromKey(viewer.other)));
  const shown = await Promise.all(jobs);
  note.hidden = shown.every(Boolean);
  note.textContent = note.hidden ? '' : (viewer.one !== null && model().images[viewer.image].flaws[viewer.one]) || 'no picture was stored';
}

function slide() {
  const share = Number($('handle').value);
  $('handle').setAttribute('aria-valuetext', `${share} % ${nameOf(viewer.one)}, ${100 - share} % ${nameOf(fromKey(viewer.other))}`);
  $('canvas-other').style.clipPath = `inset(0 0 0 ${share}%)`;
  $('viewer').querySelector('.border').style.left = `${share}%`;
}

function stepImage(by) {
  const next = state.order[state.order.indexOf(viewer.image) + by];
  if (next === undefined) return;
  viewer.image = next;
  fillViewer();
}

function stepMethod(by) {
  const count = model().explainers.length + 1;
  const now = viewer.one === null ? 0 : viewer.one + 1;
  const next = (now + by + count) % count;
  viewer.one = next === 0 ? null : next - 1;
  fillViewer();
}

function wireViewer() {
  $('viewer').addEventListener('keydown', (event) => {
    if (event.target.matches('select, input') || event.ctrlKey || event.metaKey || event.altKey) return;
    const steps = { ArrowLeft: () => stepMethod(-1), ArrowRight: () => stepMethod(1), ArrowUp: () => stepImage(-1), ArrowDown: () => stepImage(1) };
    const view = VIEWS[Number(event.key) - 1];
    if (steps[event.key]) steps[event.key]();
    else if (view) { state.view = view; repaint(); fillViewer(); } else return;
    event.preventDefault();
  });
  $('viewer').addEventListener('click', (event) => { if (event.target === $('viewer')) $('viewer').close(); });
}
