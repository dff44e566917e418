// An operator's order: what it will do, who gives it and why, and what becomes of it. A refusal is shown as it is, and force
// is a second step.

import { $, mark, put, show } from "./page.dom.js";
import { bearer, faultOf } from "./page.stream.js";
import { MEANING, effect, orderWords, short } from "./page.words.js";

const TITLES = { ready: "Ready", drain: "Drain", maint: "Maint" };
/** Where the operator's name is kept, so that it is typed once. */
const NAME = "tandem-by";

/** Of a name's addresses one whose order stands for all: what somebody gave, rather than what a row says of one that is new. */
const standing = (addresses) => addresses.find((one) => one.order.by !== "table") ?? addresses[0];

export class OrderDialog {
  #model;
  #token;
  #refused;
  #given;
  #which = null;
  #busy = false;

  /** `refused()` asks for another token and is waited for; `given(story)` hears of an order that holds. */
  constructor(model, { token, refused, given }) {
    this.#model = model;
    this.#token = token;
    this.#refused = refused;
    this.#given = given;
    $("order-cancel").addEventListener("click", () => $("order").close());
    $("order").addEventListener("close", () => (this.#which = null));
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
    const one = standing(this.#find(set, uri));
    if (!one) return;
    this.#which = { set, uri, order, expected: one.order.version };
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
    const all = this.#model.destinationsOf(set);
    const { text, grave } = effect(all, uri, order);
    put($("order-effect"), text);
    mark($("order-effect"), "data-kind", grave ? "down" : "none");
    const one = standing(this.#find(set, uri));
    if (one && !this.#busy && one.order.version !== this.#which.expected) this.#moved(one);
  }

  #find(set, uri) {
    return this.#model.destinationsOf(set).filter((one) => one.uri === uri);
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
    if (this.#busy) return;
    const { set, uri, order, expected } = this.#which;
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
    this.#busy = true;
    this.#refuse("");
    for (const button of $("order").querySelectorAll("button")) mark(button, "aria-disabled", "true");
    const answer = await fetch(`/sets/${set}/destination/order?uri=${encodeURIComponent(uri)}`, {
      method: "PUT",
      headers: { "Content-Type": "application/json", ...bearer(this.#token()) },
      body: JSON.stringify(body),
    }).catch(() => null);
    const story = answer?.ok ? await answer.json() : null;
    const fault = story ? "" : answer ? await faultOf(answer) : "The node can't be reached: nobody knows whether the order was heard.";
    this.#busy = false;
    for (const button of $("order").querySelectorAll("button")) mark(button, "aria-disabled", null);
    // Closed meanwhile.
    if (!this.#which) return;
    if (story) this.#done(story, by);
    else if (answer?.status === 401) await this.#named(fault);
    else if (answer?.status === 412) await this.#again(fault);
    else {
      this.#refuse(fault, answer?.status === 409);
      if (answer?.status === 409) $("order-force").focus();
    }
  }

  #done(story, by) {
    if (by) localStorage.setItem(NAME, by);
    this.#given(story);
    if (!story.unkept) return $("order").close();
    this.#which = null;
    this.#refuse(`It holds now, but a restart would not know of it: ${story.unkept}`);
    show($("order-give"), false);
    put($("order-cancel"), "Close");
    $("order-cancel").focus();
  }

  /** The token says who it is. */
  async #named(fault) {
    await this.#refused(fault);
    show($("order-by-label"), false);
    this.#fault("order-by", false);
    if (this.#which) this.#refuse("Nothing was done. Give the order once more, with the new token.");
  }

  /** The state that stands now, from the node itself: the stream may be a second behind. */
  async #again(fault) {
    const { set, uri } = this.#which;
    const answer = await fetch(`/sets/${set}/destination?uri=${encodeURIComponent(uri)}`, { headers: bearer(this.#token()) }).catch(() => null);
    const one = answer?.ok ? standing((await answer.json()).addresses) : null;
    if (!this.#which) return;
    if (one) this.#moved(one);
    this.#refuse(one ? "Nothing was done. Look at what stands now, and give the order once more if you still want it." : fault);
  }
}
