// GET /stream, read by fetch so that a token can go with it, for as long as the page lives: server-sent events in, a call
// of `said` for each, and how it stands with the connection.

/** The node says something at least every 10 s. */
const SILENCE = 15_000;
/** Waits between tries; the last one holds. */
const WAITS = [500, 1000, 2000, 4000, 8000];

/** What the text of a stream says, whatever pieces it comes in. */
export class Reader {
  #rest = "";
  #fields = { event: "message", data: [], id: undefined };

  /** The events that are complete with this piece. */
  *read(piece) {
    const lines = (this.#rest + piece).split(/\r\n|\n|\r(?!$)/);
    this.#rest = lines.pop();
    for (const line of lines) {
      if (line === "") {
        const { event, data, id } = this.#fields;
        this.#fields = { event: "message", data: [], id: undefined };
        if (data.length > 0) yield { event, id, data: data.join("\n") };
        continue;
      }
      const colon = line.indexOf(":");
      const name = colon < 0 ? line : line.slice(0, colon);
      const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
      if (name === "data") this.#fields.data.push(value);
      else if (name === "event" || name === "id") this.#fields[name] = value;
    }
  }
}

/**
 * Follows the stream. `token()` is sent if there is one; `refused(why)` asks for another and is waited for; `dated(at)` hears
 * what time it is there; `said(event, value)` hears what comes; `stands({ live, why, next })` hears of each change, with when
 * the next try is.
 * What is returned tries at once.
 */
export function follow({ token, refused, dated, said, stands }) {
  let hurry = () => {};
  const run = async () => {
    for (let tries = 0; ; ) {
      const began = await once({ token, dated, said, live: () => stands({ live: true }) });
      if (began.live) tries = 0;
      if (began.refused) {
        stands({ live: false, why: "the node wants a token" });
        await refused(began.why);
        continue;
      }
      const wait = WAITS[Math.min(tries, WAITS.length - 1)];
      tries += 1;
      stands({ live: false, why: began.why, next: Date.now() + wait });
      await new Promise((done) => {
        hurry = done;
        setTimeout(done, wait);
      });
    }
  };
  run();
  return () => hurry();
}

/** One connection, from its start to its end: whether it was live, and why it is not any more. */
async function once({ token, dated, said, live }) {
  const stop = new AbortController();
  let silent = 0;
  const hear = () => {
    clearTimeout(silent);
    silent = setTimeout(() => stop.abort(), SILENCE);
  };
  let isLive = false;
  try {
    hear();
    const headers = { Accept: "text/event-stream", ...bearer(token()) };
    const answer = await fetch("/stream", { headers, signal: stop.signal, cache: "no-store" });
    if (answer.status === 401) return { refused: true, why: await faultOf(answer) };
    if (!answer.ok) return { live: false, why: await faultOf(answer) };
    if (answer.headers.has("date")) dated(answer.headers.get("date"));
    const reader = new Reader();
    for (const pieces = answer.body.pipeThrough(new TextDecoderStream()).getReader(); ; ) {
      const { done, value } = await pieces.read();
      if (done) return { live: isLive, why: "the node has ended the connection" };
      hear();
      for (const { event, data } of reader.read(value)) said(event, JSON.parse(data));
      if (!isLive) live();
      isLive = true;
    }
  } catch (fault) {
    const why = stop.signal.aborted ? "the node is silent" : fault instanceof SyntaxError ? `the node sends nonsense: ${fault.message}` : "the node can't be reached";
    return { live: isLive, why };
  } finally {
    clearTimeout(silent);
    stop.abort();
  }
}

export const bearer = (token) => (token ? { Authorization: `Bearer ${token}` } : {});

/** What an answer that is none says. */
export async function faultOf(answer) {
  const said = await answer.json().catch(() => ({}));
  return said.error ?? `HTTP ${answer.status}`;
}
