// An operator's order: what it will do, who gives it and why, and what becomes of it. A refusal is shown as it is, and force
// is a second step.

import { $, announce, mark, put, show } from "./page.dom.js";
import { bearer, faultOf } from "./page.stream.js";
import { MEANING, effect, orderWords, short } from "./page.words.js";

const TITLES = { ready: "Ready", drain: "Drain", maint: "Maint" };
/** Where the operator's name is kept, so that it is typed once. */
const NAME = "tandem-by";
/** So long, in milliseconds, an answer may take. */
const PATIENCE = 15_000;

/** Of a name's addresses one whose order stands for all: what somebody gave, rather than what a row says of one that is new. */
const stands = (addresses) => addresses.find((one) => one.order.by !== "table") ?? addresses[0];

export class OrderDialog {
  #model;
  #token;
  #refused;
  #given;
  /** The order that is open; while its answer is out it is busy. Another opening is another object. */
  #which = null;

  /** `refused()` asks for another token and is waited for; `given(story)` hears of an order that holds. */
  constructor(model, { token, refused, given }) {
    this.#model = model;
    this.#token = token;
    this.#refused = refused;
    this.#given = given;
    $("order-cancel").addEventListener("click", () => $("order").close());
    // It comes a moment after, when another may be open.
    $("order").addEventListener("close", () => $("order").open || (this.#which = null));
    $("order-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#give(false);
    });
    $("order-force").addEventListener("click", () => this.#give(true));
    $("order-deadline").addEventListener("change", () => this.#deadline());
    for (const id of ["order-reason", "order-by"]) {
      $(id).addEventListener("input", () => this.#fault(id, false));
    }
  }

  open(set, uri, order) {
    const one = stands(this.#find(set, uri));
    if (!one) return;
    this.#which = { set, uri, order, expected: one.order.version, busy: false };
    this.#wait(false);
    put($("order-title"), `${TITLES[order]} ${short(uri)}?`);
    put($("order-meaning"), MEANING[order]);
    put($("order-give"), TITLES[order]);
    show($("order-give"), true);
    put($("order-cancel"), "Cancel");
    $("order-give").classList.toggle("danger", order === "maint");
    $("order-reason").value = "";
    $("order-by").value = localStorage.getItem(NAME) ?? "";
    $("order-deadline").value = "";
    $("order-end").checked = false;
    this.#deadline();
    show($("order-until"), order === "drain");
    show($("order-by-label"), !this.#token());
    show($("order-moved"), false);
    this.#refuse("");
    for (const id of ["order-reason", "order-by"]) this.#fault(id, false);
    this.changed();
    $("order").showModal();
    $("order-reason").focus();
  }

  /** What the order would do is another, or somebody has given one meanwhile. */
  changed() {
    if (!this.#which) return;
    const { set, uri, order } = this.#which;
    const one = this.#find(set, uri)[0];
    if (!one) return this.#gone(uri);
    const all = this.#model.destinationsOf(set);
    const { text, grave } = effect(all, uri, order);
    put($("order-effect"), text);
    mark($("order-effect"), "data-kind", grave ? "down" : "none");
    const is = stands(this.#find(set, uri));
    // A look may be older than what the node has answered since: it takes nothing back.
    const since = (version) => Number.parseInt(version, 10) || 0;
    const { busy, expected } = this.#which;
    if (!busy && is.order.version !== expected && since(is.order.version) >= since(expected)) this.#moved(is);
  }

  #find(set, uri) {
    return this.#model.destinationsOf(set).filter((one) => one.uri === uri);
  }

  /** Its row went meanwhile: there is nothing left to order. */
  #gone(uri) {
    this.#which = null;
    announce(`${short(uri)} is not among the rows any more`);
    $("order").close();
  }

  #wait(busy) {
    this.#which.busy = busy;
    for (const id of ["order-give", "order-force"]) mark($(id), "aria-disabled", busy ? "true" : null);
  }

  /** Another order stands than when the dialog was opened: whoever goes on now has seen it. */
  #moved(one) {
    this.#which.expected = one.order.version;
    put($("order-moved"), `Someone changed it meanwhile: ${orderWords(one.order, this.#model.now()) || "ready, by its row"}.`);
    show($("order-moved"), true);
  }

  #deadline() {
    $("order-end").disabled = $("order-deadline").value === "";
    if ($("order-end").disabled) $("order-end").checked = false;
  }

  #fault(id, there) {
    show($(`${id}-fault`), there);
    mark($(id), "aria-invalid", there ? "true" : null);
  }

  #refuse(text, force) {
    show($("order-refusal"), text !== "");
    put($("order-refusal-text"), text);
    show($("order-force"), Boolean(force));
    if (force) put($("order-force"), `${TITLES[this.#which.order]} it all the same`);
  }

  async #give(force) {
    const which = this.#which;
    if (!which || which.busy) return;
    const { order, expected } = which;
    const [reason, by] = [$("order-reason").value.trim(), $("order-by").value.trim()];
    const named = Boolean(this.#token());
    this.#fault("order-reason", reason === "");
    this.#fault("order-by", !named && by === "");
    const missing = reason === "" ? "order-reason" : !named && by === "" ? "order-by" : null;
    if (missing) return $(missing).focus();
    const body = { order, reason, force };
    // A node that tells no version can't be held to one.
    if (expected) body.expected = expected;
    if (!named) body.by = by;
    const minutes = Number($("order-deadline").value);
    if (order === "drain" && minutes > 0) {
      body.deadline = new Date(this.#model.now() + minutes * 60_000).toISOString();
      body.then_end = $("order-end").checked;
    }
    this.#refuse("");
    this.#wait(true);
    const { status, story, fault } = await this.#ask(which, "/order", { method: "PUT", body: JSON.stringify(body) });
    if (story) this.#holds(story, by);
    // Closed meanwhile; what is open now is another order.
    if (this.#which !== which) return;
    this.#wait(false);
    if (story) this.#done(story);
    else if (status === 401) await this.#named(which, fault);
    else if (status === 412) await this.#again(which, fault);
    else {
      this.#refuse(fault, status === 409);
      if (status === 409) $("order-force").focus();
    }
  }

  /** What the node says of the destination, or why it does not. */
  async #ask({ set, uri }, path, { body, ...how } = {}) {
    const headers = { ...(body && { "Content-Type": "application/json" }), ...bearer(this.#token()) };
    const request = { ...how, body, headers, signal: AbortSignal.timeout(PATIENCE) };
    try {
      const answer = await fetch(`/sets/${set}/destination${path}?uri=${encodeURIComponent(uri)}`, request);
      return { status: answer.status, ...(answer.ok ? { story: await answer.json() } : { fault: await faultOf(answer) }) };
    } catch (fault) {
      const why = fault.name === "TimeoutError" ? "The node does not answer" : "The node can't be reached";
      return { fault: `${why}: nobody knows whether the order was heard.` };
    }
  }

  /** Whether or not anybody still looks at it. */
  #holds(story, by) {
    if (by) localStorage.setItem(NAME, by);
    this.#given(story);
  }

  #done(story) {
    if (!story.unkept) return $("order").close();
    this.#which = null;
    this.#refuse(`It holds now, but a restart would not know of it: ${story.unkept}`);
    show($("order-give"), false);
    put($("order-cancel"), "Close");
    $("order-cancel").focus();
  }

  /** The token says who it is. */
  async #named(which, fault) {
    await this.#refused(fault);
    if (this.#which !== which) return;
    show($("order-by-label"), false);
    this.#fault("order-by", false);
    this.#refuse("Nothing was done. Give the order once more, with the new token.");
  }

  /** The state that stands now, from the node itself: the stream may be a second behind. */
  async #again(which, fault) {
    const { story } = await this.#ask(which, "");
    if (this.#which !== which) return;
    const one = story && stands(story.addresses);
    if (one) this.#moved(one);
    this.#refuse(one ? "Nothing was done. Look at what stands now, and give the order once more if you still want it." : fault);
  }
}
