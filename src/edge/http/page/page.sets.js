// The sets, one after another, a row for each destination. A row is made once; later only the cells that differ are touched.

import { $, arrange, mark, pips, put, show } from "./page.dom.js";
import {
  aims, besides, countKinds, dissentWords, figure, haystack, kindOf, latencyOf, millis, number, orderWords, plural, rate, roughly, short,
  titleOf, trouble,
} from "./page.words.js";

/** So long nobody must have touched the page before rows change places under the hand. */
const QUIET = 2500;

export class SetsView {
  #model;
  #onOpen;
  #onOrder;
  /** By set: its section, and its rows by key. */
  #sections = new Map();
  #filter = { text: "", unfit: false };
  #sort = "trouble";
  #touched = -Infinity;
  #inOrder = true;

  constructor(model, { onOpen, onOrder }) {
    this.#model = model;
    this.#onOpen = onOpen;
    this.#onOrder = onOrder;
    for (const event of ["pointermove", "pointerdown", "keydown", "wheel", "touchmove"]) {
      $("sets").addEventListener(event, () => (this.#touched = performance.now()), { passive: true });
    }
  }

  sortBy(sort) {
    this.#sort = sort;
    this.#touched = -Infinity;
    this.#inOrder = false;
    this.tick();
  }

  filterBy(text, unfit) {
    this.#filter = { text: text.trim().toLowerCase(), unfit };
    for (const section of this.#sections.values()) for (const row of section.rows.values()) this.#sift(row);
    this.#count();
  }

  /** All anew: sets and rows may have come or gone. */
  whole() {
    for (const [set, section] of this.#sections) {
      if (this.#model.sets.has(set)) continue;
      section.node.remove();
      this.#sections.delete(set);
    }
    for (const set of this.#model.sets.keys()) if (!this.#sections.has(set)) this.#sections.set(set, this.#section(set));
    for (const [set, section] of this.#sections) {
      for (const [key, row] of section.rows) {
        if (this.#model.all.has(key)) continue;
        row.tr.remove();
        section.rows.delete(key);
      }
      this.#head(set, section);
    }
    const fresh = new Map();
    for (const entry of this.#model.all.values()) {
      const section = this.#sections.get(entry.set);
      if (!section.rows.has(entry.key)) {
        const row = this.#row(entry);
        section.rows.set(entry.key, row);
        if (!fresh.has(section)) fresh.set(section, document.createDocumentFragment());
        fresh.get(section).append(row.tr);
      }
      this.#fill(section.rows.get(entry.key), entry);
    }
    for (const [section, rows] of fresh) section.body.append(rows);
    show($("no-sets"), this.#sections.size === 0);
    this.#touched = -Infinity;
    this.#inOrder = false;
    this.tick();
  }

  /** What is told of these is another. */
  changed(keys, sets) {
    for (const key of keys) {
      const entry = this.#model.all.get(key);
      const row = entry && this.#sections.get(entry.set)?.rows.get(key);
      if (row) this.#fill(row, entry);
    }
    for (const set of sets) {
      const section = this.#sections.get(set);
      if (section) this.#head(set, section);
    }
    this.tick();
  }

  /** Each second: ages, shares of the last minute, and the order if it is another. */
  tick() {
    const now = this.#model.now();
    for (const [set, section] of this.#sections) {
      this.#shares(set, section, performance.now());
      for (const row of section.rows.values()) this.#ages(row, now);
    }
    // Nor a button that somebody is about to press.
    const aimed = $("sets").querySelector("button:hover, button:focus-visible");
    if (!this.#inOrder && !aimed && performance.now() - this.#touched > QUIET) this.#arrange();
    this.#count();
  }

  #section(set) {
    const node = $("set-template").content.firstElementChild.cloneNode(true);
    const find = (selector) => node.querySelector(selector);
    const section = {
      node, title: find("h3"), fit: find(".fit-count"), facts: find(".set-facts"), pips: find(".pips"), table: find("table"),
      caption: find("caption"), body: find("tbody"), empty: find(".empty"), rows: new Map(), words: "",
    };
    section.title.id = `set-${set}`;
    node.setAttribute("aria-labelledby", section.title.id);
    $("sets").append(node);
    return section;
  }

  #head(set, section) {
    const report = this.#model.sets.get(set);
    const all = this.#model.destinationsOf(set);
    put(section.title, `Set ${titleOf(report)}`);
    put(section.caption, `Destinations of set ${titleOf(report)}`);
    put(section.fit, `${number(report.fit)} of ${number(all.length)} fit`);
    mark(section.fit, "data-kind", report.fit === 0 ? "down" : report.fit < all.length ? "doubt" : "fit");
    section.words = [
      report.algorithm,
      report.panicking ? "too few are fit: it panics" : "",
      report.failovers ? plural(report.failovers, "failover") : "",
      report.exhausted ? `${plural(report.exhausted, "request")} whose every try failed` : "",
      report.empty ? `${plural(report.empty, "request")} found nobody fit` : "",
    ].filter(Boolean);
    pips(section.pips, countKinds(all));
    show(section.table, all.length > 0);
    show(section.empty, all.length === 0);
  }

  #row({ key, set }) {
    const tr = $("row-template").content.firstElementChild.cloneNode(true);
    const find = (selector) => tr.querySelector(selector);
    const row = {
      key, tr, name: find(".name"), what: find(".what"), mark: find(".mark"), use: find("use"), fitness: find(".fitness"),
      health: find(".health"), order: find(".order"), votes: find(".votes"), here: find(".here"), elsewhere: find(".elsewhere"),
      percent: find(".percent"), fill: find(".fill"), aim: find(".aim"), weight: find(".weight"), latency: find(".latency"), quick: find(".quick"),
      rank: -1, place: 0, one: null, hay: "", shares: "",
    };
    row.name.addEventListener("click", () => this.#onOpen(set, row.one.uri));
    row.quick.addEventListener("click", () => this.#onOrder(set, row.one.uri, row.quick.dataset.order));
    return row;
  }

  #fill(row, entry) {
    const { one } = entry;
    const kind = kindOf(one);
    const rank = trouble(one);
    if (rank !== row.rank || entry.place !== row.place) this.#inOrder = false;
    Object.assign(row, { one, rank, place: entry.place, hay: haystack(this.#model.sets.get(entry.set), one) });
    mark(row.tr, "data-kind", kind);
    put(row.name, short(one.uri));
    put(row.what, besides(one));
    mark(row.use, "href", `#mark-${kind}`);
    put(row.fitness, one.fit ? "fit" : one.fitness.replace(/^unfit: /, ""));
    put(row.votes, dissentWords(one));
    put(row.here, one.max_sessions === null ? number(one.sessions) : `${number(one.sessions)} of ${number(one.max_sessions)}`);
    put(row.elsewhere, one.sessions_elsewhere ? `+${number(one.sessions_elsewhere)} elsewhere` : "");
    const latency = latencyOf(one);
    put(row.latency, latency ? millis(latency.mean_ms) : "–");
    const order = one.order.order === "ready" ? "drain" : "ready";
    row.quick.dataset.order = order;
    put(row.quick, order === "drain" ? "Drain…" : "Ready…");
    mark(row.quick, "aria-label", `${order === "drain" ? "Drain" : "Ready"} ${short(one.uri)}`);
    this.#sift(row);
  }

  #ages(row, now) {
    const { one } = row;
    put(row.health, `${one.health} ${roughly(one.since, now)}: ${one.why}`);
    put(row.order, orderWords(one.order, now));
  }

  #shares(set, section, now) {
    const report = this.#model.sets.get(set);
    const rows = [...section.rows.values()];
    const rises = rows.map((row) => this.#model.rates.rise(row.key, now));
    const sum = rises.reduce((total, rise) => total + rise, 0);
    const due = aims(report, rows.map((row) => row.one));
    const percents = rises.map((rise) => (sum > 0 ? (100 * rise) / sum : 0));
    const most = Math.max(1, ...percents, ...due.map((aim) => aim ?? 0));
    rows.forEach((row, at) => {
      const [percent, aim] = [percents[at], due[at]];
      const words = sum > 0 ? figure(percent) : "–";
      const [width, place] = [`${((90 * percent) / most).toFixed(1)}%`, aim === null ? "" : `${((90 * aim) / most).toFixed(1)}%`];
      const told = `weight ${row.one.weight}${row.one.share_percent < 100 ? ` × ${row.one.share_percent}%` : ""}${aim === null || !row.one.fit ? "" : `, due ${figure(aim)}`}`;
      const all = `${words} ${width} ${place} ${told}`;
      if (row.shares === all) return;
      row.shares = all;
      put(row.percent, words);
      put(row.weight, told);
      row.fill.style.width = width;
      row.aim.style.left = place;
      show(row.aim, aim !== null && row.one.fit);
    });
    const pace = this.#model.pace(set, now);
    const sessions = rows.reduce((total, row) => total + row.one.sessions, 0);
    put(section.facts, [plural(sessions, "session"), `${rate(pace)} tries/s`, ...section.words].join(" · "));
  }

  #sift(row) {
    const { text, unfit } = this.#filter;
    show(row.tr, (!unfit || !row.one.fit) && row.hay.includes(text));
  }

  #count() {
    let [shown, all] = [0, 0];
    const filtered = this.#filter.unfit || this.#filter.text !== "";
    for (const section of this.#sections.values()) {
      let visible = 0;
      for (const row of section.rows.values()) if (!row.tr.hidden) visible += 1;
      show(section.node, visible > 0 || !filtered);
      shown += visible;
      all += section.rows.size;
    }
    put($("filter-count"), filtered ? `${number(shown)} of ${number(all)} shown` : "");
  }

  #arrange() {
    this.#inOrder = true;
    const byRow = this.#sort === "row";
    const worse = (a, b) => (byRow ? 0 : a.rank - b.rank) || a.place - b.place;
    const sections = [];
    for (const [set, section] of this.#sections) {
      const rows = [...section.rows.values()].sort(worse);
      arrange(section.body, rows.map((row) => row.tr));
      const { fit } = this.#model.sets.get(set);
      sections.push({ set, node: section.node, rank: rows.length > 0 && fit === 0 ? -1 : Math.min(9, ...rows.map((row) => row.rank)) });
    }
    sections.sort((a, b) => (byRow ? 0 : a.rank - b.rank) || a.set - b.set);
    arrange($("sets"), [$("no-sets"), ...sections.map(({ node }) => node)]);
  }
}
