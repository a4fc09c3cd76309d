// The gallery: filter, sort, page through; canvases are painted when they come into view.
const PER_PAGE = 12;
const state = { model: 0, view: 'overlay', strength: FACTS.strength, page: 0, order: [], hidden: new Set() };
const $ = (id) => document.getElementById(id);
const model = () => FACTS.models[state.model];
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
  for (const image of model().images) counts.set(image[key], (counts.get(image[key]) || 0) + 1);
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
  const sorts = [['order', 'order of the run'], ['name', 'name'], ['probability', 'probability'], ['agreement', 'agreement']];
  if (metrics.length) sorts.push(['mean', 'score, mean of methods'], ...explainers.map((one, i) => [`s${i}`, `score of ${one.name}`]));
  options($('sort'), sorts);
  $('agreement').hidden = $('agreement-note').hidden = images.every((image) => image.agreement === null);
  $('metric').closest('label').hidden = !metrics.length;
  $('methods-shown').hidden = explainers.length < 2;
  $('methods').replaceChildren(...explainers.map((one, i) => element('label', {},
    element('input', { type: 'checkbox', checked: !state.hidden.has(i), onchange: () => toggle(i) }), one.name)));
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
  const said = [image.name, image.label, image.predicted].join('\n').toLowerCase();
  return (!words || said.includes(words))
    && (!$('label').value || $('label').value === `=${image.label}`)
    && (!$('predicted').value || $('predicted').value === `=${image.predicted}`)
    && (!$('correct').value || $('correct').value === (image.correct || 'unknown'))
    && (free || (image.agreement !== null && image.agreement >= low && image.agreement <= high));
}

function score(image, explainer) {
  const row = model().scores[$('metric').value];
  return row ? row[image][explainer] : null;
}

function sortKey(image) {
  const by = $('sort').value;
  if (by === 'order') return image;
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

function describe(image, explainer) {
  const { name, target, target_probability: probability } = model().images[image];
  const method = explainer === null ? 'image' : `${model().explainers[explainer].name}, ${MEANING[state.view]}`;
  return `${name}: ${method}, class ${target}, probability ${share(probability)}`;
}

function thumb(image, explainer, best) {
  const said = explainer === null ? null : score(image, explainer);
  const name = explainer === null ? 'image' : model().explainers[explainer].name;
  const button = element('button', { type: 'button', class: 'thumb', 'aria-label': `Open ${describe(image, explainer)}`, onclick: () => openViewer(image, explainer, button) },
    element('canvas', { width: 1, height: 1, role: 'img', 'aria-label': describe(image, explainer) }));
  Object.assign(button, { image, explainer });
  painter.observe(button);
  const control = explainer !== null && model().explainers[explainer].control;
  return element('figure', { class: control ? 'control' : null }, button, element('figcaption', {}, element('span', { class: 'method', title: name }, name),
    said === null ? null : element('span', { class: best ? 'score best' : 'score', title: best ? 'best of the methods' : null, 'data-value': said }, number(said))));
}

async function paintThumb(button) {
  const drawn = await draw(button.firstChild, state.model, button.image, button.explainer, state.view, state.strength);
  button.classList.toggle('blank', !drawn);
  const flaw = button.explainer === null ? 'no picture was stored' : model().images[button.image].flaws[button.explainer] || 'no picture was stored';
  if (drawn) delete button.dataset.flaw;
  else button.dataset.flaw = flaw;
  button.firstChild.setAttribute('aria-label', describe(button.image, button.explainer) + (drawn ? '' : `: ${flaw}`));
}

function bestOf(image) {
  const metric = model().metrics.find((one) => one.name === $('metric').value);
  if (!metric || !metric.better || model().explainers.length < 2) return null;
  const found = model().explainers.map((_, i) => score(image, i)).filter((value) => value !== null);
  return found.length ? Math[metric.better === 'higher' ? 'max' : 'min'](...found) : null;
}

function card(image) {
  const facts = model().images[image];
  const best = bestOf(image);
  const verdict = { yes: ['right', '✓ '], no: ['wrong', '✗ '] }[facts.correct] || ['', ''];
  const shown = model().explainers.map((_, i) => i).filter((i) => !state.hidden.has(i));
  const line = element('p', { class: 'said' },
    element('span', { class: verdict[0] }, `${verdict[1]}${facts.predicted} ${share(facts.probability)}`),
    facts.label && facts.correct !== 'yes' ? element('span', {}, `true: ${facts.label}`) : null,
    facts.target !== facts.predicted ? element('span', {}, `explained: ${facts.target} ${share(facts.target_probability)}`) : null,
    facts.agreement === null ? null : element('span', { class: 'agreed' }, `agreement ${facts.agreement.toFixed(2).replace('-', '−')}`));
  return element('article', { class: 'card', 'data-image': facts.name },
    element('header', {}, element('h3', {}, facts.name), line),
    element('div', { class: shown.length < 6 ? 'thumbs few' : 'thumbs' }, thumb(image, null, false), ...shown.map((i) => thumb(image, i, best !== null && score(image, i) === best))));
}
