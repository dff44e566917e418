// Everything of one destination, beside the sets: what is held of each of its addresses, and what was seen of it last.

import { $, el, mark, markOf, put } from "./page.dom.js";
import { bearer, faultOf } from "./page.stream.js";
import { ago, clock, kindOf, millis, number, orderStory, plural, span, titleOf } from "./page.words.js";

/** So long after a change the observations are asked for anew. */
const AGAIN = 1000;

export class Panel {
  #model;
  #token;
  #onOrder;
  #which = null;
  #story = null;
  #timer = 0;
  #asked = 0;

  constructor(model, { token, onOrder }) {
    this.#model = model;
    this.#token = token;
    this.#onOrder = onOrder;
    $("panel-close").addEventListener("click", () => $("panel").close());
    $("panel").addEventListener("close", () => this.#forget());
    // A click beside it, on what it darkens.
    $("panel").addEventListener("click", (event) => event.target === $("panel") && $("panel").close());
    for (const button of $("panel").querySelectorAll("[data-order]")) {
      button.addEventListener("click", () => this.#onOrder(this.#which.set, this.#which.uri, button.dataset.order));
    }
  }

  open(set, uri) {
    this.#which = { set, uri };
    this.#story = null;
    this.#show();
    $("panel").showModal();
    $("panel-title").focus();
    this.#ask();
  }

  /** These destinations are another. */
  changed(keys) {
    if (!this.#which) return;
    const its = (key) => key.startsWith(`${this.#which.set} `) && key.endsWith(` ${this.#which.uri}`);
    if ([...keys].some(its)) this.again();
  }

  /** Ages grow without anybody telling. */
  tick() {
    if (this.#which) this.#show();
  }

  again() {
    if (!this.#which) return;
    this.#show();
    this.#timer ||= setTimeout(() => this.#ask(), AGAIN);
  }

  #forget() {
    this.#which = null;
    clearTimeout(this.#timer);
    this.#timer = 0;
  }

  async #ask() {
    this.#timer = 0;
    const which = this.#which;
    const nth = (this.#asked += 1);
    const told = await fetch(`/sets/${which.set}/destination?uri=${encodeURIComponent(which.uri)}`, { headers: bearer(this.#token()) })
      .then(async (answer) => (answer.ok ? { story: await answer.json() } : { fault: await faultOf(answer) }))
      .catch(() => ({ fault: "the node can't be reached" }));
    if (this.#which !== which || nth !== this.#asked) return;
    this.#story = told;
    this.#show();
  }

  #show() {
    const { set, uri } = this.#which;
    const report = this.#model.sets.get(set);
    const held = [...this.#model.all.values()].filter((entry) => entry.set === set && entry.one.uri === uri).map((entry) => entry.one);
    put($("panel-set"), report ? `Set ${titleOf(report)}` : `Set ${set}`);
    put($("panel-title"), uri);
    for (const button of $("panel").querySelectorAll("[data-order]")) {
      mark(button, "aria-pressed", String(held[0]?.order.order === button.dataset.order));
      button.disabled = held.length === 0;
    }
    const now = this.#model.now();
    const seen = new Map((this.#story?.story?.addresses ?? []).map((one) => [one.address, one.observations]));
    const body = $("panel-body");
    // Somebody is about to copy what stands there.
    const selection = getSelection();
    if (!selection.isCollapsed && body.contains(selection.anchorNode)) return;
    const top = body.scrollTop;
    const parts = held.map((one) => this.#address(one, seen.get(one.address), now));
    if (held.length === 0) parts.push(el("p", { class: "empty" }, "It is not among the rows any more."));
    if (this.#story?.fault) parts.push(el("p", { class: "fault" }, `Its observations are not told: ${this.#story.fault}`));
    body.replaceChildren(...parts);
    body.scrollTop = top;
  }

  #address(one, observations, now) {
    const kind = kindOf(one);
    const facts = el("dl", { class: "facts" });
    const fact = (name, text, of) => facts.append(el("dt", {}, name), el("dd", of ? { "data-kind": of } : {}, text));
    fact("order", orderStory(one.order, now));
    fact("health", `${one.health} since ${clock(one.since)} (${ago(one.since, now)}): ${one.why}`, one.health === "up" ? "fit" : one.health === "down" ? "down" : "doubt");
    fact("sessions", `${number(one.sessions)} here, ${number(one.sessions_elsewhere)} elsewhere, ${number(one.sessions_peak)} at most; ${number(one.selections)} ${one.selections === 1 ? "try" : "tries"} in all`);
    const limits = [
      one.max_sessions === null ? "" : `${number(one.sessions)} of ${number(one.max_sessions)}`,
      ...one.resources.map((all) => `${all.class} ${number(all.sessions)}${all.max_sessions === null ? "" : ` of ${number(all.max_sessions)}`}`),
    ].filter(Boolean);
    if (limits.length > 0) fact("limits", limits.join(", "));
    fact("share", `${one.share_percent}% of weight ${one.weight}, priority ${one.priority}`);
    if (one.agent) fact("agent", agentWords(one.agent, now), one.agent.speaks && !one.agent.refuses ? "none" : "doubt");
    fact("falls", `${number(one.falls)}, ${plural(one.ejections, "ejection")}${one.penalty ? `, penalty ${one.penalty}` : ""}`);
    const latency = Object.entries(one.latency).map(([by, all]) => `${by} ${millis(all.mean_ms)} of ${number(all.count)}`);
    fact("answers in", latency.join(", ") || "not seen yet");
    fact("probed", one.probed ? "yes" : "no: calls alone tell of it");
    if (one.description) fact("row", one.description);
    return el(
      "section",
      { class: "address" },
      el("h3", { "data-kind": kind }, markOf(kind), `${one.address ?? "no address"}: ${one.fitness}`),
      facts,
      el("h4", {}, "Votes of the nodes"),
      votesTable(one, this.#model.node?.node ?? "this node", now),
      el("h4", {}, "Last observations"),
      observationsTable(observations),
    );
  }
}

function agentWords(agent, now) {
  const said = agent.at ? `said “${agent.line}” ${ago(agent.at, now)}` : "has said nothing yet";
  const holds = !agent.at ? "" : !agent.speaks ? ", too long ago to count" : `: ${agent.share_percent}% of its weight`;
  const most = agent.speaks && agent.max_sessions !== null ? `, ${plural(agent.max_sessions, "session")} at most` : "";
  const deaf = agent.silences + agent.unknown_words > 0 ? `; ${agent.silences} times silent, ${plural(agent.unknown_words, "unknown word")}` : "";
  return `${said}${holds}${most}${deaf}`;
}

function table(caption, heads, rows) {
  const head = heads.map(([text, kind]) => el("th", { scope: "col", class: kind }, text));
  const cells = (row) => row.cells.map((text, at) => el("td", { class: heads[at][1] }, text));
  return el(
    "table",
    { class: "small" },
    el("caption", { class: "unseen" }, caption),
    el("thead", {}, el("tr", {}, ...head)),
    el("tbody", {}, ...rows.map((row) => el("tr", { "data-kind": row.kind }, ...cells(row)))),
  );
}

function votesTable(one, node, now) {
  const own = { kind: one.health === "up" ? "fit" : one.health === "down" ? "down" : "doubt", cells: [`${node} (this node)`, one.health, span(now - Date.parse(one.since)), number(one.sessions), one.why] };
  const others = one.votes.map((vote) => ({
    kind: vote.health === "up" ? "fit" : vote.health === "down" ? "down" : "doubt",
    cells: [vote.node, vote.health, span(vote.seconds * 1000), number(vote.sessions), `${vote.cause ?? (vote.probed ? "by its probes" : "by its calls")}, told ${vote.age.toFixed(1)}s ago`],
  }));
  const heads = [["Node"], ["Says"], ["For"], ["Sessions", "number"], ["Why"]];
  return table("What each node holds of it", heads, [own, ...others]);
}

function observationsTable(observations) {
  if (!observations) return el("p", { class: "empty" }, "They are being asked for.");
  if (observations.length === 0) return el("p", { class: "empty" }, "This node has seen nothing of it yet.");
  const kinds = { alive: "fit", fall: "down" };
  const rows = [...observations].reverse().map((seen) => ({
    kind: kinds[seen.meaning] ?? "doubt",
    cells: [clock(seen.at), seen.witness, seen.outcome, seen.meaning, millis(seen.latency_ms)],
  }));
  return table("What was seen of it, newest first", [["At"], ["By"], ["Outcome"], ["Meaning"], ["Took", "number"]], rows);
}
