// A node that wants tokens: the page asks for one, keeps it in its tab alone, and gives orders in its name.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import { browse, open } from "./browser.mjs";
import { Pair, until } from "./pair.mjs";

const TOKENS = { alice: ["operate", "a".repeat(40)], guest: ["read", "g".repeat(40)] };
const tables = Object.entries(TOKENS).map(([name, [role, token]]) => `[[http.token]]\nname = "${name}"\nrole = "${role}"\nsha256 = "${createHash("sha256").update(token).digest("hex")}"\n`);
const uri = (port) => `sip:127.0.0.1:${port}`;

test("a wrong token is refused, the right one gives orders in its name, and is forgotten when it should be", async () => {
  const rows = [7010, 7011].map((port) => ({ set: 19, uri: uri(port) }));
  const pair = new Pair({ nodes: ["a"], sets: `${tables.join("")}[[set]]\nid = 19\nname = "tts"\n`, rows });
  pair.token = TOKENS.alice[1];
  const browser = await browse();
  try {
    await pair.start();
    const page = await open(browser, pair.url("a"));
    page.setDefaultTimeout(20_000);
    const dialog = page.getByRole("dialog", { name: "This node wants a token" });
    const give = async (token) => {
      await dialog.waitFor();
      await page.getByLabel("Token", { exact: true }).fill(token);
      await page.keyboard.press("Enter");
    };
    const live = () => page.locator("#live-words", { hasText: /^live$/ }).waitFor();
    await give("w".repeat(40));
    await dialog.getByText(/^The one that was used is refused/).waitFor();
    assert.equal(await page.locator("#headline").innerText(), "No data yet");
    // Escape hides nothing that is wanted.
    await page.keyboard.press("Escape");
    await give(TOKENS.guest[1]);
    await live();
    await page.getByRole("button", { name: "Drain 127.0.0.1:7010" }).click();
    assert.equal(await page.getByLabel("Your name").isVisible(), false);
    await page.getByLabel("Reason").fill("new voices");
    await page.getByRole("button", { name: "Drain", exact: true }).click();
    await page.getByRole("alert").getByText(/operate/).waitFor();
    assert.equal((await pair.told("a", 19, uri(7010))).order.order, "ready");
    await page.keyboard.press("Escape");
    await page.getByRole("button", { name: "Forget the token" }).click();

    await give(TOKENS.alice[1]);
    await live();
    const kept = await page.evaluate(() => ({ tab: Object.values({ ...sessionStorage }), all: Object.values({ ...localStorage }), cookie: document.cookie }));
    assert.deepEqual(kept, { tab: [TOKENS.alice[1]], all: [], cookie: "" });
    await page.getByRole("button", { name: "Drain 127.0.0.1:7010" }).click();
    await page.getByLabel("Reason").fill("new voices");
    await page.getByRole("button", { name: "Drain", exact: true }).click();
    const { by } = await until("it drains", async () => {
      const { order } = await pair.told("a", 19, uri(7010));
      return order.order === "drain" && order;
    });
    assert.equal(by, "alice");
    await page.getByRole("button", { name: "Ready 127.0.0.1:7010" }).waitFor();
    await page.getByRole("button", { name: "127.0.0.1:7010", exact: true }).click();
    await page.locator("#panel dd", { hasText: "drain by alice" }).waitFor();
    // Nothing happens any more, and its age grows all the same.
    const age = async () => Number((await page.locator("#panel dd", { hasText: "drain by alice" }).innerText()).match(/\((\d+)s ago\)/)[1]);
    const before = await age();
    await until("the age is another", async () => (await age()) >= before + 2);
    await page.keyboard.press("Escape");

    // Another tab knows nothing of it.
    const tab = await page.context().newPage();
    await tab.goto(pair.url("a"));
    await tab.getByRole("dialog", { name: "This node wants a token" }).waitFor();
    // A browser complains of each refusal.
    assert.deepEqual(page.faults.filter((fault) => !/status of 40[13]/.test(fault)), []);
  } finally {
    await browser.close();
    await pair.end();
  }
});
