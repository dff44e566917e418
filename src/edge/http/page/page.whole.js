// What stands around the sets: how the whole is at one glance, what is wrong, the nodes, the last events.

import { $, announce, el, mark, markOf, pips, put, show } from "./page.dom.js";
import { KINDS, ago, clock, countKinds, dissentWords, kindOf, number, orderWords, plural, rate, short, span, tellKinds, titleOf, trouble } from "./page.words.js";

/** So many destinations are named among what is wrong; the others are counted. */
const NAMED = 6;

/** Events of which one who listens is told. */
const TOLD = new Set(["health", "order", "distrust", "set", "store", "address", "peer", "leave"]);

/** The figures, and what the whole comes to. */
export function showGlance(model) {
  const all = model.everything();
  const counts = countKinds(all);
  const deserted = [...model.sets.values()].filter((set) => set.fit === 0 && model.destinationsOf(set.set).length > 0);
  const kind = deserted.length > 0 ? "down" : (KINDS.find((one) => counts[one] > 0) ?? "none");
  mark($("verdict"), "data-kind", kind);
  const headline = all.length > 0 ? `${number(counts.fit)} of ${number(all.length)} fit` : "No destination is loaded";
  put($("headline"), headline);
  put($("kinds"), tellKinds(counts) || (all.length > 0 ? "nothing is wrong with any of them" : ""));
  pips($("pips"), counts);
  showNode(model);
  showPace(model);
}

/** What is seen of the page in a row of tabs: what is old is not claimed there. */
export function showTitle({ node }, isLive) {
  if (!node) return;
  const title = `${isLive ? $("headline").textContent : "not live"} · ${node.node} · Tandem`;
  if (document.title !== title) document.title = title;
}

function showNode(model) {
  const { node, sessions } = model;
  if (!node) return;
  put($("node-name"), node.node);
  const { ready } = node;
  const words = node.draining ? "draining" : !ready.ready ? "not ready" : ready.degraded.length > 0 ? "degraded" : "ready";
  put($("figure-ready"), words);
  mark($("figure-ready"), "data-kind", words === "ready" ? "fit" : words === "degraded" ? "doubt" : "down");
  put($("figure-ready-more"), words === "ready" ? "takes calls" : plural(ready.reasons.length + ready.degraded.length, "reason"));
  put($("figure-vips"), node.vips.length > 0 ? node.vips.join(" ") : node.listeners.some((one) => one.role === "vip") ? "none" : "no virtual ones");
  const own = node.listeners.filter((one) => one.role === "node").map((one) => one.listener);
  put($("figure-vips-more"), own.join(" "));
  if (!sessions) return;
  put($("figure-sessions"), number(sessions.live));
  let elsewhere = 0;
  for (const { one } of model.all.values()) elsewhere += one.sessions_elsewhere;
  const more = [elsewhere ? `${number(elsewhere)} elsewhere` : "", sessions.parked ? `${number(sessions.parked)} parked` : ""].filter(Boolean);
  put($("figure-sessions-more"), more.join(", ") || "none elsewhere");
}

function showPace(model) {
  put($("figure-calls"), `${rate(model.pace())}/s`);
  const points = model.pulse.slice(1).map(({ at, total }, nth) => {
    const before = model.pulse[nth];
    return { at, rate: (1000 * Math.max(0, total - before.total)) / Math.max(1, at - before.at) };
  });
  const most = Math.max(1, ...points.map((point) => point.rate));
  const now = performance.now();
  const line = points.map(({ at, rate: high }) => `${(120 - (120 * (now - at)) / 60_000).toFixed(1)},${(22 - (20 * high) / most).toFixed(1)}`);
  $("line").firstElementChild.setAttribute("points", line.join(" "));
}

/** Everything that somebody should look at, the worst first. */
export function showWrong(model, open) {
  const faults = [];
  const add = (kind, key, text, action) => faults.push({ kind, key, text, action });
  const { node } = model;
  const now = model.now();
  if (node?.draining) add("drain", "node", `Node ${node.node} is draining: it leaves`);
  for (const reason of node?.ready.reasons ?? []) add("down", `ready ${reason}`, `Node ${node.node} is not ready: ${reason}`);
  for (const set of model.sets.values()) {
    const all = model.destinationsOf(set.set);
    if (all.length > 0 && set.fit === 0) add("down", `set ${set.set}`, `Set ${titleOf(set)} has nobody fit: new calls are refused`);
    else if (set.panicking) add("down", `panic ${set.set}`, `Set ${titleOf(set)} panics: too few are fit`);
    else if (set.fit === 1 && all.length > 1) add("doubt", `last ${set.set}`, `Set ${titleOf(set)} has one fit destination left`);
  }
  for (const [name, { at, here }] of model.peers) {
    // Who is there can't tell one that has left on purpose from one that is lost: an operator can.
    const forget = () => (model.forgetPeer(name), showWrong(model, open), showNodes(model));
    if (!here) add("down", `peer ${name}`, `Node ${name} is not heard since ${span(performance.now() - at)}: press here if it left on purpose`, forget);
  }
  for (const reason of node?.ready.degraded ?? []) add("doubt", `degraded ${reason}`, `Node ${node.node}: ${reason}`);
  const bad = [...model.all.values()].filter(({ one }) => trouble(one) < KINDS.indexOf("fit"));
  bad.sort((a, b) => trouble(a.one) - trouble(b.one) || a.place - b.place);
  for (const { key, set, one } of bad.slice(0, NAMED)) {
    add(kindOf(one), key, `${short(one.uri)} of set ${titleOf(model.sets.get(set))}: ${fault(one, now)}`, () => open(set, one.uri));
  }
  if (bad.length > NAMED) add("doubt", "more", `${plural(bad.length - NAMED, "more destination")}: see the sets`);
  show($("wrong"), faults.length > 0);
  replace($("wrong-list"), faults);
}

function fault(one, now) {
  if (one.order.order !== "ready") return orderWords(one.order, now);
  if (one.fit) return `fit, but ${dissentWords(one) || `${one.health}, with ${one.share_percent}% of its weight`}`;
  return `${one.fitness.replace(/^unfit: /, "")} for ${span(now - Date.parse(one.since))}: ${one.why}`;
}

/** Those that stay keep their place in the document, and so the focus. */
function replace(list, faults) {
  const known = new Map([...list.children].map((item) => [item.dataset.key, item]));
  faults.forEach(({ kind, key, text, action }, at) => {
    let item = known.get(key);
    known.delete(key);
    if (!item) {
      const what = action ? el("button", { type: "button", class: "plain" }) : el("span");
      item = el("li", { "data-key": key }, markOf(kind), what);
    }
    mark(item, "data-kind", kind);
    mark(item.querySelector("use"), "href", `#mark-${kind}`);
    put(item.lastElementChild, text);
    if (action) item.lastElementChild.onclick = action;
    if (list.children[at] !== item) list.insertBefore(item, list.children[at] ?? null);
  });
  for (const item of known.values()) item.remove();
}

/** This node and the others. */
export function showNodes(model) {
  const { node } = model;
  if (!node) return;
  const now = model.now();
  put($("node-facts"), `${node.version} · up ${span(now - Date.parse(node.started))}`);
  const rows = [{ name: node.node, heard: "this node", kind: node.draining ? "drain" : node.ready.ready ? "fit" : "down", told: node, own: true }];
  const others = [...model.peers].sort(([a], [b]) => a.localeCompare(b));
  for (const [name, { peer, at, here }] of others) {
    const heard = here ? `heard ${(peer.heard_ms / 1000).toFixed(1)}s ago` : `not heard since ${span(performance.now() - at)}`;
    rows.push({ name, heard, kind: here ? "fit" : "down", told: peer });
  }
  const list = $("nodes");
  while (list.children.length > rows.length) list.lastElementChild.remove();
  rows.forEach(({ name, heard, kind, told, own }, at) => {
    let item = list.children[at];
    if (!item) {
      item = el("li", {}, markOf(kind), el("strong"), el("span", { class: "heard" }), el("p", { class: "holds" }), el("p", { class: "hint" }));
      list.append(item);
    }
    const [svg, title, when, holds, hint] = item.children;
    mark(svg, "data-kind", kind);
    mark(svg.firstElementChild, "href", `#mark-${kind}`);
    put(title, name);
    put(when, heard);
    put(holds, told.vips.length > 0 ? `holds ${told.vips.join(" ")}` : "holds no virtual address");
    const version = told.version || "has not told its version yet";
    const unknown = told.unknown_format ? `tells format ${told.unknown_format}, which is unknown here: nothing of it counts` : "";
    put(hint, own ? `${version}, started ${ago(told.started, now)}` : unknown || `${version}, started ${ago(told.started, now)}, at ${told.address}`);
  });
  if (node.peers === null && list.children.length === 1) put(list.firstElementChild.children[3], "stands alone: it has no [cluster]");
}

/** New events, the newest on top. */
export function showEvents(model, news, anew) {
  const list = $("events");
  if (anew) list.replaceChildren();
  // At the start they come all at once, and nobody wants to hear them.
  const fresh = news.filter((event) => model.now() - Date.parse(event.at) < 10_000 && TOLD.has(event.kind));
  for (const event of news) {
    const before = [...list.children].find((item) => Number(item.dataset.sequence) < event.sequence);
    list.insertBefore(eventItem(event), before ?? null);
  }
  while (list.children.length > model.events.length) list.lastElementChild.remove();
  show(list, model.events.length > 0);
  show($("no-events"), model.events.length === 0);
  for (const event of fresh) announce(event.text);
}

function eventItem(event) {
  const kind = { up: "fit", down: "down", busy: "doubt", unknown: "doubt", drain: "drain", maint: "maint", ready: "fit" }[event.new] ?? "none";
  return el(
    "li",
    { "data-sequence": event.sequence, "data-kind": kind },
    el("time", { datetime: event.at, title: event.at }, clock(event.at)),
    el("span", { class: "event-kind" }, event.set === undefined ? event.kind : `${event.kind}, set ${event.set}`),
    el("span", { class: "event-text" }, event.text),
  );
}
