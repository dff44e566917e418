// What the page knows: the node, its sets and destinations, events, rates. It hears what the stream says and tells what of it
// is new; it knows no document.

import { Rates, keyOf } from "./page.words.js";

/** So many events are kept. */
const EVENTS = 100;
/** For how long a node that is heard no more is remembered. */
const GONE = 3_600_000;

export class Model {
  node = null;
  /** The node's sessions. */
  sessions = null;
  /** By number: what is told of a set, without its destinations. */
  sets = new Map();
  /** By key: each destination with its set and its place among all. */
  all = new Map();
  /** Newest first. */
  events = [];
  /** Other nodes that were heard while this page was there, by name: what they told last, and when, by the browser's steady clock. */
  peers = new Map();
  rates = new Rates();
  /** Tries that were begun, second by second, for a line. */
  pulse = [];
  /** When the first counters came. All rates are by the browser's steady clock: no node's clock has a say in them. */
  since = null;
  #skew = 0;
  #gap = false;

  /** Now, by the node's clock: what it tells is by that. */
  now() {
    return Date.now() + this.#skew;
  }

  /** Learns how far the node's clock is from the browser's. */
  dated(at) {
    const skew = Date.parse(at) - Date.now();
    // What the way here took is no difference of clocks.
    if (Math.abs(skew - this.#skew) > 1000) this.#skew = skew;
  }

  /** The stream is gone: what counters rise until it is back is of no minute. */
  lost() {
    this.#gap = true;
  }

  /** Somebody knows why that node is heard no more. */
  forgetPeer(name) {
    this.peers.delete(name);
  }

  /** Takes what the stream says; what of it must be shown anew. */
  hear(event, value) {
    const news = { keys: new Set(), sets: new Set(), whole: false, node: false, events: [], another: false };
    if (event === "node") this.#hearNode(value, news);
    else if (event === "sets") this.#hearSets(value, news);
    else if (event === "changes") this.#hearChanges(value, news);
    else if (event === "event") this.#hearEvent(value, news);
    return news;
  }

  destinationsOf(set) {
    return this.#list((entry) => entry.set === set);
  }

  everything() {
    return this.#list(() => true);
  }

  #list(wanted) {
    const list = [];
    for (const entry of this.all.values()) if (wanted(entry)) list.push(entry.one);
    return list;
  }

  /** Tries a second over the last minute, or over as much of it as was seen; of a set or of all. */
  pace(set, now = performance.now()) {
    let rise = 0;
    for (const entry of this.all.values()) if (set === undefined || entry.set === set) rise += this.rates.rise(entry.key, now);
    const seen = Math.min(60_000, now - (this.since ?? now));
    return seen >= 1000 ? (1000 * rise) / seen : 0;
  }

  #hearNode(report, news) {
    news.another = this.node !== null && (this.node.started !== report.started || this.node.node !== report.node);
    if (news.another) {
      // Its counters and its events began anew.
      this.events = [];
      this.#countAnew();
    }
    this.node = report;
    const now = performance.now();
    for (const peer of report.peers ?? []) this.peers.set(peer.node, { peer, at: now, here: true });
    const here = new Set((report.peers ?? []).map((peer) => peer.node));
    for (const [name, known] of this.peers) {
      known.here = here.has(name);
      if (!known.here && now - known.at > GONE) this.peers.delete(name);
    }
    news.node = true;
  }

  #hearSets(report, news) {
    news.whole = true;
    if (this.#gap) this.#countAnew();
    this.#gap = false;
    this.sessions = report.sessions;
    this.sets.clear();
    const former = new Set(this.all.keys());
    this.all.clear();
    for (const { destinations, ...set } of report.sets) {
      this.sets.set(set.set, set);
      for (const one of destinations) former.delete(this.#take(set.set, one));
    }
    for (const key of former) this.rates.forget(key);
    this.#count(performance.now());
  }

  #hearChanges({ at, sets, destinations, sessions }, news) {
    this.dated(at);
    if (sessions) this.sessions = sessions;
    for (const { destinations: _, ...set } of sets) {
      this.sets.set(set.set, set);
      news.sets.add(set.set);
    }
    for (const { set, ...one } of destinations) {
      news.keys.add(this.#take(set, one));
      news.sets.add(set);
    }
    this.#count(performance.now());
  }

  #hearEvent(event, news) {
    if (this.events.some((known) => known.sequence === event.sequence)) return;
    const before = this.events.findIndex((known) => known.sequence < event.sequence);
    this.events.splice(before < 0 ? this.events.length : before, 0, event);
    this.events.length = Math.min(this.events.length, EVENTS);
    news.events.push(event);
  }

  #take(set, one) {
    const key = keyOf(set, one);
    // Rows come in the table's order, and whenever that is another all come anew.
    this.all.set(key, { key, set, one, place: this.all.get(key)?.place ?? this.all.size });
    this.rates.note(key, performance.now(), one.selections);
    return key;
  }

  #countAnew() {
    this.rates = new Rates();
    this.pulse = [];
    this.since = null;
  }

  #count(now) {
    this.since ??= now;
    let total = 0;
    for (const { one } of this.all.values()) total += one.selections;
    this.pulse.push({ at: now, total });
    while (this.pulse.length > 2 && this.pulse[1].at < now - 60_000) this.pulse.shift();
  }
}
