// Values -> colours, by the tables that the figures use.
const TABLES = Object.fromEntries(Object.entries(FACTS.colours).map(([kind, hex]) => {
  const table = new Uint8Array(hex.length / 2);
  for (let i = 0; i < table.length; i += 1) table[i] = parseInt(hex.substr(2 * i, 2), 16);
  return [kind, table];
}));
const VIEWS = ['overlay', 'heat', 'positive', 'negative', 'original'];
const MEANING = {
  overlay: 'map over the grey image', heat: 'map', positive: 'evidence for the class',
  negative: 'evidence against the class', original: 'image',
};

function place(table, value, lowest) {
  const last = table.length / 3 - 1;
  const held = Math.min(1, Math.max(lowest, value));
  return 3 * Math.round(((held - lowest) / (1 - lowest)) * last);
}

// How each view turns (value, grey) into a table, a place in it, and an opacity over the grey image.
function rule(view, signed, strength) {
  if (view === 'positive') return [TABLES.positive, (value) => place(TABLES.positive, Math.max(value, 0), 0), () => 1];
  if (view === 'negative') return [TABLES.negative, (value) => place(TABLES.negative, Math.max(-value, 0), 0), () => 1];
  const table = signed ? TABLES.signed : TABLES.unsigned;
  const lowest = signed ? -1 : 0;
  if (view === 'heat') return [table, (value) => place(table, value, lowest), () => 1];
  return [table, (value) => place(table, signed ? Math.sign(value) : value, lowest), (value) => strength * Math.abs(value)];
}

function colour(map, photo, view, signed, strength) {
  const made = new ImageData(map.width, map.height);
  const [table, where, opacity] = rule(view, signed, strength);
  for (let i = 0; i < map.values.length; i += 1) {
    const value = map.values[i];
    const share = opacity(value);
    const at = where(value);
    const grey = photo && share < 1 ? (photo.data[4 * i] + photo.data[4 * i + 1] + photo.data[4 * i + 2]) / 3 : 128;
    for (let channel = 0; channel < 3; channel += 1) {
      made.data[4 * i + channel] = Math.round((1 - share) * grey + share * table[at + channel]);
    }
    made.data[4 * i + 3] = 255;
  }
  return made;
}

// Draw one image (explainer null) or one map into a canvas; false where there is nothing to draw.
async function draw(canvas, model, image, explainer, view, strength) {
  const ticket = Symbol('draw');
  canvas.ticket = ticket;
  const entry = load(model, image);
  const photo = await entry.photo;
  const plain = explainer === null || view === 'original';
  const map = plain ? null : await entry.map(explainer);
  if (canvas.ticket !== ticket) return true;
  const signed = plain ? false : FACTS.models[model].explainers[explainer].signed;
  const made = plain ? photo : map && colour(map, photo, view, signed, strength);
  if (!made) {
    canvas.width = canvas.height = 1;
    canvas.dataset.drawn = 'nothing';
    return false;
  }
  canvas.width = made.width;
  canvas.height = made.height;
  canvas.classList.toggle('coarse', made.width <= 64);
  canvas.getContext('2d').putImageData(made, 0, 0);
  canvas.dataset.drawn = plain ? 'original' : view;
  return true;
}

function ramp(kind) {
  const table = TABLES[kind];
  const count = table.length / 3;
  const stops = [];
  for (let i = 0; i <= 16; i += 1) {
    const at = 3 * Math.round((i / 16) * (count - 1));
    stops.push(`rgb(${table[at]} ${table[at + 1]} ${table[at + 2]})`);
  }
  return `linear-gradient(to right, ${stops.join(', ')})`;
}

function legend(view, explainers) {
  if (view === 'original') return [];
  if (view === 'positive') return [bar('positive', '0', 'for')];
  if (view === 'negative') return [bar('negative', '0', 'against')];
  const parts = [];
  if (explainers.some((one) => one.signed)) parts.push(bar('signed', 'against', 'for'));
  if (explainers.some((one) => !one.signed)) parts.push(bar('unsigned', '0', 'much'));
  return parts;
}

function bar(kind, low, high) {
  const strip = element('i');
  strip.style.backgroundImage = ramp(kind);
  return element('span', {}, low, strip, high);
}
