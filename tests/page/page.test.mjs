// The page in a real browser, against a pair of real nodes with calls: tests/interop/page.sh runs it. Each test leaves the pair
// as it found it.

import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";
import axe from "axe-core";
import { browse, open } from "./browser.mjs";
import { Pair, until } from "./pair.mjs";

const uri = (port) => `sip:127.0.0.1:${port}`;
const PORTS = [7010, 7011, 7012];
/** So long may pass from when a node says something until its page does: it looks each second, and machines are slow. */
const SOON = 15_000;
const NASTY = `<b>rack</b> 3 & <img src="x" onerror="document.title='markup'">`;

const ROWS = PORTS.map((port) => ({ set: 19, uri: uri(port), description: port === 7012 ? NASTY : `rack ${port - 7009}` }));

const SETS = `
[[set]]
id = 19
name = "tts"
[set.probe]
interval = "500ms"
fast_interval = "200ms"
down_interval = "500ms"
timeout = "400ms"
[[rule]]
name = "tts"
method = ["INVITE", "OPTIONS"]
user_agent = "OPENSIPS_TTS_MRCP_CLIENT"
set = 19
`;

let pair, browser;
const pages = [];

before(async () => {
  pair = new Pair({ sets: SETS, rows: ROWS });
  for (const port of PORTS) pair.server(`127.0.0.1:${port}`);
  await pair.start();
  for (const name of pair.names) pair.calls(name, name, "--rate", "8", "--for", "30m", "--hold", "2s");
  browser = await browse();
});

after(async () => {
  await browser?.close();
  await pair?.end();
});

afterEach(async () => {
  const faults = pages.flatMap((page) => page.faults);
  for (const page of pages.splice(0)) await page.context().close();
  // The next one finds all in service.
  for (const port of PORTS) {
    const { order } = await pair.told("a", 19, uri(port));
    if (order.order !== "ready") await pair.order("a", 19, uri(port), { order: "ready", reason: "the test is over", by: "test" });
  }
  for (const name of pair.names) await until(`all is fit at ${name}`, async () => (await pair.get(name, "/sets/19")).fit === 3);
  assert.deepEqual(faults, []);
});

/** What a page that opens now is told of the sets: the node's last look at them. */
async function looked(name) {
  const end = new AbortController();
  const { body } = await fetch(`${pair.url(name)}/stream`, { signal: end.signal });
  let text = "";
  for await (const piece of body) {
    text += Buffer.from(piece).toString();
    if (/^event: ?sets\n.*\n\n/m.test(text)) break;
  }
  end.abort();
  return text;
}

/** The page of a node, once it is live. Its first look may be of a second ago: not until that has the orders which stand. */
async function live(name, options = {}) {
  await until("the node has looked", async () => {
    const [{ destinations }, look] = [await pair.get(name, "/sets/19"), await looked(name)];
    return destinations.every((one) => look.includes(`"version":"${one.order.version}"`));
  });
  const page = await open(browser, pair.url(name), options);
  page.setDefaultTimeout(20_000);
  pages.push(page);
  await page.locator("#live-words", { hasText: /^live$/ }).waitFor();
  return page;
}

const row = (page, port) => page.locator("tbody tr", { hasText: `127.0.0.1:${port}` });
const headline = (page, text) => page.locator("#headline", { hasText: text }).waitFor();

/** What the browser says of an answer that is a refusal; the page tells it in words. */
const expected = (page, status) => {
  const refusals = page.faults.filter((fault) => fault.includes(`status of ${status}`));
  assert.equal(refusals.length, 1, page.faults.join("\n"));
  page.faults = page.faults.filter((fault) => !refusals.includes(fault));
};

/** A promise that is kept from outside. */
function later() {
  let resolve;
  const promise = new Promise((keep) => (resolve = keep));
  return { promise, resolve };
}

async function fillOrder(page, reason, by = "alice") {
  await page.getByLabel("Reason").fill(reason);
  await page.getByLabel("Your name").fill(by);
}

test("it shows the node, the other node, the set and its calls", async () => {
  const page = await live("a");
  await headline(page, "3 of 3 fit");
  assert.equal(await page.locator("h1").innerText(), "Tandem a");
  await page.locator(".nodes li", { hasText: /^b/ }).getByText(/^heard \d/).waitFor();
  assert.equal(await page.locator("#figure-ready").innerText(), "ready");
  assert.equal(await page.locator("#wrong").isVisible(), false);
  // A third of the calls each, as soon as there have been some.
  await page.locator(".percent", { hasText: "33%" }).first().waitFor();
  await page.locator("#figure-calls", { hasText: /^[1-9]\d*\.\d\/s$/ }).waitFor();
  await page.locator("#figure-sessions-more", { hasText: "elsewhere" }).waitFor();
  assert.match(await page.title(), /^3 of 3 fit · a/);
});

test("what rows say is text and no markup", async () => {
  const page = await live("a");
  assert.equal(await row(page, 7012).locator(".what").innerText(), NASTY);
  await row(page, 7012).locator(".name").click();
  await page.locator("#panel dd", { hasText: NASTY }).waitFor();
  assert.match(await page.title(), /Tandem$/);
});

test("a server dies, and the page of either node shows it with the next look", async () => {
  const both = [await live("a"), await live("b")];
  await pair.stop("127.0.0.1:7011", "SIGKILL");
  const seen = async (page, name) => {
    await until(`${name} says that it is down`, async () => (await pair.told(name, 19, uri(7011))).health === "down");
    const began = Date.now();
    await row(page, 7011).locator(".state", { hasText: "down" }).waitFor();
    const took = Date.now() - began;
    assert.ok(took < SOON, `page of ${name}: ${took} ms`);
    await headline(page, "2 of 3 fit");
    await page.locator("#wrong li", { hasText: "127.0.0.1:7011 of set 19 (tts): down" }).waitFor();
    await page.locator("#events li", { hasText: "127.0.0.1:7011" }).first().waitFor();
    // Trouble stands first, once nobody has touched the page for a while.
    await until("it is the first row", async () => (await page.locator("tbody tr").first().innerText()).includes("7011"));
    await page.locator("#announcer", { hasText: "127.0.0.1:7011" }).waitFor({ state: "attached" });
  };
  await Promise.all([seen(both[0], "a"), seen(both[1], "b")]);
  pair.server("127.0.0.1:7011");
  for (const page of both) await headline(page, "3 of 3 fit");
});

test("drain by click: it asks first, wants a reason, and both nodes obey", async () => {
  const [page, other] = [await live("a"), await live("b")];
  await page.getByRole("button", { name: "Drain 127.0.0.1:7010" }).click();
  const dialog = page.getByRole("dialog", { name: "Drain 127.0.0.1:7010?" });
  await dialog.locator("#order-effect", { hasText: /^2 of 3 fit remain, (it has no session|\d+ sessions? stays?)\.$/ }).waitFor();
  const give = dialog.getByRole("button", { name: "Drain", exact: true });
  await give.click();
  await dialog.getByText("Say why, for those who will wonder.").waitFor();
  assert.equal((await pair.told("a", 19, uri(7010))).order.order, "ready");
  await fillOrder(page, "new voices");
  await dialog.getByLabel("Empty within").selectOption("15");
  await dialog.getByLabel("then end the sessions").check();
  await give.click();
  await dialog.waitFor({ state: "hidden" });
  const drains = async (name) => {
    const { order, fit } = await pair.told(name, 19, uri(7010));
    return order.order === "drain" && !fit && order;
  };
  for (const name of pair.names) {
    const { by, reason, deadline, then_end: thenEnd } = await until(`${name} drains it`, () => drains(name));
    assert.deepEqual([by, reason, thenEnd], ["alice", "new voices", true]);
    assert.ok(Math.abs(Date.parse(deadline) - Date.now() - 900_000) < 60_000, deadline);
  }
  for (const one of [page, other]) await row(one, 7010).getByText(/^drain by alice \d+s ago: new voices$/).waitFor();
});

test("the last one is refused, and force is a second step", async () => {
  const page = await live("a");
  for (const port of [7010, 7011]) await pair.order("a", 19, uri(port), { order: "drain", reason: "new voices", by: "bob", force: true });
  await headline(page, "1 of 3 fit");
  await page.getByText("Set 19 (tts) has one fit destination left").waitFor();
  await page.getByRole("button", { name: "Drain 127.0.0.1:7012" }).click();
  await page.locator("#order-effect", { hasText: "Nobody is left for new calls." }).waitFor();
  await fillOrder(page, "all of them");
  await page.getByRole("button", { name: "Drain", exact: true }).click();
  await page.getByRole("alert").getByText(/can't be taken out of set 19: 0 of 3 destinations would be fit, and calls would get its empty_reply$/).waitFor();
  assert.equal((await pair.told("a", 19, uri(7012))).order.order, "ready");
  expected(page, 409);
  await page.getByRole("button", { name: "Drain it all the same" }).click();
  await until("it drains", async () => (await pair.told("a", 19, uri(7012))).order.order === "drain");
  await headline(page, "0 of 3 fit");
  await page.getByText("Set 19 (tts) has nobody fit: new calls are refused").waitFor();
});

test("who is overtaken by another's order is shown it, and may give theirs again", async () => {
  const page = await live("a");
  await page.getByRole("button", { name: "Drain 127.0.0.1:7010" }).click();
  await fillOrder(page, "new voices");
  // Another one is quicker, by the blink of an eye.
  const overtake = async (route) => {
    await pair.order("a", 19, uri(7010), { order: "maint", reason: "disk", by: "bob" });
    await route.continue();
  };
  await page.route("**/order?*", overtake, { times: 1 });
  await page.getByRole("button", { name: "Drain", exact: true }).click();
  await page.getByText(/^Someone changed it meanwhile: maint by bob \d+s ago: disk\.$/).waitFor();
  await page.getByRole("alert").getByText(/^Nothing was done/).waitFor();
  assert.equal((await pair.told("a", 19, uri(7010))).order.by, "bob");
  expected(page, 412);
  await page.getByRole("button", { name: "Drain", exact: true }).click();
  await until("it drains", async () => (await pair.told("a", 19, uri(7010))).order.order === "drain");
});

test("an answer that comes late is shown in no other order's dialog", async () => {
  const page = await live("a");
  /** Gives an order by the page; its answer is there and held back until it is let through. */
  const giveAndClose = async (order, port) => {
    const [held, answered] = [later(), later()];
    await page.route("**/order?*", async (route) => {
      const response = await route.fetch();
      answered.resolve(response.status());
      await held.promise;
      // The page may have given it up.
      await route.fulfill({ response }).catch(() => {});
    }, { times: 1 });
    await page.getByRole("button", { name: `${order} 127.0.0.1:${port}` }).click();
    await fillOrder(page, "in a hurry");
    await page.locator("#order-give").click();
    const status = await answered.promise;
    await page.keyboard.press("Escape");
    await page.locator("#order").waitFor({ state: "hidden" });
    return { status, letThrough: async () => {
      const over = page.waitForEvent("requestfinished", (request) => request.url().includes("/order?"));
      held.resolve();
      await over;
      await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
    } };
  };
  const untouched = async (name) => {
    assert.equal(await page.getByRole("dialog", { name }).isVisible(), true);
    for (const id of ["#order-refusal", "#order-force", "#order-moved"]) assert.equal(await page.locator(id).isVisible(), false, id);
    assert.equal(await page.evaluate(() => document.activeElement.id), "order-reason");
  };

  const done = await giveAndClose("Drain", 7010);
  assert.equal(done.status, 200);
  await page.getByRole("button", { name: "Drain 127.0.0.1:7011" }).click();
  await done.letThrough();
  await untouched("Drain 127.0.0.1:7011?");
  await page.keyboard.press("Escape");
  await pair.order("a", 19, uri(7011), { order: "drain", reason: "new voices", by: "bob", force: true });
  await headline(page, "1 of 3 fit");

  const refused = await giveAndClose("Drain", 7012);
  assert.equal(refused.status, 409);
  // The other one's answer is still out: it hinders nobody.
  await page.getByRole("button", { name: "Ready 127.0.0.1:7011" }).click();
  await fillOrder(page, "back");
  await page.locator("#order-give").click();
  await page.locator("#order").waitFor({ state: "hidden" });
  await headline(page, "2 of 3 fit");
  await page.getByRole("button", { name: "Ready 127.0.0.1:7010" }).click();
  await refused.letThrough();
  await untouched("Ready 127.0.0.1:7010?");
  assert.equal((await pair.told("a", 19, uri(7012))).order.order, "ready");
  expected(page, 409);
});

test("an order's dialog goes with its row", async () => {
  const page = await live("a");
  await page.getByRole("button", { name: "Drain 127.0.0.1:7011" }).click();
  await page.locator("#order-effect", { hasText: "2 of 3 fit remain" }).waitFor();
  pair.rows(ROWS.filter((one) => one.uri !== uri(7011)));
  await page.locator("#order").waitFor({ state: "hidden" });
  await headline(page, "2 of 2 fit");
  pair.rows(ROWS);
  await headline(page, "3 of 3 fit");
});

test("by keyboard alone a destination is put to maint", async () => {
  const page = await live("a");
  const focused = () =>
    page.evaluate(() => {
      const { innerText, id, tagName } = document.activeElement;
      const { outlineStyle, outlineWidth } = getComputedStyle(document.activeElement);
      return { text: innerText, id, tagName, seen: outlineStyle !== "none" && outlineWidth !== "0px" };
    });
  const tabTo = async (what, found) => {
    for (let presses = 0; presses < 40; presses += 1) {
      await page.keyboard.press("Tab");
      const at = await focused();
      // At the end of the page is the browser's own.
      assert.ok(at.seen || at.tagName === "BODY", `the focus is not to be seen on ${JSON.stringify(at)}`);
      if (found(at)) return at;
    }
    throw new Error(`no Tab leads to ${what}`);
  };
  await page.keyboard.press("Tab");
  assert.equal((await focused()).text, "To the sets");
  await tabTo("the row", (at) => at.text === "127.0.0.1:7011");
  await page.keyboard.press("Enter");
  await page.getByRole("dialog", { name: uri(7011) }).waitFor();
  await tabTo("the order", (at) => at.text === "Maint…");
  await page.keyboard.press("Space");
  await page.getByRole("dialog", { name: "Maint 127.0.0.1:7011?" }).waitFor();
  assert.equal((await focused()).id, "order-reason");
  await page.keyboard.type("disk is being replaced");
  await page.keyboard.press("Tab");
  await page.keyboard.type("carol");
  await tabTo("the button", (at) => at.id === "order-give");
  await page.keyboard.press("Enter");
  for (const name of pair.names) {
    const order = await until(`${name} obeys`, async () => {
      const { order: all } = await pair.told(name, 19, uri(7011));
      return all.order === "maint" && all;
    });
    assert.deepEqual([order.by, order.reason], ["carol", "disk is being replaced"]);
  }
  await page.getByRole("dialog", { name: "Maint 127.0.0.1:7011?" }).waitFor({ state: "hidden" });
  await page.locator("#panel h3", { hasText: "order maint" }).waitFor();
  await page.keyboard.press("Escape");
  await page.locator("#panel").waitFor({ state: "hidden" });
  assert.equal((await focused()).text, "127.0.0.1:7011");
  // The filter is one key away.
  await page.keyboard.press("/");
  await page.keyboard.type("carol");
  await page.locator("#filter-count", { hasText: "1 of 3 shown" }).waitFor();
});

test("what is not fit is found among the others", async () => {
  const page = await live("a");
  await pair.order("a", 19, uri(7012), { order: "drain", reason: "new voices", by: "bob" });
  await headline(page, "2 of 3 fit");
  await page.getByLabel("Only what is not fit").check();
  // Another may be out for a moment yet, by the test before.
  await until("the drained one alone is shown", async () => (await page.locator("tbody tr:visible .name").allInnerTexts()).join() === "127.0.0.1:7012");
  await page.getByLabel("Only what is not fit").uncheck();
  await page.getByLabel("Filter", { exact: true }).fill("rack 2");
  assert.deepEqual(await page.locator("tbody tr:visible .name").allInnerTexts(), ["127.0.0.1:7011"]);
  await page.getByLabel("Filter", { exact: true }).fill("");
  await page.getByLabel("Sort").selectOption("as the rows");
  await until("rows stand as in the table", async () => (await page.locator("tbody tr .name").allInnerTexts()).join() === PORTS.map((port) => `127.0.0.1:${port}`).join());
});

test("no barrier that axe knows, in both themes, at both widths, with dialogs", async () => {
  await pair.order("a", 19, uri(7011), { order: "drain", reason: "new voices", by: "bob" });
  await pair.order("a", 19, uri(7012), { order: "maint", reason: "disk", by: "bob", force: true });
  for (const theme of ["light", "dark"]) {
    for (const [width, height] of [[1440, 900], [360, 740]]) {
      const page = await live("a", { theme, width, height });
      await headline(page, "1 of 3 fit");
      const check = async (what) => {
        await page.evaluate(axe.source);
        const { violations, passes } = await page.evaluate(() => axe.run());
        const told = violations.flatMap(({ id, nodes }) => nodes.map(({ html, failureSummary }) => `${id}: ${html}: ${failureSummary}`));
        assert.deepEqual(told, [], `${what}, ${theme}, ${width} px`);
        assert.ok(passes.some(({ id }) => id === "color-contrast"), "contrast was looked at");
        const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
        assert.ok(overflow <= 0, `${what} is ${overflow} px too wide at ${width} px`);
      };
      await check("the page");
      await row(page, 7010).locator(".name").click();
      await page.locator("#panel td", { hasText: "alive" }).first().waitFor();
      await check("a destination");
      await page.locator("#panel").getByRole("button", { name: "Drain…" }).click();
      await page.getByRole("button", { name: "Drain", exact: true }).click();
      await page.getByText("Say why, for those who will wonder.").waitFor();
      await check("an order");
      await page.context().close();
      assert.deepEqual(page.faults, []);
      pages.splice(pages.indexOf(page), 1);
    }
  }
});

test("the theme is kept, and nothing moves for who does not want that", async () => {
  const page = await live("a", { theme: "light" });
  const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const light = await ground();
  await page.getByRole("button", { name: "Theme: auto" }).click();
  await page.getByRole("button", { name: "Theme: light" }).click();
  await page.getByRole("button", { name: "Theme: dark" }).waitFor();
  const dark = await ground();
  assert.notEqual(dark, light);
  await page.reload();
  await page.getByRole("button", { name: "Theme: dark" }).waitFor();
  assert.equal(await ground(), dark);
  await page.emulateMedia({ reducedMotion: "reduce" });
  assert.equal(await page.evaluate(() => getComputedStyle(document.querySelector(".lamp")).animationName), "none");
});

test("a node restarts: the page says that it is not live, and comes back by itself", async () => {
  const [page, other] = [await live("b"), await live("a")];
  await page.evaluate(() => (globalThis.sameDocument = true));
  // With a dialog over the panel, both of which go on showing what was heard last.
  await row(page, 7010).locator(".name").click();
  await page.locator("#panel").getByRole("button", { name: "Drain…" }).click();
  await page.locator("#order-effect", { hasText: "2 of 3 fit remain" }).waitFor();
  await pair.stop("b");
  await page.locator("#live-words", { hasText: /^not live since \d+s: .+; next try in \ds$/ }).waitFor();
  assert.equal(await page.locator("body").getAttribute("data-live"), "no");
  assert.equal(await page.locator("#live-state").innerText().then((text) => text.startsWith("not live")), true);
  for (const id of ["#panel", "#order"]) await page.locator(`${id} .stale`, { hasText: "Not live" }).waitFor();
  assert.equal(await page.title(), "not live · b · Tandem");
  // Whoever took it away says so; whoever did not is told of it until it is back.
  await other.getByRole("button", { name: /^Node b is not heard since \d+s: press here if it left on purpose$/ }).click();
  await other.locator("#wrong li", { hasText: "is not heard since" }).waitFor({ state: "detached" });
  await other.locator(".nodes li", { hasText: /^b/ }).waitFor({ state: "detached" });
  await pair.startNode("b");
  await page.locator("#live-words", { hasText: /^live$/ }).waitFor();
  for (const id of ["#panel", "#order"]) await page.locator(`${id} .stale`).waitFor({ state: "hidden" });
  for (const id of ["#order", "#panel"]) {
    await page.keyboard.press("Escape");
    await page.locator(id).waitFor({ state: "hidden" });
  }
  await headline(page, "3 of 3 fit");
  assert.match(await page.title(), /^3 of 3 fit · b/);
  await page.locator("#events li", { hasText: "start" }).waitFor();
  await page.locator(".nodes li", { hasText: /^a/ }).getByText(/^heard \d/).waitFor();
  assert.equal(await page.evaluate(() => globalThis.sameDocument), true);
  await other.locator("#wrong").waitFor({ state: "hidden" });
  // A browser complains of each try that finds nobody.
  page.faults = page.faults.filter((fault) => !/ERR_(CONNECTION|INCOMPLETE|EMPTY)/.test(fault));
});
