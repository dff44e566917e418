// A thousand destinations in ten sets: the page shows them, and what one of them does costs no more than that one's row.

import assert from "node:assert/strict";
import { test } from "node:test";
import { browse, open } from "./browser.mjs";
import { Pair, until } from "./pair.mjs";

const SETS = Array.from({ length: 10 }, (_, nth) => `[[set]]\nid = ${nth + 1}\nname = "rack${nth + 1}"\n`).join("");
const uri = (nth) => `sip:127.1.${Math.floor(nth / 100)}.${1 + (nth % 100)}:7010`;
const rows = (weight) => Array.from({ length: 1000 }, (_, nth) => ({ set: 1 + Math.floor(nth / 100), uri: uri(nth), weight, description: `slot ${nth}` }));

/** Milliseconds of script, on a machine that does other things too. */
const BOUNDS = { whole: 3000, one: 150 };

const median = (values) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];

test("a thousand destinations are live, and one that changes touches its row alone", async () => {
  const pair = new Pair({ nodes: ["a"], sets: SETS, rows: rows(1) });
  const browser = await browse();
  try {
    await pair.start();
    const page = await open(browser, pair.url("a"));
    page.setDefaultTimeout(30_000);
    await page.locator("#headline", { hasText: "1,000 of 1,000 fit" }).waitFor();
    assert.equal(await page.locator("tbody tr").count(), 1000);
    // Which rows change what they say of fitness, and how often.
    await page.evaluate(() => {
      globalThis.touched = [];
      const row = (node) => (node.nodeType === Node.TEXT_NODE ? node.parentElement : node)?.closest("tbody tr")?.querySelector(".name").textContent;
      const seen = new MutationObserver((records) =>
        touched.push(...records.filter(({ target }) => (target.parentElement ?? target).closest(".state, .order, .act")).map(({ target }) => row(target))));
      seen.observe(document.getElementById("sets"), { subtree: true, characterData: true, childList: true });
    });
    const moved = [];
    for (let nth = 0; nth < 1000; nth += 100) {
      await pair.order("a", 1 + nth / 100, uri(nth + 7), { order: "drain", reason: "new voices", by: "alice" });
      const name = uri(nth + 7).replace("sip:", "");
      await page.locator("tbody tr", { hasText: name }).locator(".state", { hasText: "order drain" }).waitFor();
      moved.push(name);
    }
    await page.locator("#headline", { hasText: "990 of 1,000 fit" }).waitFor();
    const touched = await page.evaluate(() => globalThis.touched);
    assert.deepEqual([...new Set(touched)].sort(), [...moved].sort());

    // All of them at once: another weight in every row.
    pair.rows(rows(3));
    await until("the rows are in place", async () => (await pair.told("a", 10, uri(999))).weight === 3);
    await page.locator("tbody tr", { hasText: uri(999).replace("sip:", "") }).locator(".weight", { hasText: "weight 3" }).waitFor();

    // The filter finds one among them.
    await page.getByLabel("Filter", { exact: true }).fill("slot 999");
    await page.locator("#filter-count", { hasText: "1 of 1,000 shown" }).waitFor();
    await page.getByLabel("Filter", { exact: true }).fill("");
    await page.getByLabel("Only what is not fit").check();
    await page.locator("#filter-count", { hasText: "10 of 1,000 shown" }).waitFor();

    const measures = await page.evaluate(() => globalThis.measures);
    const took = (name) => measures.filter((one) => one.name === name).map((one) => one.duration);
    const [whole, ones, ticks] = [took("update-whole"), took("update"), took("tick")];
    const [one, tick] = [median(ones), median(ticks)];
    console.log(`1,000 destinations, script: ${whole[0].toFixed(0)} ms at first; ${one.toFixed(1)} ms an update (${ones.length}); ${tick.toFixed(1)} ms each second`);
    assert.ok(whole[0] < BOUNDS.whole, `${whole[0]} ms at first`);
    assert.ok(one < BOUNDS.one && tick < BOUNDS.one, `${one} ms an update, ${tick} ms each second`);
    assert.ok(one < whole[0] / 2, `an update of one takes ${one} ms, of all ${whole[0]} ms`);
    assert.deepEqual(page.faults, []);
  } finally {
    await browser.close();
    await pair.end();
  }
});
