// Pictures of the page for docs/page/: a real pair, twelve stand-in servers in two sets, calls, and some trouble.
// screenshots.sh runs it in a network namespace with the addresses that stand here.

import { mkdirSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { browse, open } from "./browser.mjs";
import { Pair, until } from "./pair.mjs";

const OUT = new URL("../../docs/page/", import.meta.url).pathname;
/** Until the last minute is one of calls alone. */
const WARM = Number(process.env.WARM ?? 75) * 1000;

const TTS = Array.from({ length: 7 }, (_, nth) => ({ host: `10.129.39.${88 + Math.floor(nth / 2)}`, port: 7010 + (nth % 2), nth }));
const ASR = Array.from({ length: 5 }, (_, nth) => ({ host: `10.129.39.${101 + nth}`, port: 7010, nth }));
const at = ({ host, port }) => `${host}:${port}`;
const uri = (server) => `sip:${at(server)}`;

const rows = [
  ...TTS.map((server) => ({ set: 19, uri: uri(server), weight: server.nth < 2 ? 2 : 1, priority: 100, attrs: "tts=40", description: `tts rack ${1 + Math.floor(server.nth / 4)}, ${server.nth < 2 ? "large" : "small"}` })),
  ...ASR.map((server) => ({ set: 20, uri: uri(server), weight: 1, priority: 100, attrs: "", description: `asr rack 2, slot ${server.nth + 1}` })),
];
const set = (id, name, algorithm) => `
[[set]]
id = ${id}
name = "${name}"
algorithm = "${algorithm}"
[set.probe]
interval = "2s"
[set.capacity]
max_sessions = 60
[[rule]]
name = "${name}"
method = ["INVITE", "OPTIONS"]
user_agent = "OPENSIPS_${name.toUpperCase()}_MRCP_CLIENT"
set = ${id}
`;
const vip = (address) => `[[listener]]\nbind = "udp:${address}:8060"\nrole = "vip"\n`;

const pair = new Pair({
  sip: { a: "10.129.39.11", b: "10.129.39.12" },
  sets: set(19, "tts", "round_robin") + set(20, "asr", "least_load"),
  rows,
  more: { a: vip("10.129.39.201"), b: vip("10.129.39.202") },
});
const browser = await browse();
try {
  for (const server of [...TTS, ...ASR]) pair.server(at(server), "--slow", `${12 + 7 * server.nth}ms`);
  await pair.start();
  const calls = (name, node, kind, rate, hold) => pair.calls(name, node, "--user-agent", `OPENSIPS_${kind}_MRCP_CLIENT`, "--rate", rate, "--for", "10m", "--hold", hold);
  calls("tts a", "a", "TTS", "11", "9s");
  calls("asr a", "a", "ASR", "5", "12s");
  calls("tts b", "b", "TTS", "4", "8s");
  calls("asr b", "b", "ASR", "2", "10s");
  const page = await open(browser, pair.url("a"), { width: 1440, height: 900, theme: "light" });
  await sleep(WARM);
  await pair.order("a", 19, uri(TTS[3]), { order: "drain", reason: "new voices", by: "alice", deadline: new Date(Date.now() + 900_000).toISOString() });
  await pair.order("b", 20, uri(ASR[4]), { order: "maint", reason: "disk is being replaced", by: "bob" });
  await pair.stop(at(ASR[1]), "SIGKILL");
  await until("it is down", async () => (await pair.told("a", 20, uri(ASR[1]))).health === "down");
  await page.evaluate(() => document.activeElement?.blur());
  await page.mouse.move(2, 2);
  await sleep(9000);

  mkdirSync(OUT, { recursive: true });
  const shot = (name) => page.screenshot({ path: `${OUT}${name}.png` });
  const look = async (size, theme, width, height) => {
    await page.setViewportSize({ width, height });
    await page.emulateMedia({ colorScheme: theme, reducedMotion: "reduce" });
    await page.evaluate(() => scrollTo(0, 0));
    await sleep(500);
    await shot(`${size}-${theme}`);
  };
  for (const theme of ["light", "dark"]) {
    await look("wide", theme, 1440, 960);
    await look("phone", theme, 360, 780);
  }
  await page.setViewportSize({ width: 1440, height: 960 });
  await page.emulateMedia({ colorScheme: "light" });
  await page.getByRole("button", { name: at(ASR[1]), exact: true }).click();
  await page.getByRole("cell", { name: "fall" }).first().waitFor();
  await shot("destination-light");
  await page.keyboard.press("Escape");
  await page.emulateMedia({ colorScheme: "dark" });
  await page.getByRole("button", { name: `Drain ${at(TTS[0])}` }).click();
  await page.getByLabel("Reason").fill("new voices");
  await page.getByLabel("Your name").fill("alice");
  await page.getByLabel("Empty within").selectOption("15");
  await shot("order-dark");
} finally {
  await browser.close();
  await pair.end();
}
