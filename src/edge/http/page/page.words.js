// What the page says and reckons, without a document: the words of `tandem show`, what is worse than what, rates.
// tests/page/words.test.mjs holds it to that.

/** One address of a destination, among all. */
export const keyOf = (set, one) => `${set} ${one.address ?? "-"} ${one.uri}`;

/** A URI as people say it. */
export const short = (uri) => uri.replace(/^sip:/, "");

/** What is known of it besides its URI: the row's description, and the address if the URI does not name that. */
export const besides = (one) => [one.description, one.address && !one.uri.includes(one.address) ? one.address : ""].filter(Boolean).join(" · ");

export const plural = (count, noun) => `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;

/** A time to two figures or so, as `tandem show` writes it. */
export function span(millis) {
  const seconds = Math.max(0, Math.floor(millis / 1000));
  const [minutes, hours, days] = [60, 3600, 86400].map((unit) => Math.floor(seconds / unit));
  if (days) return `${days}d ${hours % 24}h`;
  if (hours) return `${hours}h ${minutes % 60}m`;
  if (minutes) return `${minutes}m ${seconds % 60}s`;
  return `${seconds}s`;
}

export const ago = (moment, now) => `${span(now - Date.parse(moment))} ago`;

/** For a thousand rows: to the minute, once the first is over. */
export function roughly(moment, now) {
  const millis = now - Date.parse(moment);
  return millis < 60_000 || millis >= 3_600_000 ? span(millis) : `${Math.floor(millis / 60_000)}m`;
}

export const clock = (moment) => new Date(moment).toLocaleTimeString("en-GB");

export const number = (value) => value.toLocaleString("en");

/** The kinds by which destinations are marked, worst first. */
export const KINDS = ["down", "doubt", "drain", "maint", "fit"];

/** How a count of each kind is told. */
const TOLD = { down: "down", doubt: "not fit for now", drain: "draining", maint: "in maintenance", fit: "fit" };

export function kindOf(one) {
  if (one.fit) return "fit";
  if (one.order.order !== "ready") return one.order.order === "drain" ? "drain" : "maint";
  if (one.health === "down" || !one.address || one.fitness.includes("down")) return "down";
  return "doubt";
}

/** Nodes that have seen it otherwise; one that has seen nothing of it yet, or need not, says nothing against. */
export const dissent = (one) =>
  one.order.order === "maint" ? [] : one.votes.filter((vote) => vote.health !== "unknown" && vote.health !== one.health);

/** What they say. */
export const dissentWords = (one) => dissent(one).map((vote) => `${vote.node} says ${vote.health}`).join(", ");

/** The lower, the sooner somebody must look. */
export function trouble(one) {
  const kind = kindOf(one);
  const uneasy = kind === "fit" && (dissent(one).length > 0 || one.share_percent < 100 || one.health !== "up");
  return uneasy ? 3.5 : KINDS.indexOf(kind);
}

export function countKinds(all) {
  const counts = Object.fromEntries(KINDS.map((kind) => [kind, 0]));
  for (const one of all) counts[kindOf(one)] += 1;
  return counts;
}

/** "1 down, 1 draining", without those that are fit. */
export const tellKinds = (counts) =>
  KINDS.filter((kind) => kind !== "fit" && counts[kind]).map((kind) => `${number(counts[kind])} ${TOLD[kind]}`).join(", ");

export const titleOf = (set) => (set.name ? `${set.set} (${set.name})` : `${set.set}`);

/** "drain by alice 5m ago: new model"; "" of one that is ready by its row. */
export function orderWords({ order, by, at, reason }, now) {
  if (order === "ready" && by === "table") return "";
  return `${order} by ${by} ${roughly(at, now)} ago${reason ? `: ${reason}` : ""}`;
}

/** Everything of an order. */
export function orderStory({ order, by, at, reason, deadline, then_end: thenEnd }, now) {
  const until = deadline ? `; to be empty by ${clock(deadline)}${thenEnd ? ", then its sessions are ended" : ""}` : "";
  return `${order} by ${by} at ${clock(at)} (${ago(at, now)})${reason ? `: ${reason}` : ""}${until}`;
}

/** What is known to keep new calls from it once it is ready; "" if nothing is. */
function obstacle(one) {
  if (one.fit) return "";
  if (!one.address) return "no address";
  if (one.agent?.refuses) return `its agent says ${one.agent.refuses}`;
  if (one.health === "down") return "down until a probe or a call succeeds";
  if (one.health === "busy") return "busy";
  if (one.max_sessions !== null && one.sessions >= one.max_sessions) return "at its limit";
  const others = one.votes.filter(({ health }) => health === "down" || health === "busy");
  return others.map(({ node, health }) => `${node} says ${health}`).join(", ");
}

/** What the order would do to its set, from what is known now: "3 of 4 fit remain, 18 sessions stay". */
export function effect(all, uri, order) {
  const [its, others] = [all.filter((one) => one.uri === uri), all.filter((one) => one.uri !== uri)];
  const fit = (some) => some.filter((one) => one.fit).length;
  const sessions = its.reduce((sum, one) => sum + one.sessions + one.sessions_elsewhere, 0);
  const stay = sessions === 0 ? "it has no session" : `${plural(sessions, "session")} ${sessions === 1 ? "stays" : "stay"}`;
  if (order === "ready") {
    const hindered = its.filter((one) => obstacle(one) !== "");
    if (hindered.length === its.length) {
      const why = [...new Set(its.map(obstacle))].join("; ");
      return { text: `It may get no call yet: ${why}. ${fit(others)} of ${all.length} are fit.`, grave: false };
    }
    const rest = hindered.map((one) => `; not ${one.address ?? "the one without address"}: ${obstacle(one)}`).join("");
    const state = [...new Set(its.filter((one) => !hindered.includes(one)).map((one) => one.health))].join(", ");
    return { text: `${fit(others) + its.length - hindered.length} of ${all.length} would be fit; it is ${state}${rest}.`, grave: false };
  }
  const left = fit(others);
  const last = left === 0 ? " Nobody is left for new calls." : "";
  return { text: `${left} of ${all.length} fit remain, ${stay}.${last}`, grave: left === 0 };
}

/** What an order means, in a sentence. */
export const MEANING = {
  ready: "In service: it gets new calls whenever it is fit.",
  drain: "It keeps its sessions and gets no new one; it is still probed.",
  maint: "Out of service: no new session, and it is not probed.",
};

/** What a destination's text is searched for. */
export const haystack = (set, one) =>
  [set.set, set.name, one.uri, one.address, one.description, one.order.order, one.order.by, one.order.reason, one.health, one.fitness, one.why]
    .join(" ")
    .toLowerCase();

/** The witness that tells best how long callers wait: calls, then probes. */
export const latencyOf = ({ latency }) => ["traffic", "options", "tcp", "http"].map((by) => latency[by]).find(Boolean);

export const millis = (value) => `${value >= 100 ? Math.round(value) : value.toFixed(1)} ms`;

/** Over which time new calls are counted. */
export const WINDOW = 60_000;

/** How much counters have risen within the last minute, by key: a reading is kept only where it differs from the last. */
export class Rates {
  #seen = new Map();

  note(key, at, count) {
    const seen = this.#seen.get(key);
    // One that has gone back began anew: another start of the node.
    if (!seen || count < seen.at(-1).count) this.#seen.set(key, [{ at, count }]);
    else if (count > seen.at(-1).count) seen.push({ at, count });
  }

  forget(key) {
    this.#seen.delete(key);
  }

  rise(key, now) {
    const seen = this.#seen.get(key);
    if (!seen) return 0;
    // The one that held when the minute began is the base.
    while (seen.length > 1 && seen[1].at <= now - WINDOW) seen.shift();
    return seen.at(-1).count - seen[0].count;
  }
}

/** Algorithms whose shares follow the weights; others look at loads or priorities as well. */
const BY_WEIGHT = ["round_robin", "random"];

/** What part of new calls each of a set's fit destinations is to get by its weight, in percent; none where more than that decides. */
export function aims(set, all) {
  if (!BY_WEIGHT.includes(set.algorithm)) return all.map(() => null);
  const pulls = all.map((one) => (one.fit ? one.weight * one.share_percent : 0));
  const sum = pulls.reduce((total, pull) => total + pull, 0);
  return pulls.map((pull) => (sum > 0 ? (100 * pull) / sum : null));
}

export const figure = (percent) => `${percent > 0 && percent < 1 ? "<1" : Math.round(percent)}%`;

export const rate = (pace) => (pace >= 100 ? number(Math.round(pace)) : pace.toFixed(1));
