// A pair of real nodes with [cluster], stand-in servers and calls, all on this machine's loopback: made by whoever tests the
// page, and ended with it.

import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

const TANDEM = process.env.TANDEM ?? new URL("../../target/debug/tandem", import.meta.url).pathname;

/** Whether it becomes true in time; asked often, since nothing tells of it. */
export async function until(what, ask, seconds = 30) {
  let last;
  for (const end = Date.now() + seconds * 1000; Date.now() < end; await sleep(50)) {
    try {
      const found = await ask();
      if (found) return found;
    } catch (fault) {
      last = fault;
    }
  }
  throw new Error(`not within ${seconds} s: ${what}${last ? ` (${last.message})` : ""}`);
}

/** Where node `a` and node `b` are asked by HTTP, and by SIP if it is not said otherwise. */
const HOSTS = { a: "127.0.0.1", b: "127.0.0.2" };

export class Pair {
  folder = mkdtempSync(join(tmpdir(), "tandem-page-"));
  /** Processes by name. */
  processes = new Map();
  names;
  sip;
  token;

  /** `sets` is TOML for both; `more` is for one node, by its name. */
  constructor({ nodes = ["a", "b"], sip = HOSTS, sets, rows, more = {} }) {
    this.names = nodes;
    this.sip = sip;
    const keys = Object.fromEntries(["cluster.key", "gossip.key"].map((name) => [name, randomBytes(32).toString("hex")]));
    for (const name of nodes) {
      mkdirSync(join(this.folder, name, "state"), { recursive: true });
      for (const [file, key] of Object.entries(keys)) writeFileSync(join(this.folder, name, "state", file), `${key}\n`, { mode: 0o600 });
      writeFileSync(join(this.folder, name, "tandem.toml"), this.#config(name, sets, more[name] ?? ""));
    }
    this.rows(rows);
    process.on("exit", () => this.#kill());
  }

  #config(name, sets, more) {
    const [own, other] = [this.sip[name], this.sip[name === "a" ? "b" : "a"]];
    return `
node_id = "${name}"
state_dir = "state"
[[listener]]
bind = "udp:${own}:8060"
role = "node"
[cluster]
bind = "${own}:7946"
seeds = ["${other}:7946"]
keys = ["state/gossip.key"]
dead_after = "2s"
[database]
url = "toml:../sets.toml"
[http]
listen = "${HOSTS[name]}:9060"
[drain]
handover = "0s"
limit = "1s"
${more}
${sets}
`;
  }

  /** The rows, for both; they look each second. */
  rows(rows) {
    const table = (row) => `[[destination]]\n${Object.entries(row).map(([key, value]) => `${key} = ${JSON.stringify(value)}\n`).join("")}`;
    writeFileSync(join(this.folder, "sets.toml"), rows.map(table).join(""));
  }

  url(name) {
    return `http://${HOSTS[name]}:9060`;
  }

  run(name, ...words) {
    const log = openSync(join(this.folder, `${name}.log`), "a");
    const child = spawn(TANDEM, words, { stdio: ["ignore", log, log] });
    child.on("error", (fault) => console.error(`${TANDEM}: ${fault.message}`));
    this.processes.set(name, child);
    return child;
  }

  log(name) {
    return readFileSync(join(this.folder, `${name}.log`), "utf8");
  }

  async startNode(name) {
    this.run(name, "run", "--config", join(this.folder, name, "tandem.toml"));
    const ready = async () => (await fetch(`${this.url(name)}/ready`)).ok;
    await until(`node ${name} is ready`, ready).catch((fault) => {
      throw new Error(`${fault.message}: ${this.log(name).slice(-500)}`);
    });
  }

  async start() {
    await Promise.all(this.names.map((name) => this.startNode(name)));
    if (this.names.length < 2) return;
    const hears = async (name) => (await this.get(name, "/node")).peers?.length === 1;
    for (const name of this.names) await until(`${name} hears the other`, () => hears(name));
  }

  /** A stand-in server at `host:port`, by which it is stopped too. */
  server(address, ...words) {
    return this.run(address, "mrcp-server", "--listen", address, ...words);
  }

  /** Calls to a node, which `stop` knows by `calls NAME`. */
  calls(name, node, ...words) {
    return this.run(`calls ${name}`, "calls", "--to", `${this.sip[node]}:8060`, ...words);
  }

  /** Ends it at once, or as it likes to be ended. */
  async stop(name, signal = "SIGTERM") {
    const child = this.processes.get(name);
    this.processes.delete(name);
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const gone = new Promise((done) => child.once("exit", done));
    child.kill(signal);
    await gone;
  }

  /** `token` is sent where the node wants one. */
  async get(name, path) {
    const answer = await fetch(this.url(name) + path, { headers: this.token ? { Authorization: `Bearer ${this.token}` } : {} });
    return answer.json();
  }

  /** What a node says of a destination. */
  async told(name, set, uri) {
    const { destinations } = await this.get(name, `/sets/${set}`);
    return destinations.find((one) => one.uri === uri);
  }

  async order(name, set, uri, body) {
    const answer = await fetch(`${this.url(name)}/sets/${set}/destination/order?uri=${encodeURIComponent(uri)}`, {
      method: "PUT",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
    });
    if (!answer.ok) throw new Error(`${answer.status} ${await answer.text()}`);
    return answer.json();
  }

  async end() {
    await Promise.all([...this.processes.keys()].map((name) => this.stop(name, "SIGKILL")));
    if (!process.env.KEEP) rmSync(this.folder, { recursive: true, force: true });
  }

  #kill() {
    for (const child of this.processes.values()) child.kill("SIGKILL");
  }
}
