//! What tools for OpenSIPS and Kamailio ask and order, at a real node.

use serde_json::{Value, json};
use tandem::config::Config;
use tandem::edge::http::{ReloadOrder, Role, Token};
use tandem::engine::dispatch::{Order, Standing};
use tandem::server::Node;
use tokio::task::spawn_blocking;

use crate::node::servers;
use crate::orders::Bench;
use crate::scratch::{Folder, anew, http_as, http_with, insert, until};

impl Bench {
    /// What a method answers.
    async fn call(&self, path: &'static str, method: &str, params: Value) -> (u16, Value) {
        let body = json!({ "jsonrpc": "2.0", "id": "7", "method": method, "params": params });
        let (status, reply) = self.ask("POST", path, &body).await;
        assert_eq!((&reply["jsonrpc"], &reply["id"]), (&json!("2.0"), &json!("7")), "{reply}");
        (status, reply)
    }

    /// Its result.
    async fn result(&self, path: &'static str, method: &str, params: Value) -> Value {
        let (status, reply) = self.call(path, method, params).await;
        assert_eq!((status, reply.get("error")), (200, None), "{method}");
        reply["result"].clone()
    }

    async fn mi(&self, method: &str, params: Value) -> Value {
        self.result("/mi", method, params).await
    }

    async fn rpc(&self, method: &str, params: Value) -> Value {
        self.result("/RPC", method, params).await
    }

    /// The states of set 19 as OpenSIPS tells them.
    async fn states(&self) -> Vec<Value> {
        let list = self.mi("ds_list", json!({})).await;
        let set = &list["PARTITIONS"][0]["SETS"][0];
        assert_eq!(set["id"], 19);
        set["Destinations"].as_array().expect("a list").iter().map(|one| one["state"].clone()).collect()
    }

    /// Its flags as Kamailio tells them.
    async fn flags(&self) -> Vec<Value> {
        let list = self.rpc("dispatcher.list", json!(["short"])).await;
        let targets = list["RECORDS"][0]["SET"]["TARGETS"].as_array().expect("a list").clone();
        targets.into_iter().map(|one| one["DEST"]["FLAGS"].clone()).collect()
    }

    async fn standing(&self, nth: usize) -> Standing {
        let snapshot = self.node.server().snapshot().await.expect("it runs");
        snapshot.sets[0].destinations[nth].standing.clone()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_destinations_are_listed_as_opensips_does() {
    let bench = Bench::start().await;
    let destination = |nth: usize, full: bool| {
        let uri = bench.uri(nth);
        let address = uri.trim_start_matches("sip:").to_owned();
        let mut told = json!({
            "URI": uri, "state": "Active", "first_hit_counter": 0, "attr": "pstn=100", "resolved_addresses": [address],
        });
        if full {
            (told["weight"], told["priority"], told["description"]) = (json!(1), json!(100), json!("TTS"));
        }
        told
    };
    let list = |full| {
        let destinations = [destination(0, full), destination(1, full)];
        json!({ "PARTITIONS": [{ "name": "default", "SETS": [{ "id": 19, "Destinations": destinations }] }] })
    };
    for method in ["ds_list", "dispatcher:list"] {
        assert_eq!(bench.mi(method, json!({})).await, list(false));
        assert_eq!(bench.mi(method, json!({ "full": "1" })).await, list(true));
        assert_eq!(bench.mi(method, json!({ "full": 0, "partition": "default" })).await, list(false));
        assert_eq!(bench.mi(method, json!([1, "default"])).await, list(true));
    }
    bench.node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn states_are_set_as_opensips_does_and_better() {
    let bench = Bench::start().await;
    let uri = bench.uri(0);
    let set = |state: &'static str| json!({ "state": state, "group": "19", "address": &uri });
    assert_eq!(bench.states().await, ["Active", "Active"]);
    assert_eq!(bench.mi("ds_set_state", set("i")).await, "OK");
    assert_eq!(bench.states().await, ["Inactive", "Active"]);
    let given = bench.standing(0).await;
    assert_eq!((given.order, given.by.as_str(), given.reason.as_str()), (Order::Maint, "mi", "ds_set_state"));
    // Again, and by other names of the same: nothing changes, not even when it was given.
    for params in [set("0"), json!([0, "default:19", uri.to_uppercase()])] {
        assert_eq!(bench.mi("dispatcher:set_state", params).await, "OK");
        assert_eq!(bench.standing(0).await, given);
    }
    // OpenSIPS makes it active.
    assert_eq!(bench.mi("ds_set_state", set("p")).await, "OK");
    assert_eq!(bench.states().await, ["Probing", "Active"]);
    assert_eq!(bench.standing(0).await.order, Order::Ready);
    assert_eq!(bench.mi("ds_set_state", set("p")).await, "OK");
    assert_eq!(bench.states().await, ["Probing", "Active"]);
    assert_eq!(bench.mi("ds_set_state", set("i")).await, "OK");
    assert_eq!(bench.states().await, ["Inactive", "Active"]);
    assert_eq!(bench.mi("ds_set_state", json!(["2", "19", bench.uri(1)])).await, "OK");
    assert_eq!(bench.states().await, ["Inactive", "Probing"]);
    bench.node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fault_is_told_in_opensips_words_and_does_nothing() {
    let bench = Bench::start().await;
    let uri = bench.uri(0);
    for (method, params, code, message, data) in [
        ("ds_set_state", json!(["x", "19", uri]), 500, "Bad state value", Value::Null),
        ("ds_set_state", json!(["i", "other:19", uri]), 404, "ERROR Unknown partition", Value::Null),
        ("ds_set_state", json!(["i", "tts", uri]), 500, "bad group value", Value::Null),
        ("ds_set_state", json!(["i", "20", uri]), 404, "destination not found", Value::Null),
        ("ds_set_state", json!(["i", "19", "sip:nobody"]), 404, "destination not found", Value::Null),
        ("ds_set_state", json!(["i", "19"]), -32602, "Invalid params", json!("Too few or too many parameters")),
        ("ds_set_state", json!([[], "19", uri]), -32602, "Invalid params", json!("Bad type for parameter 'state'")),
        ("ds_list", json!({ "partition": "other" }), 500, "ERROR Unknown partition", Value::Null),
        ("ds_list", json!({ "full": "yes" }), -32602, "Invalid params", json!("Bad type for parameter 'full'")),
        ("ds_reload", json!({ "partition": "other" }), 500, "ERROR Unknown partition", Value::Null),
        ("dlg_list", json!({}), -32601, "Method not found", Value::Null),
        ("which", json!(["dlg_list"]), 404, "unknown MI command", Value::Null),
    ] {
        let (status, reply) = bench.call("/mi", method, params.clone()).await;
        let fault = &reply["error"];
        assert_eq!(
            (status, &fault["code"], &fault["message"]),
            (200, &json!(code), &json!(message)),
            "{method} {params}"
        );
        assert_eq!(fault.get("data").unwrap_or(&Value::Null), &data, "{method} {params}");
    }
    assert_eq!(bench.states().await, ["Active", "Active"]);
    bench.node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_force_leaves_enough_of_the_set_fit() {
    let token = |(name, role): (&str, Role)| {
        let hash: String = Token::hash(name.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
        let role = role.name();
        format!("[[http.token]]\nname = \"{name}\"\nrole = \"{role}\"\nsha256 = \"{hash}\"\n")
    };
    let tokens: String = [("bob", Role::Operate), ("ann", Role::Admin)].map(token).concat();
    let bench = Bench::with(&tokens, servers(2).await, &[]).await;
    let call = async |who: &'static str, path: &'static str, method: &str, params: Value| {
        let (address, body) = (bench.http, json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }));
        let ask = move || http_as(address, who, "POST", path, &body.to_string()).1;
        let reply: Value = serde_json::from_str(&spawn_blocking(ask).await.expect("no panic")).expect("JSON");
        reply["error"]["data"].as_str().unwrap_or_default().to_owned()
    };
    let mi = async |who, state: &str, nth| call(who, "/mi", "ds_set_state", json!([state, "19", bench.uri(nth)])).await;
    assert_eq!(mi("bob", "i", 0).await, "");
    let refused = format!(
        "{} can't be taken out of set 19: 0 of 2 destinations would be fit; a token of role admin may do it",
        bench.uri(1)
    );
    for state in ["i", "p"] {
        assert_eq!(mi("bob", state, 1).await, refused, "{state}");
    }
    for state in ["d", "i", "t"] {
        let params = json!([state, 19, bench.uri(1)]);
        assert_eq!(call("bob", "/RPC", "dispatcher.set_state", params).await, refused, "{state}");
    }
    assert_eq!(bench.standing(1).await.order, Order::Ready);
    assert_eq!(mi("ann", "i", 1).await, "");
    assert_eq!(bench.standing(1).await.order, Order::Maint);
    bench.node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_reads_the_rows_keeps_states_unless_told_and_says_why_it_failed() {
    let bench = Bench::start().await;
    let uri = bench.uri(0);
    assert_eq!(bench.mi("ds_set_state", json!(["i", "19", uri])).await, "OK");
    bench.node.store().execute("UPDATE `dispatcher` SET `weight` = 7").await.expect("rows");
    for (method, params) in [
        ("ds_reload", json!({})),
        ("dispatcher:reload", json!({ "inherit_state": "y" })),
        ("ds_reload", json!({ "partition": "default" })),
    ] {
        assert_eq!(bench.mi(method, params).await, "OK");
        assert_eq!(bench.states().await, ["Inactive", "Active"]);
    }
    let full = bench.mi("ds_list", json!({ "full": 1 })).await;
    assert_eq!(full["PARTITIONS"][0]["SETS"][0]["Destinations"][1]["weight"], 7);
    assert_eq!(bench.mi("ds_reload", json!({ "inherit_state": "n" })).await, "OK");
    assert_eq!(bench.states().await, ["Active", "Active"]);
    assert_eq!(bench.standing(0).await.reason, "ds_reload");

    bench.node.store().execute("UPDATE `dispatcher` SET `destination` = 'nonsense'").await.expect("rows");
    let (_, reply) = bench.call("/mi", "ds_reload", json!({})).await;
    assert_eq!((&reply["error"]["code"], &reply["error"]["message"]), (&json!(500), &json!("ERROR Reloading data")));
    assert!(reply["error"]["data"].as_str().is_some_and(|data| data.contains("nonsense")), "{reply}");
    let (status, reply) = bench.call("/RPC", "dispatcher.reload", json!([])).await;
    assert_eq!((status, &reply["error"]["message"]), (500, &json!("Reload Failed")));
    assert_eq!(bench.states().await, ["Active", "Active"], "the old rows stay");
    bench.node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kamailios_commands_list_and_set() {
    let bench = Bench::start().await;
    let (one, other) = (bench.uri(0), bench.uri(1));
    const DONE: &str = "Ok. Dispatcher state updated.";
    let list = bench.rpc("dispatcher.list", json!({})).await;
    assert_eq!((&list["NRSETS"], &list["RECORDS"][0]["SET"]["ID"]), (&json!(1), &json!(19)));
    let target = &list["RECORDS"][0]["SET"]["TARGETS"][1]["DEST"];
    assert_eq!((&target["URI"], &target["ATTRS"]["BODY"]), (&json!(other), &json!("pstn=100")));
    let full = bench.rpc("dispatcher.list", json!({ "mode": "full" })).await;
    assert_eq!(full["RECORDS"][0]["SET"]["TARGETS"][0]["DEST"]["IPADDR"], "127.0.0.1");

    for (state, flags) in [("d", "DN"), ("t", "AN"), ("i", "IN"), ("dp", "DN"), ("ip", "IN"), ("d", "DN"), ("a", "IN")]
    {
        assert_eq!(bench.rpc("dispatcher.set_state", json!([state, 19, one])).await, DONE);
        assert_eq!(bench.flags().await, [flags, "AN"], "{state}");
    }
    let given = bench.standing(0).await;
    assert_eq!((given.order, given.by.as_str(), given.reason.as_str()), (Order::Ready, "rpc", "dispatcher.set_state"));
    assert_eq!(bench.rpc("dispatcher.set_state", json!({ "state": 2, "group": 19, "address": "all" })).await, DONE);
    assert_eq!(bench.flags().await, ["DN", "DN"]);

    for (method, params, message) in [
        ("dispatcher.set_state", json!(["d", 19]), "Invalid Parameters"),
        ("dispatcher.set_state", json!(["d", "tts", one]), "Invalid Parameters"),
        ("dispatcher.set_state", json!(["", 19, one]), "Invalid State Parameter"),
        ("dispatcher.set_state", json!(["x", 19, one]), "Unknown State Value"),
        ("dispatcher.set_state", json!(["a", 19, "sip:nobody"]), "State Update Failed"),
        // Kamailio says that this has been done.
        ("dispatcher.set_state", json!(["a", 20, "all"]), "State Update Failed"),
        ("dispatcher.hash", json!([2, "a"]), "Method Not Found"),
    ] {
        let (status, reply) = bench.call("/RPC", method, params).await;
        assert_eq!((status, &reply["error"]), (500, &json!({ "code": 500, "message": message })));
    }
    assert_eq!(bench.flags().await, ["DN", "DN"]);
    assert_eq!(bench.rpc("dispatcher.reload", json!([])).await, "Ok. Dispatcher successfully reloaded.");
    bench.node.store().execute("DELETE FROM `dispatcher`").await.expect("rows");
    let (status, reply) = bench.call("/RPC", "dispatcher.reload", json!([])).await;
    assert_eq!((status, &reply["error"]["message"]), (500, &json!("Reload Failed")), "an empty table is not believed");
    bench.node.reload(ReloadOrder { force: true, ..anew() }).await.expect("it is meant");
    let (status, reply) = bench.call("/RPC", "dispatcher.list", json!([])).await;
    assert_eq!((status, &reply["error"]["message"]), (500, &json!("No Destination Sets")));
    assert_eq!(bench.mi("ds_list", json!({})).await, json!({ "PARTITIONS": [{ "name": "default" }] }));
    bench.node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_would_be_held_for_failed_for_ever_is_refused_with_a_remedy() {
    let folder = Folder::new();
    let text = crate::scratch::config_text("").replace("id = 19", "id = 19\nobserve = { enabled = false }");
    let config = Config::parse("test.toml", &text, folder.path()).expect("valid");
    let node = Node::start(&config).await.expect("it starts");
    let address = "127.0.0.1:7010".parse().expect("an address");
    node.store().execute(&insert(&[address])).await.expect("rows");
    node.reload(anew()).await.expect("good rows");
    let http = node.http().expect("it is on");
    for (path, method, code) in [("/mi", "ds_set_state", 200), ("/RPC", "dispatcher.set_state", 500)] {
        let state = if path == "/mi" { "p" } else { "i" };
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": [state, 19, "sip:127.0.0.1:7010"] });
        let told = spawn_blocking(move || http_with(http, "POST", path, &body.to_string())).await.expect("no panic");
        assert!(told.0 == code && told.1.contains("\"code\":500") && told.1.contains("probe the set"), "{told:?}");
    }
    let snapshot = node.server().snapshot().await.expect("it runs");
    assert!(snapshot.sets[0].destinations[0].fitness.is_fit());
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_and_notifications_are_done() {
    let bench = Bench::start().await;
    let set = |uri: String| json!({ "jsonrpc": "2.0", "method": "ds_set_state", "params": ["i", 19, uri] });
    let list = json!({ "jsonrpc": "2.0", "id": 2, "method": "ds_list" });
    let (status, replies) = bench.ask("POST", "/mi", &json!([set(bench.uri(0)), list])).await;
    assert_eq!((status, replies.as_array().map(Vec::len), &replies[0]["id"]), (200, Some(1), &json!(2)));
    let destinations = &replies[0]["result"]["PARTITIONS"][0]["SETS"][0]["Destinations"];
    assert_eq!((&destinations[0]["state"], &destinations[1]["state"]), (&json!("Inactive"), &json!("Active")));
    let (address, body) = (bench.node.http().expect("it is on"), set(bench.uri(1)).to_string());
    let told = spawn_blocking(move || http_with(address, "POST", "/mi", &body)).await.expect("no panic");
    assert_eq!(told, (202, String::new()));
    until("it is done", async || (bench.states().await == ["Inactive", "Inactive"]).then_some(())).await;
    bench.node.stop().await;
}
