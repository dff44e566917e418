// What the page reckons without a document: node --test.

import assert from "node:assert/strict";
import { cpSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

// A browser is told by the page that these are modules, and Node by a file.
const folder = mkdtempSync(join(tmpdir(), "tandem-words-"));
cpSync(new URL("../../src/edge/http/page/", import.meta.url), folder, { recursive: true });
writeFileSync(join(folder, "package.json"), '{ "type": "module" }');
const words = await import(join(folder, "page.words.js"));
const { Model } = await import(join(folder, "page.model.js"));
const { Reader } = await import(join(folder, "page.stream.js"));
rmSync(folder, { recursive: true });

/** A destination in service. */
const destination = (uri, more = {}) => ({
  uri, address: uri.replace("sip:", ""), description: "", weight: 1, priority: 100, health: "up", since: "2026-11-26T03:00:00.000Z", why: "it answers",
  order: { order: "ready", version: "1", by: "table", at: "2026-11-26T03:00:00.000Z", reason: "", deadline: null, then_end: false },
  fit: true, fitness: "fit", probed: true, share_percent: 100, penalty: 0, sessions: 0, sessions_peak: 0, sessions_elsewhere: 0, votes: [],
  max_sessions: null, resources: [], selections: 0, falls: 0, ejections: 0, latency: {}, ...more,
});
const down = (uri, more) => destination(uri, { health: "down", fit: false, fitness: "unfit: down", ...more });
const ordered = (uri, order, more) => destination(uri, { fit: false, fitness: `unfit: order ${order}`, order: { ...destination(uri).order, order, by: "alice" }, ...more });

test("each kind has its own mark, and the worst stands first", () => {
  const full = destination("sip:b", { fit: false, fitness: "unfit: at its limit" });
  const outvoted = destination("sip:c", { fit: false, fitness: "unfit: down, as other nodes see it" });
  const nowhere = destination("sip:d", { address: null, fit: false, fitness: "unfit: no address" });
  const all = [destination("sip:a"), ordered("sip:e", "maint"), ordered("sip:f", "drain"), full, outvoted, nowhere, down("sip:g")];
  assert.deepEqual(all.map(words.kindOf), ["fit", "maint", "drain", "doubt", "down", "down", "down"]);
  assert.equal(words.tellKinds(words.countKinds(all)), "3 down, 1 not fit for now, 1 draining, 1 in maintenance");
  const ranks = [down("sip:g"), full, ordered("sip:f", "drain"), ordered("sip:e", "maint"), destination("sip:h", { share_percent: 50 }), destination("sip:a")].map(words.trouble);
  assert.deepEqual(ranks, [...ranks].sort((a, b) => a - b));
});

test("a node that has seen nothing says nothing against the others", () => {
  const vote = (health) => ({ node: "b", health });
  assert.equal(words.dissentWords(destination("sip:a", { votes: [vote("down")] })), "b says down");
  assert.equal(words.dissentWords(destination("sip:a", { votes: [vote("unknown"), vote("up")] })), "");
  assert.equal(words.dissentWords(ordered("sip:a", "maint", { votes: [vote("down")] })), "");
});

test("an order's effect is told before it is given", () => {
  const all = [destination("sip:a", { sessions: 11, sessions_elsewhere: 7 }), destination("sip:b"), destination("sip:c"), down("sip:d")];
  const text = (uri, order) => words.effect(all, uri, order).text;
  assert.equal(text("sip:a", "drain"), "2 of 4 fit remain, 18 sessions stay.");
  assert.equal(text("sip:b", "maint"), "2 of 4 fit remain, it has no session.");
  assert.equal(text("sip:d", "ready"), "It may get no call yet: down until a probe or a call succeeds. 3 of 4 are fit.");
  const last = [destination("sip:a", { sessions: 1 }), ordered("sip:b", "drain")];
  assert.deepEqual(words.effect(last, "sip:a", "drain"), { text: "0 of 2 fit remain, 1 session stays. Nobody is left for new calls.", grave: true });
  assert.equal(words.effect(last, "sip:b", "ready").text, "2 of 2 would be fit; it is up.");
  // A name with two addresses is one destination.
  const twice = [destination("sip:a", { address: "10.0.0.1:7010", sessions: 1 }), destination("sip:a", { address: "10.0.0.2:7010", sessions: 2 }), destination("sip:b")];
  assert.equal(words.effect(twice, "sip:a", "drain").text, "1 of 3 fit remain, 3 sessions stay.");
});

test("ready promises no call to who is known to get none", () => {
  const text = (...its) => words.effect([destination("sip:a"), ...its], "sip:b", "ready").text;
  const drained = (more) => ordered("sip:b", "drain", more);
  const vote = (node, health) => ({ node, health });
  const agent = (refuses) => ({ speaks: true, refuses });
  assert.equal(text(drained({ health: "unknown", agent: agent(null), votes: [vote("c", "up"), vote("d", "unknown")] })), "2 of 2 would be fit; it is unknown.");
  const hindered = [
    [{ health: "busy" }, "busy"],
    [{ health: "down" }, "down until a probe or a call succeeds"],
    [{ agent: agent("maint") }, "its agent says maint"],
    [{ address: null }, "no address"],
    [{ max_sessions: 5, sessions: 5 }, "at its limit"],
    [{ votes: [vote("c", "down"), vote("d", "up"), vote("e", "busy")] }, "c says down, e says busy"],
  ];
  for (const [more, why] of hindered) assert.equal(text(drained(more)), `It may get no call yet: ${why}. 1 of 2 are fit.`);
  const [one, other] = ["1", "2"].map((last) => ({ address: `10.0.0.${last}:7010` }));
  assert.equal(text(drained(one), drained({ ...other, health: "busy" })), "2 of 3 would be fit; it is up; not 10.0.0.2:7010: busy.");
  // What the node itself says goes before what others say of it.
  assert.equal(words.effect([destination("sip:b", { votes: [vote("c", "down")] })], "sip:b", "ready").text, "1 of 1 would be fit; it is up.");
});

test("times are as tandem show writes them", () => {
  assert.deepEqual([0, 59_999, 61_000, 3_600_000, 90_000_000].map(words.span), ["0s", "59s", "1m 1s", "1h 0m", "1d 1h"]);
});

test("rates are of the last minute, and begin anew with the node", () => {
  const rates = new words.Rates();
  for (let second = 0; second <= 90; second += 1) rates.note("a", second * 1000, second * 2);
  assert.equal(rates.rise("a", 90_000), 120);
  assert.equal(rates.rise("a", 120_000), 60);
  assert.equal(rates.rise("a", 300_000), 0);
  rates.note("a", 301_000, 5);
  assert.equal(rates.rise("a", 301_000), 0);
  rates.note("a", 302_000, 8);
  assert.deepEqual([rates.rise("a", 302_000), rates.rise("b", 302_000)], [3, 0]);
});

test("what each is due follows from its weight, among those that are fit", () => {
  const all = [destination("sip:a", { weight: 2 }), destination("sip:b"), down("sip:c"), destination("sip:d", { weight: 2, share_percent: 50 })];
  assert.deepEqual(words.aims({ algorithm: "round_robin" }, all), [50, 25, 0, 25]);
  for (const algorithm of ["priority", "least_load", "least_load_relative", "least_load_p2c", "peak_ewma"]) {
    assert.deepEqual(words.aims({ algorithm }, all), [null, null, null, null], algorithm);
  }
  assert.deepEqual(words.aims({ algorithm: "random" }, [down("sip:a")]), [null]);
});

test("the stream is read whatever pieces it comes in", () => {
  const text = ': heartbeat\n\nevent: node\ndata: {"a":\ndata: 1}\n\nid: 5-7\r\nevent: event\r\ndata: é\r\n\r\ndata\n\nretry: 9\n\n';
  const wanted = [
    { event: "node", id: undefined, data: '{"a":\n1}' },
    { event: "event", id: "5-7", data: "é" },
    { event: "message", id: undefined, data: "" },
  ];
  for (let size = 1; size <= text.length; size += 1) {
    const reader = new Reader();
    const said = [];
    for (let at = 0; at < text.length; at += size) said.push(...reader.read(text.slice(at, at + size)));
    assert.deepEqual(said, wanted, `in pieces of ${size}`);
  }
});

const SETS = { node: "a", sets: [{ set: 19, name: "tts", algorithm: "random", fit: 2, destinations: [destination("sip:a"), destination("sip:b")] }], sessions: { live: 0 } };

test("the model takes what differs, and forgets rows that are gone", () => {
  const model = new Model();
  assert.equal(model.hear("sets", SETS).whole, true);
  const at = new Date().toISOString();
  const news = model.hear("changes", { at, sets: [{ set: 19, name: "tts", fit: 1 }], destinations: [{ set: 19, ...down("sip:b") }], sessions: { live: 3 } });
  assert.deepEqual([[...news.keys], [...news.sets], news.whole], [["19 b sip:b"], [19], false]);
  assert.deepEqual(model.destinationsOf(19).map((one) => one.health), ["up", "down"]);
  assert.deepEqual([model.sets.get(19).fit, model.sessions.live], [1, 3]);
  model.hear("sets", { ...SETS, sets: [{ ...SETS.sets[0], destinations: [destination("sip:c"), destination("sip:b")] }] });
  assert.deepEqual([...model.all.values()].map(({ key, place }) => [key, place]), [["19 c sip:c", 0], ["19 b sip:b", 1]]);
});

/** A model that hears `pace` tries a second for a minute, of a node whose clock differs by `skew`, and the browser's clock. */
function paced({ mock }, pace, skew) {
  const clock = { steady: 5000, wall: Date.parse("2026-11-26T04:00:00Z") };
  mock.method(performance, "now", () => clock.steady);
  mock.method(Date, "now", () => clock.wall);
  const model = new Model();
  const hear = (seconds, selections, name = "changes") => {
    clock.steady += 1000 * seconds;
    clock.wall += 1000 * seconds;
    const one = destination("sip:a", { selections });
    const sets = { ...SETS, sets: [{ ...SETS.sets[0], destinations: [one] }] };
    model.hear(name, name === "sets" ? sets : { at: new Date(clock.wall + skew).toISOString(), sets: [], destinations: [{ set: 19, ...one }] });
  };
  hear(0, 100, "sets");
  for (let second = 1; second <= 60; second += 1) hear(1, 100 + pace * second);
  return { model, hear };
}

test("rates are the same however far the node's clock is from the browser's", (t) => {
  for (const skew of [0, 600_000, -600_000]) {
    const { model } = paced(t, 10, skew);
    assert.deepEqual([model.pace(), model.pace(19), model.rates.rise("19 a sip:a", performance.now())], [10, 10, 600], `${skew} ms`);
    assert.deepEqual([model.pulse.length, model.pulse.at(-1).total], [61, 700], `${skew} ms`);
    assert.equal(model.now() - Date.now(), skew);
    t.mock.restoreAll();
  }
});

test("what counters rose while the page was not live is of no minute", (t) => {
  const { model, hear } = paced(t, 10, 0);
  model.lost();
  hear(600, 6700, "sets");
  assert.equal(model.pace(), 0);
  hear(2, 6720);
  assert.equal(model.pace(), 10);
  // Rows that come anew on a stream that lives change no rate.
  hear(2, 6740, "sets");
  assert.equal(model.pace(), 10);
});

test("events stand newest first, each once, and begin anew with the node", () => {
  const model = new Model();
  const node = (started) => ({ node: "a", started, peers: [{ node: "b" }] });
  model.hear("node", node("2026-11-26T03:00:00Z"));
  for (const sequence of [1, 3, 2, 3]) model.hear("event", { sequence });
  assert.deepEqual(model.events.map((event) => event.sequence), [3, 2, 1]);
  for (let sequence = 4; sequence <= 150; sequence += 1) model.hear("event", { sequence });
  assert.deepEqual([model.events.length, model.events[0].sequence], [100, 150]);
  model.hear("node", { ...node("2026-11-26T04:00:00Z"), peers: [] });
  assert.deepEqual([model.events, model.peers.get("b").here], [[], false]);
  model.hear("event", { sequence: 1 });
  assert.equal(model.events.length, 1);
});
