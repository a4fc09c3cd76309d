// The gallery: filter, sort, page through; canvases are painted when they come into view.
const PER_PAGE = 12;
const state = { model: 0, view: 'overlay', strength: FACTS.strength, page: 0, order: [], hidden: new Set() };
const $ = (id) => document.getElementById(id);
const model = (at = state.model) => FACTS.models[at];
const painter = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (isIntersecting) {
      painter.unobserve(target);
      paintThumb(target);
    }
  }
}, { rootMargin: '300px' });

function options(select, pairs) {
  const before = select.value;
  select.replaceChildren(...pairs.map(([value, words]) => element('option', { value }, words)));
  if (pairs.some(([value]) => value === before)) select.value = before;
}

function counted(key) {
  const counts = new Map();
  for (const [image] of grouped(model().images.map((_, i) => i))) {
    const name = model().images[image][key];
    counts.set(name, (counts.get(name) || 0) + 1);
  }
  const named = [...counts].filter(([name]) => name !== '').sort((a, b) => a[0].localeCompare(b[0]));
  return [['', 'all'], ...named.map(([name, count]) => [`=${name}`, `${name} (${count})`])];
}

function fillControls() {
  const { explainers, metrics, images } = model();
  $('side').textContent = model().side;
  options($('label'), counted('label'));
  options($('predicted'), counted('predicted'));
  const arrows = { higher: ' ↑', lower: ' ↓' };
  options($('metric'), metrics.length
    ? metrics.map((metric) => [metric.name, metric.name.replaceAll('_', ' ') + (arrows[metric.better] || '')]) : [['', 'none']]);
  const sorts = [['order', 'order of the run'], ['suspicion', 'most suspicious'], ['name', 'name'], ['agreement', 'agreement']];
  if (images.some((image) => image.probability !== null)) sorts.splice(3, 0, ['probability', 'probability']);
  if (metrics.length) sorts.push(['mean', 'score, mean of methods'], ...explainers.map((one, i) => [`s${i}`, `score of ${one.name}`]));
  options($('sort'), sorts);
  const { twins } = model();
  $('twins-note').textContent = twins.length ? `Near twins count as one: ${twins.map((group) => group.join(' and ')).join('; ')}. ` : '';
  $('agreement').hidden = $('agreement-note').hidden = images.every((image) => image.agreement === null);
  $('metric').closest('label').hidden = !metrics.length;
  $('methods-shown').hidden = explainers.length < 2;
  $('methods').replaceChildren(...explainers.map((one) => element('label', {},
    element('input', { type: 'checkbox', checked: !state.hidden.has(one.name), onchange: () => toggle(one.name) }), one.name)));
}

function toggle(explainer) {
  if (!state.hidden.delete(explainer)) state.hidden.add(explainer);
  refresh(false);
}

function matches(image) {
  const words = $('search').value.trim().toLowerCase();
  const low = Number($('agreement-low').value);
  const high = Number($('agreement-high').value);
  const free = low <= -1 && high >= 1;
  const said = [image.image, image.label, image.predicted, image.target].join('\n').toLowerCase();
  return (!words || said.includes(words))
    && (!$('label').value || $('label').value === `=${image.label}`)
    && (!$('predicted').value || $('predicted').value === `=${image.predicted}`)
    && (!$('correct').value || $('correct').value === (image.correct || 'unknown'))
    && (free || (image.agreement !== null && image.agreement >= low && image.agreement <= high));
}

function score(image, explainer, at = state.model) {
  const row = model(at).scores[$('metric').value];
  return row ? row[image][explainer] : null;
}

function sortKey(image) {
  const by = $('sort').value;
  if (by === 'order') return image;
  if (by === 'suspicion') return -model().images[image].suspicion;
  if (by === 'mean') {
    const known = model().explainers.map((_, i) => score(image, i)).filter((value) => value !== null);
    return known.length ? known.reduce((sum, value) => sum + value, 0) / known.length : null;
  }
  return by.startsWith('s') ? score(image, Number(by.slice(1))) : model().images[image][by];
}

function ordered() {
  const sign = $('descending').getAttribute('aria-pressed') === 'true' ? -1 : 1;
  const rows = model().images.map((image, i) => i).filter((i) => matches(model().images[i])).map((i) => [sortKey(i), i]);
  const compare = (a, b) => (typeof a === 'string' ? a.localeCompare(b) : a - b);
  rows.sort(([a, i], [b, j]) => (a === null) - (b === null) || (a === null ? 0 : sign * compare(a, b)) || i - j);
  return rows.map(([, i]) => i);
}

// The targets of an image stand together, where the first of them stands.
function grouped(order) {
  const groups = new Map();
  for (const i of order) {
    const name = model().images[i].image;
    if (!groups.has(name)) groups.set(name, []);
    groups.get(name).push(i);
  }
  return [...groups.values()];
}

function describe(image, explainer, at = state.model) {
  const { name, target, target_probability: probability } = model(at).images[image];
  const method = explainer === null ? 'image' : `${model(at).explainers[explainer].name}, ${MEANING[state.view]}`;
  return `${FACTS.models.length > 1 ? `${model(at).model}, ` : ''}${name}: ${method}, target ${target}${probability === null ? '' : `, probability ${share(probability)}`}`;
}

function thumb(image, explainer, at = state.model) {
  const said = explainer === null ? null : score(image, explainer, at);
  const name = explainer === null ? 'image' : model(at).explainers[explainer].name;
  const button = element('button', { type: 'button', class: 'thumb', 'aria-label': `Open ${describe(image, explainer, at)}`, onclick: () => openViewer(image, explainer, at) },
    element('canvas', { width: 1, height: 1, role: 'img', 'aria-label': describe(image, explainer, at) }));
  const concern = explainer === null ? '' : model(at).images[image].concerns[explainer];
  Object.assign(button, { image, explainer, at });
  painter.observe(button);
  const control = explainer !== null && model(at).explainers[explainer].control;
  return element('figure', { class: control ? 'control' : null }, button, element('figcaption', {}, element('span', { class: 'method' }, name),
    said === null ? null : element('span', { class: 'score', 'data-value': said }, number(said))),
  concern ? element('p', { class: 'concern' }, `⚠ ${concern}`) : null);
}

function whyBlank(image, explainer, at) {
  if (explainer === null) return 'no picture was stored';
  return model(at).images[image].flaws[explainer] || missing(state.view, model(at).explainers[explainer]) || 'no picture was stored';
}

async function paintThumb(button) {
  const drawn = await draw(button.firstChild, button.at, button.image, button.explainer, state.view, state.strength);
  button.classList.toggle('blank', !drawn);
  const flaw = whyBlank(button.image, button.explainer, button.at);
  if (drawn) delete button.dataset.flaw;
  else button.dataset.flaw = flaw;
  button.firstChild.setAttribute('aria-label', describe(button.image, button.explainer, button.at) + (drawn ? '' : `: ${flaw}`));
}

// The methods that are shown: controls last.
function shownMethods(at = state.model) {
  const { explainers } = model(at);
  const every = explainers.map((_, i) => i).filter((i) => !state.hidden.has(explainers[i].name));
  return every.sort((a, b) => explainers[a].control - explainers[b].control || a - b);
}

// One tab stop a card; the arrow keys move between its pictures.
function rove(card) {
  const buttons = [...card.querySelectorAll('.thumb')];
  buttons.forEach((button, i) => { button.tabIndex = i ? -1 : 0; });
  card.addEventListener('keydown', (event) => {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const next = buttons[buttons.indexOf(document.activeElement) + by];
    if (!by || !next) return;
    next.focus();
    event.preventDefault();
  });
  return card;
}

function sayPrediction({ correct, predicted, probability }) {
  const verdict = { yes: ['right', '✓ '], no: ['wrong', '✗ '] }[correct] || ['', ''];
  return element('span', { class: verdict[0] }, `${verdict[1]}${predicted} ${share(probability)}`);
}

// The same explanation of the other models, a row each.
function otherModels(name) {
  const others = FACTS.models.map((each, at) => [at, each.images.findIndex((one) => one.name === name)]);
  return others.filter(([at, image]) => at !== state.model && image >= 0).flatMap(([at, image]) => [nameModel(at, image), thumbs(image, at)]);
}

function nameModel(at, image) {
  const facts = model(at).images[image];
  return element('p', { class: 'said of-model' }, element('b', {}, model(at).model), sayPrediction(facts),
    facts.target === facts.predicted ? null : element('span', {}, sayTarget(image, at)), sayNext(facts));
}

function sayNext({ top }) {
  return top.length > 1 ? element('span', { class: 'top' }, `then ${top.slice(1, 3).join(', ')}`) : null;
}

function card(targets) {
  const facts = model().images[targets[0]];
  const alone = facts.name === facts.image;
  const many = FACTS.models.length > 1;
  const line = element('p', { class: 'said' },
    many ? null : sayPrediction(facts),
    facts.label && (many || facts.correct !== 'yes') ? element('span', {}, `true: ${facts.label}`) : null,
    alone && !many && facts.target !== facts.predicted ? element('span', {}, sayTarget(targets[0])) : null,
    many ? null : sayNext(facts),
    ...(alone ? sayAgreement(targets[0]) : []));
  return rove(element('article', { class: 'card', 'data-image': facts.image },
    element('header', {}, element('h3', {}, facts.image), line),
    ...targets.flatMap((image) => [alone ? null : element('p', { class: 'said target' }, element('span', {}, sayTarget(image)), ...sayAgreement(image)), many ? nameModel(state.model, image) : null, thumbs(image), ...(many ? otherModels(model().images[image].name) : [])])));
}

function sayTarget(image, at = state.model) {
  const { name, image: whole, target, policy, target_probability: probability } = model(at).images[image];
  const how = name === whole || policy === target ? '' : ` (${policy})`;
  return `target: ${target}${how}${probability === null ? '' : ` ${share(probability)}`}`;
}

function sayAgreement(image) {
  const { agreement, conflict } = model().images[image];
  return [agreement === null ? null : element('span', { class: 'agreed' }, `agreement ${agreement.toFixed(2).replace('-', '−')}`),
    conflict ? element('span', { class: conflict.share > 0.6 ? 'conflict wrong' : 'conflict', 'data-value': conflict.share }, sayConflict(conflict)) : null];
}

function thumbs(image, at = state.model) {
  const shown = shownMethods(at);
  return element('div', { class: shown.length < 6 ? 'thumbs few' : 'thumbs', style: `--count: ${shown.length + 1}` }, thumb(image, null, at), ...shown.map((i) => thumb(image, i, at)));
}

function sayConflict({ share: part, of, in: other }) {
  return `sign conflict ${Math.round(100 * part)} %: of the top tenth of ${of}, in ${other}`;
}
