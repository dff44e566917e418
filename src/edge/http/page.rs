//! `/`: the operator's page. It stands in the binary, and asks nobody but this surface.

use axum::http::header;
use axum::response::{IntoResponse, Response};

use super::Node;
use super::routes::{Need, Routes};

/// Nothing from elsewhere, nothing within the page itself, and the page in nobody's frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// Each file: its path, its kind, and what stands in it.
const FILES: &[(&str, &str, &str)] = &[
    ("/", HTML, include_str!("page/index.html")),
    ("/page.css", CSS, include_str!("page/page.css")),
    ("/page.js", SCRIPT, include_str!("page/page.js")),
    ("/page.dom.js", SCRIPT, include_str!("page/page.dom.js")),
    ("/page.model.js", SCRIPT, include_str!("page/page.model.js")),
    ("/page.order.js", SCRIPT, include_str!("page/page.order.js")),
    ("/page.panel.js", SCRIPT, include_str!("page/page.panel.js")),
    ("/page.sets.js", SCRIPT, include_str!("page/page.sets.js")),
    ("/page.stream.js", SCRIPT, include_str!("page/page.stream.js")),
    ("/page.whole.js", SCRIPT, include_str!("page/page.whole.js")),
    ("/page.words.js", SCRIPT, include_str!("page/page.words.js")),
];

pub(super) fn routes<N: Node>() -> Routes<N> {
    let add = |routes: Routes<N>, &(path, kind, text)| routes.get(path, Need::Page, async move || file(kind, text));
    FILES.iter().fold(Routes::new(), add)
}

fn file(kind: &'static str, text: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        // Another version of the node has another page.
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, text).into_response()
}
