// The form in which dashboards are kept: keys in one order, and on one line what has room there, so that a change shows.

const width = 140;
const before = ['uid', 'id', 'refId', 'name', 'type', 'title', 'label', 'description', 'tags', 'gridPos', 'datasource', 'interval', 'expr', 'query'];
const after = ['transformations', 'options', 'fieldConfig', 'links', 'templating', 'annotations', 'panels'];
const place = (key) => (before.includes(key) ? before.indexOf(key) - 100 : after.includes(key) ? after.indexOf(key) + 100 : 0);

function ordered(value) {
  if (Array.isArray(value)) return value.map(ordered);
  if (value === null || typeof value !== 'object') return value;
  const keys = Object.keys(value).sort((a, b) => place(a) - place(b) || (a < b ? -1 : 1));
  return Object.fromEntries(keys.map((key) => [key, ordered(value[key])]));
}

function flat(value) {
  if (value === null || typeof value !== 'object') return JSON.stringify(value);
  if (Array.isArray(value)) return `[${value.map(flat).join(', ')}]`;
  const entries = Object.entries(value);
  return entries.length ? `{ ${entries.map(([key, one]) => `${JSON.stringify(key)}: ${flat(one)}`).join(', ')} }` : '{}';
}

function lines(value, indent, taken) {
  const one = flat(value);
  if (value === null || typeof value !== 'object' || indent.length + taken + one.length <= width) return one;
  const deeper = `${indent}  `;
  const [open, close] = Array.isArray(value) ? '[]' : '{}';
  const inner = Object.entries(value).map(([key, member]) => {
    const name = Array.isArray(value) ? '' : `${JSON.stringify(key)}: `;
    return deeper + name + lines(member, deeper, name.length + 1);
  });
  return `${open}\n${inner.join(',\n')}\n${indent}${close}`;
}

export const canonical = (board) => `${lines(ordered(board), '', 0)}\n`;
