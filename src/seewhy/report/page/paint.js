// Values -> colours, by the tables that the figures use.
const TABLES = Object.fromEntries(Object.entries(FACTS.colours).map(([kind, hex]) => {
  const table = new Uint8Array(hex.length / 2);
  for (let i = 0; i < table.length; i += 1) table[i] = parseInt(hex.substr(2 * i, 2), 16);
  return [kind, table];
}));
const VIEWS = ['overlay', 'heat', 'positive', 'negative', 'masked', 'original'];
const MEANING = {
  overlay: 'map over the grey image', heat: 'map', positive: 'evidence for the class',
  negative: 'evidence against the class', masked: 'image where the map is large', original: 'image',
};

// Why a view has no picture for a method; nothing where it has one.
function missing(view, method) {
  if (view === 'positive' && !method.signed && !method.rectified) return `${method.name} has no sign: its values say how much, not for or against`;
  if (view === 'negative' && !method.signed) return method.rectified ? `${method.name} keeps evidence for the class alone` : `${method.name} has no sign: its values are never negative`;
  return '';
}

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

// As plots/heatmaps.py: the overlay of a map with few visible blocks, or of single pixels that differ from their neighbours,
// is averaged over blocks and scaled anew.
const [CELLS, VISIBLE, FINE, SPECKLED] = [32, 0.25, 0.15, 0.5];

function averageBlocks(map, block) {
  const [rows, columns] = [Math.ceil(map.height / block), Math.ceil(map.width / block)];
  const sums = new Float64Array(rows * columns);
  const counts = new Float64Array(rows * columns);
  for (let y = 0; y < map.height; y += 1) {
    for (let x = 0; x < map.width; x += 1) {
      const cell = Math.floor(y / block) * columns + Math.floor(x / block);
      sums[cell] += map.values[y * map.width + x];
      counts[cell] += 1;
    }
  }
  return [rows, columns, sums.map((sum, i) => sum / counts[i])];
}

// Most of the variance of the magnitudes lies within the blocks, not between them.
function isSpeckled(map, block) {
  const values = map.values.map(Math.abs);
  const [, columns, means] = averageBlocks({ ...map, values }, block);
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  let [within, total] = [0, 0];
  values.forEach((value, i) => {
    const cell = Math.floor(Math.floor(i / map.width) / block) * columns + Math.floor((i % map.width) / block);
    within += (value - means[cell]) ** 2;
    total += (value - mean) ** 2;
  });
  return within > SPECKLED * Math.max(total, 1e-9 * values.length);
}

function blockOf(map) {
  const block = Math.ceil(Math.max(map.width, map.height) / CELLS);
  if (block < 3) return 1;
  const [, , means] = averageBlocks(map, block);
  const isSeen = means.filter((value) => Math.abs(value) >= VISIBLE).length >= FINE * means.length;
  return isSeen && !isSpeckled(map, block) ? 1 : block;
}

function averaged(map) {
  const block = blockOf(map);
  if (block === 1) return map;
  const [rows, columns, means] = averageBlocks(map, block);
  const rising = means.map(Math.abs).sort();
  const total = rising.reduce((sum, value) => sum + value, 0);
  let mass = 0;
  const scale = rising.find((value) => { mass += value; return mass >= 0.98 * total; });
  if (!scale) return map;
  const at = (i, count) => {
    const place = Math.min(Math.max((i + 0.5) / block - 0.5, 0), count - 1);
    const low = Math.min(Math.floor(place), Math.max(count - 2, 0));
    return [low, Math.min(low + 1, count - 1), place - low];
  };
  const across = Array.from({ length: map.width }, (_, x) => at(x, columns));
  const values = new Float32Array(map.values.length);
  for (let y = 0; y < map.height; y += 1) {
    const [top, bottom, down] = at(y, rows);
    for (let x = 0; x < map.width; x += 1) {
      const [left, right, over] = across[x];
      const upper = (1 - over) * means[top * columns + left] + over * means[top * columns + right];
      const lower = (1 - over) * means[bottom * columns + left] + over * means[bottom * columns + right];
      values[y * map.width + x] = Math.min(1, Math.max(-1, ((1 - down) * upper + down * lower) / scale));
    }
  }
  return { ...map, values };
}

// As plots/masks.py: where the blurred positive values are over a fifth of their peak the image shows, elsewhere it is dimmed.
const [PEAK, DIMMED] = [0.2, 0.1];

function blur(values, width, height, sigma) {
  const reach = Math.floor(4 * sigma + 0.5);
  const weights = Array.from({ length: 2 * reach + 1 }, (_, i) => Math.exp(-((i - reach) ** 2) / (2 * sigma * sigma)));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  const mirror = (at, count) => { const turned = ((at % (2 * count)) + 2 * count) % (2 * count); return turned < count ? turned : 2 * count - 1 - turned; };
  const pass = (from, length, other, step, jump) => {
    const made = new Float32Array(from.length);
    const places = Array.from({ length }, (_, at) => weights.map((_, i) => step * mirror(at + i - reach, length)));
    for (let line = 0; line < other; line += 1) {
      for (let at = 0; at < length; at += 1) {
        let sum = 0;
        for (let i = 0; i < weights.length; i += 1) sum += weights[i] * from[line * jump + places[at][i]];
        made[line * jump + at * step] = sum / total;
      }
    }
    return made;
  };
  return pass(pass(values, height, width, width, 1), width, height, 1, width);
}

function maskPhoto(map, photo) {
  const smooth = blur(map.values.map((value) => Math.max(value, 0)), map.width, map.height, Math.max(1, Math.min(map.width, map.height) / 112));
  const limit = PEAK * smooth.reduce((most, value) => Math.max(most, value), 0);
  const made = new ImageData(map.width, map.height);
  smooth.forEach((value, i) => {
    for (let channel = 0; channel < 3; channel += 1) made.data[4 * i + channel] = Math.round((value > limit ? 1 : DIMMED) * photo.data[4 * i + channel]);
    made.data[4 * i + 3] = 255;
  });
  return made;
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
  const method = plain ? null : FACTS.models[model].explainers[explainer];
  const shown = map && !missing(view, method) ? (view === 'overlay' ? averaged(map) : map) : null;
  const made = plain ? photo : shown && (view === 'masked' ? photo && maskPhoto(shown, photo) : colour(shown, photo, view, method.signed, strength));
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

// The colours of a view with their meaning; those of an overlay over every ground from black (below) to white (above).
function legend(view, explainers) {
  if (view === 'original') return [];
  if (view === 'masked') return [element('span', {}, 'image where the map is large, dimmed elsewhere')];
  if (view === 'positive') return [bar('positive', '0', 'evidence for the class')];
  if (view === 'negative') return [bar('negative', '0', 'evidence against the class')];
  const make = view === 'overlay' ? overlayBar : bar;
  const parts = [];
  if (explainers.some((one) => one.signed)) parts.push(make('signed', 'evidence against', 'for the class'));
  if (explainers.some((one) => !one.signed)) parts.push(make('unsigned', '0', 'high'));
  parts.push(element('span', {}, 'per-map scale'));
  return parts;
}

function bar(kind, low, high) {
  const strip = element('i', { 'data-kind': kind });
  strip.style.backgroundImage = ramp(kind);
  return element('span', {}, low, strip, high);
}

function overlayBar(kind, low, high, width = 96, height = 14) {
  const canvas = element('canvas', { width, height, class: 'strip', role: 'img', 'aria-label': `colour bar of the overlay, ${low} to ${high}`, 'data-kind': kind, 'data-strength': state.strength });
  const lowest = kind === 'signed' ? -1 : 0;
  const values = Float32Array.from({ length: width * height }, (_, i) => lowest + (1 - lowest) * ((i % width) / (width - 1)));
  const data = new Uint8ClampedArray(4 * width * height).map((_, i) => 255 * (1 - Math.floor(i / 4 / width) / (height - 1)));
  canvas.getContext('2d').putImageData(colour({ width, height, values }, { data }, 'overlay', kind === 'signed', state.strength), 0, 0);
  return element('span', { title: 'colours over a black (below) to white (above) image' }, low, canvas, high);
}
