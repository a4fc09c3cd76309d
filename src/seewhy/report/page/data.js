'use strict';
// The data of the page: small facts at once, pictures only when they are looked at.
const FACTS = JSON.parse(document.getElementById('facts').textContent);
const KEPT = 80;
const decoded = new Map();

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith('on')) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, '');
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

function picture(kind, base64) {
  const image = new Image();
  image.src = `data:image/${kind};base64,${base64}`;
  return image.decode().then(() => image);
}

function pixels(image, width = image.naturalWidth, height = image.naturalHeight) {
  const canvas = document.createElement('canvas');
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext('2d', { willReadFrequently: true });
  context.imageSmoothingQuality = 'high';
  context.drawImage(image, 0, 0, width, height);
  return context.getImageData(0, 0, width, height);
}

// [preview, maps, curves] of one image.
function block(model, image) {
  return JSON.parse(document.getElementById(`block-${model}-${image}`).textContent);
}

// {photo: ImageData or null, maps: (explainer) => promise of normalised values or null} of one image, decoded once.
function load(model, image) {
  const key = `${model}-${image}`;
  if (decoded.has(key)) {
    const known = decoded.get(key);
    decoded.delete(key);
    decoded.set(key, known);
    return known;
  }
  const [preview, maps] = block(model, image);
  const made = new Map();
  const entry = {
    photo: preview ? picture('webp', preview).then((drawn) => pixels(drawn)) : Promise.resolve(null),
    map(explainer) {
      if (!made.has(explainer)) made.set(explainer, values(model, explainer, maps[explainer], entry.photo));
      return made.get(explainer);
    },
  };
  decoded.set(key, entry);
  if (decoded.size > KEPT) decoded.delete(decoded.keys().next().value);
  return entry;
}

// The map at the size of the photograph; smoothed where it was stored smaller.
async function values(model, explainer, base64, photo) {
  if (!base64) return null;
  const drawn = await picture('png', base64);
  const shown = await photo;
  const greys = shown ? pixels(drawn, shown.width, shown.height) : pixels(drawn);
  const signed = FACTS.models[model].explainers[explainer].signed;
  const found = new Float32Array(greys.width * greys.height);
  for (let i = 0; i < found.length; i += 1) {
    const grey = greys.data[4 * i];
    found[i] = signed ? Math.max(-1, (grey - 128) / 127) : grey / 255;
  }
  return { width: greys.width, height: greys.height, values: found };
}

function number(value) {
  if (value === null || value === undefined) return '–';
  const size = Math.abs(value);
  if (value === 0 || (size >= 0.01 && size < 1)) return value.toFixed(3).replace('-', '−');
  return String(Number(value.toPrecision(3))).replace('-', '−');
}

// A probability, as in the figures and the terminal: rounding makes nothing certain or impossible.
function share(value) {
  if (value === null) return '';
  if (value >= 0.995 && value < 1) return '> 0.99';
  return value >= 0.005 || value === 0 ? value.toFixed(2) : value.toPrecision(1);
}

function save(name, blob) {
  const link = element('a', { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
