// One picture large; two methods with a slider between them.
const viewer = { at: 0, image: 0, one: null, other: 'none', zoom: 1 };
const there = () => FACTS.models[viewer.at];

function methodOptions(chosen, extra) {
  const names = [['image', 'the image'], ...there().explainers.map((one, i) => [String(i), one.name])];
  return [...extra, ...names].map(([value, words]) => element('option', { value, selected: value === chosen }, words));
}

const keyOf = (explainer) => (explainer === null ? 'image' : String(explainer));
const fromKey = (key) => (key === 'image' ? null : Number(key));

function openViewer(image, explainer, at = state.model) {
  if (viewer.at !== at) viewer.other = 'none';
  Object.assign(viewer, { at, image, one: explainer });
  viewer.zoom = 1;
  fillViewer();
  if (!$('viewer').open) $('viewer').showModal();
  keepView();
}

function fillViewer() {
  const facts = there().images[viewer.image];
  const compared = viewer.other !== 'none';
  const step = (by, words, label) => element('button', { type: 'button', id: `step${by}`, 'aria-label': label, disabled: nextImage(by) < 0, onclick: () => stepImage(by) }, words);
  const views = element('select', { id: 'viewer-view', onchange: (event) => { state.view = event.target.value; repaint(); fillViewer(); } },
    ...VIEWS.map((view) => element('option', { value: view, selected: view === state.view }, { heat: 'heat map' }[view] || view)));
  const strength = element('input', { type: 'range', min: 0, max: 1, step: 0.05, value: state.strength, 'aria-label': 'overlay opacity', oninput: (event) => { strengthen(Number(event.target.value)); $('viewer-scale')?.replaceWith(viewerScale()); paintViewer(); }, onchange: keepView });
  const one = element('select', { id: 'viewer-one', onchange: (event) => { viewer.one = fromKey(event.target.value); fillViewer(); } }, ...methodOptions(keyOf(viewer.one), []));
  const other = element('select', { id: 'viewer-other', onchange: (event) => { viewer.other = event.target.value; fillViewer(); } }, ...methodOptions(viewer.other, [['none', 'none']]));
  const handle = compared ? element('input', { type: 'range', id: 'handle', class: 'handle', min: 0, max: 100, step: 1, value: 50, 'aria-label': 'border between the two pictures', oninput: slide }) : null;
  const stage = element('div', { class: 'stage' },
    element('canvas', { id: 'canvas-one', role: 'img' }),
    compared ? element('canvas', { id: 'canvas-other', role: 'img' }) : null,
    compared ? element('span', { class: 'border', 'aria-hidden': 'true' }) : null, handle,
    compared ? element('span', { class: 'side left' }, nameOf(viewer.one)) : null,
    compared ? element('span', { class: 'side right' }, nameOf(fromKey(viewer.other))) : null,
    element('p', { class: 'flaw', hidden: true }));
  const concern = viewer.one === null ? '' : facts.concerns[viewer.one];
  const method = viewer.one === null ? null : there().explainers[viewer.one];
  const zoom = element('button', { type: 'button', id: 'zoom', onclick: () => { viewer.zoom = viewer.zoom >= 4 ? 1 : 2 * viewer.zoom; zoomStage(); } });
  const tools = element('div', { class: 'tools' }, zoom, element('button', { type: 'button', id: 'save', onclick: savePicture }, 'Save PNG'),
    element('button', { type: 'button', id: 'viewer-link', onclick: (event) => copy(event.target, `${location.href.split('#')[0]}#${viewAddress()}`) }, 'Copy link'),
    method ? figureLink(method, viewer.image, facts.image) : null);
  const focused = document.activeElement && document.activeElement.id;
  $('viewer').replaceChildren(
    element('header', {}, element('h3', { id: 'viewer-title' }, facts.image, FACTS.models.length > 1 ? element('span', { class: 'tag' }, there().model) : null),
      element('div', { class: 'steps' }, step(-1, '↑', 'previous image'), step(1, '↓', 'next image'), element('button', { type: 'button', id: 'close', 'aria-label': 'close', onclick: () => $('viewer').close() }, '✕'))),
    element('p', { class: 'said' }, `predicted: ${facts.predicted} ${share(facts.probability)}${facts.label ? `, true: ${facts.label}` : ''}, ${sayTarget(viewer.image, viewer.at)}`),
    facts.top.length > 1 ? element('p', { class: 'note top' }, `top ${facts.top.length}: ${facts.top.join(', ')}`) : null,
    concern ? element('p', { class: 'concern' }, `⚠ ${concern}`) : null,
    element('div', { class: 'choices' }, element('label', {}, 'method ', one), element('label', {}, 'compare with ', other), element('label', {}, 'view ', views), element('label', {}, 'overlay opacity ', strength)),
    element('div', { class: 'frame', tabindex: 0, role: 'region', 'aria-label': 'picture' }, stage), viewerScale(), tools, ownCurves(), scoreTable(),
    method && method.parameters ? element('p', { class: 'note' }, `${method.name}: ${method.parameters}`) : null);
  zoomStage();
  const again = focused && $(focused);
  if (again && $('viewer').contains(again) && !again.disabled) again.focus();
  else if ($('viewer').open) $('viewer').focus();
  paintViewer();
  if (compared) slide();
  keepView();
}

// The colour bar of the picture with its values.
function viewerScale() {
  if (viewer.one === null || ['original', 'masked'].includes(state.view)) return element('div', { class: 'scale' });
  const method = there().explainers[viewer.one];
  const scale = there().images[viewer.image].scales[viewer.one];
  const kind = { positive: 'positive', negative: 'negative' }[state.view] || (method.signed ? 'signed' : 'unsigned');
  const words = kind === 'signed' ? [`evidence against −${number(scale)}`, `for the class +${number(scale)}`] : ['0', `${kind === 'negative' ? '−' : ''}${number(scale)}`];
  const strip = state.view === 'overlay' ? overlayBar(kind, ...words, 240, 16) : bar(kind, ...words);
  return element('div', { class: 'scale', id: 'viewer-scale' }, strip, element('span', { id: 'viewer-grain' }));
}

// Beside the page where the run lies below it; elsewhere only its name; nothing where none was drawn.
function figureLink({ folder, below, drawn }, image, name) {
  if (drawn && !drawn.includes(image)) return element('span', { class: 'note' }, 'no figure was drawn (callbacks.figures.limit=null draws all)');
  const words = `${folder === '.' ? '' : `${folder}/`}figures/${name}.png`;
  if (!below) return element('span', { class: 'note' }, `figure: ${words}`);
  return element('a', { href: words.split('/').map(encodeURIComponent).join('/'), target: '_blank', rel: 'noopener' }, 'Open figure');
}

function zoomStage() {
  $('zoom').textContent = `Zoom ${viewer.zoom}×`;
  $('viewer').querySelector('.stage').style.width = viewer.zoom > 1 ? `${100 * viewer.zoom}%` : '';
  $('viewer').querySelector('.stage').classList.toggle('zoomed', viewer.zoom > 1);
}

function savePicture() {
  const name = `${there().images[viewer.image].name}_${nameOf(viewer.one).replaceAll(/[^\w.-]+/g, '_')}_${state.view}.png`;
  $('canvas-one').toBlob((blob) => save(name, blob));
}

function nameOf(explainer) {
  return explainer === null ? 'the image' : there().explainers[explainer].name;
}

function scoreTable() {
  const columns = [viewer.one, ...(viewer.other === 'none' ? [] : [fromKey(viewer.other)])].filter((one) => one !== null);
  if (!columns.length || !there().metrics.length) return null;
  const arrows = { higher: ' ↑', lower: ' ↓' };
  const rows = there().metrics.map((metric) => element('tr', {}, element('th', { scope: 'row' }, metric.name.replaceAll('_', ' ') + (arrows[metric.better] || '')),
    ...columns.map((one) => element('td', { class: 'number' }, number(there().scores[metric.name][viewer.image][one])))));
  rows.push(element('tr', {}, element('th', { scope: 'row' }, 'colour scale clipped at'), ...columns.map((one) => element('td', { class: 'number' }, number(there().images[viewer.image].scales[one])))));
  return element('table', {}, element('thead', {}, element('tr', {}, element('td'), ...columns.map((one) => element('th', { scope: 'col', class: 'number' }, nameOf(one))))), element('tbody', {}, ...rows));
}

// The image's own perturbation curves: of the method, of the one it is compared with, and of random.
function ownCurves() {
  const methods = [viewer.one, viewer.other === 'none' ? null : fromKey(viewer.other), there().explainers.findIndex((one) => one.name === 'random')];
  const shown = [...new Set(methods)].filter((one) => one !== null && one >= 0);
  const charts = viewer.one === null ? [] : there().curves.map((curve, c) => curveChart(curve, shown.map((one) => [one, curveOf(viewer.at, viewer.image, c, one)]))).filter(Boolean);
  if (!charts.length) return null;
  const words = shown.map((one) => element('li', {}, svg('svg', { viewBox: '0 0 26 10', 'aria-hidden': 'true' }, svg('path', { class: lineClass(one, shown), d: 'M1 5H25' })), nameOf(one)));
  return element('details', { id: 'own-curves', open: charts.length < 3 }, element('summary', {}, 'Curves of this image'), element('ul', { class: 'legend' }, ...words), element('div', { class: 'charts' }, ...charts));
}

const lineClass = (one, shown) => (there().explainers[one].control ? 'line quiet d0' : `line c${shown.indexOf(one)}`);

const SVG = new DOMParser().parseFromString('<svg></svg>', 'text/html').body.firstChild.namespaceURI;

function svg(tag, attributes, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

// [share, value] of each point; nothing where the method has no such curve.
function curveOf(at, image, curve, method) {
  const [, , curves] = block(at, image);
  const [values, shares = model(at).curves[curve].shares] = (curves[curve] || [])[method] || [[]];
  return values.map((value, i) => [shares[i], value]).filter(([, value]) => value !== null);
}

function curveChart({ name, axis, quantity }, lines) {
  const drawn = lines.filter(([, points]) => points.length);
  if (!drawn.length) return null;
  const all = drawn.flatMap(([, points]) => points.map(([, value]) => value));
  const [low, high] = [Math.min(0, ...all), Math.max(1, ...all)];
  const x = (share) => (36 + 254 * share).toFixed(1);
  const y = (value) => (150 - (142 * (value - low)) / (high - low)).toFixed(1);
  const ticks = [low, (low + high) / 2, high].flatMap((value) => [svg('path', { class: 'rule', d: `M36 ${y(value)}H290` }), svg('text', { x: 31, y: Number(y(value)) + 3.5, 'text-anchor': 'end' }, String(Number(value.toPrecision(2))).replace('-', '−'))]);
  const shares = [0, 0.5, 1].map((value) => svg('text', { x: x(value), y: 164, 'text-anchor': 'middle' }, String(value)));
  const order = drawn.map(([one]) => one);
  const paths = drawn.map(([one, points]) => svg('path', { class: lineClass(one, order), 'data-method': nameOf(one), d: points.map(([a, b], i) => `${i ? 'L' : 'M'}${x(a)} ${y(b)}`).join('') }));
  const words = `${name}, ${quantity} over the ${axis}: ${drawn.map(([one, points]) => `${nameOf(one)} from ${number(points[0][1])} to ${number(points.at(-1)[1])}`).join('; ')}`;
  return element('figure', { 'data-curve': name }, element('figcaption', {}, name.replaceAll('_', ' ').replace('/', ' / ')),
    svg('svg', { class: 'chart', viewBox: '0 0 300 180', role: 'img', 'aria-label': words }, ...ticks, ...shares, svg('text', { x: 163, y: 177, 'text-anchor': 'middle' }, axis), ...paths));
}

async function paintViewer() {
  const show = async (id, explainer) => {
    const canvas = $(id);
    canvas.setAttribute('aria-label', describe(viewer.image, explainer, viewer.at));
    return draw(canvas, viewer.at, viewer.image, explainer, state.view, state.strength);
  };
  const note = $('viewer').querySelector('.flaw');
  const jobs = [show('canvas-one', viewer.one)];
  if (viewer.other !== 'none') jobs.push(show('canvas-other', fromKey(viewer.other)));
  const shown = await Promise.all(jobs);
  note.hidden = shown.every(Boolean);
  note.textContent = note.hidden ? '' : whyBlank(viewer.image, viewer.one, viewer.at);
  const map = viewer.one === null ? null : await load(viewer.at, viewer.image).map(viewer.one);
  const grain = $('viewer-grain');
  if (!grain || !map) return;
  const block = state.view === 'overlay' ? blockOf(map) : 1;
  grain.textContent = block > 1 ? `a fine map: averaged over ${block} × ${block} pixels and scaled anew; the heat map shows every pixel` : '';
}

function slide() {
  const share = Number($('handle').value);
  $('handle').setAttribute('aria-valuetext', `${share} % ${nameOf(viewer.one)}, ${100 - share} % ${nameOf(fromKey(viewer.other))}`);
  $('canvas-other').style.clipPath = `inset(0 0 0 ${share}%)`;
  $('viewer').querySelector('.border').style.left = `${share}%`;
}

// The next image in the order of the gallery, which may show another model; -1 where there is none.
function nextImage(by) {
  const names = state.order.map((i) => model().images[i].name);
  const next = names[names.indexOf(there().images[viewer.image].name) + by];
  return there().images.findIndex((one) => one.name === next);
}

function stepImage(by) {
  const next = nextImage(by);
  if (next < 0) return;
  viewer.image = next;
  fillViewer();
}

function stepMethod(by) {
  const count = there().explainers.length + 1;
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
  $('viewer').addEventListener('close', keepView);
  $('viewer').addEventListener('click', (event) => { if (event.target === $('viewer')) $('viewer').close(); });
}
