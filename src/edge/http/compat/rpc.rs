//! JSON-RPC 2.0 (jsonrpc.org/specification): a request or a batch of them in, the answers out. What a method does, its
//! [`Dialect`] knows.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::edge::http::because;

/// A batch has no more requests: each may be answered by all destinations.
const MOST_REQUESTS: usize = 32;

/// Whose methods are called.
pub(super) trait Dialect {
    /// What a method says when it is done.
    type Result: Serialize;

    /// The HTTP status of the answer to a request that has failed with this.
    fn status(fault: &Fault) -> StatusCode;

    /// Does what is asked for.
    async fn call(&self, method: &str, params: Params) -> Result<Self::Result, Fault>;
}

/// What a method is given; an empty list or object is nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Params {
    None,
    ByPosition(Vec<Value>),
    ByName(Map<String, Value>),
}

impl Params {
    /// Those of these names, each where it stands in their order or by its name; none if there are more, or others.
    pub(super) fn named<const N: usize>(self, names: [&str; N]) -> Option<[Option<Value>; N]> {
        let mut found = [const { None }; N];
        match self {
            Params::None => {}
            Params::ByPosition(values) if values.len() > N => return None,
            Params::ByPosition(values) => found.iter_mut().zip(values).for_each(|(found, value)| *found = Some(value)),
            Params::ByName(values) => {
                for (name, value) in values {
                    found[names.iter().position(|known| *known == name)?] = Some(value);
                }
            }
        }
        Some(found)
    }
}

/// Why a request is not done.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) code: i32,
    pub(super) message: String,
    /// More of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) data: Option<String>,
}

impl Fault {
    pub(super) fn new(code: i32, message: &str) -> Self {
        Fault { code, message: message.to_owned(), data: None }
    }

    pub(super) fn with(self, data: impl Into<String>) -> Self {
        Fault { data: Some(data.into()), ..self }
    }

    fn parse_error() -> Self {
        Fault::new(-32700, "Parse error")
    }

    fn invalid_request() -> Self {
        Fault::new(-32600, "Invalid Request")
    }
}

/// What is answered to one request.
#[derive(Debug, Serialize)]
struct Reply<R> {
    jsonrpc: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<R>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Fault>,
    /// The request's own.
    id: Value,
}

impl<R> Reply<R> {
    fn new(outcome: Result<R, Fault>, id: Value) -> Self {
        let (result, error) = match outcome {
            Ok(result) => (Some(result), None),
            Err(fault) => (None, Some(fault)),
        };
        Reply { jsonrpc: "2.0", result, error, id }
    }

    /// Why it is not done.
    fn cause(&self) -> Option<String> {
        let Fault { message, data, .. } = self.error.as_ref()?;
        Some(std::iter::once(message).chain(data).map(String::as_str).collect::<Vec<_>>().join(": "))
    }
}

/// Does what a body asks for. Whoever wants no answer gets 202 and nothing.
pub(super) async fn answer<D: Dialect>(dialect: &D, body: &[u8]) -> Response {
    let refused = |fault| one::<D>(Reply::new(Err(fault), Value::Null));
    match serde_json::from_slice(body) {
        Err(_) => refused(Fault::parse_error()),
        Ok(Value::Array(requests)) if requests.is_empty() => refused(Fault::invalid_request()),
        Ok(Value::Array(requests)) if requests.len() > MOST_REQUESTS => {
            let remedy = format!("a batch of {} requests: give {MOST_REQUESTS} at most", requests.len());
            refused(Fault::invalid_request().with(remedy))
        }
        Ok(Value::Array(requests)) => {
            let mut replies = Vec::with_capacity(requests.len());
            for request in requests {
                replies.extend(reply(dialect, request).await);
            }
            let cause = replies.iter().find_map(Reply::cause);
            match replies.is_empty() {
                true => StatusCode::ACCEPTED.into_response(),
                false => with_cause(cause, Json(replies)),
            }
        }
        Ok(request) => reply(dialect, request).await.map_or(StatusCode::ACCEPTED.into_response(), one::<D>),
    }
}

fn one<D: Dialect>(reply: Reply<D::Result>) -> Response {
    let status = reply.error.as_ref().map_or(StatusCode::OK, D::status);
    with_cause(reply.cause(), (status, Json(&reply)))
}

/// The first fault stands in the log, whatever the status.
fn with_cause(cause: Option<String>, answer: impl IntoResponse) -> Response {
    match cause {
        Some(cause) => because(&cause, answer),
        None => answer.into_response(),
    }
}

/// The methods that a body calls, each with its parameters as they are written; those of what is no request are left out.
pub(super) fn calls(body: &[u8]) -> Vec<(String, String)> {
    let requests = match serde_json::from_slice(body) {
        Ok(Value::Array(requests)) => requests,
        Ok(request) => vec![request],
        Err(_) => Vec::new(),
    };
    let call = |request: Value| {
        let Request { method, params, .. } = Request::read(request).ok()?;
        let params = match params {
            Params::None => String::new(),
            Params::ByPosition(values) => Value::from(values).to_string(),
            Params::ByName(values) => Value::from(values).to_string(),
        };
        Some((method, params))
    };
    requests.into_iter().take(MOST_REQUESTS).filter_map(call).collect()
}

/// The answer to one request; none to a notification.
async fn reply<D: Dialect>(dialect: &D, request: Value) -> Option<Reply<D::Result>> {
    match Request::read(request) {
        Ok(Request { method, params, id: Some(id) }) => Some(Reply::new(dialect.call(&method, params).await, id)),
        Ok(Request { method, params, id: None }) => {
            let _ = dialect.call(&method, params).await;
            None
        }
        Err(id) => Some(Reply::new(Err(Fault::invalid_request()), id)),
    }
}

/// One request.
#[derive(Debug, PartialEq, Eq)]
struct Request {
    method: String,
    params: Params,
    /// None: a notification, which nobody answers.
    id: Option<Value>,
}

impl Request {
    /// The request, or the id of what is none.
    fn read(request: Value) -> Result<Self, Value> {
        let Value::Object(mut fields) = request else { return Err(Value::Null) };
        let id = match fields.remove("id") {
            Some(Value::Bool(_) | Value::Array(_) | Value::Object(_)) => return Err(Value::Null),
            id => id,
        };
        let params = match fields.remove("params") {
            None => Some(Params::None),
            Some(Value::Array(values)) if values.is_empty() => Some(Params::None),
            Some(Value::Array(values)) => Some(Params::ByPosition(values)),
            Some(Value::Object(values)) if values.is_empty() => Some(Params::None),
            Some(Value::Object(values)) => Some(Params::ByName(values)),
            Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => None,
        };
        match (fields.remove("jsonrpc"), fields.remove("method"), params) {
            (Some(Value::String(version)), Some(Value::String(method)), Some(params)) if version == "2.0" => {
                Ok(Request { method, params, id })
            }
            _ => Err(id.unwrap_or_default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use axum::body::to_bytes;
    use serde_json::json;

    use super::*;

    /// Says what it is given.
    #[derive(Default)]
    struct Echo {
        calls: Mutex<Vec<String>>,
    }

    impl Dialect for Echo {
        type Result = Value;

        fn status(_: &Fault) -> StatusCode {
            StatusCode::IM_A_TEAPOT
        }

        async fn call(&self, method: &str, params: Params) -> Result<Value, Fault> {
            self.calls.lock().expect("whole").push(method.to_owned());
            match (method, params) {
                ("fail", _) => Err(Fault::new(404, "nothing").with("at all")),
                (_, Params::None) => Ok(Value::Null),
                (_, Params::ByPosition(values)) => Ok(values.into()),
                (_, Params::ByName(values)) => Ok(values.into()),
            }
        }
    }

    async fn ask(body: &str) -> (u16, String) {
        let response = answer(&Echo::default(), body.as_bytes()).await;
        let status = response.status().as_u16();
        let body = to_bytes(response.into_body(), usize::MAX).await.expect("all of it");
        (status, String::from_utf8(body.to_vec()).expect("text"))
    }

    #[tokio::test]
    async fn a_request_is_answered_under_its_own_id() {
        for (request, answer) in [
            (r#"{"jsonrpc":"2.0","method":"x","id":"7"}"#, r#"{"jsonrpc":"2.0","result":null,"id":"7"}"#),
            (r#"{"jsonrpc":"2.0","method":"x","params":{},"id":1.5}"#, r#"{"jsonrpc":"2.0","result":null,"id":1.5}"#),
            (r#"{"jsonrpc":"2.0","method":"x","params":[2],"id":null}"#, r#"{"jsonrpc":"2.0","result":[2],"id":null}"#),
            (
                r#"{"jsonrpc":"2.0","method":"x","params":{"a":2},"id":3}"#,
                r#"{"jsonrpc":"2.0","result":{"a":2},"id":3}"#,
            ),
        ] {
            assert_eq!(ask(request).await, (200, answer.to_owned()), "{request}");
        }
        let failed = r#"{"jsonrpc":"2.0","error":{"code":404,"message":"nothing","data":"at all"},"id":4}"#;
        assert_eq!(ask(r#"{"jsonrpc":"2.0","method":"fail","id":4}"#).await, (418, failed.to_owned()));
    }

    #[tokio::test]
    async fn what_is_no_request_is_refused() {
        let refused = |id: &str| {
            format!(r#"{{"jsonrpc":"2.0","error":{{"code":-32600,"message":"Invalid Request"}},"id":{id}}}"#)
        };
        for (request, id) in [
            ("1", "null"),
            ("[]", "null"),
            ("{}", "null"),
            (r#"{"method":"x","id":1}"#, "1"),
            (r#"{"jsonrpc":"1.0","method":"x","id":1}"#, "1"),
            (r#"{"jsonrpc":2.0,"method":"x","id":1}"#, "1"),
            (r#"{"jsonrpc":"2.0","method":7,"id":"1"}"#, r#""1""#),
            (r#"{"jsonrpc":"2.0","method":"x","params":null,"id":1}"#, "1"),
            (r#"{"jsonrpc":"2.0","method":"x","params":"full","id":1}"#, "1"),
            (r#"{"jsonrpc":"2.0","method":"x","id":[1]}"#, "null"),
        ] {
            assert_eq!(ask(request).await, (418, refused(id)), "{request}");
        }
        let no_json = r#"{"jsonrpc":"2.0","error":{"code":-32700,"message":"Parse error"},"id":null}"#;
        for text in ["", "{", "ds_list", &"[".repeat(10_000)] {
            assert_eq!(ask(text).await, (418, no_json.to_owned()), "{text}");
        }
    }

    #[tokio::test]
    async fn a_notification_is_done_and_not_answered() {
        let echo = Echo::default();
        for request in [r#"{"jsonrpc":"2.0","method":"x"}"#, r#"{"jsonrpc":"2.0","method":"fail"}"#] {
            let response = answer(&echo, request.as_bytes()).await;
            assert_eq!(response.status().as_u16(), 202);
            assert!(to_bytes(response.into_body(), 1).await.expect("all of it").is_empty());
        }
        assert_eq!(*echo.calls.lock().expect("whole"), ["x", "fail"]);
    }

    #[tokio::test]
    async fn a_batch_is_done_in_its_order_and_answers_what_wants_an_answer() {
        let batch = json!([
            { "jsonrpc": "2.0", "method": "x", "id": 1 },
            { "jsonrpc": "2.0", "method": "x" },
            7,
            { "jsonrpc": "2.0", "method": "fail", "id": "2" },
        ]);
        let answers = concat!(
            r#"[{"jsonrpc":"2.0","result":null,"id":1},"#,
            r#"{"jsonrpc":"2.0","error":{"code":-32600,"message":"Invalid Request"},"id":null},"#,
            r#"{"jsonrpc":"2.0","error":{"code":404,"message":"nothing","data":"at all"},"id":"2"}]"#,
        );
        assert_eq!(ask(&batch.to_string()).await, (200, answers.to_owned()));
        let notifications = json!([{ "jsonrpc": "2.0", "method": "x" }, { "jsonrpc": "2.0", "method": "fail" }]);
        assert_eq!(ask(&notifications.to_string()).await, (202, String::new()));
        let request = json!({ "jsonrpc": "2.0", "method": "x", "id": 1 });
        let (status, answer) = ask(&Value::from(vec![request; 33]).to_string()).await;
        assert!(status == 418 && answer.contains("a batch of 33 requests: give 32 at most"), "{answer}");
    }

    #[test]
    fn parameters_are_found_by_name_and_by_position() {
        let by_position = |values: Value| Params::ByPosition(values.as_array().expect("a list").clone());
        let by_name = |values: Value| Params::ByName(values.as_object().expect("an object").clone());
        let named = |params: Params| params.named(["state", "group"]);
        assert_eq!(named(Params::None), Some([None, None]));
        assert_eq!(named(by_position(json!(["a"]))), Some([Some(json!("a")), None]));
        assert_eq!(named(by_position(json!(["a", 19]))), Some([Some(json!("a")), Some(json!(19))]));
        assert_eq!(named(by_position(json!(["a", 19, 1]))), None);
        assert_eq!(named(by_name(json!({ "group": 19 }))), Some([None, Some(json!(19))]));
        assert_eq!(named(by_name(json!({ "set": 19 }))), None);
    }
}
