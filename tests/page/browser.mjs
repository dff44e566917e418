// Debian's Chromium, and the page in it. What the page must never do is noted for each.

import { readFileSync } from "node:fs";
import { chromium } from "playwright-core";

export const browse = () =>
  chromium.launch({ executablePath: "/usr/bin/chromium", args: ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"] });

/**
 * The page of a node. `page.faults` gathers what it complains of, and requests that leave for another host; `token` and
 * `theme` are those that it starts with.
 */
export async function open(browser, url, { width = 1280, height = 900, theme = "light", name } = {}) {
  const context = await browser.newContext({ viewport: { width, height }, colorScheme: theme });
  const page = await context.newPage();
  page.faults = [];
  page.on("console", (message) => ["error", "warning"].includes(message.type()) && page.faults.push(`console: ${message.text()}`));
  page.on("pageerror", (fault) => page.faults.push(`script: ${fault.message}`));
  page.on("request", (request) => {
    const to = new URL(request.url());
    if (to.protocol !== "data:" && to.origin !== url) page.faults.push(`request: ${request.url()}`);
  });
  await page.addInitScript(() => {
    globalThis.measures = [];
    new PerformanceObserver((list) => measures.push(...list.getEntries().map(({ name, duration }) => ({ name, duration })))).observe({ entryTypes: ["measure"] });
    document.addEventListener("securitypolicyviolation", (event) => console.error(`policy: ${event.violatedDirective} ${event.blockedURI}`));
  });
  if (process.env.PAGE_FILES) await fromDisk(page, url, process.env.PAGE_FILES);
  if (name) await page.addInitScript((by) => localStorage.setItem("tandem-by", by), name);
  await page.goto(url);
  return page;
}

/** While the page is written: its files as they stand there, instead of those in the program. */
async function fromDisk(page, url, folder) {
  const kinds = { html: "text/html", css: "text/css", js: "text/javascript" };
  await page.context().route(new RegExp(`^${url}/(page\\.[a-z.]+)?$`), async (route) => {
    const file = new URL(route.request().url()).pathname.slice(1) || "index.html";
    const headers = (await (await fetch(url)).headers).get("content-security-policy");
    await route.fulfill({ body: readFileSync(`${folder}/${file}`), contentType: kinds[file.split(".").at(-1)], headers: { "Content-Security-Policy": headers ?? "" } });
  });
}
