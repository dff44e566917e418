// The operator's page: hears the stream, and shows what of it is new, once a frame.

import { $, mark, put, show } from "./page.dom.js";
import { Model } from "./page.model.js";
import { OrderDialog } from "./page.order.js";
import { Panel } from "./page.panel.js";
import { SetsView } from "./page.sets.js";
import { follow } from "./page.stream.js";
import { showEvents, showGlance, showNodes, showTitle, showWrong } from "./page.whole.js";
import { span } from "./page.words.js";

const TOKEN = "tandem-token";
const THEME = "tandem-theme";
const THEMES = ["auto", "light", "dark"];

const model = new Model();
const token = () => sessionStorage.getItem(TOKEN);

const order = new OrderDialog(model, { token, refused: askForToken, given: () => panel.again() });
const giveOrder = (set, uri, what) => order.open(set, uri, what);
const panel = new Panel(model, { token, onOrder: giveOrder });
const open = (set, uri) => panel.open(set, uri);
const sets = new SetsView(model, { onOpen: open, onOrder: giveOrder });

// What is new since the last frame.
let news = null;

function hear(event, value) {
  const heard = model.hear(event, value);
  if (!news) {
    news = heard;
    // A page that nobody sees has no frames, and its title is seen.
    if (document.hidden) setTimeout(update, 0);
    else requestAnimationFrame(update);
    return;
  }
  heard.keys.forEach((key) => news.keys.add(key));
  heard.sets.forEach((set) => news.sets.add(set));
  news.events.push(...heard.events);
  news.whole ||= heard.whole;
  news.node ||= heard.node;
  // What was told of another start is no news any more; it comes first of all.
  if (heard.another) Object.assign(news, { another: true, events: [] });
}

/** Shows what is new; how long that takes is measured, and the last of it kept (`performance.getEntriesByName("update")`). */
function update() {
  if (!news) return;
  const { keys, sets: numbers, whole, node, events, another } = news;
  news = null;
  const began = performance.now();
  if (whole) sets.whole();
  else if (keys.size + numbers.size > 0) sets.changed(keys, numbers);
  if (events.length > 0 || another) showEvents(model, events, another);
  if (node) showNodes(model);
  showGlance(model);
  showTitle(model, isLive);
  showWrong(model, open);
  panel.changed(whole ? model.all.keys() : keys);
  order.changed();
  measure(whole ? "update-whole" : "update", began);
}

function measure(name, start) {
  performance.clearMeasures(name);
  performance.measure(name, { start, end: performance.now() });
}

/** Ages and rates grow without anybody telling. */
function tick() {
  showLive();
  if (document.hidden || !isLive) return;
  const began = performance.now();
  sets.tick();
  panel.tick();
  showGlance(model);
  showNodes(model);
  showWrong(model, open);
  measure("tick", began);
}

// How it stands with the stream.
let isLive = false;
let standing = { why: "connecting" };
let lastLive = null;

function stands(now) {
  if (isLive && !now.live) {
    lastLive = Date.now();
    model.lost();
  }
  isLive = now.live;
  standing = now;
  document.body.dataset.live = isLive ? "yes" : lastLive ? "no" : "never";
  for (const line of document.querySelectorAll(".stale")) show(line, !isLive);
  show($("retry"), !isLive && Boolean(now.next));
  showLive();
}

function showLive() {
  const next = standing.next ? `; next try in ${span(standing.next - Date.now() + 999)}` : "";
  const since = lastLive ? `not live since ${span(Date.now() - lastLive)}` : "not live";
  put($("live-state"), isLive ? "live" : `not live: ${standing.why}`);
  showTitle(model, isLive);
  put($("live-words"), isLive ? "live" : `${since}: ${standing.why}${next}`);
}

let asking = null;

/** Waits until somebody has given one; all who ask meanwhile wait for the same. */
function askForToken(why) {
  if (asking) return asking;
  put($("token-why"), token() ? `The one that was used is refused: ${why}` : why);
  sessionStorage.removeItem(TOKEN);
  showToken();
  $("token-value").value = "";
  $("token").showModal();
  asking = new Promise((done) => {
    $("token-form").onsubmit = (event) => {
      event.preventDefault();
      const value = $("token-value").value.trim();
      if (value === "") return $("token-value").focus();
      sessionStorage.setItem(TOKEN, value);
      $("token-value").value = "";
      asking = null;
      $("token").close();
      showToken();
      done();
    };
  });
  return asking;
}

const showToken = () => show($("forget"), Boolean(token()));

function showTheme() {
  const theme = localStorage.getItem(THEME) ?? "auto";
  mark(document.documentElement, "data-theme", theme === "auto" ? null : theme);
  put($("theme"), `Theme: ${theme}`);
}

$("theme").addEventListener("click", () => {
  const theme = localStorage.getItem(THEME) ?? "auto";
  localStorage.setItem(THEME, THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length]);
  showTheme();
});
$("forget").addEventListener("click", () => {
  sessionStorage.removeItem(TOKEN);
  location.reload();
});
// There is no going on without one; Escape would only hide that.
$("token").addEventListener("cancel", (event) => event.preventDefault());
$("filter").addEventListener("submit", (event) => event.preventDefault());
$("filter").addEventListener("input", () => sets.filterBy($("filter-text").value, $("filter-unfit").checked));
$("sort").addEventListener("change", () => sets.sortBy($("sort").value));
document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, select, dialog");
  if (event.key !== "/" || typing || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  $("filter-text").focus();
});

showTheme();
showToken();
const hurry = follow({ token, refused: askForToken, dated: (at) => model.dated(at), said: hear, stands });
$("retry").addEventListener("click", hurry);
addEventListener("online", hurry);
document.addEventListener("visibilitychange", () => document.hidden || hurry());
setInterval(tick, 1000);
