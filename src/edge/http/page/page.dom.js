// The few things that all parts do with the document. What nodes tell becomes text here, and never markup.

export const $ = (id) => document.getElementById(id);

/** The text, where it is not that already: what does not change is not touched. */
export function put(node, text) {
  if ((node.firstChild?.data ?? "") !== text) node.textContent = text;
}

/** An attribute, in the same way; none for null. */
export function mark(node, name, value) {
  if (value === null) node.removeAttribute(name);
  else if (node.getAttribute(name) !== value) node.setAttribute(name, value);
}

export function show(node, shown) {
  if (node.hidden === shown) node.hidden = !shown;
}

/** An element with its class, its attributes and what is in it. */
export function el(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) if (value !== null && value !== undefined) node.setAttribute(key, value);
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

/** The mark of a kind; what it means stands beside it. */
export function markOf(kind) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  const use = document.createElementNS(space, "use");
  use.setAttribute("href", `#mark-${kind}`);
  svg.setAttribute("class", "mark");
  svg.setAttribute("aria-hidden", "true");
  svg.dataset.kind = kind;
  svg.append(use);
  return svg;
}

/** A strip in which each kind has its part. */
export function pips(strip, counts) {
  const told = JSON.stringify(counts);
  if (strip.dataset.told === told) return;
  strip.dataset.told = told;
  const parts = Object.entries(counts).filter(([, count]) => count > 0).reverse();
  strip.replaceChildren(
    ...parts.map(([kind, count]) => {
      const part = el("span", { "data-kind": kind });
      part.style.flexGrow = count;
      return part;
    }),
  );
}

/** Children in that order, with few moves; what has the focus keeps it. */
export function arrange(parent, wanted) {
  const focused = document.activeElement;
  const place = (node, before) => (parent.moveBefore ? parent.moveBefore(node, before) : parent.insertBefore(node, before));
  let at = parent.firstElementChild;
  for (const node of wanted) {
    if (node !== at && node === at?.nextElementSibling) {
      // One that has gone further down: out of the way, and found later.
      place(at, null);
      at = node;
    }
    if (node === at) at = at.nextElementSibling;
    else place(node, at);
  }
  if (focused !== document.activeElement) focused?.focus({ preventScroll: true });
}

const waiting = [];

/** For those who listen: what matters, at most every three seconds, all at once. */
export function announce(text) {
  if (waiting.length === 0) {
    setTimeout(() => {
      const most = 4;
      const more = waiting.length > most ? `, and ${waiting.length - most} more` : "";
      put($("announcer"), waiting.slice(0, most).join(". ") + more);
      waiting.length = 0;
    }, 3000);
  }
  waiting.push(text);
}
